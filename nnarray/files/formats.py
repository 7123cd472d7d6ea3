"""Files whose names promise another format: what is written there, and what would write or read the other."""

import os
import warnings
from typing import NamedTuple


class Format(NamedTuple):
    """A format that other tools keep networks in."""

    name: str
    writing: str
    """what writes it, of `network` and `params`"""
    reading: str
    """what reads it"""


ONNX = Format("ONNX", "onnx.save(nn.to_onnx(network, params), path), or `nnarray export`", "nn.from_onnx(path)")
TORCH = Format(
    "PyTorch", "torch.save(nn.to_torch(network, params), path)", "nn.from_torch(torch.load(path, weights_only=False))"
)
PICKLE = Format("pickle", "pickle.dump((network, params), file)", "pickle.load(file), which may run code of the file")
KERAS = Format("HDF5 or Keras", "", "an export of it to ONNX and nn.from_onnx(path)")
NUMPY = Format("NumPy", "numpy.savez(path, theta=params.vector)", "network.parameters(theta)")

FORMATS = {
    ".onnx": ONNX,
    **dict.fromkeys((".pt", ".pth", ".ckpt"), TORCH),
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".skops"), PICKLE),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), KERAS),
    **dict.fromkeys((".npz", ".npy"), NUMPY),
}
"""By the ending of a file's name."""


def format_of(path: str | os.PathLike[str]) -> Format | None:
    """The format that the name promises, where it is not safetensors."""
    ending = os.path.splitext(os.fsdecode(path))[1].lower()
    return FORMATS.get(ending)


def warn_of_ending(path: str | os.PathLike[str]) -> None:
    """Give a UserWarning that the file is none of the format that its name promises."""
    promised = format_of(path)
    if promised is None:
        return
    remedy = f"; {promised.name} is written by {promised.writing}" if promised.writing else ""
    warnings.warn(
        f"{os.fsdecode(path)} is written in the format safetensors, which nn.load reads, and not as {promised.name}"
        f"{remedy}",
        stacklevel=5,  # of whoever called nn.save
    )


def reading_hint(path: str | os.PathLike[str]) -> str:
    """What reads a file of this name, for the end of a message; empty where the name promises nothing."""
    promised = format_of(path)
    return f"; a file of {promised.name} is read by {promised.reading}" if promised else ""
