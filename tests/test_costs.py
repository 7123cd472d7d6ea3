"""Costs of the caller's own, against torch's losses: tiled, compiled, on every namespace, in training."""

import os
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import Space, problem
from test_oracles import assert_close, torch_forward

import nnarray as nn
from nnarray import engine
from nnarray.backends import makes_machine_code
from nnarray.engine import Batch, compiling, equations
from nnarray.network.costs import with_cost

NUMPY = nn.backend("numpy")
M = 23


def huber(A, Y, xp):
    R = xp.abs(A - Y)
    return xp.where(R <= 0.5, 0.5 * R**2, 0.5 * (R - 0.25))


def huber_dA(A, Y, xp):
    return xp.clip(A - Y, -0.5, 0.5)


def pinball(A, Y, xp):
    return xp.maximum(0.3 * (Y - A), -0.7 * (Y - A))


def pinball_dA(A, Y, xp):
    return xp.where(Y > A, -0.3 * xp.ones_like(A), 0.7)


def hinge(Z, Y, xp):
    return xp.maximum(1.0 - (2.0 * Y - 1.0) * Z, 0.0)


def hinge_dZ(Z, Y, xp):
    S = xp.where(Y == 1.0, xp.ones_like(Z), -1.0)
    return -S * xp.astype((S * Z < 1.0) & ~(S * Z >= 1.0), Z.dtype)


def brier(A, Y, xp):
    return xp.sum(xp.square(A - Y), axis=0, keepdims=True)


def brier_dA(A, Y, xp):
    return 2.0 * (A - Y)


def pseudo_huber(Z, Y, xp):
    return xp.sqrt(1.0 + (Z - Y) ** 2) - 1.0


def pseudo_huber_dZ(Z, Y, xp):
    return (Z - Y) / xp.sqrt(1.0 + (Z - Y) ** 2)


def log_cosh(A, Y, xp):
    R = xp.abs(A - Y)
    return R + xp.log1p(xp.exp(-2.0 * R)) - float(np.log(2.0))


def log_cosh_dA(A, Y, xp):
    return xp.sign(A - Y) * xp.tanh(xp.abs(A - Y))


class Case(NamedTuple):
    cost: nn.Cost
    output: str


CASES = {
    "huber": Case(nn.Cost(huber, dA=huber_dA), "identity"),
    "pinball": Case(nn.Cost(pinball, dA=pinball_dA), "identity"),
    "hinge": Case(nn.Cost(hinge, dZ=hinge_dZ), "sigmoid"),
    "pseudo-huber": Case(nn.Cost(pseudo_huber, dZ=pseudo_huber_dZ), "identity"),
    **{f"brier of {o}": Case(nn.Cost(brier, dA=brier_dA), o) for o in ("sigmoid", "softmax", "exp")},
    "log-cosh": Case(nn.Cost(log_cosh, dA=log_cosh_dA), "exp"),
}


def torch_losses(name: str, Z: Any, A: Any, Y: Any) -> Any:
    """Each example's loss, with one example per column."""
    import torch
    from torch.nn import functional

    if name == "huber":
        return functional.huber_loss(A, Y, reduction="none", delta=0.5).sum(0)
    if name == "pinball":
        return torch.where(Y > A, 0.3 * (Y - A), 0.7 * (A - Y)).sum(0)
    if name == "hinge":
        return torch.relu(1 - (2 * Y - 1) * Z).sum(0)
    if name == "pseudo-huber":
        return (torch.sqrt(1 + (Z - Y) ** 2) - 1).sum(0)
    if name == "log-cosh":
        return torch.log(torch.cosh(A - Y)).sum(0)
    return functional.mse_loss(A, Y, reduction="none").sum(0)


def torch_gradients(name: str, network: Any, layers: Any, X: Any, Y: Any, *, l2: float, weights: Any) -> Any:
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(V, requires_grad=True) for pair in layers for V in pair]
    w = torch.tensor(weights[0])
    Z, A = torch_forward(network, leaves, torch.tensor(X))
    J = (w @ torch_losses(name, Z, A, torch.tensor(Y)) + 0.5 * l2 * sum((W**2).sum() for W in leaves[::2])) / w.sum()
    return J.item(), np.concatenate([V.numpy().ravel() for V in torch.autograd.grad(J, leaves)])


