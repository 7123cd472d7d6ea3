"""Batch normalisation of the hidden layers: Z of a batch to mean beta and standard deviation gamma, before g.

A normalised layer has (W, beta, gamma): its b would be taken out again with the mean, so that beta stands in its place.
In training, mean and variance are the batch's own; `averages` follows them for the time after, when `folded` makes of
the network one without batch normalisation. After Ioffe & Szegedy, ICML 2015, and the lecture's C2W3L04 to L07.
"""

from collections.abc import Sequence
from typing import NamedTuple

from nnarray.core.activations import ACTIVATIONS
from nnarray.core.averages import running_mean
from nnarray.core.primitives import Primitives
from nnarray.core.propagation import Forward
from nnarray.core.regularization import dropout
from nnarray.core.typing import Array, Layers, Masks, Names, Namespace

EPS = 1e-5
"""What is added to a variance, so that a unit that is constant divides by no zero; PyTorch's."""

BETA = 0.9
"""Of the averages of mean and variance: PyTorch's momentum is 1 - BETA."""


class Normalized(NamedTuple):
    """A layer's Z in a batch."""

    Z_norm: Array
    """(Z - mean) / sqrt(variance + eps), (n, m)"""
    scale: Array
    """1 / sqrt(variance + eps), (n, 1)"""
    mean: Array
    """over the columns, (n, 1)"""
    variance: Array
    """over the columns, divided by m, (n, 1)"""


def mean_and_variance(Z: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """Of each unit over the columns, (n, 1) each; example weights don't count here."""
    mean = xp.sum(Z, axis=1, keepdims=True) / Z.shape[1]
    deviation = Z - mean
    return mean, xp.sum(deviation * deviation, axis=1, keepdims=True) / Z.shape[1]


def normalize(Z: Array, mean: Array, variance: Array, *, xp: Namespace) -> Normalized:
    """Z_norm = (Z - mean) / sqrt(variance + eps), with the batch's mean and variance of each unit."""
    scale = 1.0 / xp.sqrt(variance + EPS)
    return Normalized((Z - mean) * scale, scale, mean, variance)


def scale_and_shift(Z_norm: Array, gamma: Array, beta: Array) -> Array:
    """gamma Z_norm + beta, which goes into g instead of Z."""
    return gamma * Z_norm + beta


def activate(
    normalized: Normalized, beta: Array, gamma: Array, g: str, *, primitives: Primitives
) -> tuple[Array, Array]:
    """A = g(gamma Z_norm + beta), before dropout, and what g' is written in: A, or the Z that went into g."""
    Z = scale_and_shift(normalized.Z_norm, gamma, beta)
    A = primitives.activation_forward[g](Z)
    return A, Z if ACTIVATIONS[g].in_Z else A


def scale_and_shift_backward(dZ: Array, Z_norm: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """Σ_columns dZ and Σ_columns dZ * Z_norm, of the dZ that belongs to g: m dbeta and m dgamma, (n, 1) each."""
    return xp.sum(dZ, axis=1, keepdims=True), xp.sum(dZ * Z_norm, axis=1, keepdims=True)


def normalize_backward(dZ: Array, gamma: Array, normalized: Normalized, *, by_mean: Array, by_variance: Array) -> Array:
    """The dZ before normalisation from the dZ that belongs to g: what Z does by itself, by its mean and its variance.

    With dZ_norm = gamma dZ it is (dZ_norm - mean(dZ_norm) - Z_norm * mean(dZ_norm * Z_norm)) / sqrt(variance + eps),
    means over the columns, in both of which gamma is a factor: `by_mean` is mean(dZ), `by_variance` mean(dZ * Z_norm).
    """
    return gamma * normalized.scale * (dZ - by_mean - normalized.Z_norm * by_variance)


def forward(
    X: Array, layers: Layers, hidden: Names, output: str, *, primitives: Primitives, masks: Masks = ()
) -> tuple[Forward, list[Normalized]]:
    """Z[l] = W[l] A[l-1],  A[l] = g[l](gamma[l] Z_norm[l] + beta[l]); the last layer is as ever.

    `masks` are D[1], …, D[L-1] of inverted dropout, or none.
    """
    A, cached, normalized = [X], [], []
    for l, (W, beta, gamma) in enumerate(layers[:-1]):
        Z = primitives.linear_forward(A[l], W, 0.0)
        normalized.append(normalize(Z, *mean_and_variance(Z, xp=primitives.xp), xp=primitives.xp))
        A_l, in_g_prime = activate(normalized[l], beta, gamma, hidden[l], primitives=primitives)
        cached.append(in_g_prime)
        A.append(dropout(A_l, masks[l]) if masks else A_l)
    W, b = layers[-1]
    Z = primitives.linear_forward(A[-1], W, b)
    A.append(primitives.mean[output](Z))
    return Forward(A, cached, Z), normalized


def backward(
    dZ: Array,
    passed: Forward,
    normalized: Sequence[Normalized],
    layers: Layers,
    hidden: Names,
    *,
    m: Array,
    primitives: Primitives,
    masks: Masks = (),
) -> tuple[Layers, Array]:
    """(dW[1], dbeta[1], dgamma[1]), …, (dW[L], db[L]), and dZ[1] before normalisation, from dZ[L] of any cost."""
    A, xp = passed.A, primitives.xp
    gradients: list[Sequence[Array]] = [primitives.linear_backward(dZ, A[-2], m=m)]
    for l in range(len(layers) - 1, 0, -1):
        dA = primitives.linear_backward_input(dZ, layers[l][0])
        if masks:
            dA = dropout(dA, masks[l - 1])
        dZ = primitives.activation_backward[hidden[l - 1]](dA, passed.cached[l - 1])
        gamma, norm, columns = layers[l - 1][2], normalized[l - 1], dZ.shape[1]
        of_beta, of_gamma = scale_and_shift_backward(dZ, norm.Z_norm, xp=xp)
        dZ = normalize_backward(dZ, gamma, norm, by_mean=of_beta / columns, by_variance=of_gamma / columns)
        dW, _ = primitives.linear_backward(dZ, A[l - 1], m=m)
        gradients.append((dW, of_beta / m, of_gamma / m))
    return gradients[::-1], dZ


def averaged(average: Array, value: Array) -> Array:
    """An average of mean or variance after a further batch."""
    return running_mean(average, value, BETA)


def unbiased(variance: Array, m: int) -> Array:
    """The variance of all examples as a batch of m tells it, Σ (Z - mean)² / (m-1): what is averaged, as in PyTorch."""
    return variance * (m / (m - 1))


def united(one: tuple[int, Array, Array], other: tuple[int, Array, Array]) -> tuple[int, Array, Array]:
    """How many columns two parts of a batch have together, and their mean and variance, from those of each.

    After Chan, Golub & LeVeque, The American Statistician 37 (1983).
    """
    (columns, mean, variance), (further, other_mean, other_variance) = one, other
    share = further / (columns + further)
    apart = other_mean - mean
    within = (1 - share) * variance + share * other_variance
    return columns + further, mean + share * apart, within + share * (1 - share) * apart * apart


def folded(W: Array, beta: Array, gamma: Array, mean: Array, variance: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """The (W, b) with which W A_prev + b is gamma (W A_prev - mean) / sqrt(variance + eps) + beta."""
    factor = gamma / xp.sqrt(variance + EPS)
    return factor * W, beta - factor * mean
