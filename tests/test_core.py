"""Core's functions one by one: values, dtypes, shapes, and the sum over tiles."""

import json
import os
import subprocess
import sys
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem
from hypothesis import given, settings
from hypothesis import strategies as st
from test_oracles import torch_activation

import nnarray as nn
from nnarray.backends import numpy as on_numpy
from nnarray.core import (
    activations,
    averages,
    checking,
    initial,
    layers,
    outputs,
    propagation,
    regularization,
    updates,
    vector,
)
from nnarray.core.primitives import Primitives, bind

EXACT = np.longdouble
DTYPES = ("float32", "float64")
repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=60)


def ulps(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The distance in units of the last place of the exact value, rounded to found's dtype."""
    size = np.minimum(np.abs(exact).astype(found.dtype), np.finfo(found.dtype).max / 2)
    return np.abs(found - exact) / np.spacing(size)


def whole_range(dtype: str) -> np.ndarray:
    """Both signs of zeros, subnormals, the edges of exp's range and the largest numbers, and a grid between."""
    info = np.finfo(dtype)
    edges = [0.0, info.smallest_subnormal, 7 * info.smallest_subnormal, info.tiny, info.eps, info.eps / 2, 1.0]
    edges += [16.6, 17.4, 36.7, 37.5, 87.3, 88.0, 88.8, 103.9, 104.1, 708.3, 709.9, 710.0, 744.9, 745.2, info.max]
    positive = np.concatenate([edges, np.linspace(0, 800, 4001), np.logspace(-37, 37, 1000)]).astype(dtype)
    return np.concatenate([positive, -positive])


def exact_sigmoid(Z: np.ndarray) -> np.ndarray:
    Z = Z.astype(EXACT)
    with np.errstate(all="ignore"):
        return np.where(Z >= 0, 1 / (1 + np.exp(-Z)), np.exp(Z) / (1 + np.exp(Z)))


@pytest.fixture
def extended() -> None:
    if np.finfo(EXACT).eps >= np.finfo(np.float64).eps:
        pytest.skip("long double is no longer than double here")


@pytest.mark.usefixtures("extended")
class TestActivationValues:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_sigmoid_is_right_to_4_ulp_over_the_whole_range_without_a_warning(self, dtype) -> None:
        Z = whole_range(dtype)
        with np.errstate(all="raise", under="ignore"):
            A = activations.sigmoid(Z, xp=np)
        assert A.dtype == dtype
        assert ulps(A, exact_sigmoid(Z)).max() <= 4
        assert A[Z == 0].tolist() == [0.5] * np.count_nonzero(Z == 0)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        ("name", "exact"),
        [
            ("tanh", np.tanh),
            ("relu", lambda Z: np.where(Z > 0, Z, 0)),
            ("leaky_relu", lambda Z: np.where(Z > 0, Z, Z * EXACT("0.01"))),
            ("identity", lambda Z: Z),
        ],
    )
    def test_the_others_are_right_to_4_ulp(self, name, exact, dtype) -> None:
        Z = whole_range(dtype)
        with np.errstate(all="raise", under="ignore"):
            A = activations.ACTIVATIONS[name].g(Z, xp=np)
        assert A.dtype == dtype
        assert ulps(A, exact(Z.astype(EXACT))).max() <= 4

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        ("name", "exact"),
        [
            ("sigmoid", lambda Z: np.exp(-Z) / (1 + np.exp(-Z)) ** 2),
            ("tanh", lambda Z: 1 / np.cosh(Z) ** 2),
            ("relu", lambda Z: 1.0 * (Z > 0)),
            ("leaky_relu", lambda Z: np.where(Z > 0, 1, EXACT("0.01"))),
            ("identity", np.ones_like),
        ],
    )
    def test_derivatives(self, name, exact, dtype) -> None:
        g = activations.ACTIVATIONS[name]
        Z = np.linspace(-6, 6, 1001).astype(dtype)
        found = g.g_prime(g.g(Z, xp=np), xp=np)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, exact(Z.astype(EXACT)).astype(float), rtol=0, atol=2 * np.finfo(dtype).eps)

    @pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_losses_at_moderate_Z_are_those_of_the_naive_formulas(self, output, dtype) -> None:
        _, _, Z, Y = problem((3, 3), (), output, m=400)
        Z, Y = (4 * Z).astype(dtype), Y.astype(dtype)
        exact, targets = Z.astype(EXACT), Y.astype(EXACT)
        A = np.exp(exact) / np.exp(exact).sum(axis=0)
        a = 1 / (1 + np.exp(-exact))
        naive = {
            "sigmoid": -(targets * np.log(a) + (1 - targets) * np.log(1 - a)),
            "softmax": -targets * np.log(A),
            "identity": (exact - targets) ** 2 / 2,
            "exp": np.exp(exact) - exact * targets,
        }[output].sum(axis=0, keepdims=True)
        found = outputs.OUTPUTS[output].loss(Z, Y, xp=np)
        assert found.dtype == dtype
        assert found.shape == (1, 400)
        bound = 8 * np.finfo(dtype).eps * (np.abs(naive) + np.abs(exact * targets).sum(axis=0) + 1)
        assert np.all(np.abs(found - naive) <= bound)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("y", [0.0, 1e-6, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1 - 2**-20, 1.0])
    def test_the_sigmoid_loss_of_soft_targets_is_right_to_4_ulp_from_tail_to_tail(self, y, dtype) -> None:
        Z = np.concatenate([np.linspace(-4, 4, 801), np.linspace(-80, 80, 641), [-700.0, 700.0]]).astype(dtype)[None, :]
        Y = np.full_like(Z, y)
        exact, targets = Z.astype(EXACT), Y.astype(EXACT)
        exact = np.where(exact > 0, (1 - targets) * exact, -targets * exact) + np.log1p(np.exp(-np.abs(exact)))
        found = outputs.sigmoid_loss(Z, Y, xp=np)
        normal = exact > np.finfo(dtype).tiny
        assert ulps(found, exact)[normal].max() <= 4

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_softmax_and_exp(self, dtype) -> None:
        Z = (5 * problem((4, 4), (), "softmax", m=300)[2]).astype(dtype)
        E = np.exp(Z.astype(EXACT))
        for name, exact in {"softmax": E / E.sum(axis=0), "exp": E}.items():
            A = outputs.OUTPUTS[name].mean(Z, xp=np)
            assert A.dtype == dtype
            np.testing.assert_allclose(A.astype(EXACT), exact, rtol=float(20 * np.finfo(dtype).eps))


