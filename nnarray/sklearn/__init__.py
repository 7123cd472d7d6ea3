"""scikit-learn's MLPClassifier and MLPRegressor on nnarray's engine: change one import line, and the rest stays.

    from nnarray.sklearn import MLPClassifier      # instead of: from sklearn.neural_network import MLPClassifier

The parameters, methods, attributes and warnings are those of scikit-learn 1.9 (the extra `sklearn`). With the same
`random_state`, in float64, whole runs of sgd, adam and L-BFGS give its losses, parameters and predictions to 1e-6,
unless training is so ill-conditioned that scikit-learn's own run changes as much when the last bit of X does.
scikit-learn's tests of its MLP and its estimator checks pass on both.

They add `class_weight`; validation examples (`fit(X, y, X_val=…, y_val=…)`) and `validation_loss_curve_`; an
activation per layer, leaky_relu and others; `dropout`, `input_dropout`, `l1`; `batch_norm`; the weights' `average`;
`dtype`, `workers`; `verbose="progress"`; `LossCurveDisplay.from_estimator(model)`. `backend="cupy"` trains on the GPU
what lies on the host; with scikit-learn's `array_api_dispatch`, arrays are trained where they are, and results come
back there (tested with torch, array-api-strict, and CuPy on an emulated GPU).

They differ in these points: float32 stays float32 with L-BFGS; a Poisson loss refuses negative y; a warm start refuses
other layer sizes; a batch whose examples weigh nothing is left out; `MLPRegressor` has no `partial_fit` with L-BFGS
either.

A fitted estimator's state is arrays, numbers and names, besides what is scikit-learn's own. So a file of skops asks for
trust in the estimator alone: `skops.io.load(path, trusted=["nnarray.sklearn.classifier.MLPClassifier"])`, or
`"nnarray.sklearn.regressor.MLPRegressor"`.
"""

from nnarray.sklearn.version import require_scikit_learn

require_scikit_learn()

from nnarray.sklearn.classifier import MLPClassifier  # noqa: E402
from nnarray.sklearn.display import LossCurveDisplay  # noqa: E402
from nnarray.sklearn.regressor import MLPRegressor  # noqa: E402

__all__ = ["LossCurveDisplay", "MLPClassifier", "MLPRegressor"]
