"""ONNX: networks as graphs that other runtimes run, and plain dense graphs of other tools as networks.

`to_onnx` writes a network, a fitted estimator or a model file, `model_to_onnx` a model file with its options,
and `from_onnx` reads. After `register_sklearn_converters()` skl2onnx converts pipelines with nnarray's estimators.
Needs onnx (the extra `onnx`); the converters need skl2onnx, too.
"""

from nnarray.onnx.converters import register_sklearn_converters
from nnarray.onnx.entry import to_onnx
from nnarray.onnx.exporting import model_to_onnx
from nnarray.onnx.reading import from_onnx

__all__ = ["from_onnx", "model_to_onnx", "register_sklearn_converters", "to_onnx"]
