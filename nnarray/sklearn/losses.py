"""The losses that scikit-learn reports; the gradient is that of the output's own loss, in core.

It takes the logarithm of probabilities A[L] clipped to [eps, 1 - eps] of the dtype, so that no loss of one unit exceeds
-log eps and the last digits of a large one are those of 1 - A. It averages squared errors over the units where
their gradient sums them, and its Poisson loss is half the deviance, 0 for a perfect prediction.
"""

from nnarray.core.activations import sigmoid
from nnarray.core.outputs import exp_loss, identity_loss, over_units, softmax
from nnarray.core.typing import Array, Function, Namespace

TINY = 1e-30
"""Replaces Y = 0 in a logarithm that is multiplied by 0."""


def binary_log_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """Σ -(Y log A + (1-Y) log(1-A)), for Y of zeros and ones the logarithm of what the network gave the right one."""
    A = sigmoid(Z, xp=xp)
    return over_units(-xp.log(_clip(Y * A + (1.0 - Y) * (1.0 - A), xp=xp)), xp=xp)


def log_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """-Σ Y log A, for a Y of one 1 in each column."""
    return -xp.log(_clip(over_units(Y * softmax(Z, xp=xp), xp=xp), xp=xp))


def mean_squared_error(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """½ (Z - Y)², the mean over the units."""
    return identity_loss(Z, Y, xp=xp) / Z.shape[0]


def poisson_deviance(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """Σ e^Z - ZY + Y log Y - Y, the part in Y with 0 log 0 = 0."""
    return exp_loss(Z, Y, xp=xp) + over_units(Y * xp.log(xp.maximum(Y, TINY)) - Y, xp=xp)


def _clip(A: Array, *, xp: Namespace) -> Array:
    """A in [eps, 1-eps], with eps the distance from 1 to the next float of its dtype."""
    eps = 2.0**-23 if "32" in str(A.dtype) else 2.0**-52
    return -xp.maximum(-xp.maximum(A, eps), eps - 1.0)


REPORTED_LOSSES: dict[str, Function] = {
    "sigmoid": binary_log_loss,
    "softmax": log_loss,
    "identity": mean_squared_error,
    "exp": poisson_deviance,
}
"""By output."""
