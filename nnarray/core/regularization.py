"""What keeps a network from learning its examples by heart: the L2 and L1 penalties and inverted dropout."""

from nnarray.core.typing import Array, Namespace, Pairs


def l2_cost(layers: Pairs, *, l2: float, m: Array, xp: Namespace) -> Array:
    """(lambda/2m) Σ_l ‖W[l]‖²; biases are not penalised."""
    squares = [xp.sum(W * W) for W, _ in layers]
    return l2 / (2 * m) * sum(squares[1:], start=squares[0])


def l2_gradient(W: Array, *, l2: float, m: Array) -> Array:
    """What the penalty adds to dW: (lambda/m) W."""
    return l2 / m * W


def l1_cost(layers: Pairs, *, l1: float, m: Array, xp: Namespace) -> Array:
    """(lambda/m) Σ_l ‖W[l]‖₁, where ‖W‖₁ is the sum of the magnitudes; biases are not penalised."""
    magnitudes = [xp.sum(xp.abs(W)) for W, _ in layers]
    return l1 / m * sum(magnitudes[1:], start=magnitudes[0])


def l1_gradient(W: Array, *, l1: float, m: Array, xp: Namespace) -> Array:
    """What this penalty adds to dW: (lambda/m) sign(W), and nothing at W = 0, where it has no derivative."""
    sign = xp.astype(W > 0, W.dtype) - xp.astype(W < 0, W.dtype)  # some libraries' own looks at values
    return l1 / m * sign


def cost_with_penalties(
    J: Array, layers: Pairs, *, m: Array, l2: float | None = None, l1: float | None = None, xp: Namespace
) -> Array:
    """The mean loss J with those penalties that are given."""
    if l2 is not None:
        J = J + l2_cost(layers, l2=l2, m=m, xp=xp)
    return J if l1 is None else J + l1_cost(layers, l1=l1, m=m, xp=xp)


def gradients_with_penalties(
    gradients: Pairs, layers: Pairs, *, m: Array, l2: float | None = None, l1: float | None = None, xp: Namespace
) -> Pairs:
    """The gradients with the shares of those penalties that are given in each dW."""
    if l2 is not None:
        gradients = [(dW + l2_gradient(W, l2=l2, m=m), db) for (dW, db), (W, _) in zip(gradients, layers, strict=True)]
    if l1 is not None:
        pairs = zip(gradients, layers, strict=True)
        gradients = [(dW + l1_gradient(W, l1=l1, m=m, xp=xp), db) for (dW, db), (W, _) in pairs]
    return gradients


def dropout(A: Array, D: Array) -> Array:
    """Inverted dropout: A * D, where D is 0 for a dropped unit and 1/keep for a kept one, so that A's mean stays.

    It is for every A[l] but the last, X = A[0] too. The way back is the same product, dA * D. After Srivastava et al.,
    JMLR 15 (2014).
    """
    return A * D