SMOOTH = ("gelu", "gelu_tanh", "silu", "softplus", "elu", "selu")
"""What torch has too, in the order of the table."""


class TestOutputsBackward:
    @pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
    def test_dZ_from_dA_is_the_derivative(self, output) -> None:
        _, _, Z, _ = problem((3, 3), (), output, m=7)
        dA, g = np.random.default_rng(1).normal(size=(3, 7)), outputs.OUTPUTS[output]
        found = g.mean_backward(dA, g.mean(Z, xp=np), xp=np)
        for i in range(3):
            step = np.zeros((3, 1))
            step[i] = 1e-6
            difference = g.mean(Z + step, xp=np) - g.mean(Z - step, xp=np)
            np.testing.assert_allclose(found[i], (dA * difference).sum(axis=0) / 2e-6, rtol=1e-6, atol=1e-9)


class TestActivationsInZ:
    @pytest.mark.parametrize("name", SMOOTH)
    def test_values_and_derivatives_are_torch_s(self, name) -> None:
        torch = pytest.importorskip("torch")
        Z = torch.linspace(-12, 12, 2001, dtype=torch.float64, requires_grad=True)
        A = torch_activation(name)(Z)
        A.sum().backward()
        g, at = activations.ACTIVATIONS[name], Z.detach().numpy()
        np.testing.assert_allclose(g.g(at, xp=np), A.detach().numpy(), rtol=4e-15, atol=8e-15)
        np.testing.assert_allclose(g.g_prime(at, xp=np), Z.grad.numpy(), rtol=4e-15, atol=8e-15)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gelu_is_right_to_10_ulp_far_into_its_tail(self, dtype) -> None:
        """Where torch's 1 + erf has no right digit left."""
        special = pytest.importorskip("scipy.special")
        lowest = -37.0 if dtype == "float64" else -12.5
        Z = np.linspace(lowest, 8, 3001).astype(dtype)
        exact = Z.astype(float) * np.where(
            Z < -1, np.exp(special.log_ndtr(Z.astype(float))), special.ndtr(Z.astype(float))
        )
        if dtype == "float32":
            assert ulps(activations.gelu(Z, xp=np), exact.astype(EXACT)).max() <= 10
        np.testing.assert_allclose(activations.gelu(Z, xp=np), exact, rtol=4e-13 if dtype == "float64" else 1e-6)
        near = np.abs(Z) < 5
        exact = Z.astype(float) * 0.5 * special.erfc(-Z.astype(float) / np.sqrt(2))
        np.testing.assert_allclose(activations.gelu(Z, xp=np)[near], exact[near], rtol=32 * np.finfo(dtype).eps)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", SMOOTH)
    def test_nothing_overflows_and_no_derivative_is_lost_at_the_ends(self, name, dtype) -> None:
        largest = np.finfo(dtype).max / 2
        Z = np.array([largest, -largest, 1e4, -1e4, 41, -41], dtype)
        g = activations.ACTIVATIONS[name]
        with np.errstate(all="raise", under="ignore"):
            A, slope = g.g(Z, xp=np), g.g_prime(Z, xp=np)
        scale = activations.LAMBDA if name == "selu" else 1.0
        np.testing.assert_allclose(A[::2], scale * Z[::2], rtol=1e-6)
        np.testing.assert_allclose(
            A[1::2], {"elu": -1, "selu": -1.7580993408473766}.get(name, 0), rtol=1e-6, atol=1e-15
        )
        np.testing.assert_allclose(slope, [scale, 0] * 3, atol=1e-12, rtol=1e-6)
        assert A.dtype == slope.dtype == dtype


