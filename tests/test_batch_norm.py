"""Batch normalisation: the lecture's loops, torch's autograd and BatchNorm1d, and finite differences as oracles."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import targets

from nnarray.core import batch_norm, propagation
from nnarray.core.steps import bind
from nnarray.core.vector import join
from nnarray.engine.batch_norm import split, theta_size

torch = pytest.importorskip("torch")

SIZES, HIDDEN = (4, 6, 5, 3), ("gelu", "relu")


def normalized_layers(sizes, seed=0):
    """Host layers (W, beta, gamma), the last (W, b), in float64."""
    generator = np.random.default_rng(seed)
    layers = []
    for l, (n_prev, n) in enumerate(pairwise(sizes), 1):
        W, beta = generator.normal(size=(n, n_prev)), generator.normal(size=(n, 1))
        gamma = generator.uniform(0.5, 1.5, size=(n, 1))
        layers.append((W, beta) if l == len(sizes) - 1 else (W, beta, gamma))
    return layers


def examples(sizes, output, m, seed=1):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(m, sizes[0])).T * 3 + 2, targets(output, sizes[-1], m, generator)


def core_gradients(layers, X, Y, output, m, xp=np, hidden=HIDDEN):
    steps = bind(xp)
    passed, normalized = batch_norm.forward(X, layers, hidden, output, steps=steps)
    dZ = steps.output_backward(passed.A[-1], Y)
    J = propagation.cost(passed.Z, Y, output, m=m, steps=steps)
    return J, batch_norm.backward_from(dZ, passed, normalized, layers, hidden, m=m, steps=steps), passed, normalized


def torch_layers(layers, batch_norms):
    """BatchNorm1d modules with these gamma and beta, in training mode."""
    for (_, beta, gamma), module in zip(layers[:-1], batch_norms, strict=True):
        module.weight.data = torch.tensor(gamma[:, 0])
        module.bias.data = torch.tensor(beta[:, 0])


def test_forward_is_the_lectures_loop_over_examples_and_units():
    layers = normalized_layers(SIZES)
    X, _ = examples(SIZES, "softmax", 7)
    passed, _ = batch_norm.forward(X, layers, ("tanh", "tanh"), "identity", steps=bind(np))
    m, A = X.shape[1], [[X[i, j] for j in range(X.shape[1])] for i in range(X.shape[0])]
    for W, beta, gamma in layers[:-1]:
        rows = []
        for i in range(W.shape[0]):
            z = [sum(W[i, k] * A[k][j] for k in range(W.shape[1])) for j in range(m)]
            mu = sum(z) / m
            sigma_squared = sum((z_j - mu) ** 2 for z_j in z) / m
            z_norm = [(z_j - mu) / (sigma_squared + 1e-5) ** 0.5 for z_j in z]
            rows.append([np.tanh(gamma[i, 0] * z_j + beta[i, 0]) for z_j in z_norm])
        A = rows
    W, b = layers[-1]
    np.testing.assert_allclose(passed.A[-1], W @ np.array(A) + b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("m", [2, 23])
def test_gradients_are_those_of_torchs_batch_norm(output, m):
    layers = normalized_layers(SIZES)
    X, Y = examples(SIZES, output, m)
    J, found, _, normalized = core_gradients(layers, X, Y, output, m)
    V = [torch.tensor(W, requires_grad=True) for W, *_ in layers]
    b = torch.tensor(layers[-1][1], requires_grad=True)
    modules = [torch.nn.BatchNorm1d(n).double() for n in SIZES[1:-1]]
    torch_layers(layers, modules)
    A = torch.tensor(X)
    for W, module, g in zip(V[:-1], modules, [torch.nn.functional.gelu, torch.relu], strict=True):
        A = g(module((W @ A).T).T)
    Z, T = V[-1] @ A + b, torch.tensor(Y)
    F = torch.nn.functional
    loss = {
        "softmax": lambda: F.cross_entropy(Z.T, T.T),
        "sigmoid": lambda: F.binary_cross_entropy_with_logits(Z, T, reduction="sum") / m,
        "identity": lambda: 0.5 * F.mse_loss(Z, T, reduction="sum") / m,
    }[output]()
    loss.backward()
    assert abs(J - loss.item()) < 1e-10
    wanted = [(W.grad, s.bias.grad[:, None], s.weight.grad[:, None]) for W, s in zip(V[:-1], modules, strict=True)]
    for layer, theirs in zip(found, [*wanted, (V[-1].grad, b.grad)], strict=True):
        for ours, their in zip(layer, theirs, strict=True):
            np.testing.assert_allclose(ours, their.numpy(), rtol=0, atol=1e-10)
    for norm, module in zip(normalized, modules, strict=True):  # from 0 and 1
        mean = batch_norm.averaged(np.zeros_like(norm.mean), norm.mean)
        variance = batch_norm.averaged(np.ones_like(norm.mean), batch_norm.unbiased(norm.variance, m))
        np.testing.assert_allclose(mean[:, 0], module.running_mean.numpy(), rtol=0, atol=1e-10)
        np.testing.assert_allclose(variance[:, 0], module.running_var.numpy(), rtol=0, atol=1e-10)


def test_gradients_are_the_limits_of_differences():
    layers, hidden = normalized_layers(SIZES), ("silu", "tanh")
    X, Y = examples(SIZES, "exp", 9)
    theta = join(layers, xp=np)
    assert theta.shape == (theta_size(SIZES),)

    def J(theta):
        return core_gradients(split(theta, SIZES, xp=np), X, Y, "exp", 9, hidden=hidden)[0]

    g = join(core_gradients(layers, X, Y, "exp", 9, hidden=hidden)[1], xp=np)
    e = 1e-6 * np.eye(theta.size)
    numerical = np.array([(J(theta + d) - J(theta - d)) / 2e-6 for d in e])
    assert np.linalg.norm(g - numerical) / np.linalg.norm(g + numerical) < 1e-7


def test_folding_gives_the_same_network_where_the_averages_are_the_batchs_own():
    layers = normalized_layers(SIZES)
    X, _ = examples(SIZES, "softmax", 11)
    passed, normalized = batch_norm.forward(X, layers, HIDDEN, "softmax", steps=bind(np))
    pairs = [
        batch_norm.folded(*layer, norm.mean, norm.variance, xp=np)
        for layer, norm in zip(layers[:-1], normalized, strict=True)
    ]
    plain = propagation.forward(X, [*pairs, layers[-1]], HIDDEN, "softmax", steps=bind(np))
    np.testing.assert_allclose(plain.A[-1], passed.A[-1], rtol=0, atol=1e-12)
