"""scikit-learn's MLPClassifier and MLPRegressor on nnarray's engine: change one import line, and the rest stays.

    from nnarray.sklearn import MLPClassifier      # in the place of: from sklearn.neural_network import MLPClassifier

The parameters, attributes, warnings and, in float64, the numbers are those of scikit-learn 1.9; `MLPClassifier` says
what there is besides. Needs scikit-learn (the extra `sklearn`).

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
