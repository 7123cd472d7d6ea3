"""Hyperparameters on the appropriate scale: alpha and beta are searched for in powers of ten.

![Accuracy of 40 trials drawn uniformly, and of 40 drawn log-uniformly](random_search.png)

What matters of alpha is its order of magnitude, and of beta that of 1 - beta: from 0.9 to 0.999 Adam's v averages over
10 to 1000 gradients. Drawn uniformly, alpha from 0.0001 to 1 lies above 0.1 in nine trials of ten, where training
breaks down. Drawn log-uniformly, every power of ten has as many trials, and the good ones show where to look next.
"""

import warnings
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV

from nnarray.sklearn import MLPClassifier


class OneMinus(NamedTuple):
    """beta = 1 - r, of an r with this distribution."""

    distribution: Any

    def rvs(self, random_state: Any = None) -> float:
        """A draw."""
        return 1 - float(self.distribution.rvs(random_state=random_state))


SCALES = {
    "drawn uniformly": (uniform(1e-4, 1), uniform(1e-3, 0.1)),
    "drawn log-uniformly": (loguniform(1e-4, 1), loguniform(1e-3, 0.1)),
}
"""The distributions of alpha and of 1 - beta."""


def search(alpha: Any, one_minus_beta: Any, trials: int, epochs: int) -> Any:
    """The trials of scikit-learn's random search, with their accuracy on the third that each fit does not see."""
    images, labels = load_digits(return_X_y=True)
    model = MLPClassifier((32, 32, 32), solver="adam", max_iter=epochs, random_state=0)
    drawn = {"learning_rate_init": alpha, "beta_1": OneMinus(one_minus_beta)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few epochs are not to converge, and some trials diverge
        search = RandomizedSearchCV(model, drawn, n_iter=trials, cv=3, random_state=0, error_score=0.0, refit=False)
        return search.fit(images[:900] / 16, labels[:900])


def draw(trials: int = 40, epochs: int = 10) -> Any:
    """The accuracy of each trial over alpha and 1 - beta, on logarithmic axes, with a ring around the best."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True, sharey=True, layout="constrained")
    for ax, (name, scales) in zip(axes, SCALES.items(), strict=True):
        found = search(*scales, trials, epochs)
        alphas = [drawn["learning_rate_init"] for drawn in found.cv_results_["params"]]
        rest = [1 - drawn["beta_1"] for drawn in found.cv_results_["params"]]
        points = ax.scatter(alphas, rest, c=found.cv_results_["mean_test_score"], vmin=0, vmax=1)
        ax.scatter(alphas[found.best_index_], rest[found.best_index_], s=160, facecolors="none", edgecolors="red")
        good = (found.cv_results_["mean_test_score"] > 0.8).sum()
        ax.set(title=f"{name}: {good} of {trials} above 0.8", xscale="log", yscale="log")
        ax.set(xlabel="alpha", ylabel="1 - beta")
        ax.label_outer()
    figure.colorbar(points, ax=axes, label="validation accuracy")
    return figure


if __name__ == "__main__":
    draw().savefig("random_search.png")
