"""Update rules of a caller's own, written with whatever an array namespace has: programs where they can, else as is."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import Space

import nnarray as nn
from nnarray.engine import rules
from nnarray.network import Parameters
from nnarray.programs.targets.numpy_calls import Program
from nnarray.training import Optimizer, State


@dataclass(frozen=True)
class Rule(Optimizer):
    learning_rate: float = 0.03
    k: float = 0.9


class Lion(Rule):
    """Chen et al., NeurIPS 2023."""

    remembers: ClassVar[tuple[str, ...]] = ("v",)

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, v = vectors
        return theta - alpha * xp.sign(self.k * v + (1 - self.k) * g), 0.99 * v + 0.01 * g


class Adagrad(Rule):
    remembers: ClassVar[tuple[str, ...]] = ("s",)

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, s = vectors
        s = s + g**2
        return theta - alpha * g / (xp.sqrt(s) + 1e-8), s


class Clipped(Rule):
    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * xp.clip(g, -0.01, 0.01)]


class AMSGrad(Rule):
    """Without the mean of g."""

    remembers: ClassVar[tuple[str, ...]] = ("v", "s")

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, largest, s = vectors
        s = self.k * s + (1 - self.k) * xp.square(g)
        largest = xp.maximum(largest, s)
        return theta - alpha * g / (xp.sqrt(largest) + 1e-8), largest, s


class Largest(Rule):
    """AMSGrad as PyTorch has it (Reddi et al., ICLR 2018)."""

    remembers: ClassVar[tuple[str, ...]] = ("v", "s", "u")

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, v, s, largest = vectors
        v, s = 0.9 * v + 0.1 * g, 0.999 * s + 0.001 * g * g
        largest = xp.maximum(largest, s)
        return theta - alpha / (1 - 0.9**t) * v / (xp.sqrt(largest) / (1 - 0.999**t) ** 0.5 + 1e-8), v, s, largest


class Powers(Rule):
    """RMSprop with powers of arrays."""

    remembers: ClassVar[tuple[str, ...]] = ("s",)

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, s = vectors
        s = self.k * s + (1 - self.k) * g**2
        return theta - alpha * g / (s**0.5 + 1e-8), s


class Where(Rule):
    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * xp.where(g > 0, g, 0.1 * g)]


class Kept(Rule):
    """Entries with a positive gradient stay as they are."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [xp.where(g > 0, vectors[0], vectors[0] - alpha * g)]


class Alternating(Rule):
    """A negative number to a power."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * (1.5 + (-1) ** t) * g]


class Equal(Rule):
    """Only where the gradient is not 0, and to no unsigned zero."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * xp.where(g == 0, 1.0 + 0.0 * g, g)]


class Compared(Rule):
    """Truths in arithmetic."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * (xp.astype(g > 0, g.dtype) - 0.5)]


class Norm(Rule):
    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * g / (1.0 + xp.linalg.vector_norm(g))]


class Whole(Rule):
    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * g / (xp.max(xp.abs(g)) + xp.sum(g * g))]


class Indexed(Rule):
    """The first entry stays as it is."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        (theta,) = vectors
        return [xp.concat([theta[:1], theta[1:] - alpha * g[1:]])]


class Branches(Rule):
    """Warms up; looks at a number."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - (alpha * 0.1 if t == 1 else alpha) * g]


class Numbers(Rule):
    """All that one does with numbers."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        rate = alpha * (t + 1) ** -0.5 / (1 + 0.1 * t) + 2 * alpha - alpha * 1.5
        return [vectors[0] - rate * g]


class Rooted(Rule):
    """A function of the standard library on a number."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha / math.sqrt(t) * g]


class Looks(Rule):
    """A branch on values."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - (alpha if xp.max(g) > 0.1 else 2 * alpha) * g]


class Unchanged(Rule):
    """One mean stays as it is, the other is the first."""

    remembers: ClassVar[tuple[str, ...]] = ("v", "s")

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, v, _ = vectors
        return theta - alpha * g, v, v


class Optimistic(Rule):
    """Remembers the last gradient (Popov, Math. Notes 28, 1980)."""

    remembers: ClassVar[tuple[str, ...]] = ("v",)

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, v = vectors
        return theta - alpha * (2.0 * g - v), g