class TestActivationEdges:
    @pytest.mark.parametrize(
        ("name", "at_zero", "slope"),
        [
            ("sigmoid", 0.5, 0.25),
            ("tanh", 0.0, 1.0),
            ("relu", 0.0, 0.0),
            ("leaky_relu", 0.0, 0.01),
            ("identity", 0.0, 1.0),
        ],
    )
    def test_at_zero(self, space: Space, name, at_zero, slope) -> None:
        g = activations.ACTIVATIONS[name]
        A = g.g(space.asarray([[0.0, -0.0]], "float64"), xp=space.xp)
        assert space.to_numpy(A).tolist() == [[at_zero] * 2]
        assert space.to_numpy(g.g_prime(A, xp=space.xp)).tolist() == [[slope] * 2]

    @pytest.mark.parametrize("name", activations.ACTIVATIONS)
    def test_nan_propagates(self, space: Space, name) -> None:
        A = activations.ACTIVATIONS[name].g(space.asarray([[np.nan, 1.0]], "float32"), xp=space.xp)
        assert np.isnan(space.to_numpy(A)).tolist() == [[True, False]]

    @pytest.mark.parametrize("name", outputs.OUTPUTS)
    def test_nan_propagates_through_outputs_in_its_own_column(self, space: Space, name) -> None:
        Z = space.asarray([[np.nan, 1.0], [0.0, 1.0]], "float32")
        Y = space.asarray([[1.0, 1.0], [0.0, 0.0]], "float32")
        A = space.to_numpy(outputs.OUTPUTS[name].mean(Z, xp=space.xp))
        assert np.isnan(A[0]).tolist() == [True, False]
        loss = outputs.OUTPUTS[name].loss(Z, Y, xp=space.xp)
        assert np.isnan(space.to_numpy(loss)).tolist() == [[True, False]]

    def test_the_names_are_the_keys(self) -> None:
        assert list(activations.ACTIVATIONS) == ["sigmoid", "tanh", "relu", "leaky_relu", "identity", *SMOOTH]
        assert list(outputs.OUTPUTS) == ["sigmoid", "softmax", "identity", "exp"]
        for table in (activations.ACTIVATIONS, outputs.OUTPUTS):
            assert [entry.name for entry in table.values()] == list(table)


SATURATED = [
    ("sigmoid", [[1e4]], [[1]], 0.0),
    ("sigmoid", [[1e4]], [[0]], 1e4),
    ("sigmoid", [[-1e4]], [[1]], 1e4),
    ("sigmoid", [[-1e30]], [[0]], 0.0),
    ("sigmoid", [[-1e30]], [[1]], 1e30),
    ("sigmoid", [[1e30], [-1e30]], [[0], [0]], 1e30),
    ("sigmoid", [[1e4]], [[0.25]], 7500.0),
    ("sigmoid", [[40]], [[1]], np.exp(-40)),
    ("sigmoid", [[-40]], [[0]], np.exp(-40)),
    ("softmax", [[1e4], [-1e4]], [[1], [0]], 0.0),
    ("softmax", [[1e4], [-1e4]], [[0], [1]], 2e4),
    ("softmax", [[1e30], [-1e30], [0]], [[0], [0], [1]], 1e30),
    ("softmax", [[-1e30], [-1e30]], [[1], [0]], np.log(2)),
    ("softmax", [[1e30], [1e30]], [[0], [1]], np.log(2)),
    ("identity", [[1e4]], [[-1e4]], 2e8),
    ("exp", [[-1e30]], [[0]], 0.0),
    ("exp", [[-1e4]], [[3]], 3e4),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "Z", "Y", "expected"), SATURATED)