def example(name: str) -> Any:
    network, layers, X, Y = problem((3, 5, 2), "tanh", CASES[name].output, m=M, seed=3)
    return network, layers, X, Y, CASES[name].cost


OPTIONS = {"l2": 0.4, "weights": np.linspace(0.2, 2.0, M)[None, :]}


@pytest.mark.parametrize("name", CASES)
class TestNumbers:
    def test_they_are_torch_s(self, name) -> None:
        network, layers, X, Y, cost = example(name)
        J, expected = torch_gradients(name, network, layers, X, Y, **OPTIONS)
        found, g = network.gradients(layers, X, Y, cost=cost, **OPTIONS)
        assert_close(found, J, 1e-12)
        assert_close(network.cost(layers, X, Y, cost=cost, **OPTIONS), J, 1e-12)
        assert_close(g.vector, expected, 1e-10)

    def test_they_pass_the_gradient_check(self, name) -> None:
        network, layers, X, Y, cost = example(name)
        assert nn.check_gradients(network, layers, X, Y, cost=cost, **OPTIONS).relative_difference < 1e-7
        other = nn.Cost(cost.loss, dZ=cost.dZ and (lambda *V, xp: 1.01 * cost.dZ(*V, xp=xp)), dA=cost.dA and brier_dA)
        if cost.dA is not brier_dA:
            assert nn.check_gradients(network, layers, X, Y, cost=other, **OPTIONS).relative_difference > 1e-4

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_every_namespace(self, space: Space, name, dtype) -> None:
        network, layers, X, Y, cost = example(name)
        J, g = network.gradients(layers, X, Y, cost=cost, **OPTIONS)
        options = OPTIONS | {"weights": space.asarray(OPTIONS["weights"], dtype)}
        for _ in range(2):
            found, gradients = network.gradients(
                space.pairs(layers, dtype), space.asarray(X, dtype), space.asarray(Y, dtype), cost=cost, **options
            )
            space.assert_same_place(gradients.vector, dtype)
            tolerance = 1e-12 if dtype == "float64" else 3e-5
            assert_close(space.to_numpy(found), J, tolerance)
            assert_close(space.to_numpy(gradients.vector), g.vector, tolerance)

    @pytest.mark.parametrize("library", ["numpy", "strict", "torch", "cupy"])
    def test_tiles_add_up(self, open_space, name, library) -> None:
        space = open_space(library)
        network, layers, X, Y, cost = example(name)
        J, g = network.gradients(layers, X, Y, cost=cost, **OPTIONS)
        weights = space.asarray(OPTIONS["weights"])
        batch = Batch(space.asarray(X), space.asarray(Y), space.xp.sum(weights), weights)
        for width in (1, 5, M):
            found = engine.cost_and_gradients(
                batch, space.pairs(layers), with_cost(network, cost), space.backend, l2=OPTIONS["l2"], width=width
            )
            assert_close(space.to_numpy(found[0]), J, 1e-12)
            assert_close(space.to_numpy(found[1]), g.vector, 1e-12)

    def test_programs_give_what_the_plain_steps_give(self, name) -> None:
        network, layers, X, Y, cost = example(name)
        tile, costed = Batch(X, Y, M).tile(0, M, X.dtype, NUMPY), with_cost(network, cost)
        for what in (equations.cost_and_gradients, equations.cost_and_prediction):
            program = compiling.program_for(what, tile, layers, costed, NUMPY)
            assert program is not None
            J, plain = what(tile, layers, costed, NUMPY.primitives)
            out = [np.full_like(V, np.nan) for V in plain]
            assert_close(program(*compiling.inputs_of(tile, layers), *out), J, 1e-12)
            for one, other in zip(out, plain, strict=True):
                assert_close(one, other, 1e-12)

    @pytest.mark.parametrize("library", ["numpy", "torch", "jax", "cupy"])
    def test_training_descends_and_agrees(self, open_space, name, library) -> None:
        space = open_space(library)
        network, _, X, Y, cost = example(name)
        settings = {"epochs": 6, "batch_size": 8, "cost": cost, "l2": 0.1, "dtype": "float64", "scheme": "xavier"}
        settings |= {"optimizer": nn.Adam(0.02), "validation": (X, Y)}
        here = nn.train(network, X, Y, backend="numpy", **settings)
        there = nn.train(network, X, Y, backend=space.backend, **settings)
        assert here.history[-1].validation_cost < here.history[0].validation_cost
        assert_close(space.to_numpy(there.params.vector), here.params.vector, 1e-9)
        assert there.history[-1].cost == pytest.approx(here.history[-1].cost, rel=1e-9)


