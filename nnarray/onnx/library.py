"""The library onnx, where it is installed."""

from typing import Any


def onnx_library() -> Any:
    """The module onnx; an ImportError says how to install it."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        msg = f"ONNX needs the package onnx, which comes with the extra nnarray[onnx]: {error}"
        raise ImportError(msg) from error
    return onnx