def test_losses_of_saturated_logits_are_exact_and_finite(space: Space, output, Z, Y, expected, dtype) -> None:
    with np.errstate(all="raise", under="ignore"):
        loss = outputs.OUTPUTS[output].loss(space.asarray(Z, dtype), space.asarray(Y, dtype), xp=space.xp)
        A = outputs.OUTPUTS[output].mean(space.asarray(Z, dtype), xp=space.xp)
    np.testing.assert_allclose(space.to_numpy(loss), [[expected]], rtol=4 * np.finfo(dtype).eps)
    assert np.all(np.isfinite(space.to_numpy(A)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_s_columns_sum_to_1(space: Space, dtype) -> None:
    Z = np.concatenate([np.logspace(-3, 30, 40) * sign for sign in (1, -1)] * 3).reshape(6, 40)
    A = space.to_numpy(outputs.softmax(space.asarray(Z, dtype), xp=space.xp))
    np.testing.assert_allclose(A.sum(axis=0), 1.0, rtol=4 * np.finfo(dtype).eps)
    assert A.min() >= 0


def test_a_constant_added_to_every_logit_changes_no_softmax() -> None:
    Z = np.arange(6.0).reshape(3, 2) ** 2
    Y = np.eye(3)[:, [2, 0]]
    for shift in (-1e6, 64.0, 1e6):
        np.testing.assert_allclose(outputs.softmax(Z + shift, xp=np), outputs.softmax(Z, xp=np), rtol=1e-9)
        found, expected = (outputs.softmax_loss(V, Y, xp=np) for V in (Z + shift, Z))
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def core_calls(xp: Any, V: dict[str, Any]) -> dict[str, Any]:
    """Every public function of core on the arrays of V, in words of its own."""
    pairs = [(V["W1"], V["b1"]), (V["W2"], V["b2"])]
    primitives = bind(xp)
    passed = propagation.forward(V["X"], pairs, ("tanh",), "sigmoid", primitives=primitives, masks=[V["D"]])
    m, w = xp.sum(V["w"]), V["w"]
    dZ = primitives.output_backward(passed.A[-1], V["Y"])
    theta = vector.join(pairs, xp=xp)
    found = {f"g {name}": g.g(V["X"], xp=xp) for name, g in activations.ACTIVATIONS.items()}
    found |= {f"g' {name}": g.g_prime(V["X"], xp=xp) for name, g in activations.ACTIVATIONS.items()}
    found |= {f"mean {name}": output.mean(V["X"], xp=xp) for name, output in outputs.OUTPUTS.items()}
    found |= {f"loss {name}": output.loss(V["X"], V["X"], xp=xp) for name, output in outputs.OUTPUTS.items()}
    return found | {
        "forward": [*passed.A, *passed.cached, passed.Z],
        "cost": [
            propagation.cost(passed.Z, V["Y"], "sigmoid", m=k, primitives=primitives, weights=w) for k in (m, 5)
        ],
        "backward": propagation.backward(w * dZ, passed, pairs, ("tanh",), m=m, primitives=primitives, masks=[V["D"]]),
        "backward, m an integer": propagation.backward(dZ, passed, pairs, ("tanh",), m=5, primitives=primitives),
        "l2_cost": [regularization.l2_cost(pairs, l2=0.3, m=mm, xp=xp) for mm in (m, 5)],
        "l2_gradient": [regularization.l2_gradient(V["W1"], l2=0.3, m=mm) for mm in (m, 5)],
        "l1_cost": [regularization.l1_cost(pairs, l1=0.3, m=mm, xp=xp) for mm in (m, 5)],
        "l1_gradient": [regularization.l1_gradient(V["W1"], l1=0.3, m=mm, xp=xp) for mm in (m, 5)],
        "l1_penalized": regularization.gradients_with_penalties(pairs, pairs, l1=0.3, m=m, xp=xp),
        "penalized": regularization.gradients_with_penalties(pairs, pairs, l2=0.3, m=m, xp=xp),
        "dropout": regularization.dropout(V["D"], V["D"]),
        "join": theta,
        "split": vector.split(theta, (3, 4, 2), xp=xp),
        "averages": list(averages.exponentially_weighted_averages([theta, theta * theta], beta=0.9)),
        "gradient_descent": updates.gradient_descent(theta, theta, alpha=0.1),
        "momentum": updates.momentum(theta, theta, theta, alpha=0.1, beta=0.9),
        "nesterov": updates.nesterov(theta, theta, theta, alpha=0.1, beta=0.9),
        "rmsprop": updates.rmsprop(theta, theta, theta * theta, alpha=0.1, beta=0.9, eps=1e-8, xp=xp),
        "adam": updates.adam(
            theta, theta, theta, theta * theta, t=3, alpha=0.1, beta1=0.9, beta2=0.99, eps=1e-8, xp=xp
        ),
        "numerical_derivative": checking.numerical_derivative(
            lambda theta: xp.sum(theta * theta), theta, xp.astype(theta > 0, theta.dtype), eps=0.25
        ),
        "relative_difference": checking.relative_difference(theta, 2 * theta, xp=xp),
    }  # fmt: skip


def compiled(space: Space) -> Any:
    """core_calls on this namespace; on JAX as one traced function, which takes a tenth of the time."""
    calls = partial(core_calls, space.xp)
    if space.name != "jax":
        return calls
    import jax

    return jax.jit(calls)


def leaves(value: Any) -> list[Any]:
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, tuple | list) else [value]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_keeps_the_dtype_and_device_and_agrees_with_numpy(space: Space, dtype) -> None:
    shapes = {
        "X": (3, 5),
        "Y": (2, 5),
        "w": (1, 5),
        "D": (4, 5),
        "W1": (4, 3),
        "b1": (4, 1),
        "W2": (2, 4),
        "b2": (2, 1),
    }
    generator = np.random.default_rng(1)
    host = {name: generator.normal(size=shape) for name, shape in shapes.items()}
    host["w"] = np.abs(host["w"]) + 0.5
    found = compiled(space)({name: space.asarray(V, dtype) for name, V in host.items()})
    expected = core_calls(np, host)
    for name, value in found.items():
        for x, reference in zip(leaves(value), leaves(expected[name]), strict=True):
            space.assert_same_place(x, dtype)
            tolerance = 2e-5 if dtype == "float32" else 1e-12
            np.testing.assert_allclose(space.to_numpy(x), reference, rtol=tolerance, atol=tolerance, err_msg=name)


class TestLayers:
    """The building blocks alone, on every namespace, against loops over their indices."""

    def test_linear_forward(self, space: Space) -> None:
        A_prev, W, b = np.arange(6.0).reshape(3, 2), np.array([[1.0, -1.0, 2.0], [0.5, 0.0, 3.0]]), [[10.0], [20.0]]
        Z = layers.linear_forward(*(space.asarray(V, "float64") for V in (A_prev, W, b)))
        expected = [[sum(W[i, j] * A_prev[j, k] for j in range(3)) + b[i][0] for k in range(2)] for i in range(2)]
        np.testing.assert_allclose(space.to_numpy(Z), expected, rtol=1e-15)

    @pytest.mark.parametrize("m", [3, 7.5])
    def test_linear_backward(self, space: Space, m) -> None:
        dZ, A_prev = np.array([[1.0, -2.0, 0.5], [4.0, 0.0, 1.0]]), np.arange(12.0).reshape(4, 3)
        dW, db = layers.linear_backward(space.asarray(dZ), space.asarray(A_prev), m=m, xp=space.xp)
        expected = [[sum(dZ[i, k] * A_prev[j, k] for k in range(3)) / m for j in range(4)] for i in range(2)]
        np.testing.assert_allclose(space.to_numpy(dW), expected, rtol=1e-15)
        np.testing.assert_allclose(space.to_numpy(db), [[-0.5 / m], [5.0 / m]], rtol=1e-15)

    def test_linear_backward_input(self, space: Space) -> None:
        dZ, W = np.array([[1.0, -2.0, 0.5], [4.0, 0.0, 1.0]]), np.arange(8.0).reshape(2, 4)
        dA_prev = layers.linear_backward_input(space.asarray(dZ), space.asarray(W))
        expected = [[sum(W[i, j] * dZ[i, k] for i in range(2)) for k in range(3)] for j in range(4)]
        np.testing.assert_allclose(space.to_numpy(dA_prev), expected, rtol=1e-15)

    def test_activation_forward_and_backward(self, space: Space) -> None:
        tanh = activations.ACTIVATIONS["tanh"]
        Z, dA = space.asarray([[0.5, -1.0]], "float64"), space.asarray([[3.0, -2.0]], "float64")
        A = layers.activation_forward(Z, tanh, xp=space.xp)
        dZ = layers.activation_backward(dA, A, tanh, xp=space.xp)
        np.testing.assert_allclose(space.to_numpy(A), np.tanh([[0.5, -1.0]]), rtol=1e-15)
        np.testing.assert_allclose(space.to_numpy(dZ), [[3 / np.cosh(0.5) ** 2, -2 / np.cosh(1) ** 2]], rtol=1e-14)

    def test_output_backward(self, space: Space) -> None:
        dZ = outputs.output_backward(space.asarray([[0.25, 0.5]], "float64"), space.asarray([[1.0, 0.0]], "float64"))
        assert space.to_numpy(dZ).tolist() == [[-0.75, 0.5]]

    @pytest.mark.parametrize(("n_prev", "n", "m"), [(1, 1, 1), (3, 1, 4), (1, 3, 4), (2, 5, 1)])
    def test_shapes_also_where_one_of_them_is_1(self, n_prev, n, m) -> None:
        A_prev, W, b, dZ = np.ones((n_prev, m)), np.ones((n, n_prev)), np.ones((n, 1)), np.ones((n, m))
        assert layers.linear_forward(A_prev, W, b).shape == (n, m)
        dW, db = layers.linear_backward(dZ, A_prev, m=m, xp=np)
        assert (dW.shape, db.shape) == (W.shape, b.shape)
        assert layers.linear_backward_input(dZ, W).shape == A_prev.shape


class TestRegularization:
    PAIRS = (
        (np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[100.0], [200.0]])),
        (np.array([[5.0, 0.5]]), np.ones((1, 1))),
    )

    def test_the_l2_cost_is_half_the_sum_of_squared_weights_over_m_and_leaves_biases_out(self) -> None:
        assert regularization.l2_cost(self.PAIRS, l2=0.8, m=4, xp=np) == pytest.approx(0.8 / 8 * (30 + 25.25))
        assert regularization.l2_cost(self.PAIRS[:1], l2=2.0, m=5.0, xp=np) == pytest.approx(2 / 10 * 30)

    def test_the_l2_gradient_is_the_derivative_of_the_l2_cost(self) -> None:
        W = self.PAIRS[0][0]
        found = regularization.l2_gradient(W, l2=0.8, m=4)
        for i, j in np.ndindex(*W.shape):
            step = np.zeros_like(W)
            step[i, j] = 1e-3
            up, down = (regularization.l2_cost([(V, None)], l2=0.8, m=4, xp=np) for V in (W + step, W - step))
            assert found[i, j] == pytest.approx((up - down) / 2e-3, rel=1e-9)

    def test_the_l1_cost_is_the_sum_of_magnitudes_over_m_and_leaves_biases_out(self) -> None:
        assert regularization.l1_cost(self.PAIRS, l1=0.8, m=4, xp=np) == pytest.approx(0.2 * (10 + 5.5))
        assert regularization.l1_cost(self.PAIRS[1:], l1=3.0, m=5.0, xp=np) == pytest.approx(0.6 * 5.5)

    def test_the_l1_gradient_is_the_derivative_of_the_l1_cost_and_0_at_0(self, space: Space) -> None:
        W = np.array([[1.0, -0.2, 0.0], [-3.0, 0.4, -0.0]])
        given = space.asarray(W, "float64")
        found = space.to_numpy(regularization.l1_gradient(given, l1=0.8, m=4, xp=space.xp))
        for i, j in np.ndindex(*W.shape):
            step = np.zeros_like(W)
            step[i, j] = 1e-3
            up, down = (regularization.l1_cost([(V, None)], l1=0.8, m=4, xp=np) for V in (W + step, W - step))
            assert found[i, j] == pytest.approx((up - down) / 2e-3, rel=1e-9, abs=1e-12)
        assert found[0, 2] == found[1, 2] == 0.0

    def test_dropout_scales_each_unit_by_its_own_entry(self, space: Space) -> None:
        A, D = space.asarray([[1.0, 2.0], [3.0, 4.0]], "float64"), space.asarray([[0.0, 2.0], [2.0, 0.0]], "float64")
        assert space.to_numpy(regularization.dropout(A, D)).tolist() == [[0.0, 4.0], [6.0, 0.0]]


