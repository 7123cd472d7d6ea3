"""The way back from A[L] for any cost: against torch's autograd and JAX, tiled, compiled and plain."""

from typing import Any

import numpy as np
import pytest
from conftest import Space, problem
from test_oracles import HIDDEN, OUTPUTS, assert_close, torch_forward

import nnarray as nn
from nnarray import engine
from nnarray.engine import Batch, compiling, equations


def torch_vjp(network: nn.Network, layers: Any, X: np.ndarray, dA: np.ndarray) -> list[np.ndarray]:
    """A, dX and every dW and db, by torch's autograd."""
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(V, requires_grad=True) for pair in layers for V in pair]
    given = torch.tensor(X, requires_grad=True)
    _, A = torch_forward(network, leaves, given)
    return [V.detach().numpy() for V in (A, *torch.autograd.grad((A * torch.tensor(dA)).sum(), [given, *leaves]))]


def of_ours(network: nn.Network, layers: Any, X: Any, dA: Any, **options: Any) -> list[Any]:
    A, pull = network.vjp(layers, X, **options)
    gradients, dX = pull(dA)
    return [A, dX, *(V for layer in gradients for V in layer)]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_it_is_torch_s(hidden, output) -> None:
    for sizes in ((3, 5, 4, 2), (4, 3)):
        network, layers, X, _ = problem(sizes, hidden, output, m=7, seed=2)
        dA = np.random.default_rng(0).normal(size=(sizes[-1], 7))
        for found, expected in zip(of_ours(network, layers, X, dA), torch_vjp(network, layers, X, dA), strict=True):
            assert_close(found, expected, 1e-10)


@pytest.mark.parametrize("output", OUTPUTS)
def test_it_is_jax_s(output) -> None:
    jax = pytest.importorskip("jax")
    network, layers, X, _ = problem((3, 5, 4, 2), ("silu", "tanh"), output, m=7)
    dA = np.random.default_rng(0).normal(size=(2, 7))
    A, pull = jax.vjp(
        network.predict, [(jax.numpy.asarray(W), jax.numpy.asarray(b)) for W, b in layers], jax.numpy.asarray(X)
    )
    gradients, dX = pull(jax.numpy.asarray(dA))
    expected = [A, dX, *(V for pair in gradients for V in pair)]
    for found, wanted in zip(of_ours(network, layers, X, dA), expected, strict=True):
        assert_close(found, np.asarray(wanted), 1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [("gelu", "relu"), ("gelu_tanh", "silu"), ("softplus", "elu"), ("tanh", "selu")])
