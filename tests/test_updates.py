"""The optimisers against plain loops and torch's, and the learning-rate schedules."""

import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
from conftest import Space

import nnarray as nn
from nnarray import schedules
from nnarray.network import Parameters
from nnarray.training import Optimizer

STEPS = 20


def gradient(theta: Any) -> Any:
    """The gradient of a valley that is much narrower in some directions than in others."""
    return CURVATURE * (theta - 1.0) + 0.1


CURVATURE = np.array([0.01, 0.5, 3.0, 10.0, 1.0, 1e-4])
START = np.array([3.0, -2.0, 0.5, 1.5, 0.0, 40.0])


def network_of(theta: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Six numbers as the pairs of a network (2, 2): W is theta[:4], b is theta[4:]."""
    return [(theta[:4].reshape(2, 2).copy(), theta[4:].reshape(2, 1).copy())]


def path(optimizer: Any, steps: int = STEPS) -> np.ndarray:
    """theta after each update."""
    params: Any = Parameters.from_layers(network_of(START))
    state, thetas = optimizer.init(params), []
    for _ in range(steps):
        params, state = optimizer.update(params, params.replace(gradient(params.vector)), state)
        thetas.append(params.vector)
    return np.array(thetas)


def gradient_descent(theta, g, memory, t, alpha):
    return theta - alpha * g


def momentum(theta, g, memory, t, alpha, beta):
    memory["v"] = beta * memory["v"] + (1 - beta) * g
    return theta - alpha * memory["v"]


def nesterov(theta, g, memory, t, alpha, beta):
    memory["v"] = beta * memory["v"] + (1 - beta) * g
    return theta - alpha * (beta * memory["v"] + (1 - beta) * g)


def rmsprop(theta, g, memory, t, alpha, beta, eps):
    memory["s"] = beta * memory["s"] + (1 - beta) * g**2
    return theta - alpha * g / (math.sqrt(memory["s"]) + eps)


def adam(theta, g, memory, t, alpha, beta1, beta2, eps):
    memory["v"] = beta1 * memory["v"] + (1 - beta1) * g
    memory["s"] = beta2 * memory["s"] + (1 - beta2) * g**2
    v, s = memory["v"] / (1 - beta1**t), memory["s"] / (1 - beta2**t)
    return theta - alpha * v / (math.sqrt(s) + eps)


RULES = [
    (nn.GradientDescent(0.05), gradient_descent, (0.05,)),
    (nn.Momentum(0.05, 0.8), momentum, (0.05, 0.8)),
    (nn.Momentum(0.05, 0.0), gradient_descent, (0.05,)),
    (nn.Nesterov(0.05, 0.8), nesterov, (0.05, 0.8)),
    (nn.RMSprop(0.02, 0.7, 1e-3), rmsprop, (0.02, 0.7, 1e-3)),
    (nn.Adam(0.03, 0.8, 0.95, 1e-3), adam, (0.03, 0.8, 0.95, 1e-3)),
]


def name(optimizer: Any) -> str:
    return type(optimizer).__name__


@pytest.mark.parametrize(
    ("optimizer", "rule", "hyperparameters"), RULES, ids=lambda v: name(v) if hasattr(v, "init") else ""
)
def test_each_rule_is_its_equation_coordinate_by_coordinate(optimizer, rule, hyperparameters) -> None:
    found = path(optimizer)
    for i in range(START.size):
        theta, memory = START[i], {"v": 0.0, "s": 0.0}
        for t in range(1, STEPS + 1):
            g = CURVATURE[i] * (theta - 1.0) + 0.1
            theta = rule(theta, g, memory, t, *hyperparameters)
            assert found[t - 1, i] == pytest.approx(theta, rel=1e-11)


def torch_optimizers() -> list[tuple[Any, Any]]:
    """Each rule with torch's; torch's momentum leaves out (1-beta), so its rate is ours times (1-beta)."""
    from torch import optim

    return [
        (nn.GradientDescent(0.05), lambda p: optim.SGD(p, lr=0.05)),
        (nn.Momentum(0.5, 0.9), lambda p: optim.SGD(p, lr=0.5 * (1 - 0.9), momentum=0.9)),
        (nn.Nesterov(0.5, 0.9), lambda p: optim.SGD(p, lr=0.5 * (1 - 0.9), momentum=0.9, nesterov=True)),
        (nn.RMSprop(0.01, 0.9, 1e-6), lambda p: optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-6)),
        (nn.Adam(0.01, 0.9, 0.999, 1e-6), lambda p: optim.Adam(p, lr=0.01, betas=(0.9, 0.999), eps=1e-6)),
        (nn.Adam(), optim.Adam),
    ]


@pytest.mark.parametrize("k", range(6))
def test_each_rule_takes_the_path_of_torch_s(k) -> None:
    """torch's momentum starts with v = g and not (1-beta) g: with the rate times (1-beta) the paths are the same."""
    torch = pytest.importorskip("torch")
    ours, make = torch_optimizers()[k]
    theta = torch.tensor(START, requires_grad=True)
    theirs = make([theta])
    for expected in path(ours):
        theta.grad = torch.tensor(gradient(theta.detach().numpy()))
        theirs.step()
        np.testing.assert_allclose(theta.detach().numpy(), expected, rtol=1e-10)


OPTIMIZERS = [nn.GradientDescent(0.1), nn.Momentum(0.1), nn.Nesterov(0.1), nn.RMSprop(0.01), nn.Adam(0.01)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name)
class TestUpdate:
    def test_plain_pairs_do(self, space: Space, optimizer) -> None:
        params, gradients = space.pairs(network_of(START)), space.pairs(network_of(gradient(START)))
        updated, state = optimizer.update(params, gradients, optimizer.init(params))
        assert state.t == 1
        space.assert_same_place(updated.vector, "float64")
        np.testing.assert_allclose(space.to_numpy(updated.vector), path(optimizer, 1)[0], rtol=1e-14)

    def test_the_old_parameters_gradients_and_state_stay_as_they_are(self, optimizer) -> None:
        params, gradients = (Parameters.from_layers(network_of(V)) for V in (START, gradient(START)))
        _, state = optimizer.update(params, gradients, optimizer.init(params))
        for V in (params.vector, gradients.vector, *state[1:]):
            if V is not None:
                V.flags.writeable = False
        before = [None if V is None else V.copy() for V in state[1:]]
        updated, new = optimizer.update(params, gradients, state)
        assert (state.t, new.t) == (1, 2)
        assert not np.shares_memory(updated.vector, params.vector)
        np.testing.assert_array_equal(params.vector, START)
        np.testing.assert_array_equal(gradients.vector, gradient(START))
        for old, kept in zip(state[1:], before, strict=True):
            assert (old is None) == (kept is None)
            np.testing.assert_array_equal(old, kept)

    def test_float32_stays_float32(self, optimizer) -> None:
        params = Parameters.from_layers(network_of(START.astype("float32")))
        state = optimizer.init(params)
        for _ in range(3):
            params, state = optimizer.update(params, params, state)
        assert params.dtype == "float32"
        assert {V.dtype.name for V in state[1:] if V is not None} <= {"float32"}

    def test_gradients_of_other_sizes_are_refused(self, optimizer) -> None:
        params = network_of(START)
        with pytest.raises(ValueError, match=r"gradients.*\(2, 2\).*\(2, 1\)"):
            optimizer.update(params, [(np.ones((1, 2)), np.ones((1, 1)))], optimizer.init(params))

    def test_the_learning_rate_may_be_any_callable_of_the_updates_made(self, optimizer) -> None:
        asked: list[int] = []
        scheduled = type(optimizer)(lambda t: asked.append(t) or optimizer.learning_rate / (t + 1))
        params = Parameters.from_layers(network_of(START))
        state = scheduled.init(params)
        steps = []
        for _ in range(4):
            updated, after = scheduled.update(params, params, state)
            reference, _ = optimizer.update(params, params, state)
            steps.append((updated.vector - params.vector) / (reference.vector - params.vector + 1e-300))
            state = after
        assert asked == [0, 1, 2, 3]
        for t, ratio in enumerate(steps):
            np.testing.assert_allclose(ratio[START != 0], 1 / (t + 1), rtol=1e-9)

    def test_it_is_a_frozen_value(self, optimizer) -> None:
        again = type(optimizer)(optimizer.learning_rate)
        assert again == optimizer
        assert hash(again) == hash(optimizer)
        assert type(optimizer)(0.7) != optimizer
        assert repr(optimizer).startswith(f"{name(optimizer)}(learning_rate=0.")
        with pytest.raises(AttributeError):
            optimizer.learning_rate = 1.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.GradientDescent(-0.1), ValueError, "learning_rate"),
        (lambda: nn.GradientDescent(math.nan), ValueError, "learning_rate"),
        (lambda: nn.Adam(math.inf), ValueError, "learning_rate"),
        (lambda: nn.Adam("0.1"), TypeError, "learning_rate"),
        (lambda: nn.Adam(None), TypeError, "learning_rate"),
        (lambda: nn.Momentum(beta=1.0), ValueError, "beta"),
        (lambda: nn.Nesterov(beta=-0.1), ValueError, "beta"),
        (lambda: nn.RMSprop(beta=1.5), ValueError, "beta"),
        (lambda: nn.RMSprop(eps=-1e-8), ValueError, "eps"),
        (lambda: nn.Adam(beta1=1.0), ValueError, "beta1"),
        (lambda: nn.Adam(beta2=1.0), ValueError, "beta2"),
        (lambda: nn.Adam(beta2=True), TypeError, "beta2"),
        (lambda: nn.Adam(eps=math.nan), ValueError, "eps"),
    ],
)
def test_bad_hyperparameters_are_refused_by_name(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("optimizer", "defaults"),
    [
        (nn.GradientDescent(), {"learning_rate": 0.1}),
        (nn.Momentum(), {"learning_rate": 0.1, "beta": 0.9}),
        (nn.Nesterov(), {"learning_rate": 0.1, "beta": 0.9}),
        (nn.RMSprop(), {"learning_rate": 0.001, "beta": 0.9, "eps": 1e-8}),
        (nn.Adam(), {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    ],
    ids=lambda v: name(v) if hasattr(v, "init") else "",
)
def test_defaults(optimizer, defaults) -> None:
    assert vars(optimizer) == defaults


COSINE = schedules.CosineWithWarmup(0.2, steps=110, warmup=10, final=0.02)
VALUES = [
    (schedules.Constant(0.3), {0: 0.3, 1: 0.3, 10**6: 0.3}),
    (schedules.InverseTimeDecay(0.2, decay=1.0), {0: 0.2, 1: 0.1, 3: 0.05}),
    (schedules.InverseTimeDecay(0.2, decay=0.5, steps=10), {0: 0.2, 10: 0.2 / 1.5, 40: 0.2 / 3}),
    # The published figures of the course's exercise on decay, week 2 of course 2.
    (schedules.InverseTimeDecay(0.5, 1.0), {2: 0.16666666666666666}),
    (schedules.InverseTimeDecay(0.5, 0.3, 100, staircase=True), {10: 0.5, 99: 0.5, 100: 0.3846153846153846}),
    # Those of its lecture: 0.2, and then 0.1, 0.067, 0.05, 0.04 in epochs 1, 2, 3, 4, here of 7 batches.
    (
        schedules.InverseTimeDecay(0.2, decay=1.0, steps=7, staircase=True),
        {0: 0.2, 6: 0.2, 7: 0.1, 13: 0.1, 14: 0.2 / 3, 20: 0.2 / 3, 21: 0.05, 28: 0.04, 34: 0.04},
    ),
    (schedules.InverseSquareRootDecay(0.6), {0: 0.6, 3: 0.3, 8: 0.2, 99: 0.06}),
    (schedules.InverseSquareRootDecay(0.6, k=0.5, steps=4), {0: 0.3, 5: 0.2, 12: 0.15}),
    (
        schedules.InverseSquareRootDecay(0.6, 2.0, steps=5, staircase=True),
        {0: 1.2, 4: 1.2, 5: 1.2 / math.sqrt(2), 9: 1.2 / math.sqrt(2), 15: 0.6, 19: 0.6, 20: 1.2 / math.sqrt(5)},
    ),
    (
        schedules.ExponentialDecay(0.4, decay=0.95, steps=3, staircase=True),
        {0: 0.4, 2: 0.4, 3: 0.38, 5: 0.38, 6: 0.361, 8: 0.361},
    ),
    (schedules.ExponentialDecay(0.1, decay=0.5), {0: 0.1, 1: 0.05, 3: 0.0125}),
    (schedules.ExponentialDecay(0.1, decay=0.25, steps=4), {0: 0.1, 2: 0.05, 4: 0.025, 6: 0.0125}),
    (schedules.StepDecay(0.8, factor=0.5, steps=3), {0: 0.8, 2: 0.8, 3: 0.4, 5: 0.4, 6: 0.2}),
    (
        schedules.CosineWithWarmup(0.2, steps=100),
        {0: 0.2, 25: 0.1 * (1 + math.sqrt(0.5)), 50: 0.1, 100: 0.0, 150: 0.0, 1000: 0.0},
    ),
    (COSINE, {10: 0.2, 60: 0.11, 110: 0.02, 160: 0.02, 10**5: 0.02}),
    (schedules.CosineWithWarmup(0.2, steps=5, warmup=5), {5: 0.2}),
]


@pytest.mark.parametrize(("schedule", "values"), VALUES, ids=lambda v: name(v) if callable(v) else "")
class TestSchedules:
    def test_values(self, schedule, values) -> None:
        for t, expected in values.items():
            assert schedule(t) == pytest.approx(expected, abs=1e-15)
            assert type(schedule(t)) is float

    def test_it_is_a_value(self, schedule, values) -> None:
        again = eval(repr(schedule), vars(schedules))
        assert again == schedule
        assert hash(again) == hash(schedule)
        assert schedule != type(schedule)(**vars(schedule) | {"learning_rate": 7.0})

    def test_an_optimizer_takes_it(self, schedule, values) -> None:
        optimizer = nn.GradientDescent(schedule)
        params = [(np.array([[2.0]]), np.array([[0.0]]))]
        for t in values:
            updated, state = optimizer.update(params, params, optimizer.init(params)._replace(t=t))
            assert updated.vector[0] == pytest.approx(2.0 * (1 - schedule(t)), rel=1e-14)
            assert state.t == t + 1


@pytest.mark.parametrize("schedule", [schedules.ExponentialDecay(0.1, 2.0), schedules.StepDecay(0.1, 2.0, steps=1)])
def test_a_rate_that_no_float_holds_is_infinite(schedule) -> None:
    assert schedule(10_000) == math.inf
    with pytest.raises(ValueError, match=r"learning_rate\(10000\) must be a finite number ≥ 0, got inf"):
        nn.Adam(schedule).alpha(10_000)


def test_the_warm_up_rises_evenly_to_the_peak_and_the_cosine_falls_from_it() -> None:
    rates = [COSINE(t) for t in range(111)]
    rises = np.diff(rates[:11])
    assert rates[0] == pytest.approx(0.2 / 11)
    np.testing.assert_allclose(rises, 0.2 / 11, rtol=1e-12)
    assert max(rates) == rates[10] == 0.2
    assert np.all(np.diff(rates[10:]) < 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.StepDecay(0.1, 0.5, steps=0), "steps of StepDecay must be ≥ 1, got 0"),
        (lambda: schedules.ExponentialDecay(-0.1, 0.5), "learning_rate of ExponentialDecay must be ≥ 0, got -0.1"),
        (lambda: schedules.Constant(float("nan")), "learning_rate of Constant must be ≥ 0, got nan"),
        (lambda: schedules.Constant(10**400), "learning_rate of Constant must be ≥ 0, got 1000"),
        (lambda: schedules.StepDecay(0.1, 10**400, steps=9), "factor of StepDecay must be ≥ 0, got 1000"),
        (
            lambda: schedules.CosineWithWarmup(0.1, steps=10, warmup=-1),
            "warmup of CosineWithWarmup must be ≥ 0 and ≤ steps = 10, got -1",
        ),
        (
            lambda: schedules.CosineWithWarmup(0.1, steps=10, warmup=20),
            "warmup of CosineWithWarmup must be ≥ 0 and ≤ steps = 10, got 20",
        ),
        (
            lambda: schedules.CosineWithWarmup(0.1, steps=10, final=0.2),
            "final of CosineWithWarmup must be ≥ 0 and ≤ learning_rate = 0.1, got 0.2",
        ),
    ],
)
def test_fields_that_make_no_schedule(make, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.CosineWithWarmup(0.1, steps=10.5), "steps of CosineWithWarmup must be a whole number"),
        (lambda: schedules.CosineWithWarmup(0.1, steps=9, warmup=1.5), "warmup of CosineWithWarmup must be a whole"),
        (lambda: schedules.StepDecay(0.1, 0.5, steps=True), "steps of StepDecay must be a whole number, got True"),
        (lambda: schedules.InverseTimeDecay("0.1", 1.0), "learning_rate of InverseTimeDecay must be a number"),
        (lambda: schedules.ExponentialDecay(0.1, None), "decay of ExponentialDecay must be a number, got None"),
        (lambda: schedules.Constant(1j), "learning_rate of Constant must be a number, got 1j"),
        (lambda: schedules.InverseSquareRootDecay(0.1, True), "k of InverseSquareRootDecay must be a number, got True"),
        (
            lambda: schedules.InverseSquareRootDecay(0.1, staircase=1),
            "staircase of InverseSquareRootDecay must be True or False, got 1",
        ),
    ],
)
def test_fields_of_another_type(make, message) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        make()


