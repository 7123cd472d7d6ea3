"""The constants of an ONNX graph: its initializers, and values computed from these alone."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nnarray.onnx.library import onnx_library

Constants: TypeAlias = dict[str, npt.NDArray[Any]]


def constants_of(graph: Any) -> Constants:
    """Every constant by its name. Raises ValueError for one that lies in another file."""
    found: Constants = {tensor.name: _array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" or (node.op_type in FOLDED and all(name in found for name in node.input)):
            value = _value(node, found)
            if value is not None:
                found[node.output[0]] = value
    return found


FOLDED = ("Identity", "Transpose", "Cast")
"""Nodes whose results are constants where their inputs are."""

NUMBERS = ("value_float", "value_int", "value_floats", "value_ints")
"""The attributes of Constant nodes that a layer may need, besides a tensor."""


def _value(node: Any, found: Constants) -> npt.NDArray[Any] | None:
    """The value of a node whose inputs are constants; None for a kind of constant that no layer has."""
    onnx = onnx_library()
    settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Constant":
        if "value" in settings:
            return _array(settings["value"])
        numbers = [value for name, value in settings.items() if name in NUMBERS]
        return np.asarray(numbers[0]) if numbers else None
    value = found[node.input[0]]
    if node.op_type == "Transpose":
        return value.transpose(settings.get("perm"))
    if node.op_type == "Cast":
        return value.astype(onnx.helper.tensor_dtype_to_np_dtype(settings["to"]))
    return value


def _array(tensor: Any) -> npt.NDArray[Any]:
    """A tensor's numbers; float16 and bfloat16 as float32."""
    onnx = onnx_library()
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        msg = f"the tensor {tensor.name!r} lies in another file, which is not followed"
        raise ValueError(msg)
    value: npt.NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    if value.dtype.kind in "biuOSU" or value.dtype in (np.float32, np.float64):
        return value
    return value.astype(np.float32)
