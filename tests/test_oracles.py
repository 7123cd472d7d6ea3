"""The equations against independent ones: plain loops, autodiff, tracing by JAX, and scikit-learn's optima."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn
from nnarray import engine
from nnarray.core import checking, propagation, updates
from nnarray.core.primitives import bind

HIDDEN = ("sigmoid", "tanh", "relu", "leaky_relu", "identity", "gelu", "gelu_tanh", "silu", "softplus", "elu", "selu")
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    """Relative to the largest entry, which is what a sum of terms of both signs can promise."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected)) <= tolerance * max(np.max(np.abs(expected)), 1e-3)


SELU = (1.6732632423543772, 1.0507009873554805)


def normal(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def cubic(z: float) -> float:
    return math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)


G = {
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
    "relu": lambda z: max(0.0, z),
    "leaky_relu": lambda z: max(0.01 * z, z),
    "identity": lambda z: z,
    "gelu": lambda z: z * normal(z),
    "gelu_tanh": lambda z: 0.5 * z * (1 + math.tanh(cubic(z))),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "softplus": lambda z: math.log(1 + math.exp(z)),
    "elu": lambda z: z if z > 0 else math.exp(z) - 1,
    "selu": lambda z: SELU[1] * (z if z > 0 else SELU[0] * (math.exp(z) - 1)),
}
G_PRIME = {
    "sigmoid": lambda z: math.exp(-z) / (1 + math.exp(-z)) ** 2,
    "tanh": lambda z: 1 / math.cosh(z) ** 2,
    "relu": lambda z: 1.0 if z > 0 else 0.0,
    "leaky_relu": lambda z: 1.0 if z > 0 else 0.01,
    "identity": lambda z: 1.0,
    "gelu": lambda z: normal(z) + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi),
    "gelu_tanh": lambda z: (
        0.5 * (1 + math.tanh(cubic(z)))
        + 0.5 * z / math.cosh(cubic(z)) ** 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z * z)
    ),
    "silu": lambda z: (1 + math.exp(-z) * (1 + z)) / (1 + math.exp(-z)) ** 2,
    "softplus": lambda z: 1 / (1 + math.exp(-z)),
    "elu": lambda z: 1.0 if z > 0 else math.exp(z),
    "selu": lambda z: SELU[1] * (1.0 if z > 0 else SELU[0] * math.exp(z)),
}


def softmax(z: list[float]) -> list[float]:
    total = sum(math.exp(z_i) for z_i in z)
    return [math.exp(z_i) / total for z_i in z]


MEAN = {
    "sigmoid": lambda z: [G["sigmoid"](z_i) for z_i in z],
    "softmax": softmax,
    "identity": list,
    "exp": lambda z: [math.exp(z_i) for z_i in z],
}
LOSS = {
    "sigmoid": lambda a, y: -(y * math.log(a) + (1 - y) * math.log(1 - a)),
    "softmax": lambda a, y: -y * math.log(a),
    "identity": lambda a, y: (a - y) ** 2 / 2,
    "exp": lambda a, y: a - y * math.log(a),
}
DA = {
    "sigmoid": lambda a, y: -y / a + (1 - y) / (1 - a),
    "softmax": lambda a, y: -y / a,
    "identity": lambda a, y: a - y,
    "exp": lambda a, y: 1 - y / a,
}
DA_DZ = {
    "sigmoid": lambda a, i, j: a[i] * (1 - a[i]) * (i == j),
    "softmax": lambda a, i, j: a[i] * ((i == j) - a[j]),
    "identity": lambda a, i, j: 1.0 * (i == j),
    "exp": lambda a, i, j: a[i] * (i == j),
}


def lecture_dz(output: str, a: list[float], y: list[float]) -> list[float]:
    """dz[L] by the chain rule, Σ_i da_i ∂a_i/∂z_j."""
    units = range(len(a))
    return [sum(DA[output](a[i], y[i]) * DA_DZ[output](a, i, j) for i in units) for j in units]