def test_every_namespace(space: Space, hidden, dtype) -> None:
    network, layers, X, _ = problem((3, 5, 4, 2), hidden, "softmax", m=7)
    dA = np.random.default_rng(0).normal(size=(2, 7))
    expected = of_ours(network, layers, X, dA)
    pairs = space.pairs(layers, dtype)
    for found, wanted in zip(
        of_ours(network, pairs, space.asarray(X, dtype), space.asarray(dA, dtype)), expected, strict=True
    ):
        space.assert_same_place(found, dtype)
        assert_close(space.to_numpy(found), wanted, 1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("name", ["numpy", "strict", "torch", "cupy"])
def test_tiles_add_up_and_lie_side_by_side(open_space, name) -> None:
    space = open_space(name)
    network, layers, X, _ = problem((3, 5, 2), "silu", "sigmoid", m=29)
    dA = np.random.default_rng(0).normal(size=(2, 29))
    pairs, here, given = space.pairs(layers), space.asarray(X), space.asarray(dA)
    whole = of_ours(network, layers, X, dA)
    for width in (1, 4, 29):
        for _ in range(2):
            g, dX = engine.pull(Batch(here, given, 1), pairs, network, space.backend, width=width)
            assert_close(space.to_numpy(dX), whole[1], 1e-12)
            found = network.parameters(g)
            for one, other in zip((V for layer in found for V in layer), whole[2:], strict=True):
                assert_close(space.to_numpy(one), other, 1e-12)


def test_programs_give_what_core_gives_and_any_number_of_workers_the_same_bits() -> None:
    network, layers, X, _ = problem((30, 20, 10), "softplus", "softmax", m=9000)
    dA = np.random.default_rng(0).normal(size=(10, 9000))
    results = [of_ours(network, layers, X, dA, workers=workers) for workers in (1, 2, 5)]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    batch = Batch(X, dA, 1)
    tile = batch.tile(0, 9000, X.dtype, nn.backend("numpy"))
    program = compiling.program_for(equations.pullback, tile, layers, network, nn.backend("numpy"))
    assert program is not None
    _, plain = equations.pullback(tile, layers, network, nn.backend("numpy").primitives)
    out = [np.full_like(V, np.nan) for V in plain]
    program(*compiling.inputs_of(tile, layers), *out)
    for one, two in zip(out, plain, strict=True):
        assert_close(one, two, 1e-12)


def test_a_cost_outside_has_the_gradients_of_the_same_cost_inside(space: Space) -> None:
    network, layers, X, Y = problem((3, 4, 2), "tanh", "identity", m=6)
    pairs, here, targets = space.pairs(layers), space.asarray(X), space.asarray(Y)
    A, pull = network.vjp(pairs, here)
    found, _ = pull((A - targets) / 6)
    _, expected = network.gradients(pairs, here, targets)
    assert_close(space.to_numpy(found.vector), space.to_numpy(expected.vector), 1e-12)


def test_torch_parameters_that_require_grad_give_values() -> None:
    torch = pytest.importorskip("torch")
    network, layers, X, _ = problem((3, 4, 2), "tanh", "sigmoid", m=6)
    pairs = [(torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True)) for W, b in layers]
    A, pull = network.vjp(pairs, torch.tensor(X))
    A.requires_grad_()
    (A**2).sum().backward()
    gradients, dX = pull(A.grad)
    assert not (gradients.vector.requires_grad)
    assert not (dX.requires_grad)
    expected = torch_vjp(network, layers, X, 2 * A.detach().numpy())
    assert_close(dX, expected[1], 1e-10)


def test_it_is_traced_by_jax() -> None:
    jax = pytest.importorskip("jax")
    network, layers, X, _ = problem((3, 4, 2), "tanh", "softmax", m=6)
    params = network.parameters(jax.numpy.asarray(nn.Parameters.from_layers(layers).vector))
    dA = np.random.default_rng(0).normal(size=(2, 6))

    def pulled(X: Any, dA: Any) -> Any:
        return network.vjp(params, X)[1](dA)

    g, dX = jax.jit(pulled)(X, dA)
    assert_close(dX, of_ours(network, layers, X, dA)[1], 1e-12)
    assert isinstance(g, nn.Parameters)


@pytest.mark.parametrize(
    ("dA", "error", "message"),
    [
        (np.ones((1, 6)), ValueError, r"dA must have the shape of A\[L\], \(n\[L\], m\) = \(2, 6\), got \(1, 6\)"),
        (np.full((2, 6), np.nan), ValueError, "dA must be finite"),
        (np.ones((2, 6)) * 1j, TypeError, "dA must hold real numbers"),
        ([[1.0] * 6] * 2, None, ""),
    ],
)
def test_bad_dA(dA, error, message) -> None:
    network, layers, X, _ = problem((3, 4, 2), "tanh", "softmax", m=6)
    _, pull = network.vjp(layers, X)
    if error is None:
        assert pull(dA)[1].shape == (3, 6)
        return
    with pytest.raises(error, match=message):
        pull(dA)


def test_bad_X_is_refused_by_vjp_itself() -> None:
    network, layers, X, _ = problem((3, 4, 2), "tanh", "softmax", m=6)
    with pytest.raises(ValueError, match="X must be finite"):
        network.vjp(layers, np.where(X[1, 1] == X, np.inf, X))
