"""ONNX: networks as graphs that other runtimes run, and plain dense graphs of other tools as networks.

`to_onnx` writes, `from_onnx` reads, and after `register_sklearn_converters()` skl2onnx converts pipelines with
nnarray's estimators. Needs onnx (the extra `onnx`); the converters need skl2onnx, too.
"""

from nnarray.onnx.converters import register_sklearn_converters
from nnarray.onnx.reading import from_onnx
from nnarray.onnx.writing import to_onnx

__all__ = ["from_onnx", "register_sklearn_converters", "to_onnx"]