def lecture_example(layers, hidden, output, x, y, D):
    """The loss of one example, and dz[l] and a[l-1] of every layer; D holds each hidden unit's dropout factor."""
    a, zs = [x], []
    for l, (W, b) in enumerate(layers):
        z = [sum(W[i][j] * a[l][j] for j in range(len(a[l]))) + b[i][0] for i in range(len(W))]
        zs.append(z)
        if l < len(layers) - 1:
            a.append([G[hidden[l]](z_i) * D_i for z_i, D_i in zip(z, D[l], strict=True)])
    mean = MEAN[output](zs[-1])
    dz = [[]] * len(layers)
    dz[-1] = lecture_dz(output, mean, y)
    for l in range(len(layers) - 2, -1, -1):
        W = layers[l + 1][0]
        da = [sum(W[i][j] * dz[l + 1][i] for i in range(len(W))) for j in range(len(W[0]))]
        dz[l] = [da[j] * D[l][j] * G_PRIME[hidden[l]](zs[l][j]) for j in range(len(da))]
    return sum(LOSS[output](a_i, y_i) for a_i, y_i in zip(mean, y, strict=True)), dz, a


def lecture(network, layers, X, Y, *, l2=0.0, weights=None, masks=()):
    """J and (dW, db) of every layer by loops over examples and units, in Python's floats."""
    layers = [(W.tolist(), b.tolist()) for W, b in layers]
    columns = range(X.shape[1])
    w = [1.0 for _ in columns] if weights is None else weights.ravel().tolist()
    m, J = sum(w), 0.0
    gradients = [([[0.0 for _ in row] for row in W], [[0.0] for _ in b]) for W, b in layers]
    for k in columns:
        D = [mask[:, k].tolist() for mask in masks] or [[1.0] * n for n in network.sizes[1:-1]]
        loss, dz, a = lecture_example(layers, network.hidden, network.output, X[:, k].tolist(), Y[:, k].tolist(), D)
        J += w[k] * loss / m
        for l, (dW, db) in enumerate(gradients):
            for i in range(len(dW)):
                db[i][0] += w[k] * dz[l][i] / m
                for j in range(len(dW[i])):
                    dW[i][j] += w[k] * dz[l][i] * a[l][j] / m
    for (W, _), (dW, _) in zip(layers, gradients, strict=True):
        for i in range(len(W)):
            for j in range(len(W[i])):
                J += l2 / (2 * m) * W[i][j] ** 2
                dW[i][j] += l2 / m * W[i][j]
    return J, gradients


LECTURE_CASES = [
    ((3, 1), (), "sigmoid"),
    ((2, 3), (), "softmax"),
    *(((3, 4, 2), (g,), output) for g in HIDDEN for output in OUTPUTS),
    ((2, 4, 3, 2), ("relu", "tanh"), "softmax"),
    ((3, 2, 4, 3, 2), ("sigmoid", "leaky_relu", "identity"), "exp"),
]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weights and l2"])
@pytest.mark.parametrize(("sizes", "hidden", "output"), LECTURE_CASES)
def test_gradients_are_those_of_the_lecture_s_loops(sizes, hidden, output, weighted) -> None:
    network, layers, X, Y = problem(sizes, hidden, output, m=5, seed=1)
    options = {"l2": 0.7, "weights": np.array([[0.5, 0.0, 2.0, 1.0, 0.25]])} if weighted else {}
    J, gradients = network.gradients(layers, X, Y, **options)
    J_expected, expected = lecture(network, layers, X, Y, **options)
    assert_close(J, J_expected, 1e-10)
    assert_close(network.cost(layers, X, Y, **options), J_expected, 1e-10)
    for found, wanted in zip(gradients, expected, strict=True):
        assert_close(found.W, wanted[0], 1e-10)
        assert_close(found.b, wanted[1], 1e-10)


