"""scikit-learn's MLPClassifier and MLPRegressor on nnarray's engine: change one import line, and the rest stays.

    from nnarray.sklearn import MLPClassifier      # in the place of: from sklearn.neural_network import MLPClassifier

The parameters, attributes, warnings and, in float64, the numbers are those of scikit-learn 1.9; `MLPClassifier` says
what there is besides. Needs scikit-learn (the extra `sklearn`).
"""

from nnarray.sklearn.classifier import MLPClassifier
from nnarray.sklearn.display import LossCurveDisplay
from nnarray.sklearn.regressor import MLPRegressor

__all__ = ["LossCurveDisplay", "MLPClassifier", "MLPRegressor"]
