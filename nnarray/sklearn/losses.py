"""The losses that scikit-learn reports, each derived from core's own, of which the gradient is taken.

It takes the logarithm of probabilities, which it keeps off 0 and 1 by the dtype's eps: so no loss of one unit exceeds
-log eps. It averages squared errors over the units where their gradient sums them, and its Poisson loss is half the
deviance, 0 for a perfect prediction.
"""

from math import log, log1p

from nnarray.core.outputs import exp_loss, identity_loss, over_units, sigmoid_loss, softmax_loss
from nnarray.core.typing import Array, Function, Namespace

TINY = 1e-30
"""In the place of Y = 0 under a logarithm that is multiplied by 0."""


def clipped_sigmoid_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """The sigmoid's loss with A in [eps, 1-eps], that is with Z in ±log((1-eps)/eps)."""
    eps = _eps(Z)
    return sigmoid_loss(_clip(Z, -log((1 - eps) / eps), log((1 - eps) / eps), xp=xp), Y, xp=xp)


def clipped_softmax_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """The softmax's loss with A in [eps, 1-eps], for a Y of one 1 in each column."""
    eps = _eps(Z)
    return _clip(softmax_loss(Z, Y, xp=xp), -log1p(-eps), -log(eps), xp=xp)


def mean_identity_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """½ (Z - Y)², the mean over the units."""
    return identity_loss(Z, Y, xp=xp) / Z.shape[0]


def exp_deviance(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """Σ e^Z - ZY + Y log Y - Y, the part in Y with 0 log 0 = 0."""
    return exp_loss(Z, Y, xp=xp) + over_units(Y * xp.log(xp.maximum(Y, TINY)) - Y, xp=xp)


def _clip(V: Array, lowest: float, highest: float, *, xp: Namespace) -> Array:
    return -xp.maximum(-xp.maximum(V, lowest), -highest)


def _eps(Z: Array) -> float:
    """The distance from 1 to the next float of Z's dtype."""
    return float(2.0**-23 if "32" in str(Z.dtype) else 2.0**-52)


REPORTED_LOSSES: dict[str, Function] = {
    "sigmoid": clipped_sigmoid_loss,
    "softmax": clipped_softmax_loss,
    "identity": mean_identity_loss,
    "exp": exp_deviance,
}
"""By output."""
