"""The numerical gradient, to check the analytic one against (the lecture's gradient checking)."""

from typing import Any

from nnarray.core.typing import Array, Function, Namespace


def coordinate(i: int, theta: Array, *, xp: Namespace, device: Any = None) -> Array:
    """e_i, the direction of theta's i-th coordinate, on theta's device if that is not the default."""
    here = xp.arange(theta.shape[0], device=device) == i
    return xp.astype(here, theta.dtype)


def numerical_derivative(J: Function, theta: Array, direction: Array, *, eps: float) -> Array:
    """(J(theta + eps d) - J(theta - eps d)) / 2 eps, the derivative of J at theta along d."""
    return (J(theta + eps * direction) - J(theta - eps * direction)) / (2 * eps)


def norm(g: Array, *, xp: Namespace) -> Array:
    """‖g‖."""
    return xp.sqrt(xp.sum(g * g))


def relative_difference(g: Array, g_hat: Array, *, xp: Namespace) -> Array:
    """‖g - ĝ‖ / (‖g‖ + ‖ĝ‖), and 0 where both are 0."""
    difference = norm(g - g_hat, xp=xp)
    total = norm(g, xp=xp) + norm(g_hat, xp=xp)
    return difference / xp.maximum(total, xp.finfo(total.dtype).smallest_normal)