DERIVATIVES = {
    "a truth times a float": (True, lambda A, Y, xp: (A > Y) * (A - Y)),
    "a float plus a truth": (True, lambda A, Y, xp: A - Y + (A > Y)),
    "a truth or a float": (True, lambda A, Y, xp: xp.where(A > 0.1, A > Y, A)),
    "compared truths": (False, lambda A, Y, xp: xp.where((A > Y) == (A > 0.1), A, Y)),
    "truth and float compared": (True, lambda A, Y, xp: xp.where((A > Y) >= A, A, Y)),
    "cast to truths": (True, lambda A, Y, xp: xp.where(xp.astype(xp.maximum(A - Y, 0.0), bool), A, Y)),
    "one of two truths": (False, lambda A, Y, xp: A + xp.where(A > 0.1, A > Y, Y > 0.2)),
    "the larger one of a truth and a number": (False, lambda A, Y, xp: xp.maximum(A > Y, 0.5)),
    "a truth times a number": (False, lambda A, Y, xp: (A > Y) * 0.1 * (A - Y)),
    "a sum of truths": (False, lambda A, Y, xp: A - Y + xp.sum(A > Y, axis=0, keepdims=True)),
    "truths of numbers": (False, lambda A, Y, xp: A * xp.astype(xp.logical_and(A > Y, True), A.dtype)),
    "floats taken for truths": (False, lambda A, Y, xp: xp.where(xp.maximum(A - Y, 0.0), A, Y)),
    "cut to integers": (False, lambda A, Y, xp: xp.astype(10 * A, np.dtype("int64")) - Y),
    "in another precision": (False, lambda A, Y, xp: xp.astype(A, np.dtype("float64")) / 3 - Y),
    "infinite": (False, lambda A, Y, xp: xp.minimum(A - Y, float("inf"))),
    "not a number": (False, lambda A, Y, xp: xp.where(A > Y, A - Y, float("nan"))),
}