def test_fields_that_are_numpy_numbers() -> None:
    assert schedules.StepDecay(np.float64(0.8), 0.5, steps=np.int64(3))(3) == 0.4


@pytest.mark.parametrize(("rate", "error"), [(-1.0, ValueError), (float("nan"), ValueError), ("0.1", TypeError)])
def test_a_schedule_that_gives_no_rate(rate, error) -> None:
    with pytest.raises(error, match=re.escape("learning_rate(3)")):
        nn.GradientDescent(lambda t: rate).alpha(3)


class Scaled(Optimizer):
    """A rule of a caller's own, whose step is as long as alpha, whatever the gradient is."""

    learning_rate = 0.1

    def __init__(self, largest: bool) -> None:
        self.largest = largest

    def step(self, *vectors: Any, g: Any, t: Any, alpha: Any, xp: Any) -> Any:
        (theta,) = vectors
        return [theta - alpha * g / (xp.max(xp.abs(g)) if self.largest else xp.sqrt(xp.sum(g * g)))]


@pytest.mark.parametrize("at_once", [None, 2**16])
@pytest.mark.parametrize("largest", [True, False])
def test_a_rule_that_looks_at_all_of_the_gradient_sees_all_of_it(largest, at_once, monkeypatch) -> None:
    monkeypatch.setattr(type(nn.backends.NUMPY), "entries_at_once", at_once)
    network = nn.Network((300, 300, 1))  # of more entries than that
    params = network.init(0, dtype="float64")
    gradients = params.replace(np.random.default_rng(0).normal(size=network.size))
    rule = Scaled(largest)
    found, _ = rule.update(params, gradients, rule.init(params))
    norm = np.abs(gradients.vector).max() if largest else np.linalg.norm(gradients.vector)
    np.testing.assert_allclose(found.vector, params.vector - 0.1 * gradients.vector / norm, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 20])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "cupy"])