class Reversed(Rule):
    """Remembers a view of the last gradient."""

    remembers: ClassVar[tuple[str, ...]] = ("v",)

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, v = vectors
        return theta - alpha * (2.0 * g - xp.flip(v)), xp.flip(g)


class Wide(Rule):
    """A number of NumPy's, which makes float64 of float32."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * np.float64(0.5) * g - np.float64(0.0)]


class Narrow(Rule):
    """A number of NumPy's that rounds others."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] - alpha * np.float32(0.5) * g]


RULES = [
    Lion(), Adagrad(), Clipped(), AMSGrad(), Powers(), Where(), Equal(), Compared(), Norm(), Whole(), Indexed(),
    Branches(), Numbers(), Rooted(), Looks(), Unchanged(), Wide(), Narrow(), Optimistic(), Reversed(),
    Kept(), Alternating(), Largest(),
]  # fmt: skip

NETWORK = nn.Network((3, 6, 1))

X = np.random.default_rng(0).normal(size=(3, 48))

Y = (X[:1] * X[1:2] > 0).astype(float)


def expected(rule: Any, start: Parameters, updates_made: int) -> np.ndarray:
    """Theta by the rule as it stands, on NumPy."""
    vectors = [start.vector, *(np.zeros_like(start.vector) for _ in rule.remembers)]
    for t in range(1, updates_made + 1):
        g = NETWORK.gradients(start.replace(vectors[0]), X, Y)[1].vector
        vectors = list(rule.step(*vectors, g=g, t=t, alpha=0.03, xp=np))
    return vectors[0]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "cupy"])
class TestEveryRule:
    def test_it_trains(self, library, rule, open_space) -> None:
        """On all examples, at once and step by step, and on batches of which an epoch has one of all."""
        open_space(library)
        start = NETWORK.init(0, dtype="float64")
        wanted = expected(rule, start, 5)
        options: dict[str, Any] = {"epochs": 5, "params": start, "backend": library, "progress": False}
        for further in ({}, {"callback": lambda _: None}, {"batch_size": 48}):
            found = nn.train(NETWORK, X, Y, optimizer=rule, **options, **further)
            assert found.state.t == 5
            np.testing.assert_allclose(nn.backend("numpy").asarray(found.params.vector), wanted, rtol=1e-9, atol=1e-12)

    def test_it_keeps_the_dtype_on_batches(self, library, rule, open_space) -> None:
        space = open_space(library)
        found = nn.train(NETWORK, X, Y, optimizer=rule, epochs=2, batch_size=8, backend=library, progress=False)
        space.assert_same_place(found.params.vector, "float32")
        assert found.state.t == 12

    def test_it_updates(self, library, rule, open_space) -> None:
        space = open_space(library)
        start = NETWORK.init(0, dtype="float64")
        params = NETWORK.init(0, dtype="float64", backend=library)
        state = rule.init(params)
        for _ in range(5):
            _, gradients = NETWORK.gradients(params, space.asarray(X), space.asarray(Y))
            params, state = rule.update(params, gradients, state)
        np.testing.assert_allclose(space.to_numpy(params.vector), expected(rule, start, 5), rtol=1e-9, atol=1e-12)


TRACED = {
    "Lion", "Adagrad", "Clipped", "AMSGrad", "Where", "Equal", "Compared", "Numbers", "Wide", "Kept", "Alternating",
    "Largest",
}  # fmt: skip


def test_three_running_vectors_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    params = NETWORK.init(0, dtype="float64")
    theta = torch.tensor(params.vector.copy(), requires_grad=True)
    peer = torch.optim.Adam([theta], lr=0.03, amsgrad=True)
    found = nn.train(NETWORK, X, Y, params=params, optimizer=Largest(), epochs=30, batch_size=48, progress=False)
    for _ in range(30):
        g = NETWORK.gradients(params.replace(theta.detach().numpy().copy()), X, Y)[1].vector
        theta.grad = torch.tensor(g)
        peer.step()
    np.testing.assert_allclose(found.params.vector, theta.detach().numpy(), rtol=1e-9, atol=1e-12)
    assert found.state.u.shape == (NETWORK.size,)