@pytest.mark.parametrize("output", OUTPUTS)
def test_dropout_s_backward_pass_is_that_of_the_loops(output) -> None:
    network, layers, X, Y = problem((3, 4, 5, 2), ("tanh", "sigmoid"), output, m=6, seed=2)
    generator = np.random.default_rng(0)
    masks = [np.where(generator.random((n, 6)) < 0.4, 0.0, 1 / 0.6) for n in (4, 5)]
    weights = np.linspace(0.5, 3.0, 6)[None, :]
    primitives, m = bind(np), weights.sum()
    passed = propagation.forward(X, layers, network.hidden, output, primitives=primitives, masks=masks)
    J = propagation.cost(passed.Z, Y, output, m=m, primitives=primitives, weights=weights)
    dZ = weights * primitives.output_backward(passed.A[-1], Y)
    found, _ = propagation.backward(dZ, passed, layers, network.hidden, m=m, primitives=primitives, masks=masks)
    J_expected, expected = lecture(network, layers, X, Y, weights=weights, masks=masks)
    assert_close(J, J_expected, 1e-10)
    for (dW, db), (dW_expected, db_expected) in zip(found, expected, strict=True):
        assert_close(dW, dW_expected, 1e-10)
        assert_close(db, db_expected, 1e-10)


@pytest.mark.parametrize("output", OUTPUTS)
def test_dZ_of_the_last_layer_is_A_minus_Y(output) -> None:
    _, _, Z, Y = problem((3, 3), (), output, m=8, seed=3)
    primitives = bind(np)
    dZ = primitives.output_backward(primitives.mean[output](Z), Y)
    for k in range(8):
        a = MEAN[output](Z[:, k].tolist())
        assert_close(dZ[:, k], lecture_dz(output, a, Y[:, k].tolist()), 1e-12)


def torch_loss(output: str, Z: Any, Y: Any) -> Any:
    """Each example's loss, in torch's own words; Z and Y have one example per row, as torch has them."""
    from torch.nn import functional

    if output == "softmax":
        return functional.cross_entropy(Z, Y, reduction="none")
    loss = {
        "sigmoid": functional.binary_cross_entropy_with_logits,
        "exp": partial(functional.poisson_nll_loss, log_input=True, full=False),
        "identity": lambda Z, Y, reduction: 0.5 * functional.mse_loss(Z, Y, reduction=reduction),
    }[output]
    return loss(Z, Y, reduction="none").sum(1)


def torch_activation(name: str) -> Any:
    import torch
    from torch.nn import functional

    return {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": functional.relu,
        "leaky_relu": functional.leaky_relu,
        "identity": lambda Z: Z,
        "gelu": functional.gelu,
        "gelu_tanh": partial(functional.gelu, approximate="tanh"),
        "silu": functional.silu,
        "softplus": partial(functional.softplus, threshold=100),
        "elu": functional.elu,
        "selu": functional.selu,
    }[name]


def torch_forward(network: Any, leaves: Any, A: Any) -> tuple[Any, Any]:
    """Z[L] and A[L] of X, here A, in torch's own functions; `leaves` are W[1], b[1], …, as tensors."""
    import torch

    mean = {
        "sigmoid": torch.sigmoid,
        "softmax": lambda Z: torch.softmax(Z, 0),
        "identity": lambda Z: Z,
        "exp": torch.exp,
    }
    for W, b, hidden in zip(leaves[:-2:2], leaves[1:-2:2], network.hidden, strict=True):
        A = torch_activation(hidden)(W @ A + b)
    Z = leaves[-2] @ A + leaves[-1]
    return Z, mean[network.output](Z)


