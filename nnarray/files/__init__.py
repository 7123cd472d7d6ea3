"""Models as files: one safetensors file holds the tensors W1, b1, …, WL, bL and one entry of JSON that describes them.

A file is data and nothing else: reading one runs no code and follows no path in it. It is written to a temporary file
and renamed, so that after a crash or on a full disk either the old or the new file is there, complete.
"""

from nnarray.backends.atomic import write_atomically
from nnarray.backends.reading import ModelFileError
from nnarray.files.model import Model, load, read_model, save
from nnarray.files.normalization import Normalization

__all__ = ["Model", "ModelFileError", "Normalization", "load", "read_model", "save", "write_atomically"]