def test_such_a_rule_trains_everywhere(library, batch_size, open_space) -> None:
    """All examples are the same, so that their order is, and each batch's gradient."""
    open_space(library)
    network, X, Y = nn.Network((3, 4, 1)), np.tile([[0.5], [-1.0], [2.0]], 40), np.ones((1, 40))
    params, rule = network.init(0, dtype="float64"), Scaled(largest=True)
    options = {"batch_size": batch_size, "optimizer": rule, "dtype": "float64", "progress": False}
    found = nn.train(network, X, Y, params=params, epochs=3, backend=library, **options)
    for _ in range(3 if batch_size is None else 6):
        g = network.gradients(params, X, Y)[1].vector
        params = params.replace(params.vector - 0.1 * g / np.abs(g).max())
    np.testing.assert_allclose(nn.backend("numpy").asarray(found.params.vector), params.vector, rtol=1e-10)


class TestTensors:
    """torch's on the host: NumPy's programs move them, in the memory where they lie."""

    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_their_path_is_numpy_s(self, optimizer, dtype) -> None:
        torch = pytest.importorskip("torch")
        generator = np.random.default_rng(0)
        theta, gradients = (
            [(W.astype(dtype), b.astype(dtype)) for W, b in network_of(generator.normal(size=6))] for _ in range(2)
        )
        own = [(torch.tensor(W), torch.tensor(b)) for W, b in theta]
        runs = [Parameters.from_layers(theta), Parameters.from_layers(own)]
        states = [optimizer.init(params) for params in runs]
        given = runs[1].vector.numpy().copy()
        first = runs[1]
        for _ in range(3):
            moved = [
                optimizer.update(params, params.replace(params.backend.asarray(gradients_of(gradients))), state)
                for params, state in zip(runs, states, strict=True)
            ]
            runs, states = [params for params, _ in moved], [state for _, state in moved]
            np.testing.assert_array_equal(runs[1].vector.numpy(), runs[0].vector)
            np.testing.assert_array_equal(first.vector.numpy(), given)

    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name)
    def test_what_is_differentiated_is_torch_s_to_compute(self, optimizer) -> None:
        torch = pytest.importorskip("torch")
        theta = torch.tensor(START, requires_grad=True)
        moved, _ = optimizer.update(*of_tensors(theta, 2.0 * theta), optimizer.init(network_of_tensors(theta)))
        moved.vector.sum().backward()
        assert bool((theta.grad != 0).any())
        with warnings.catch_warnings(action="ignore"), torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(theta.detach(), torch.ones_like(theta))
            moved, _ = optimizer.update(*of_tensors(dual, 2.0 * dual), optimizer.init(network_of_tensors(dual)))
            assert torch.autograd.forward_ad.unpack_dual(moved.vector).tangent is not None

    @pytest.mark.parametrize("options", [{}, {"average": 0.9}, {"batch_size": 16}], ids=str)
    @pytest.mark.parametrize("batch_norm", [False, True])
    def test_a_run_writes_over_nothing_that_it_was_given_or_gave(self, options, batch_norm) -> None:
        torch = pytest.importorskip("torch")
        generator = np.random.default_rng(0)
        X, labels = generator.normal(size=(5, 64)), generator.integers(0, 3, 64)
        given = torch.tensor(X), torch.tensor(np.eye(3)[:, labels])
        network = nn.Network((5, 8, 3), batch_norm=batch_norm)
        params, kept = network.init(0, dtype="float64", backend="torch"), list[tuple[Any, np.ndarray]]()

        def keep(epoch: Any) -> None:
            kept.append((epoch.params.vector, epoch.params.vector.numpy().copy()))

        kept.append((params.vector, params.vector.numpy().copy()))
        found = nn.train(network, *given, params=params, epochs=4, callback=keep, **options)
        kept.append((found.params.vector, found.params.vector.numpy().copy()))
        more = [nn.train(network, *given, state=found.state, epochs=3, callback=keep, **options) for _ in range(2)]
        np.testing.assert_array_equal(more[0].params.vector.numpy(), more[1].params.vector.numpy())
        whole = nn.train(network, *given, params=params, epochs=7, **options)
        np.testing.assert_array_equal(whole.params.vector.numpy(), more[0].params.vector.numpy())
        for vector, was in kept:
            np.testing.assert_array_equal(vector.numpy(), was)


def gradients_of(layers: Any) -> np.ndarray:
    return np.concatenate([V.ravel() for pair in layers for V in pair])


def network_of_tensors(theta: Any) -> Parameters:
    return Parameters.from_layers([(theta[:4].reshape(2, 2), theta[4:].reshape(2, 1))])


def of_tensors(theta: Any, g: Any) -> tuple[Parameters, Parameters]:
    return network_of_tensors(theta), network_of_tensors(g)