def torch_gradients(network, layers, X, Y, *, l2, weights, l1=0.0):
    import torch
    from torch.nn import functional

    leaves = [(torch.tensor(W, requires_grad=True), torch.tensor(b[:, 0], requires_grad=True)) for W, b in layers]
    A, targets, w = torch.tensor(X.T), torch.tensor(Y.T), torch.tensor(weights[0])
    for (W, b), name in zip(leaves[:-1], network.hidden, strict=True):
        A = torch_activation(name)(functional.linear(A, W, b))
    loss = torch_loss(network.output, functional.linear(A, *leaves[-1]), targets)
    penalty = sum(0.5 * l2 * (W**2).sum() + l1 * W.abs().sum() for W, _ in leaves)
    J = (w @ loss + penalty) / w.sum()
    J.backward()
    return J.item(), [(W.grad.numpy(), b.grad.numpy()[:, None]) for W, b in leaves]


def jax_gradients(network, layers, X, Y, *, l2, weights, l1=0.0):
    import jax
    import jax.numpy as jnp

    g = {
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "leaky_relu": jax.nn.leaky_relu,
        "identity": lambda Z: Z,
        "gelu": partial(jax.nn.gelu, approximate=False),
        "gelu_tanh": jax.nn.gelu,
        "silu": jax.nn.silu,
        "softplus": jax.nn.softplus,
        "elu": jax.nn.elu,
        "selu": jax.nn.selu,
    }
    losses = {
        "sigmoid": lambda z, y: jnp.sum(jnp.logaddexp(0.0, z) - y * z, axis=0),
        "softmax": lambda z, y: -jnp.sum(y * jax.nn.log_softmax(z, axis=0), axis=0),
        "identity": lambda z, y: jnp.sum((z - y) ** 2, axis=0) / 2,
        "exp": lambda z, y: jnp.sum(jnp.exp(z) - y * z, axis=0),
    }

    def cost(layers):
        A = X
        for (W, b), name in zip(layers[:-1], network.hidden, strict=True):
            A = g[name](jnp.dot(W, A) + b)
        W, b = layers[-1]
        penalty = sum(0.5 * l2 * jnp.sum(W**2) + l1 * jnp.sum(jnp.abs(W)) for W, _ in layers)
        return (jnp.sum(weights * losses[network.output](jnp.dot(W, A) + b, Y)) + penalty) / jnp.sum(weights)

    return jax.value_and_grad(cost)([(jnp.asarray(W), jnp.asarray(b)) for W, b in layers])


AUTODIFF = {"torch": torch_gradients, "jax": jax_gradients}


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("library", AUTODIFF)
def test_gradients_are_those_of_autodiff(library, output, depth) -> None:
    pytest.importorskip(library)
    for hidden in HIDDEN[: 1 if depth == 1 else None]:
        sizes = (3, *(4,) * (depth - 1), 2)
        network, layers, X, Y = problem(sizes, hidden, output, m=5, seed=depth)
        options = {"l2": 0.3, "weights": np.array([[0.5, 1.0, 2.0, 0.0, 0.75]])}
        J, gradients = network.gradients(layers, X, Y, **options)
        J_expected, expected = AUTODIFF[library](network, layers, X, Y, **options)
        assert_close(J, J_expected, 1e-10)
        for (dW, db), (dW_expected, db_expected) in zip(gradients, expected, strict=True):
            assert_close(dW, dW_expected, 1e-10)
            assert_close(db, db_expected, 1e-10)


