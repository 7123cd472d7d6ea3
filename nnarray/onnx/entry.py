"""`to_onnx`: a network, a model file or an estimator as an ONNX model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnarray.backends import quiet
from nnarray.files import Model
from nnarray.network import Network
from nnarray.onnx.exporting import estimator_to_onnx, model_to_onnx
from nnarray.onnx.writing import DEFAULT_OPSET, network_to_onnx

if TYPE_CHECKING:
    import onnx


@quiet
def to_onnx(
    network: Any, params: Any = None, *, opset: int = DEFAULT_OPSET, metadata: Mapping[str, Any] | None = None
) -> "onnx.ModelProto":
    """A network, an estimator or a model file as an ONNX model, with examples as rows.

    Parameters
    ----------
    network : Network, MLPClassifier, MLPRegressor or Model
        The architecture; one with batch normalisation is written as the plain one of `Network.folded`. A fitted
        estimator of `nnarray.sklearn`, or the result of `nn.read_model`, goes alone, with its own labels or scaling;
        pipelines are converted by skl2onnx after `nnarray.onnx.register_sklearn_converters()`.
    params : Parameters or sequence of (W, b)
        Of a Network: of any namespace; the graph computes in their dtype, float32 or float64.
    opset : int, default=17
        The version of ONNX's operators, from 13 on.
    metadata : mapping, optional
        Of a Network, as in `nnarray.save`: "classes", "features", "target", … They become entries of the model's
        metadata, as JSON, beside the entry "nnarray", which describes the network.

    Returns
    -------
    onnx.ModelProto
        Of a Network, its input "X" is (m, n_x) for any m, its output "A", (m, n[L]), `network.predict(params, X.T).T`.
        Of an estimator, "X" is float64, (m, n_features); a classifier has the outputs "label", (m,), or (m, n_outputs)
        of several labels, and "probabilities", as `predict` and `predict_proba` give them; a regressor has
        "prediction", (m, n_outputs). Of a model file, see `nnarray.onnx.model_to_onnx`. To save it:
        `onnx.save(model, path)`.

    Raises
    ------
    ImportError
        Where onnx is missing (the extra `onnx`).
    TypeError
        For any other `network`.
    ValueError
        For parameters that don't fit or are not finite, an opset that is too old or that the installed onnx doesn't
        know, an activation that the graph can't have, metadata that a file can't hold.
    """
    if isinstance(network, Network):
        return network_to_onnx(network, params, opset=opset, metadata=metadata or {})
    is_estimator = hasattr(network, "to_network")
    if not is_estimator and not isinstance(network, Model):
        msg = (
            "network must be a Network, a fitted estimator of nnarray.sklearn or a Model of nn.read_model, got "
            f"{type(network).__name__}{_way_out(network)}"
        )
        raise TypeError(msg)
    if params is not None or metadata is not None:
        msg = f"params and metadata must be left out: {type(network).__name__} has its own"
        raise TypeError(msg)
    return estimator_to_onnx(network, opset=opset) if is_estimator else model_to_onnx(network, opset=opset)


def _way_out(network: Any) -> str:
    """What to do with estimators of other kinds."""
    if hasattr(network, "steps"):
        return "; nnarray.onnx.register_sklearn_converters() lets skl2onnx convert pipelines"
    return "; nn.from_sklearn makes a network of scikit-learn's MLPs" if hasattr(network, "coefs_") else ""