class TestVector:
    LAYERS = (
        (np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([[7.0], [8.0], [9.0]])),
        (np.array([[10.0, 11.0, 12.0]]), np.array([[13.0]])),
    )

    def test_theta_is_W_row_by_row_then_b_layer_by_layer(self, space: Space) -> None:
        theta = vector.join(space.pairs(self.LAYERS), xp=space.xp)
        assert space.to_numpy(theta).tolist() == [float(i) for i in range(1, 14)]

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_round_trip(self, space: Space, order) -> None:
        host = [(np.asarray(W, order=order), np.asarray(b, order=order)) for W, b in self.LAYERS]
        theta = vector.join(space.pairs(host), xp=space.xp)
        for (W, b), (W_host, b_host) in zip(vector.split(theta, (2, 3, 1), xp=space.xp), self.LAYERS, strict=True):
            assert space.to_numpy(W).tolist() == W_host.tolist()
            assert space.to_numpy(b).tolist() == b_host.tolist()

    @pytest.mark.parametrize("split", [partial(vector.split, xp=np), on_numpy.split], ids=["core", "accelerated"])
    def test_on_numpy_the_layers_are_views(self, split) -> None:
        theta = np.arange(13.0)
        (_, b), (W, _) = split(theta, (2, 3, 1))
        b[2, 0], W[0, 1] = -1.0, -2.0
        assert theta[[8, 10]].tolist() == [-1.0, -2.0]

    @pytest.mark.parametrize(("sizes", "size"), [((1, 1), 2), ((2, 3, 1), 13), ((784, 100, 10), 79510)])
    def test_its_size(self, sizes, size) -> None:
        assert vector.vector_size(sizes) == size == nn.Network(sizes).size