@pytest.mark.parametrize("what", DERIVATIVES)
@pytest.mark.parametrize("library", ["numpy", "cupy"])
def test_a_program_means_what_the_function_does(open_space, what, library) -> None:
    """Bits of functions that are called as they stand; a program is one where it says the same."""
    space = open_space(library)
    is_program, dA = DERIVATIVES[what]
    network, layers, X, Y = problem((3, 5, 2), "tanh", "identity", m=M)
    costed = with_cost(network, nn.Cost(brier, dA=dA))
    X, Y, pairs = (
        X.astype("float32"),
        Y.astype("float32"),
        [(W.astype("float32"), b.astype("float32")) for W, b in layers],
    )
    tile = Batch(X, Y, M).tile(0, M, X.dtype, NUMPY)
    assert (compiling.program_for(equations.cost_and_gradients, tile, pairs, costed, NUMPY) is not None) == is_program
    _, plain = equations.cost_and_gradients(tile, pairs, costed, NUMPY.primitives, m=M)
    given = space.pairs(pairs, "float32"), space.asarray(X, "float32"), space.asarray(Y, "float32")
    g = network.gradients(*given, cost=costed.own_cost)[1]
    for found, expected in zip([V for pair in g for V in pair], plain, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(space.to_numpy(found), expected, rtol=1e-5, atol=1e-6)


def no_program(A, Y, xp):
    return xp.full_like(A, 0.375) - xp.cos(A - Y)


def no_program_dA(A, Y, xp):
    return xp.sin(A - Y)


def test_bits_of_a_compiled_cost_do_not_depend_on_blas_s_threads() -> None:
    code = (
        "import hashlib, numpy as np, nnarray as nn\n"
        "network = nn.Network((300, 400, 300, 1), output='identity')\n"
        "X = np.random.default_rng(0).normal(size=(300, 900))\n"
        "cost = nn.Cost(lambda A, Y, xp: (A - Y) ** 2, dA=lambda A, Y, xp: 2.0 * (A - Y))\n"
        "_, g = network.gradients(network.init(0, dtype='float64'), X, X[:1], cost=cost)\n"
        "print(hashlib.md5(g.vector.tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"NNARRAY_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1 or not makes_machine_code()


def test_only_what_is_compiled_counts_as_such() -> None:
    network = problem((3, 5, 2), "tanh", "identity", m=M)[0]
    for dA, expected in ((brier_dA, True), (no_program_dA, False)):
        given = with_cost(network, nn.Cost(brier, dA=dA)), M, np.dtype("float64")
        assert compiling.is_traceable(equations.cost, *given)
        assert compiling.is_traceable(equations.cost_and_gradients, *given) == expected


def test_what_no_program_can_do_is_computed_as_it_stands(space: Space) -> None:
    network, layers, X, Y = problem((3, 5, 2), "tanh", "identity", m=M)
    cost = nn.Cost(no_program, dA=no_program_dA)
    tile = Batch(X, Y, M).tile(0, M, X.dtype, NUMPY)
    costed = with_cost(network, cost)
    for _ in range(3):
        assert compiling.program_for(equations.cost, tile, layers, costed, NUMPY) is None
    J, g = network.gradients(space.pairs(layers), space.asarray(X), space.asarray(Y), cost=cost)
    residual = network.predict(layers, X) - Y
    assert_close(space.to_numpy(J), np.sum(0.375 - np.cos(residual)) / M, 1e-12)
    _, pull = network.vjp(layers, X)
    assert_close(space.to_numpy(g.vector), pull(np.sin(residual) / M)[0].vector, 1e-12)


def test_training_goes_on_without_programs(space: Space) -> None:
    network, _, X, Y = problem((3, 5, 2), "tanh", "identity", m=M)
    settings = {"epochs": 3, "batch_size": 8, "cost": nn.Cost(no_program, dA=no_program_dA), "dtype": "float64"}
    here = nn.train(network, X, Y, **settings)
    there = nn.train(network, X, Y, backend=space.backend, **settings)
    assert_close(space.to_numpy(there.params.vector), here.params.vector, 1e-9)


def test_constants_of_numpy_do_not_make_float64_of_float32() -> None:
    network, layers, X, Y = problem((3, 5, 2), "tanh", "identity", m=M)
    cost = nn.Cost(lambda A, Y, xp: np.float64(0.5) * (A - Y) ** 2, dA=lambda A, Y, xp: np.float64(1.0) * (A - Y))
    layers = [(W.astype("float32"), b.astype("float32")) for W, b in layers]
    for _ in range(3):
        J, g = network.gradients(layers, X, Y, cost=cost)
        assert (J.dtype, g.vector.dtype) == ("float32", "float32")
        np.testing.assert_allclose(g.vector, network.gradients(layers, X, Y)[1].vector, rtol=1e-5, atol=1e-6)


def test_a_branch_on_values_is_never_recorded() -> None:
    def branching(A, Y, xp):
        return A - Y if bool(xp.all(A > Y)) else Y - A

    network, layers, X, Y = problem((3, 1), (), "identity", m=4)
    cost = nn.Cost(branching, dA=lambda A, Y, xp: xp.ones_like(A))
    for shift in (100.0, -100.0, 100.0, -100.0):
        J = network.cost(layers, X, Y + shift, cost=cost)
        residual = network.predict(layers, X) - Y - shift
        assert_close(J, np.mean(residual if (residual > 0).all() else -residual), 1e-12)


def test_a_large_batch_has_the_same_bits_for_any_number_of_workers() -> None:
    network, layers, X, Y = problem((20, 30, 2), "relu", "identity", m=9000)
    cost = CASES["huber"].cost
    results = [network.gradients(layers, X, Y, cost=cost, workers=workers) for workers in (1, 2, 3)]
    for J, g in results[1:]:
        assert results[0][0] == J
        np.testing.assert_array_equal(g.vector, results[0][1].vector)


def test_jax_traces_it() -> None:
    jax = pytest.importorskip("jax")
    network, layers, X, Y, cost = example("huber")
    theta = nn.Parameters.from_layers(layers).vector
    found = jax.jit(
        jax.grad(lambda t: network.cost(network.parameters(t), jax.numpy.asarray(X), jax.numpy.asarray(Y), cost=cost))
    )(theta)
    assert_close(found, network.gradients(layers, X, Y, cost=cost)[1].vector, 1e-12)


class TestBadInput:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"loss": 3, "dA": huber_dA}, "loss must be a function, got 3"),
            ({"loss": huber}, "give one of dA and dZ"),
            ({"loss": huber, "dA": huber_dA, "dZ": huber_dA}, "give one of dA and dZ"),
            ({"loss": huber, "dZ": "dZ"}, "dZ must be a function, got 'dZ'"),
            ({"loss": lambda A, Y: A - Y, "dA": huber_dA}, r"loss is called as loss\(V, Y, xp=xp\).*\(A, Y\): .*'xp'"),
            ({"loss": huber, "dA": lambda A, xp: A}, r"dA is called as dA\(V, Y, xp=xp\)"),
        ],
    )
    def test_what_makes_no_cost(self, given, message) -> None:
        with pytest.raises(TypeError, match=message):
            nn.Cost(**given)

    @pytest.mark.parametrize("library", ["numpy", "torch", "jax", "cupy"])
    @pytest.mark.parametrize(
        ("cost", "message"),
        [
            (nn.Cost(lambda A, Y, xp: xp.sum(A, axis=1, keepdims=True), dA=brier_dA), r"loss must give shape \(1, m\)"),
            (nn.Cost(brier, dA=brier), r"dA must give shape \(n\[L\], m\) = \(2, 23\), got \(1, 23\)"),
            (nn.Cost(brier, dZ=brier), r"dZ must give shape \(n\[L\], m\) = \(2, 23\), got \(1, 23\)"),
        ],
    )
    def test_shapes(self, open_space, library, cost, message) -> None:
        space = open_space(library)
        network, layers, X, Y, _ = example("huber")
        for _ in range(2):
            with pytest.raises(ValueError, match=message):
                network.gradients(space.pairs(layers), space.asarray(X), space.asarray(Y), cost=cost)

    def test_a_mistake_in_a_function_is_the_caller_s_to_read(self) -> None:
        network, layers, X, Y, _ = example("huber")
        cost = nn.Cost(lambda A, Y, xp: xp.no_such_function(A), dA=huber_dA)
        for _ in range(3):
            with pytest.raises(AttributeError, match="no_such_function"):
                network.cost(layers, X, Y, cost=cost)

    def test_what_is_no_cost_and_targets_that_are_not_finite(self) -> None:
        network, layers, X, Y, cost = example("brier of sigmoid")
        with pytest.raises(TypeError, match=r"cost must be an nn\.Cost, got str"):
            network.cost(layers, X, Y, cost="huber")
        network.cost(layers, X, Y - 7.0, cost=cost)  # which the output's own cost would refuse
        for call in (network.cost, network.gradients):
            with pytest.raises(ValueError, match="Y must be finite"):
                call(layers, X, Y + np.nan, cost=cost)


def test_a_model_file_keeps_the_output_and_no_code(tmp_path) -> None:
    network, _, X, Y, cost = example("hinge")
    params = nn.train(network, X, Y, cost=cost, epochs=2).params
    nn.save(tmp_path / "model.safetensors", network, params)
    again, loaded = nn.load(tmp_path / "model.safetensors")
    assert again == network
    first = nn.train(network, X, Y, params=params, cost=cost, epochs=2).params
    np.testing.assert_array_equal(nn.train(again, X, Y, params=loaded, cost=cost, epochs=2).params.vector, first.vector)
