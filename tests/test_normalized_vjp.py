"""The way back from A[L] of training with batch normalisation: against autograd of torch and JAX, tiled and whole."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import Space
from test_batch_norm import examples, network_of, normalized_layers, torch_layers
from test_oracles import assert_close

import nnarray as nn
from nnarray import engine
from nnarray.engine import Batch

torch = pytest.importorskip("torch")

G = {"gelu": torch.nn.functional.gelu, "relu": torch.relu, "tanh": torch.tanh, "silu": torch.nn.functional.silu}
MEANS = {
    "softmax": lambda Z: torch.softmax(Z, 1),
    "sigmoid": torch.sigmoid,
    "identity": lambda Z: Z,
    "exp": torch.exp,
}
CASES = [
    ((4, 6, 5, 3), ("gelu", "relu"), "softmax"),
    ((3, 5, 2), ("tanh",), "sigmoid"),
    ((4, 3, 4, 5, 1), ("silu", "relu", "tanh"), "identity"),
    ((2, 4, 2), ("relu",), "exp"),
    ((4, 3), (), "softmax"),
]


def case(sizes, m, seed=2):
    layers = normalized_layers(sizes, seed)
    layers[-1] = tuple(0.3 * V for V in layers[-1])
    X, _ = examples(sizes, "identity", m, seed)
    return layers, X, np.random.default_rng(seed).normal(size=(sizes[-1], m))


def of_torch(layers, hidden, output, X, dA) -> list[np.ndarray]:
    """A, dX and every dW, dbeta and dgamma, by autograd through BatchNorm1d."""
    modules = [torch.nn.BatchNorm1d(W.shape[0]).double() for W, *_ in layers[:-1]]
    torch_layers(layers, modules)
    given = torch.tensor(X.T.copy(), requires_grad=True)
    weights = [torch.tensor(W, requires_grad=True) for W, *_ in layers]
    b = torch.tensor(layers[-1][1][:, 0], requires_grad=True)
    A = given
    for W, module, g in zip(weights, modules, hidden, strict=False):
        A = G[g](module(A @ W.T))
    A = MEANS[output](A @ weights[-1].T + b)
    leaves = [V for W, module in zip(weights, modules, strict=False) for V in (W, module.bias, module.weight)]
    found = torch.autograd.grad((A * torch.tensor(dA.T.copy())).sum(), [given, *leaves, weights[-1], b])
    dX, *gradients = [V.detach().numpy() for V in found]
    return [A.detach().numpy().T, dX.T, *(V if V.ndim == 2 else V[:, None] for V in gradients)]


def of_ours(network, layers, X, dA, **options) -> list[Any]:
    A, pull = network.vjp(layers, X, **options)
    gradients, dX = pull(dA)
    assert isinstance(gradients, nn.NormalizedParameters)
    return [A, dX, *(V for layer in gradients for V in layer)]


@pytest.mark.parametrize(("sizes", "hidden", "output"), CASES, ids=str)
@pytest.mark.parametrize("m", [2, 23])
def test_it_is_torchs(sizes, hidden, output, m) -> None:
    layers, X, dA = case(sizes, m)
    found = of_ours(network_of(output, hidden, sizes), layers, X, dA)
    for ours, theirs in zip(found, of_torch(layers, hidden, output, X, dA), strict=True):
        assert_close(ours, theirs, 1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("sizes", "hidden", "output"), [CASES[0], CASES[-1]], ids=str)
def test_on_every_namespace_in_one_tile_and_in_several(space: Space, sizes, hidden, output, dtype) -> None:
    m, (layers, X, dA) = 23, case(sizes, 23)
    wanted = of_torch(layers, hidden, output, X, dA)
    network, given = network_of(output, hidden, sizes), [[space.asarray(V, dtype) for V in layer] for layer in layers]
    X, dA = space.asarray(X, dtype), space.asarray(dA, dtype)
    tolerance = 1e-10 if dtype == "float64" else 3e-5
    for ours, theirs in zip(of_ours(network, given, X, dA), wanted, strict=True):
        space.assert_same_place(ours, dtype)
        assert_close(space.to_numpy(ours), theirs, tolerance)
    _, whole = network.vjp(given, X)
    for width in (1, 5, 11) if space.name == "numpy" else (5,):
        A = engine.batch_norm.predict(X, given, network, space.backend, width=width)
        g, seen, dX = engine.batch_norm.pull(Batch(X, dA, m), given, network, space.backend, width=width)
        found = [A, dX, *(V for layer in network.parameters(g) for V in layer)]
        for ours, theirs in zip(found, wanted, strict=True):
            space.assert_same_place(ours, dtype)
            assert_close(space.to_numpy(ours), theirs, tolerance)
        one, other = space.to_numpy(seen), space.to_numpy(whole(dA)[0].statistics)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_it_is_jaxs() -> None:
    jax = pytest.importorskip("jax")
    layers, X, dA = case((4, 6, 5, 3), 11)
    network = network_of(hidden=("gelu", "relu"))

    def A_of(layers, X):
        A = X
        hidden = partial(jax.nn.gelu, approximate=False), jax.nn.relu
        for (W, beta, gamma), g in zip(layers[:-1], hidden, strict=True):
            Z = W @ A
            scale = jax.numpy.sqrt(Z.var(axis=1, keepdims=True) + 1e-5)
            A = g(gamma * (Z - Z.mean(axis=1, keepdims=True)) / scale + beta)
        return jax.nn.softmax(layers[-1][0] @ A + layers[-1][1], axis=0)

    A, pull = jax.vjp(A_of, [tuple(map(jax.numpy.asarray, layer)) for layer in layers], jax.numpy.asarray(X))
    gradients, dX = pull(jax.numpy.asarray(dA))
    for ours, theirs in zip(
        of_ours(network, layers, X, dA), [A, dX, *(V for layer in gradients for V in layer)], strict=True
    ):
        assert_close(ours, np.asarray(theirs), 1e-10)


def test_it_is_traced_by_jax() -> None:
    jax = pytest.importorskip("jax")
    layers, X, dA = case((3, 4, 2), 6)
    network = network_of("softmax", "tanh", (3, 4, 2))
    params = network.parameters(jax.numpy.asarray(nn.NormalizedParameters.from_layers(layers).vector))
    g, dX = jax.jit(lambda X, dA: network.vjp(params, X)[1](dA))(X, dA)
    wanted = of_ours(network, layers, X, dA)
    assert_close(np.asarray(dX), wanted[1], 1e-12)
    assert_close(np.asarray(g[0].gamma), wanted[4], 1e-12)


@pytest.mark.parametrize("m", [700, 9000])
def test_any_number_of_workers_gives_the_same_bits(m) -> None:
    sizes = (30, 20, 15, 10)
    layers, X, dA = case(sizes, m)
    network = network_of("softmax", "softplus", sizes)
    one, *others = [of_ours(network, layers, X, dA, workers=workers) for workers in (1, 2, 3)]
    for other in others:
        for V, W in zip(one, other, strict=True):
            np.testing.assert_array_equal(V, W)


def test_a_cost_outside_has_the_gradients_of_the_same_cost_inside(space: Space) -> None:
    network = network_of("identity", "tanh", (4, 5, 2))
    layers = [tuple(map(space.asarray, layer)) for layer in normalized_layers((4, 5, 2))]
    X, Y = map(space.asarray, examples((4, 5, 2), "identity", 9))
    A, pull = network.vjp(layers, X)
    found, _ = pull((A - Y) / 9)
    _, wanted = network.gradients(layers, X, Y)
    assert_close(space.to_numpy(found.vector), space.to_numpy(wanted.vector), 1e-12)
    assert_close(space.to_numpy(found.statistics), space.to_numpy(wanted.statistics), 1e-12)


def test_a_loop_of_ones_own_moves_the_averages() -> None:
    network, (X, Y) = network_of(hidden="relu"), examples((4, 6, 5, 3), "softmax", 30)
    params, inside, optimizer = network.init(dtype="float64"), network.init(dtype="float64"), nn.Adam(0.01)
    state = own = optimizer.init(params)
    for _ in range(5):
        A, pull = network.vjp(params, X)
        params, state = optimizer.update(params, pull(-Y / A / 30)[0], state)
        inside, own = optimizer.update(inside, network.gradients(inside, X, Y)[1], own)
    assert_close(params.vector, inside.vector, 1e-9)
    assert_close(params.statistics, inside.statistics, 1e-9)


def test_constant_features_and_units_have_finite_derivatives() -> None:
    layers, X, dA = case((4, 6, 5, 3), 8)
    X[1] = 3.0
    layers[0][0][2] = [0.0, 1.0, 0.0, 0.0]  # a unit of the constant feature alone
    wanted = of_torch(layers, ("gelu", "relu"), "softmax", X, dA)
    for ours, theirs in zip(of_ours(network_of(), layers, X, dA), wanted, strict=True):
        assert_close(ours, theirs, 1e-9)


def test_torch_tensors_that_require_grad_give_values() -> None:
    layers, X, dA = case((4, 6, 5, 3), 9)
    given = [tuple(torch.tensor(V, requires_grad=True) for V in layer) for layer in layers]
    A, dX, *_ = of_ours(network_of(), given, torch.tensor(X), torch.tensor(dA))
    assert not A.requires_grad
    assert not dX.requires_grad


def test_bad_X_in_a_later_tile() -> None:
    network, (layers, X, dA) = network_of(), case((4, 6, 5, 3), 9000)
    _, pull = network.vjp(layers, X)
    X[2, 8000] = np.nan
    for call in (lambda: network.vjp(layers, X), lambda: pull(dA)):
        with pytest.raises(ValueError, match="X must be finite"):
            call()
