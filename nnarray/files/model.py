"""Saving and loading a network with its parameters."""

import errno
import json
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from nnarray.backends import Backend, quiet, write_atomically
from nnarray.backends import backend as choose_backend
from nnarray.core import vector
from nnarray.core.typing import Pairs
from nnarray.files.description import excerpt, from_json, is_text, short, to_json
from nnarray.network import Network, Parameters
from nnarray.network.network import require_network

ENTRY = "nnarray"
"""The entry of the file's metadata that holds the description."""

DTYPES = ({"F32"}, {"F64"})

FOREIGN_DTYPES = {"F32", "F64", "F16", "BF16"}
"""What is read of a file whose architecture the caller gives."""


class ModelFileError(ValueError):
    """A file that holds no valid model: truncated, corrupted, hostile, or never one."""


class Model(NamedTuple):
    """What a model file holds."""

    network: Network
    params: Parameters
    metadata: dict[str, Any]
    """those of "classes", "features", "target", "preprocessing", "user" and "entries" that the file has"""


@quiet
def save(
    path: str | os.PathLike[str], network: Network, params: Pairs, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a network and its parameters to one safetensors file.

    Parameters
    ----------
    path : path
        Where to. What is there is replaced by the whole new file, or stays.
    network : Network
        The architecture.
    params : Parameters or sequence of (W, b)
        W[l] (n[l], n[l-1]) and b[l] (n[l], 1) of any namespace; float64 stays float64, every other dtype becomes
        float32.
    metadata : mapping, optional
        "classes" (the names of the classes: all text, all whole numbers or both booleans), "features" (n_x names),
        "target" (its name) and "preprocessing" ("mean" and "scale", n_x numbers each, "target_mean" and "target_scale",
        n[L] numbers each: what was folded into W and b, for information), as lists or any other sequences and arrays;
        "user", anything that JSON can say; and "entries", a table of text by text that becomes further entries of the
        file's own metadata, such as {"format": "pt"}. What `read_model` gives can be saved again.

    Raises
    ------
    TypeError
        For a network that is none.
    ValueError
        If the parameters do not fit the network or are not finite, or for other metadata.
    OSError
        If the file cannot be written, naming `path`.

    Examples
    --------
    >>> import tempfile
    >>> network = Network((2, 3, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder + "/model.safetensors", network, network.init(seed=1))
    ...     again, params = load(folder + "/model.safetensors")
    >>> again == network
    True
    """
    require_network(network)
    metadata = dict(metadata or {})
    entries = _checked_entries(metadata.pop("entries", {}))
    text = to_json(network, metadata)
    layers = vector.split(_host_vector(network, params), network.sizes, xp=np)
    tensors = {name: V for l, (W, b) in enumerate(layers, 1) for name, V in ((f"W{l}", W), (f"b{l}", b))}
    _require_folder(path)
    write_atomically(path, safetensors_bytes(tensors, metadata={**entries, ENTRY: text}))


def load(
    path: str | os.PathLike[str], backend: str | Backend | None = None, *, network: Network | None = None
) -> tuple[Network, Parameters]:
    """The network and the parameters in a model file.

    Parameters
    ----------
    path : path
        The file.
    backend : str or Backend, optional
        Where the parameters are to be; left out, the default (see `nn.backend`).
    network : Network, optional
        The architecture, with which files of other tools are read, too: tensors W1, b1, …, WL, bL without a
        description, W[l] of shape (n[l], n[l-1]) and b[l] of (n[l], 1) or (n[l],), in float32, float64, float16 or
        bfloat16, of which the last two become float32. A file that has a description must be of this network.

    Returns
    -------
    (Network, Parameters)

    Raises
    ------
    ModelFileError
        For whatever is wrong inside the file.
    FileNotFoundError, IsADirectoryError, PermissionError
        As `open` does.
    BackendUnavailableError
        For a backend that cannot run here.
    TypeError
        For a network that is none.
    """
    model = read_model(path, backend, network=network)
    return model.network, model.params


@quiet
def read_model(
    path: str | os.PathLike[str], backend: str | Backend | None = None, *, network: Network | None = None
) -> Model:
    """The network, the parameters and the metadata in a model file; otherwise like `load`."""
    chosen = choose_backend(backend)
    path = os.fspath(path)
    if network is not None:
        require_network(network)
    _require_regular_file(path)
    try:
        found, theta, metadata = _read(path, network)
    except (SafetensorError, ValueError, OSError) as error:
        msg = f"{path} is not a valid model file: {excerpt(str(error))}"
        raise ModelFileError(msg) from None  # a traceback would show the cause uncut
    except (MemoryError, RecursionError) as error:
        msg = f"{path} is not a valid model file: it asks for more memory than there is ({type(error).__name__})"
        raise ModelFileError(msg) from None
    return Model(found, Parameters(chosen.asarray(theta, theta.dtype.name), found.sizes, chosen), metadata)


def _checked_entries(entries: Any) -> dict[str, str]:
    """Further entries of the file's metadata. Raises ValueError for what a file cannot hold."""
    right = isinstance(entries, Mapping) and all(
        type(V) is str and is_text(V) for pair in entries.items() for V in pair
    )
    if not right or ENTRY in entries:
        msg = f'"entries" must be text by text, without "{ENTRY}", got {short(entries)}'
        raise ValueError(msg)
    return dict(entries)


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


def _require_folder(path: str | os.PathLike[str]) -> None:
    """Raise FileNotFoundError or NotADirectoryError, naming the path as it was given, where nothing can be written."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        kind = errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT
        raise OSError(kind, f"there is no folder {folder}", os.fspath(path))


def _require_regular_file(path: str) -> None:
    """Raise as `open` does for what cannot be opened, and ModelFileError for a pipe, which would be waited on."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        msg = f"{path} is not a valid model file: it is not a regular file"
        raise ModelFileError(msg)
    with open(path, "rb"):
        pass


def _read(path: str, given: Network | None) -> tuple[Network, npt.NDArray[Any], dict[str, Any]]:
    with safe_open(path, framework="numpy") as file:
        network, metadata = _description(file.metadata() or {}, given)
        names = _tensor_names(file, network, DTYPES if given is None else [FOREIGN_DTYPES])
        theta = np.concatenate([_tensor(file, path, name).reshape(-1) for name in names])
    if not np.isfinite(theta).all():
        msg = "its weights are not all finite"
        raise ValueError(msg)
    return network, theta, metadata


def _description(entries: dict[str, str], given: Network | None) -> tuple[Network, dict[str, Any]]:
    """The network and the metadata of a file with these entries, for a caller who gives a network or none."""
    entries = dict(entries)
    text = entries.pop(ENTRY, None)
    if text is None and given is None:
        msg = (
            f'its metadata has no entry "{ENTRY}", got {short(sorted(entries))}; '
            "to read W1, b1, … of another tool, give the network"
        )
        raise ValueError(msg)
    network, metadata = (given, {}) if text is None else from_json(text)
    assert network is not None
    if given not in (None, network):
        msg = f"it is of another network than the one given: {network}"
        raise ValueError(msg)
    return network, metadata | ({"entries": entries} if entries else {})


def _tensor_names(file: Any, network: Network, dtypes: Sequence[set[str]]) -> list[str]:
    """W1, b1, …, WL, bL, after a look at the table of contents, before anything is read.

    Their dtypes must be within one of the sets.
    """
    is_foreign = dtypes is not DTYPES
    shapes: dict[str, list[list[int]]] = {}
    for l, (n_prev, n) in enumerate(zip(network.sizes[:-1], network.sizes[1:], strict=True), 1):
        shapes |= {f"W{l}": [[n, n_prev]], f"b{l}": [[n, 1], [n]] if is_foreign else [[n, 1]]}
    if set(file.keys()) != set(shapes):
        L = len(network.sizes) - 1
        msg = f"its tensors must be W1, b1, … W{L}, b{L}, got {short(sorted(file.keys()))}"
        raise ValueError(msg)
    slices = {name: file.get_slice(name) for name in shapes}
    for name, expected in shapes.items():
        if slices[name].get_shape() not in expected:
            msg = f"{name} must have shape {expected[0]}, got {slices[name].get_shape()}"
            raise ValueError(msg)
    found = {part.get_dtype() for part in slices.values()}
    if not any(found <= allowed for allowed in dtypes):
        hint = "" if is_foreign else "; float16 and bfloat16 are read where the network is given"
        msg = f"its tensors must be all float32 or all float64, got {sorted(found)}{hint}"
        raise ValueError(msg)
    return list(shapes)


def _tensor(file: Any, path: str, name: str) -> npt.NDArray[Any]:
    """A tensor as float32 or float64."""
    dtype = file.get_slice(name).get_dtype()
    if dtype == "BF16":
        return _bfloat16(path, name)
    tensor: npt.NDArray[Any] = file.get_tensor(name)
    return tensor.astype(np.float32) if dtype == "F16" else tensor


def _bfloat16(path: str, name: str) -> npt.NDArray[np.float32]:
    """A tensor of bfloat16, which NumPy lacks: the upper halves of float32."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        start, stop = json.loads(file.read(size))[name]["data_offsets"]
        file.seek(8 + size + start)
        halves = np.frombuffer(file.read(stop - start), "<u2")
    return (halves.astype("<u4") << 16).view("<f4").astype(np.float32)
