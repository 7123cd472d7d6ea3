"""The activations of the hidden layers, each g above its derivative g'.

The derivative is written in A = g(Z), so the forward pass keeps A and drops Z; of an activation that is `in_Z` it keeps
Z. At Z = 0, where they have none, g' is 0 for relu, 0.01 for leaky_relu, alpha lambda for selu, as in PyTorch and JAX.
Where JAX or torch differentiates g, `maximum` and `minimum` of equal operands take the first one's derivative, and |Z|'
is 1 at 0 (backends ensure this); each g orders its operands so that autodiff gives g'.
"""

from math import pi, sqrt
from typing import NamedTuple

from nnarray.core.typing import Array, Function, Namespace

LEAK = 0.01  # the slope of leaky_relu for Z < 0


class Activation(NamedTuple):
    """An activation: `g(Z, xp=xp)` is A, `g_prime(A, xp=xp)` is g'(Z) written in A, or in Z where it is `in_Z`."""

    name: str
    g: Function
    g_prime: Function
    has_kink: bool = False
    """whether g has no derivative at Z = 0"""
    in_Z: bool = False  # noqa: N815 - the letter
    """whether g_prime takes Z"""


def sigmoid(Z: Array, *, xp: Namespace) -> Array:
    """1 / (1 + e^-Z), with E = e^-|Z| so that nothing overflows: 1 / (1 + E) where Z ≥ 0, else E / (1 + E)."""
    E = xp.exp(-xp.abs(Z))
    return xp.maximum(xp.astype(Z >= 0, Z.dtype), E) / (1.0 + E)


def sigmoid_prime(A: Array, *, xp: Namespace) -> Array:
    """A (1 - A)."""
    return A * (1.0 - A)


def tanh(Z: Array, *, xp: Namespace) -> Array:
    """The hyperbolic tangent of Z."""
    return xp.tanh(Z)


def tanh_prime(A: Array, *, xp: Namespace) -> Array:
    """1 - A²."""
    return 1.0 - A * A


def relu(Z: Array, *, xp: Namespace) -> Array:
    """max(0, Z)."""
    return xp.maximum(0.0, Z)


def relu_prime(A: Array, *, xp: Namespace) -> Array:
    """1 where A > 0, else 0."""
    return xp.astype(A > 0, A.dtype)


def leaky_relu(Z: Array, *, xp: Namespace) -> Array:
    """max(0.01 Z, Z)."""
    return xp.maximum(LEAK * Z, Z)


def leaky_relu_prime(A: Array, *, xp: Namespace) -> Array:
    """1 where A > 0, else 0.01."""
    return xp.maximum(xp.astype(A > 0, A.dtype), LEAK)


def identity(Z: Array, *, xp: Namespace) -> Array:
    """Z itself."""
    return Z


def identity_prime(A: Array, *, xp: Namespace) -> Array:
    """1."""
    return xp.ones_like(A)


def silu(Z: Array, *, xp: Namespace) -> Array:
    """Z sigmoid(Z), also called swish."""
    return Z * sigmoid(Z, xp=xp)


def silu_prime(Z: Array, *, xp: Namespace) -> Array:
    """S (1 + Z (1 - S)), with S = sigmoid(Z) and 1 - S = sigmoid(-Z)."""
    return sigmoid(Z, xp=xp) * (1.0 + Z * sigmoid(-Z, xp=xp))


def softplus(Z: Array, *, xp: Namespace) -> Array:
    """log(1 + e^Z) = max(0, Z) + log(1 + e^-|Z|)."""
    return xp.maximum(Z, 0.0) + xp.log1p(xp.exp(-xp.abs(Z)))


def softplus_prime(Z: Array, *, xp: Namespace) -> Array:
    """sigmoid(Z)."""
    return sigmoid(Z, xp=xp)


def elu(Z: Array, *, xp: Namespace) -> Array:
    """Z where Z > 0, else e^Z - 1."""
    return xp.maximum(0.0, Z) + xp.expm1(xp.minimum(Z, 0.0))


def elu_prime(Z: Array, *, xp: Namespace) -> Array:
    """1 where Z > 0, else e^Z."""
    return xp.exp(xp.minimum(Z, 0.0))


ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805  # Klambauer et al., NIPS 2017: they keep mean 0 and variance 1


def selu(Z: Array, *, xp: Namespace) -> Array:
    """lambda Z where Z > 0, else lambda alpha (e^Z - 1)."""
    return LAMBDA * (xp.maximum(0.0, Z) + ALPHA * xp.expm1(xp.minimum(Z, 0.0)))


