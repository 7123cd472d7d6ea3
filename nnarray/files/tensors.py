"""The tensors of a model file, checked against the network before they are read."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from nnarray.backends.reading import short
from nnarray.files.batch_norm import require_variances
from nnarray.files.description import from_json
from nnarray.network import Network
from nnarray.training.checkpoint_format import ENTRY as CHECKPOINT

ENTRY = "nnarray"
"""The entry of the file's metadata that holds the description."""

DTYPES = ({"F32"}, {"F64"})

FOREIGN_DTYPES = {"F32", "F64", "F16", "BF16"}
"""What is read of a file whose architecture the caller gives."""


def read_tensors(path: str, given: Network | None) -> tuple[Network, npt.NDArray[Any], dict[str, Any]]:
    """The network, theta with what stands beside it, and the metadata. Raises ValueError for what is wrong."""
    with safe_open(path, framework="numpy") as file:
        network, metadata = _description(file.metadata() or {}, given)
        names = _tensor_names(file, network, DTYPES if given is None else [FOREIGN_DTYPES])
        theta = np.concatenate([_tensor(file, path, name).reshape(-1) for name in names])
    if not np.isfinite(theta).all():
        msg = "its weights are not all finite"
        raise ValueError(msg)
    if network.batch_norm:
        require_variances(theta[network.size :], network.sizes)
    return network, theta, metadata


def _description(entries: dict[str, str], given: Network | None) -> tuple[Network, dict[str, Any]]:
    """The network and the metadata of a file with these entries, for a caller who gives a network or none."""
    entries = dict(entries)
    text = entries.pop(ENTRY, None)
    if CHECKPOINT in entries:
        msg = "it is a checkpoint, from which nn.train(…, resume=path) and nnarray train --resume go on"
        raise ValueError(msg)
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
        if network.batch_norm and l <= len(network.hidden):
            shapes[f"gamma{l}"] = shapes[f"b{l}"]
    for l in range(1, len(network.hidden) + 1) if network.batch_norm else ():
        shapes |= {f"mean{l}": shapes[f"b{l}"], f"variance{l}": shapes[f"b{l}"]}
    if set(file.keys()) != set(shapes):
        L = len(network.sizes) - 1
        further = ", gamma1, mean1, variance1, …" if network.batch_norm else ""
        msg = f"its tensors must be W1, b1, … W{L}, b{L}{further}, got {short(sorted(file.keys()))}"
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