def test_averages_weigh_each_value_by_its_age_and_the_first_one_alone() -> None:
    found = list(averages.exponentially_weighted_averages([40.0, 49.0, 45.0], beta=0.9))
    assert found == pytest.approx([40.0, (0.9 * 40 + 49) / 1.9, (0.81 * 40 + 0.9 * 49 + 45) / 2.71])


class TestInitial:
    @pytest.mark.parametrize(
        ("scheme", "std"),
        [
            ("small", (0.01, 0.01)),
            ("he", (np.sqrt(2 / 200), np.sqrt(2 / 300))),
            ("xavier", (np.sqrt(2 / 500), np.sqrt(2 / 350))),
            ("lecun", (np.sqrt(1 / 200), np.sqrt(1 / 300))),
            ("zeros", (0.0, 0.0)),
        ],
    )
    def test_the_standard_deviation_of_each_scheme(self, scheme, std) -> None:
        """Over N normal draws the estimate strays from sigma by sigma/sqrt(2N); five of those are allowed."""
        drawn = initial.initial_layers((200, 300, 50), scheme, np.random.default_rng(0))
        for (W, b), sigma in zip(drawn, std, strict=True):
            assert W.std() == pytest.approx(sigma, abs=5 * sigma / np.sqrt(2 * W.size))
            assert W.mean() == pytest.approx(0, abs=5 * sigma / np.sqrt(W.size))
            assert not b.any()
        assert [(W.shape, b.shape) for W, b in drawn] == [((300, 200), (300, 1)), ((50, 300), (50, 1))]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_lecun_is_he_over_the_root_of_two_on_every_backend(self, space, dtype) -> None:
        network, tolerance = nn.Network((5, 7, 3)), 1e-5 if dtype == "float32" else 1e-10
        he = network.init(3, "he", backend="numpy", dtype="float64")
        lecun = network.init(3, "lecun", backend=space.backend, dtype=dtype)
        for (W, b), (W_he, _) in zip(lecun, he, strict=True):
            space.assert_same_place(W, dtype)
            np.testing.assert_allclose(space.to_numpy(W), W_he / np.sqrt(2), rtol=tolerance)
            assert not space.to_numpy(b).any()

    @pytest.mark.parametrize(("scheme", "stays_equal"), [("zeros", True), ("he", False)])
    def test_zeros_keep_the_units_of_a_layer_equal_in_training(self, scheme, stays_equal) -> None:
        network, _, X, Y = problem((3, 4, 5, 1), "sigmoid", "sigmoid", m=20)
        optimizer = nn.GradientDescent(1.0)
        params = nn.train(network, X, Y, epochs=30, scheme=scheme, optimizer=optimizer, dtype="float64").params
        for V in (*params[0], *params[1]):
            largest = np.abs(V).max()
            assert largest > 1e-8
            assert (np.abs(V - V[0]).max() <= 1e-9 * largest) == stays_equal