def sparse_problem(output: str) -> Any:
    """A problem some of whose weights are 0."""
    network, layers, X, Y = problem((3, 6, 4, 2), ("tanh", "relu"), output, m=13)
    generator = np.random.default_rng(1)
    return network, [(np.where(generator.random(W.shape) < 0.3, 0.0, W), b) for W, b in layers], X, Y


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, np.linspace(0.0, 2.0, 13)[None, :]], ids=["plain", "weights"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_an_l1_penalty_is_that_of_autodiff(space: Space, dtype, tolerance, weights, l2) -> None:
    """At weights of 0, too, whose derivative PyTorch takes for 0; in one tile and in several."""
    pytest.importorskip("torch")
    for output in OUTPUTS:
        network, layers, X, Y = sparse_problem(output)
        w = np.ones((1, 13)) if weights is None else weights
        J_expected, expected = torch_gradients(network, layers, X, Y, l2=l2, l1=0.7, weights=w)
        pairs, x, y = space.pairs(layers, dtype), space.asarray(X, dtype), space.asarray(Y, dtype)
        given = None if weights is None else space.asarray(weights, dtype)
        J, gradients = network.gradients(pairs, x, y, l2=l2, l1=0.7, weights=given)
        assert_close(space.to_numpy(J), J_expected, tolerance)
        assert_close(space.to_numpy(network.cost(pairs, x, y, l2=l2, l1=0.7, weights=given)), J_expected, tolerance)
        m = 13 if given is None else space.xp.sum(given)
        batch = engine.Batch(x, y, m, given)
        J_tiled, g = engine.cost_and_gradients(batch, pairs, network, space.backend, l2=l2, l1=0.7, width=4)
        assert_close(space.to_numpy(J_tiled), J_expected, tolerance)
        tiled = network.parameters(g, dtype=dtype)
        for found in (gradients, tiled):
            for (dW, db), (dW_expected, db_expected) in zip(found, expected, strict=True):
                space.assert_same_place(dW, dtype)
                assert_close(space.to_numpy(dW), dW_expected, tolerance)
                assert_close(space.to_numpy(db), db_expected, tolerance)


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("l2", [0.0, 0.2])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_training_with_an_l1_penalty_is_that_of_autodiff(space: Space, dtype, tolerance, l2, batch_size) -> None:
    pytest.importorskip("torch")
    network, layers, X, Y = sparse_problem("softmax")
    options = {"optimizer": nn.GradientDescent(0.2), "epochs": 3, "batch_size": batch_size, "l2": l2, "l1": 0.1}
    result = nn.train(
        network, space.asarray(X, dtype), space.asarray(Y, dtype), params=space.pairs(layers, dtype), seed=7, **options
    )
    orders = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(1,)))
    expected, costs = layers, []
    for _ in range(3):
        order = np.arange(13) if batch_size is None else orders.permutation(13)
        for start in range(0, 13, batch_size or 13):
            columns = order[start : start + (batch_size or 13)]
            J, g = torch_gradients(
                network, expected, X[:, columns], Y[:, columns], l2=l2, l1=0.1, weights=np.ones((1, len(columns)))
            )
            costs.append(J * len(columns) / 13)
            expected = [(W - 0.2 * dW, b - 0.2 * db) for (W, b), (dW, db) in zip(expected, g, strict=True)]
    assert_close(space.to_numpy(result.params.vector), nn.Parameters.from_layers(expected).vector, tolerance)
    per_epoch = np.array(costs).reshape(3, -1).sum(axis=1)
    assert_close(np.array([epoch.cost for epoch in result.history]), per_epoch, tolerance)


