"""The update rules, each on one vector theta that holds every W and b, with g its gradient.

v is the running mean of g, s that of g², alpha the learning rate and t = 1, 2, … the count of this update. The running
means follow the lecture: they keep the factor (1-beta), which PyTorch's and scikit-learn's momentum leave out (there,
use alpha (1-beta) for the same path), and Adam adds eps to the corrected root (Kingma & Ba, ICLR 2015, algorithm 1).
"""

from nnarray.core.averages import corrected_mean, running_mean
from nnarray.core.typing import Array, Namespace


def gradient_descent(theta: Array, g: Array, *, alpha: float) -> Array:
    """theta ← theta - alpha g."""
    return theta - alpha * g


def momentum(theta: Array, g: Array, v: Array, *, alpha: float, beta: float) -> tuple[Array, Array]:
    """v ← beta v + (1-beta) g;  theta ← theta - alpha v.  Polyak (1964)."""
    v = running_mean(v, g, beta)
    return theta - alpha * v, v


def nesterov(theta: Array, g: Array, v: Array, *, alpha: float, beta: float) -> tuple[Array, Array]:
    """v as in momentum;  theta ← theta - alpha (beta v + (1-beta) g).  Sutskever et al., ICML 2013."""
    v = running_mean(v, g, beta)
    return theta - alpha * running_mean(v, g, beta), v


def rmsprop(
    theta: Array, g: Array, s: Array, *, alpha: float, beta: float, eps: float, xp: Namespace
) -> tuple[Array, Array]:
    """s ← beta s + (1-beta) g²;  theta ← theta - alpha g / (sqrt(s) + eps).  Hinton's lecture 6e (2012)."""
    s = running_mean(s, g * g, beta)
    return theta - alpha * g / (xp.sqrt(s) + eps), s


def adam(
    theta: Array,
    g: Array,
    v: Array,
    s: Array,
    *,
    t: int,
    alpha: float,
    beta1: float,
    beta2: float,
    eps: float,
    xp: Namespace,
) -> tuple[Array, Array, Array]:
    """theta ← theta - alpha (v / (1-beta1^t)) / (sqrt(s / (1-beta2^t)) + eps)."""
    v = running_mean(v, g, beta1)
    s = running_mean(s, g * g, beta2)
    v_corrected, s_corrected = corrected_mean(v, beta1, t), corrected_mean(s, beta2, t)
    return theta - alpha * v_corrected / (xp.sqrt(s_corrected) + eps), v, s