class TestChecking:
    def test_the_relative_difference(self, space: Space) -> None:
        g, g_hat = space.asarray([3.0, 4.0], "float64"), space.asarray([0.0, -12.0], "float64")
        found = checking.relative_difference(g, g_hat, xp=space.xp)
        assert float(space.to_numpy(found)) == pytest.approx(np.sqrt(9 + 256) / 17, rel=1e-15)

    @pytest.mark.parametrize(
        ("g", "g_hat", "expected"), [([1, 2], [1, 2], 0), ([0, 0], [0, 0], 0), ([0, 2], [0, -2], 1)]
    )
    def test_its_ends(self, g, g_hat, expected) -> None:
        found = checking.relative_difference(np.array(g, float), np.array(g_hat, float), xp=np)
        assert found == expected

    def test_the_numerical_derivative_of_a_cubic_is_off_by_eps_squared_alone(self) -> None:
        theta, d = np.array([2.0, 5.0]), np.array([1.0, 0.0])
        found = checking.numerical_derivative(lambda theta: theta[0] ** 3 + theta[1], theta, d, eps=0.25)
        assert found == 3 * 2.0**2 + 0.25**2

    def test_a_coordinate_s_direction(self, space: Space) -> None:
        e = checking.coordinate(2, space.asarray(np.ones(4), "float32"), xp=space.xp, device=space.backend.device)
        space.assert_same_place(e, "float32")
        assert space.to_numpy(e).tolist() == [0, 0, 1, 0]


@st.composite
def tiled_problems(draw: st.DrawFn) -> tuple[Any, list[int]]:
    """A network with data and example weights, and where its columns are cut."""
    output = draw(st.sampled_from(list(outputs.OUTPUTS)))
    hidden = draw(st.lists(st.sampled_from(list(activations.ACTIVATIONS)), max_size=3))
    sizes = tuple(draw(st.integers(2, 5)) for _ in range(len(hidden) + 2))
    m = draw(st.integers(1, 30))
    cuts = draw(st.lists(st.integers(1, m), max_size=6)) if m > 1 else []
    return problem(sizes, tuple(hidden), output, m, seed=draw(st.integers(0, 99))), sorted({0, *cuts, m})