@pytest.mark.parametrize("names", [("m", "v"), ("v", "v"), "v", ("t",), ("v", "s", "u", "w")])
def test_what_a_state_cannot_hold_is_told_where_the_rule_is_written(names) -> None:
    with pytest.raises(TypeError, match=r"remembers must name vectors of a State, each once, of .*, got"):
        type("Misnamed", (Rule,), {"remembers": names})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_what_a_program_can_do_is_one(rule) -> None:
    is_one = rules.kind_of(rules.key_of(rule.step), 1 + len(rule.remembers), np.dtype("float64")).is_by_entry
    assert is_one == (type(rule).__name__ in TRACED)


def test_numpy_s_calls_do_not_overwrite_what_they_keep() -> None:
    """In place, if the program works so; `out` over theta."""
    program = Program(rules.traced(Kept().step, 1, 4, np.dtype("float64")))
    theta, g = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, -1.0, 1.0, -1.0])
    out = theta if program.works_in_place else np.empty(4)
    program(theta, g, 1, 0.5, out)
    np.testing.assert_array_equal(out, [1.0, 2.5, 3.0, 4.5])


class Changing(Optimizer):
    """A rule whose numbers may change, and which may count its calls."""

    learning_rate = 0.5

    def __init__(self, counts: str = "no") -> None:
        self.factor, self.counts, self.calls, self.many = 1.0, counts, 0, [0]

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        if self.counts == "itself":
            self.calls += 1
        if self.counts == "in a list":
            self.many[0] += 1
        return [vectors[0] - alpha * self.factor * (1 + self.calls + self.many[0]) * g]


class Plain(Changing):
    def __init__(self, counts: str = "no") -> None:
        super().__init__(counts)
        del self.many

    many = (0,)


@pytest.mark.parametrize("kind", [Changing, Plain])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "cupy"])
def test_a_number_that_a_rule_holds_may_change(library, kind, open_space) -> None:
    open_space(library)
    rule, start = kind(), NETWORK.init(0)
    options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "backend": library, "progress": False}
    assert not np.array_equal(start.vector, _trained(rule, start, options))
    rule.factor = 0.0
    np.testing.assert_array_equal(start.vector, _trained(rule, start, options))


def _trained(rule: Any, start: Parameters, options: Any) -> np.ndarray:
    return np.asarray(nn.backend("numpy").asarray(nn.train(NETWORK, X, Y, optimizer=rule, **options).params.vector))


@pytest.mark.parametrize(("kind", "counts"), [(Changing, "in a list"), (Changing, "itself"), (Plain, "itself")])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "cupy"])
def test_a_rule_that_counts_its_calls_counts_updates(library, kind, counts, open_space) -> None:
    open_space(library)
    rule = kind(counts)
    nn.train(NETWORK, X, Y, optimizer=rule, epochs=4, batch_size=8, backend=library, progress=False)
    assert rule.calls + rule.many[0] == 4 * 6


class Noisy(Rule):
    """Noise that is the same in all entries."""

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [vectors[0] + DRAWS.random() + 0.0 * g]


DRAWS = random.Random(0)


def test_a_rule_that_draws_numbers_draws_new_ones_each_time() -> None:
    start = NETWORK.init(0, dtype="float64")
    params, state, moves = start, Noisy().init(start), []
    for _ in range(3):
        new, state = Noisy().update(params, start, state)
        moves.append(float((new.vector - params.vector)[0]))
        params = new
    assert len({round(move, 9) for move in moves}) == 3


