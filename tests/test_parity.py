"""The same results on every namespace, in the namespace, dtype and device that the arguments came in."""

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
NETWORKS = [
    ((3, 1), "relu", "sigmoid"),
    ((3, 4, 2), "tanh", "softmax"),
    ((2, 5, 4, 2), ("relu", "leaky_relu"), "identity"),
    ((4, 3, 3, 2, 1), ("sigmoid", "identity", "tanh"), "exp"),
]
OPTIMIZERS = [nn.GradientDescent(0.1), nn.Momentum(0.1), nn.Nesterov(0.1), nn.RMSprop(0.01), nn.Adam(0.01)]


def close(x: np.ndarray, reference: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(x, reference, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(reference).max())))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("sizes", "hidden", "output"), NETWORKS)
def test_forward_cost_and_gradients(space: Space, sizes, hidden, output, dtype) -> None:
    network, layers, X, Y = problem(sizes, hidden, output, m=9)
    weights = np.linspace(0.5, 2.0, 9)[None, :]
    params, x, y, w = space.pairs(layers, dtype), *(space.asarray(V, dtype) for V in (X, Y, weights))
    for A, reference in zip(network.forward(params, x), network.forward(layers, X), strict=True):
        space.assert_same_place(A, dtype)
        close(space.to_numpy(A), reference, TOLERANCE[dtype])
    J, gradients = network.gradients(params, x, y, l2=0.3, weights=w)
    J_reference, reference = network.gradients(layers, X, Y, l2=0.3, weights=weights)
    space.assert_same_place(J, dtype)
    assert J.ndim == 0
    close(space.to_numpy(J), J_reference, TOLERANCE[dtype])
    close(space.to_numpy(network.cost(params, x, y, l2=0.3, weights=w)), J_reference, TOLERANCE[dtype])
    for (dW, db), (dW_reference, db_reference) in zip(gradients, reference, strict=True):
        space.assert_same_place(dW, dtype)
        space.assert_same_place(db, dtype)
        close(space.to_numpy(dW), dW_reference, TOLERANCE[dtype])
        close(space.to_numpy(db), db_reference, TOLERANCE[dtype])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_hundred_steps(space: Space, optimizer, dtype) -> None:
    network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=10)
    here = nn.train(
        network, space.asarray(X, dtype), space.asarray(Y, dtype), params=space.pairs(layers, dtype),
        optimizer=optimizer, epochs=25, batch_size=3, l2=0.1,
    )  # fmt: skip
    there = nn.train(network, X, Y, params=layers, optimizer=optimizer, epochs=25, batch_size=3, l2=0.1)
    assert here.state.t == there.state.t == 100
    space.assert_same_place(here.params.vector, dtype)
    close(space.to_numpy(here.params.vector), there.params.vector, 10 * TOLERANCE[dtype])
    close(np.array(here.history.columns()["cost"]), np.array(there.history.columns()["cost"]), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_seed_gives_one_network_everywhere(space: Space, dtype) -> None:
    network = nn.Network((5, 4, 3))
    here = network.init(seed=7, backend=space.backend, dtype=dtype)
    space.assert_same_place(here.vector, dtype)
    np.testing.assert_array_equal(space.to_numpy(here.vector), network.init(seed=7, dtype=dtype).vector)


def test_dropout_is_the_same_everywhere(space: Space) -> None:
    network, layers, X, Y = problem((3, 6, 5, 1), "tanh", "sigmoid", m=12)
    arguments = {"epochs": 5, "batch_size": 5, "dropout": (0.5, 0.25), "seed": 3}
    here = nn.train(network, space.asarray(X), space.asarray(Y), params=space.pairs(layers), **arguments)
    there = nn.train(network, X, Y, params=layers, **arguments)
    close(space.to_numpy(here.params.vector), there.params.vector, 1e-11)


@pytest.mark.parametrize("dropout", [0.0, (0.5, 0.25)], ids=["inputs alone", "inputs and units"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_dropout_of_inputs_is_the_first_product_s(space: Space, dropout, dtype, tolerance) -> None:
    """Of X * D[0], by autograd; the masks follow one another in the stream of the seed."""
    torch = pytest.importorskip("torch")
    network, layers, X, Y = problem((3, 6, 5, 2), "tanh", "identity", m=12)
    result = nn.train(
        network, space.asarray(X, dtype), space.asarray(Y, dtype), params=space.pairs(layers, dtype), epochs=4,
        dropout=dropout, input_dropout=0.4, seed=3, optimizer=nn.GradientDescent(0.3),
    )  # fmt: skip
    drawn = np.random.Generator(np.random.PCG64(np.random.SeedSequence(3, spawn_key=(2,))))

    def mask(n, rate):
        return torch.asarray((drawn.random((12, n), dtype="float32") >= rate).T / (1 - rate))

    parameters = [torch.tensor(V, requires_grad=True) for pair in layers for V in pair]
    for _ in range(4):
        A = torch.asarray(X) * mask(3, 0.4)
        for l, n in enumerate((6, 5)):
            A = torch.tanh(parameters[2 * l] @ A + parameters[2 * l + 1])
            A = A * mask(n, dropout[l]) if dropout else A
        loss = ((parameters[4] @ A + parameters[5] - torch.asarray(Y)) ** 2).sum() / 24
        for V, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            V.data -= 0.3 * g
    expected = np.concatenate([V.detach().numpy().ravel() for V in parameters])
    space.assert_same_place(result.params.vector, dtype)
    close(space.to_numpy(result.params.vector), expected, tolerance)


def test_gradient_check(space: Space) -> None:
    network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=6)
    found = nn.check_gradients(network, space.pairs(layers), space.asarray(X), space.asarray(Y), l2=0.2)
    assert found.relative_difference < 1e-7
    assert found.checked == network.size
