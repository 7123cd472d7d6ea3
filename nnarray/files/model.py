"""Saving and loading a network with its parameters."""

import os
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from nnarray.backends import Backend
from nnarray.backends import backend as choose_backend
from nnarray.core import vector
from nnarray.core.typing import Pairs
from nnarray.files.atomic import write_atomically
from nnarray.files.description import excerpt, from_json, short, to_json
from nnarray.network import Network, Parameters
from nnarray.network.network import require_network

ENTRY = "nnarray"
"""The entry of the file's metadata that holds the description."""

DTYPES = ({"F32"}, {"F64"})


class ModelFileError(ValueError):
    """A file that holds no valid model: truncated, corrupted, hostile, or never one."""


class Model(NamedTuple):
    """What a model file holds."""

    network: Network
    params: Parameters
    metadata: dict[str, Any]
    """those of "classes", "features", "target" and "preprocessing" that the file has"""


def save(
    path: str | os.PathLike[str], network: Network, params: Pairs, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a network and its parameters, W[l] (n[l], n[l-1]) and b[l] (n[l], 1), to one safetensors file.

    `params` are Parameters or a sequence of (W, b) pairs of any namespace; float64 stays float64, every other dtype
    becomes float32. `metadata` may hold "classes" (the names of the classes: all text, all whole numbers or both
    booleans), "features" (n_x names), "target" (its name) and "preprocessing" ("mean" and "scale", n_x numbers each,
    "target_mean" and "target_scale", n[L] numbers each: what was folded into W and b, for information), as lists or any
    other sequences and arrays.

    Raises TypeError for a network that is none; ValueError if the parameters do not fit the network or are not finite,
    or for other metadata; OSError if the file cannot be written, and then what was there before stays.

    >>> import tempfile
    >>> network = Network((2, 3, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder + "/model.safetensors", network, network.init(seed=1))
    ...     again, params = load(folder + "/model.safetensors")
    >>> again == network
    True
    """
    require_network(network)
    text = to_json(network, metadata or {})
    layers = vector.split(_host_vector(network, params), network.sizes, xp=np)
    tensors = {name: V for l, (W, b) in enumerate(layers, 1) for name, V in ((f"W{l}", W), (f"b{l}", b))}
    write_atomically(path, safetensors_bytes(tensors, metadata={ENTRY: text}))


def load(path: str | os.PathLike[str], backend: str | Backend | None = None) -> tuple[Network, Parameters]:
    """The network and the parameters in a model file, on `backend` (left out: the default, see `nn.backend`).

    Raises ModelFileError for whatever is wrong inside the file; FileNotFoundError, IsADirectoryError, PermissionError
    as `open` does; BackendUnavailableError.
    """
    model = read_model(path, backend)
    return model.network, model.params


def read_model(path: str | os.PathLike[str], backend: str | Backend | None = None) -> Model:
    """The network, the parameters and the metadata in a model file; otherwise like `load`."""
    chosen = choose_backend(backend)
    path = os.fspath(path)
    _require_regular_file(path)
    try:
        network, theta, metadata = _read(path)
    except (SafetensorError, ValueError, OSError) as error:
        msg = f"{path} is not a valid model file: {excerpt(str(error))}"
        raise ModelFileError(msg) from None  # a traceback would show the cause uncut
    except (MemoryError, RecursionError) as error:
        msg = f"{path} is not a valid model file: it asks for more memory than there is ({type(error).__name__})"
        raise ModelFileError(msg) from None
    return Model(network, Parameters(chosen.asarray(theta, theta.dtype.name), network.sizes, chosen), metadata)


def _host_vector(network: Network, params: Pairs) -> npt.NDArray[Any]:
    """theta on the host, row by row: safetensors would scramble arrays of any other order."""
    params = Parameters.from_layers(params)
    if params.sizes != network.sizes:
        msg = f"params must fit the network of sizes {network.sizes}, got sizes {params.sizes}"
        raise ValueError(msg)
    theta = params.backend.to_numpy(params.vector)
    if not np.isfinite(theta).all():
        msg = "params must be finite, got NaN or infinity"
        raise ValueError(msg)
    return theta


def _require_regular_file(path: str) -> None:
    """Raise as `open` does for what cannot be opened, and ModelFileError for a pipe, which would be waited on."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        msg = f"{path} is not a valid model file: it is not a regular file"
        raise ModelFileError(msg)
    with open(path, "rb"):
        pass


def _read(path: str) -> tuple[Network, npt.NDArray[Any], dict[str, Any]]:
    with safe_open(path, framework="numpy") as file:
        entries = file.metadata() or {}
        if set(entries) != {ENTRY}:
            msg = f'its metadata must be one entry "{ENTRY}", got {short(sorted(entries))}'
            raise ValueError(msg)
        network, metadata = from_json(entries[ENTRY])
        names = _tensor_names(file, network)
        theta = np.concatenate([file.get_tensor(name).reshape(-1) for name in names])
    if not np.isfinite(theta).all():
        msg = "its weights are not all finite"
        raise ValueError(msg)
    return network, theta, metadata


def _tensor_names(file: Any, network: Network) -> list[str]:
    """W1, b1, …, WL, bL, after a look at the table of contents, before anything is read."""
    shapes: dict[str, list[int]] = {}
    for l, (n_prev, n) in enumerate(zip(network.sizes[:-1], network.sizes[1:], strict=True), 1):
        shapes |= {f"W{l}": [n, n_prev], f"b{l}": [n, 1]}
    if set(file.keys()) != set(shapes):
        L = len(network.sizes) - 1
        msg = f"its tensors must be W1, b1, … W{L}, b{L}, got {short(sorted(file.keys()))}"
        raise ValueError(msg)
    slices = {name: file.get_slice(name) for name in shapes}
    for name, expected in shapes.items():
        if slices[name].get_shape() != expected:
            msg = f"{name} must have shape {expected}, got {slices[name].get_shape()}"
            raise ValueError(msg)
    found = {part.get_dtype() for part in slices.values()}
    if found not in DTYPES:
        msg = f"its tensors must be all float32 or all float64, got {sorted(found)}"
        raise ValueError(msg)
    return list(shapes)
