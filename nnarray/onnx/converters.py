"""nnarray's estimators for skl2onnx."""

from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.onnx.building import add_layers
from nnarray.onnx.tracing import trace


def register_sklearn_converters() -> None:
    """Make skl2onnx convert `MLPClassifier` and `MLPRegressor` of `nnarray.sklearn`, alone and in pipelines.

    Every activation, one per layer, several outputs and labels, and the Poisson loss are converted, batch normalisation
    is folded; a classifier has skl2onnx's options `zipmap`, `nocl` and `output_class_labels`. A graph of float32 inputs
    computes in float32, one of float64 inputs in float64.

    Raises
    ------
    ImportError
        Where skl2onnx is missing.
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError as error:
        msg = f"the converters are skl2onnx's: install skl2onnx: {error}"
        raise ImportError(msg) from error
    from nnarray.sklearn import MLPClassifier, MLPRegressor

    choices = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
    update_registered_converter(
        MLPClassifier, "NnarrayMLPClassifier", _classifier_shapes, _convert_classifier, options=choices
    )
    update_registered_converter(MLPRegressor, "NnarrayMLPRegressor", _regressor_shapes, _convert_regressor)


class Container:
    """skl2onnx's container as a graph that layers are added to."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        from onnx import TensorProto
        from skl2onnx.common.data_types import guess_proto_type

        self.scope, self.container = scope, container
        is_double = guess_proto_type(operator.inputs[0].type) == TensorProto.DOUBLE
        self.kind = TensorProto.DOUBLE if is_double else TensorProto.FLOAT
        self.dtype = np.dtype("float64" if is_double else "float32")

    def constant(self, value: npt.NDArray[Any], what: str) -> str:
        """The name of a new constant."""
        name: str = self.scope.get_unique_variable_name(what)
        value = np.asarray(value, dtype=self.dtype)
        self.container.add_initializer(name, self.kind, list(value.shape), value.ravel())
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """The name of a new node's output."""
        made: str = self.scope.get_unique_variable_name(op.lower())
        self.put(made, op, *inputs, **attributes)
        return made

    def composed(self, name: str, Z: str) -> str:
        """The name of g(Z), by the operations that it consists of."""
        return trace(self, Z, name)

    def put(self, made: str, op: str, *inputs: str, **attributes: Any) -> None:
        """A node that makes the value of this name."""
        name = self.scope.get_unique_operator_name(op)
        self.container.add_node(op, [*inputs], made, name=name, **attributes)


def _prediction(graph: Container, operator: Any) -> str:
    """The name of A[L]."""
    network, params = operator.raw_operator.to_network()
    network, params = network.folded(params)
    layers = [(params.backend.to_numpy(W), params.backend.to_numpy(b)) for W, b in params]
    X = graph.node("Cast", operator.inputs[0].full_name, to=graph.kind)
    return add_layers(graph, X, layers, network.hidden, network.output)


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    graph = Container(scope, operator, container)
    graph.put(operator.outputs[0].full_name, "Identity", _prediction(graph, operator))


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    graph, model = Container(scope, operator, container), operator.raw_operator
    labels, probabilities = (variable.full_name for variable in operator.outputs[:2])
    A = _prediction(graph, operator)
    if model.n_outputs_ == 1:
        graph.put(probabilities, "Concat", graph.node("Sub", graph.constant(np.array(1.0), "one"), A), A, axis=1)
    else:
        graph.put(probabilities, "Identity", A)
    if model._label_binarizer.y_type_ == "multilabel-indicator":
        said = graph.node("Greater", A, graph.constant(np.array(0.5), "half"))
        graph.put(labels, "Cast", said, to=_kinds().INT64)
        return
    code = graph.node("ArgMax", A if len(model.classes_) == 1 else probabilities, axis=1, keepdims=0)
    graph.put(labels, "Gather", _classes(scope, container, model.classes_), code, axis=0)


def _classes(scope: Any, container: Any, classes: npt.NDArray[Any]) -> str:
    """The name of the classes as a constant."""
    name: str = scope.get_unique_variable_name("classes")
    if classes.dtype.kind in "biuf":
        container.add_initializer(name, _kinds().INT64, [len(classes)], classes.astype(np.int64))
    else:
        container.add_initializer(name, _kinds().STRING, [len(classes)], [str(c).encode() for c in classes])
    return name


def _kinds() -> Any:
    from onnx import TensorProto

    return TensorProto


def _regressor_shapes(operator: Any) -> None:
    m = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = _floats_like(operator)([m, operator.raw_operator.n_outputs_])


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    m, model = operator.inputs[0].get_first_dimension(), operator.raw_operator
    is_multilabel = model._label_binarizer.y_type_ == "multilabel-indicator"
    kind = Int64TensorType if model.classes_.dtype.kind in "biuf" else StringTensorType
    operator.outputs[0].type = kind([m, model.n_outputs_] if is_multilabel else [m])
    operator.outputs[1].type = _floats_like(operator)([m, max(model.n_outputs_, 2)])


def _floats_like(operator: Any) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    return DoubleTensorType if isinstance(operator.inputs[0].type, DoubleTensorType) else FloatTensorType