def test_an_l1_penalty_of_a_line_is_scikit_learn_s_lasso_and_elastic_net() -> None:
    """At their optimum, whose weights they make exactly 0, a weight's derivative without the penalty is within l1."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 5))
    y = X @ [2.0, 0.0, -1.0, 0.0, 0.1] + 0.1 * generator.normal(size=60) + 3.0
    network = nn.Network((5, 1), output="identity")
    for ratio in (1.0, 0.6):
        model = linear_model.ElasticNet(alpha=0.3, l1_ratio=ratio, tol=1e-14, max_iter=100_000).fit(X, y)
        layers = [(model.coef_[None, :], np.array([[model.intercept_]]))]
        penalties = {"l1": 0.3 * ratio * 60, "l2": 0.3 * (1 - ratio) * 60}
        J, ((dW, db),) = network.gradients(layers, X.T, y[None, :], **penalties)
        W = layers[0][0]
        assert (W == 0).any()
        assert (W != 0).any()
        assert np.abs(np.where(W == 0, 0.0, dW)).max() < 1e-10
        assert np.abs(dW).max() <= 0.3 * ratio
        assert np.abs(db).max() < 1e-10
        expected = ((y - model.predict(X)) ** 2).mean() / 2 + 0.3 * ratio * np.abs(W).sum()
        assert_close(J, expected + 0.15 * (1 - ratio) * (W**2).sum(), 1e-12)


@pytest.fixture
def jax_space(open_space) -> Space:
    return open_space("jax")


@pytest.mark.parametrize("output", OUTPUTS)
def test_all_of_propagation_runs_under_jit(jax_space, output) -> None:
    import jax

    network, layers, X, Y = problem((3, *(4,) * len(HIDDEN), 2), HIDDEN, output, m=5)
    masks = [np.where(np.random.default_rng(l).random((4, 5)) < 0.3, 0.0, 1 / 0.7) for l in range(len(HIDDEN))]
    weights = np.linspace(0.5, 2.0, 5)[None, :]

    def everything(xp, layers, X, Y, weights, masks):
        primitives, m = bind(xp), xp.sum(weights)
        passed = propagation.forward(X, layers, network.hidden, output, primitives=primitives, masks=masks)
        J = propagation.cost(passed.Z, Y, output, m=m, primitives=primitives, weights=weights)
        dZ = weights * primitives.output_backward(passed.A[-1], Y)
        gradients, _ = propagation.backward(dZ, passed, layers, network.hidden, m=m, primitives=primitives, masks=masks)
        return passed, J, gradients, primitives.split(primitives.join(gradients), network.sizes)

    traced = jax.jit(partial(everything, jax.numpy))(layers, X, Y, weights, masks)
    expected = everything(np, layers, X, Y, weights, masks)
    for found, wanted in zip(jax.tree.leaves(traced), jax.tree.leaves(expected), strict=True):
        assert_close(found, wanted, 1e-12)


def test_all_update_rules_run_under_jit(jax_space) -> None:
    import jax

    generator = np.random.default_rng(0)
    theta, g, v = generator.normal(size=(3, 7))
    s = generator.random(7)

    def rules(xp, theta, g, v, s, t, alpha):
        return (
            updates.gradient_descent(theta, g, alpha=alpha),
            updates.momentum(theta, g, v, alpha=alpha, beta=0.9),
            updates.nesterov(theta, g, v, alpha=alpha, beta=0.9),
            updates.rmsprop(theta, g, s, alpha=alpha, beta=0.9, eps=1e-8, xp=xp),
            updates.adam(theta, g, v, s, t=t, alpha=alpha, beta1=0.9, beta2=0.99, eps=1e-8, xp=xp),
        )

    traced = jax.jit(partial(rules, jax.numpy))(theta, g, v, s, 3, 0.1)
    expected = rules(np, theta, g, v, s, 3, 0.1)
    for found, wanted in zip(jax.tree.leaves(traced), jax.tree.leaves(expected), strict=True):
        assert_close(found, wanted, 1e-12)


def test_checking_runs_under_jit(jax_space) -> None:
    import jax

    def check(xp, theta):
        e = checking.coordinate(1, theta, xp=xp)
        derivative = checking.numerical_derivative(lambda theta: xp.sum(theta**3), theta, e, eps=1e-3)
        return e, derivative, checking.relative_difference(theta, 2 * theta, xp=xp)

    theta = np.array([1.0, 2.0, 3.0])
    traced = jax.jit(partial(check, jax.numpy))(theta)
    for found, wanted in zip(traced, check(np, theta), strict=True):
        assert_close(found, wanted, 1e-9)


def test_a_network_s_methods_run_under_jit(jax_space) -> None:
    import jax

    network, layers, X, Y = problem((3, 4, 4, 2), ("relu", "tanh"), "softmax", m=6)
    weights = np.linspace(0.5, 2.0, 6)[None, :]

    def answers(layers, X, Y, weights):
        J, gradients = network.gradients(layers, X, Y, l2=0.2, weights=weights)
        cost = network.cost(layers, X, Y, l2=0.2, weights=weights)
        return J, gradients.vector, cost, network.predict(layers, X), network.forward(layers, X)

    traced = jax.jit(answers)(jax_space.pairs(layers), *map(jax_space.asarray, (X, Y, weights)))
    expected = answers(layers, X, Y, weights)
    for found, wanted in zip(jax.tree.leaves(traced), jax.tree.leaves(expected), strict=True):
        assert_close(found, wanted, 1e-12)


def sklearn_optimum(output: str, X: np.ndarray, y: np.ndarray, l2: float) -> Any:
    from sklearn import linear_model

    m = X.shape[0]
    return {
        "sigmoid": linear_model.LogisticRegression(C=1 / l2, tol=1e-10, max_iter=1000),
        "softmax": linear_model.LogisticRegression(C=1 / l2, tol=1e-10, max_iter=1000),
        "identity": linear_model.Ridge(alpha=l2),
        "exp": linear_model.PoissonRegressor(alpha=l2 / m, tol=1e-10, max_iter=1000),
    }[output].fit(X, y)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_gradient_vanishes_at_scikit_learn_s_optimum(output) -> None:
    pytest.importorskip("sklearn")
    n_L = 3 if output == "softmax" else 1
    network, _, X, Y = problem((4, n_L), (), output, m=60, seed=5)
    y = Y.argmax(axis=0) if output == "softmax" else Y[0]
    model = sklearn_optimum(output, X.T, y, l2=1.5)
    optimum = [(model.coef_.reshape(n_L, 4), np.reshape(model.intercept_, (n_L, 1)))]
    _, gradients = network.gradients(optimum, X, Y, l2=1.5)
    assert np.max(np.abs(gradients.vector)) < 1e-5
    _, elsewhere = network.gradients([(1.01 * W, b) for W, b in optimum], X, Y, l2=1.5)
    assert np.max(np.abs(elsewhere.vector)) > 1e-4


class TestScore:
    """A probability of exactly 0.5 says class 0, as in the course (A > 0.5), scikit-learn and Keras."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_one_half_is_class_0(self, space: Space, dtype) -> None:
        network, layers = nn.Network((1, 1)), space.pairs([(np.ones((1, 1)), np.zeros((1, 1)))], dtype)
        X = space.asarray([[0.0, 1e-3, -1e-3, 0.0]], dtype)  # A[L] = 0.5, above, below, 0.5
        assert network.score(layers, X, space.asarray([[0.0, 1.0, 0.0, 0.0]], dtype)) == 1.0
        assert network.score(layers, X, space.asarray([[1.0, 1.0, 0.0, 0.0]], dtype)) == 0.75
        assert network.score(layers, X, space.asarray([[0.5, 0.9, 0.1, 0.2]], dtype)) == 1.0

    def test_of_several_labels_too(self, space: Space) -> None:
        network, layers = nn.Network((1, 2)), space.pairs([(np.array([[1.0], [-1.0]]), np.zeros((2, 1)))], "float64")
        X = space.asarray([[0.0, 1.0]], "float64")
        assert network.score(layers, X, space.asarray([[0.0, 1.0], [0.0, 0.0]], "float64")) == 1.0
        assert network.score(layers, X, space.asarray([[1.0, 1.0], [1.0, 0.0]], "float64")) == 0.5

    def test_so_do_the_estimators_and_the_command_line(self) -> None:
        from nnarray.files.model import codes
        from nnarray.sklearn import MLPClassifier

        X, y = np.array([[1.0], [-1.0], [2.0], [-2.0]]), np.array([1, 0, 1, 0])
        model = MLPClassifier((), solver="lbfgs", random_state=0).fit(X, y)
        model.coefs_, model.intercepts_ = [np.array([[1.0]])], [np.array([0.0])]
        assert model.predict(np.array([[0.0], [1e-3], [-1e-3]])).tolist() == [0, 1, 0]
        assert codes(np.array([[0.5, 0.5001, 0.4999]])).tolist() == [0, 1, 0]