@pytest.mark.parametrize("rule", [Optimistic(), Reversed()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
def test_what_a_rule_remembers_is_not_the_caller_s_gradient(library, rule, open_space) -> None:
    space = open_space(library)
    params = NETWORK.init(0, backend=library)
    gradients = NETWORK.init(1, backend=library)
    _, state = rule.update(params, gradients, rule.init(params))
    before = np.array(space.to_numpy(state.v))
    gradients.vector[:] = 0.0
    np.testing.assert_array_equal(space.to_numpy(state.v), before)


class StartsAtTheta(Rule):
    """Zhang et al., NeurIPS 2019, with slow weights that follow every step."""

    remembers: ClassVar[tuple[str, ...]] = ("v",)

    def init_vector(self, theta, backend) -> State:
        return State(0, v=theta)

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, slow = vectors
        fast = theta - alpha * g
        return fast + 0.5 * slow, slow + 0.5 * (fast - slow)


class KeepsTheGradient(Clipped):
    """Updates of the whole vector, as they are called."""

    remembers: ClassVar[tuple[str, ...]] = ("v",)

    def update_vector(self, theta, g, state, backend, *, in_place=False) -> tuple[Any, State]:
        return theta - 0.1 * (g - 0.5 * state.v), State(state.t + 1, v=g)


@pytest.mark.parametrize("rule", [StartsAtTheta(), KeepsTheGradient()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("library", ["numpy", "cupy"])
def test_a_run_is_a_loop_of_updates_whatever_a_rule_keeps(library, rule, open_space) -> None:
    """What it keeps is not written over: theta, which a run updates in place, or a gradient."""
    space = open_space(library)
    params = NETWORK.init(0, backend=library, dtype="float64")
    found = nn.train(NETWORK, X, Y, epochs=4, params=params, optimizer=rule, backend=library, progress=False)
    state = rule.init(params)
    for _ in range(4):
        _, gradients = NETWORK.gradients(params, space.asarray(X), space.asarray(Y))
        params, state = rule.update(params, gradients, state)
    for V, wanted in ((found.params.vector, params.vector), (found.state.v, state.v)):
        np.testing.assert_allclose(space.to_numpy(V), space.to_numpy(wanted), rtol=1e-9, atol=1e-12)


class Buffered(Optimizer):
    """One that keeps what it gives."""

    remembers: ClassVar[tuple[str, ...]] = ("v",)

    def __init__(self) -> None:
        self.learning_rate, self.kept = 0.1, dict[str, Any]()

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        theta, v = self.kept.setdefault("theta", vectors[0].copy()), self.kept.setdefault("v", g.copy())
        theta[:], v[:] = vectors[0] - alpha * g, g
        return theta, v


@pytest.mark.parametrize("average", [None, 0.9])
def test_a_result_stays_though_a_rule_keeps_what_it_gave(average) -> None:
    rule = Buffered()
    run = partial(nn.train, NETWORK, X, Y, epochs=2, optimizer=rule, average=average, progress=False)
    first = run()
    assert rule.kept
    vectors = [first.params.vector, first.state.v, first.state.position.params.vector]
    before = [V.copy() for V in vectors]
    run(seed=1)
    for V, was in zip(vectors, before, strict=True):
        np.testing.assert_array_equal(V, was)


class Averages(Rule):
    """A mean without its axis."""

    remembers: ClassVar[tuple[str, ...]] = ("v",)

    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return vectors[0] - alpha * g, xp.mean(g)


def test_what_a_rule_gives_has_the_gradient_s_shape(space: Space) -> None:
    params = Parameters.from_layers(space.pairs([(np.ones((1, 3)), np.ones((1, 1)))]))
    with pytest.raises(ValueError, match=r"of g's shape, \(4,\), got \(4,\), \(\)$"):
        Averages().update(params, params, Averages().init(params))


class Few(Rule):
    def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
        return [g, g]


def test_a_mistake_in_a_rule_is_the_caller_s_to_read(space: Space) -> None:
    class Wrong(Rule):
        def step(self, *vectors, g, t, alpha, xp) -> Sequence[Any]:
            raise LookupError("of the caller's")

    params = Parameters.from_layers(space.pairs([(np.ones((1, 3)), np.ones((1, 1)))]))

    class Bare(Rule):
        def step(self, theta, *_, g, t, alpha, xp) -> Any:
            return theta - alpha * g

    few, bare = "step must give a tuple of theta .* here of 1, got a list of 2", "here of 1, got a [^ ]*$"
    for rule, error, message in (
        (Wrong(), LookupError, "of the caller's"),
        (Few(), TypeError, few),
        (Bare(), TypeError, bare),
    ):
        with pytest.raises(error, match=message):
            rule.update(params, params, rule.init(params))