@repeatable
@given(tiled_problems(), st.booleans())
def test_the_sum_over_tiles_is_the_whole_batch(tiled, weighted) -> None:
    (network, pairs, X, Y), cuts = tiled
    primitives = bind(np)
    weights = np.random.default_rng(0).random((1, X.shape[1])) + 0.1 if weighted else None
    m = X.shape[1] if weights is None else weights.sum()

    def cost_and_gradients(columns: slice) -> list[np.ndarray]:
        w = None if weights is None else weights[:, columns]
        passed = propagation.forward(X[:, columns], pairs, network.hidden, network.output, primitives=primitives)
        J = propagation.cost(passed.Z, Y[:, columns], network.output, m=m, primitives=primitives, weights=w)
        dZ = primitives.output_backward(passed.A[-1], Y[:, columns])
        dZ = dZ if w is None else w * dZ
        gradients, _ = propagation.backward(dZ, passed, pairs, network.hidden, m=m, primitives=primitives)
        return [J, primitives.join(gradients)]

    tiles = [cost_and_gradients(slice(*cut)) for cut in pairwise(cuts)]
    for whole, parts in zip(cost_and_gradients(slice(None)), zip(*tiles, strict=True), strict=True):
        np.testing.assert_allclose(sum(parts), whole, rtol=1e-12, atol=1e-12 * np.abs(whole).max())


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "reversed": lambda V: np.ascontiguousarray(V[::-1, ::-1])[::-1, ::-1],
    "strided": lambda V: np.repeat(np.repeat(V, 2, axis=0), 3, axis=1)[::2, ::3],
}


@st.composite
def matrices(draw: st.DrawFn, *shapes: tuple[str, str]) -> list[np.ndarray]:
    """Matrices whose shapes share the letters of the equations, each in a layout of its own, never to be written."""
    extents = {letter: draw(st.integers(1, 6)) for letter in sorted({*"".join(map("".join, shapes))} - {"1"})} | {
        "1": 1
    }
    dtype = draw(st.sampled_from(DTYPES))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    drawn = []
    for rows, columns in shapes:
        layout = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))]
        drawn.append(layout(generator.normal(size=(extents[rows], extents[columns])).astype(dtype)))
        drawn[-1].flags.writeable = False
    return drawn


def assert_same(found: Any, expected: Any) -> None:
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        assert one.dtype == other.dtype
        tolerance = 1e-14 if one.dtype == "float64" else 1e-6
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=10 * tolerance)


class TestAcceleratedSteps:
    """NumPy's own primitives give what core's give, over dtypes, shapes and layouts."""

    @repeatable
    @given(matrices("qp", "q1", "nq", "n1"))
    def test_join_and_split(self, arrays) -> None:
        W1, b1, W2, b2 = arrays
        sizes = (W1.shape[1], *W2.shape[::-1])
        theta = on_numpy.join([(W1, b1), (W2, b2)])
        assert_same(theta, vector.join([(W1, b1), (W2, b2)], xp=np))
        assert_same(on_numpy.split(theta, sizes), vector.split(theta, sizes, xp=np))

    def test_every_step_they_replace_is_tested_here(self) -> None:
        plain = nn.backends.primitives_for(np)
        faster = on_numpy.NUMPY.primitives
        replaced = {name for name in Primitives.__annotations__ if getattr(plain, name) is not getattr(faster, name)}
        assert replaced == {"join", "split"}


TRAINING = """
import json, os
import nnarray as nn
from nnarray.backends import why_no_machine_code
network = nn.Network((2, 5, 3), hidden="tanh", output="softmax")
X = [[i % 7 - 3.0 for i in range(40)], [i % 5 - 2.0 for i in range(40)]]
Y = nn.one_hot([(i * i) % 3 for i in range(40)], 3)
result = nn.train(network, X, Y, epochs=10, batch_size=7, l2=0.1, dtype="float64", optimizer=nn.Adam(0.02), dropout=0.2)
plain = nn.backend("numpy").primitives.join is not nn.backends.numpy.join
costs, reason = result.history.columns()["cost"], why_no_machine_code()
print(json.dumps([plain, result.params.vector.tolist(), costs, reason]))
"""


def test_training_without_machine_code_and_without_any_program_gives_the_same() -> None:
    def run(plain: str, machine_code: str = "1") -> list[Any]:
        environment = os.environ | {"NNARRAY_PLAIN_STEPS": plain, "NNARRAY_MACHINE_CODE": machine_code}
        done = subprocess.run(
            [sys.executable, "-c", TRAINING], capture_output=True, text=True, check=True, env=environment
        )
        return json.loads(done.stdout)

    plain, theta, costs, _ = run("1")
    assert plain
    targets = []
    for machine_code in "10":
        accelerated_is_plain, accelerated_theta, accelerated_costs, target = run("0", machine_code)
        targets.append(target)
        assert not accelerated_is_plain
        np.testing.assert_allclose(accelerated_theta, theta, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(accelerated_costs, costs, rtol=1e-12)
    assert targets == [None, "NNARRAY_MACHINE_CODE is 0"]