def selu_prime(Z: Array, *, xp: Namespace) -> Array:
    """lambda where Z > 0, else lambda alpha e^Z."""
    positive = xp.astype(Z > 0, Z.dtype)
    return LAMBDA * (positive + (1.0 - positive) * ALPHA * xp.exp(xp.minimum(Z, 0.0)))


def gelu(Z: Array, *, xp: Namespace) -> Array:
    """Z Phi(Z) = max(0, Z) - |Z| Phi(-|Z|), with Phi the normal distribution function. Hendrycks & Gimpel (2016)."""
    U = _bounded(xp.abs(Z), xp=xp)
    return xp.maximum(Z, 0.0) - U * (_bell(U, xp=xp) * _mills(U))


def gelu_prime(Z: Array, *, xp: Namespace) -> Array:
    """Phi(Z) + Z phi(Z), where Phi(Z) = 1 - Phi(-Z) for Z ≥ 0 and phi is the normal density."""
    U = _bounded(xp.abs(Z), xp=xp)
    E, positive = _bell(U, xp=xp), xp.astype(Z >= 0, Z.dtype)
    return positive + (1.0 - 2.0 * positive) * (E * _mills(U)) + Z * (E / sqrt(2 * pi))


def gelu_tanh(Z: Array, *, xp: Namespace) -> Array:
    """Z (1 + tanh Y) / 2 = Z sigmoid(2Y), with Y = sqrt(2/pi) (Z + 0.044715 Z³): an approximation of gelu."""
    B = _bounded(Z, xp=xp)
    return Z * sigmoid(TWICE * (B + 0.044715 * B * B * B), xp=xp)


def gelu_tanh_prime(Z: Array, *, xp: Namespace) -> Array:
    """S + Z S (1 - S) 2Y', with S = sigmoid(2Y), 1 - S = sigmoid(-2Y) and Y' = sqrt(2/pi) (1 + 3 · 0.044715 Z²)."""
    B = _bounded(Z, xp=xp)
    Y2 = TWICE * (B + 0.044715 * B * B * B)
    return sigmoid(Y2, xp=xp) * (1.0 + B * sigmoid(-Y2, xp=xp) * (TWICE + TWICE * 0.134145 * B * B))


TWICE = 2 * sqrt(2 / pi)


def _bounded(Z: Array, *, xp: Namespace) -> Array:
    """Z within -40 and 40, beyond which Phi and its approximation are 0 or 1 in float64, so that no power overflows."""
    return xp.maximum(xp.minimum(Z, 40.0), -40.0)


def _bell(U: Array, *, xp: Namespace) -> Array:
    """e^(-U²/2) to 2 ulp: with H = ⌊8U⌋/8, whose square is exact, it is e^(-H²/2) e^(-(U-H)(U+H)/2)."""
    H = 0.125 * xp.floor(8.0 * U)
    return xp.exp(-0.5 * H * H) * xp.exp(-0.5 * (U - H) * (U + H))


def _mills(U: Array) -> Array:
    """Phi(-U) e^(U²/2) for 0 ≤ U ≤ 40, a ratio of polynomials right to 6e-17; no term is negative, so none cancels.

    The standard has no erf. The coefficients are fitted in 60 digits, for a relative error that is the same everywhere.
    """
    P, Q = MILLS_P[0], U + MILLS_Q[0]
    for p, q in zip(MILLS_P[1:], MILLS_Q[1:], strict=True):
        P, Q = P * U + p, Q * U + q
    return P / Q


MILLS_P = (
    0.3989422804003734, 10.709321253159448, 140.80284062995275, 1172.7989209772468, 6768.202635335288,
    27967.316579058068, 82754.29811739315, 169769.6428739838, 221265.8754310762, 142643.98070460462,
)  # fmt: skip
MILLS_Q = (
    26.844287454718383, 353.9403815241548, 2966.615220237604, 17316.308590730903, 72989.74566547107,
    223703.81796848518, 490040.8569904228, 731604.5137729712, 670158.6106534811, 285287.96140920924,
)  # fmt: skip
"""From the highest power of U down; Q has U^10 besides."""


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("sigmoid", sigmoid, sigmoid_prime),
        Activation("tanh", tanh, tanh_prime),
        Activation("relu", relu, relu_prime, has_kink=True),
        Activation("leaky_relu", leaky_relu, leaky_relu_prime, has_kink=True),
        Activation("identity", identity, identity_prime),
        Activation("gelu", gelu, gelu_prime, in_Z=True),
        Activation("gelu_tanh", gelu_tanh, gelu_tanh_prime, in_Z=True),
        Activation("silu", silu, silu_prime, in_Z=True),
        Activation("softplus", softplus, softplus_prime, in_Z=True),
        Activation("elu", elu, elu_prime, in_Z=True),
        Activation("selu", selu, selu_prime, has_kink=True, in_Z=True),
    )
}
