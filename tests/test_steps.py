"""Training steps that are one call of machine code: to the bit what steps made piece by piece give."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import engine
from nnarray.backends import makes_machine_code
from nnarray.backends.library import LIBRARIES
from nnarray.programs.targets import idle
from nnarray.programs.targets.llvm import training_step

OPTIMIZERS = {
    "descent": nn.GradientDescent(0.1),
    "momentum": nn.Momentum(0.1),
    "nesterov": nn.Nesterov(0.05),
    "rmsprop": nn.RMSprop(0.01),
    "adam": nn.Adam(nn.schedules.CosineWithWarmup(0.02, steps=60, warmup=5)),
}


@pytest.fixture
def launched(monkeypatch) -> list[int]:
    """One entry per step that was made by machine code alone."""
    found, launch = list[int](), training_step.TrainingSteps.launch
    monkeypatch.setattr(
        training_step.TrainingSteps, "launch", lambda self, count: (found.extend([1] * count), launch(self, count))[1]
    )
    return found


def make_pieces(patch: pytest.MonkeyPatch) -> None:
    """Let no step be one call, on any backend."""
    for kind in LIBRARIES.values():
        patch.setattr(kind, "compiles_steps", lambda *_, **__: False)


def train(network: nn.Network, X: Any, Y: Any, *, piecewise: bool, monkeypatch: Any, **options: Any) -> Any:
    with monkeypatch.context() as patch:
        if piecewise:
            make_pieces(patch)
        return nn.train(network, X, Y, seed=3, progress=False, **options)


def same(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(one.params.vector, other.params.vector)
    assert one.history.columns()["cost"] == other.history.columns()["cost"]
    assert one.state.t == other.state.t


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser(name, dtype, launched, monkeypatch) -> None:
    network, _, X, Y = problem((5, 20, 8, 3), ("relu", "tanh"), "softmax", m=103)
    options = {"epochs": 4, "batch_size": 16, "optimizer": OPTIMIZERS[name], "dtype": dtype}
    whole = train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, **options)
    assert len(launched) == 4 * 7  # six full batches and the one that is left
    same(whole, train(network, X, Y, piecewise=True, monkeypatch=monkeypatch, **options))


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
@pytest.mark.parametrize("hidden", ["relu", "gelu"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda V: np.repeat(V, 2, axis=1)[:, ::2]])
def test_outputs_layouts_weights_and_a_penalty(layout, hidden, output, launched, monkeypatch) -> None:
    network, _, X, Y = problem((5, 30, 2), hidden, output, m=90)
    weights = np.linspace(0, 2, 90)
    options = {"epochs": 3, "batch_size": 20, "dtype": "float64", "weights": weights, "l2": 0.3, "l1": 0.1}
    whole = train(network, layout(X), layout(Y), piecewise=False, monkeypatch=monkeypatch, **options)
    assert len(launched) == 3 * 5
    same(whole, train(network, layout(X), layout(Y), piecewise=True, monkeypatch=monkeypatch, **options))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{"batch_size": 16}, {"l2": 0.3, "l1": 0.1}, {"batch_size": 20, "weights": True}])
@pytest.mark.parametrize("sizes", [(5, 20, 8, 3), (5, 3)])
def test_batch_normalisation_and_its_averages(sizes, options, dtype, launched, monkeypatch) -> None:
    hidden = ("relu", "gelu")[: len(sizes) - 2]
    _, _, X, Y = problem(sizes, hidden, "softmax", m=103)
    network = nn.Network(sizes, hidden, "softmax", batch_norm=True)
    options = options | {"epochs": 4, "dtype": dtype}
    if "weights" in options:
        options["weights"] = np.linspace(0, 2, 103)
    whole = train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, **options)
    assert len(launched) == 4 * (7 if options.get("batch_size") == 16 else 6 if "batch_size" in options else 1)
    pieces = train(network, X, Y, piecewise=True, monkeypatch=monkeypatch, **options)
    same(whole, pieces)
    np.testing.assert_array_equal(whole.params.statistics, pieces.params.statistics)


def test_batch_normalisation_and_its_averages_to_the_bit_for_any_threads(launched, monkeypatch) -> None:
    generator = np.random.default_rng(0)
    X, Y = generator.normal(size=(300, 700)).astype("f"), nn.one_hot(generator.integers(4, size=700), 4).astype("f")
    network = nn.Network((300, 260, 4), output="softmax", batch_norm=True)
    found = []
    for threads in (1, 3):
        with monkeypatch.context() as patch:
            patch.setattr(engine.threads, "usable_threads", lambda threads=threads: threads)
            found.append(nn.train(network, X, Y, epochs=2, batch_size=256, progress=False).params)
    assert len(launched) == 2 * 2 * 3
    np.testing.assert_array_equal(found[0].vector, found[1].vector)
    np.testing.assert_array_equal(found[0].statistics, found[1].statistics)


def test_large_steps_with_several_threads_of_blas(launched, monkeypatch) -> None:
    generator = np.random.default_rng(0)
    X, Y = generator.normal(size=(300, 700)).astype("f"), nn.one_hot(generator.integers(4, size=700), 4).astype("f")
    network = nn.Network((300, 260, 4), output="softmax")
    options = {"epochs": 2, "batch_size": 128}
    whole = train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, **options)
    assert len(launched) == 2 * 6
    same(whole, train(network, X, Y, piecewise=True, monkeypatch=monkeypatch, **options))


@pytest.mark.parametrize("batch_size", [None, 128])
def test_the_same_bits_for_any_number_of_threads(batch_size, monkeypatch) -> None:
    generator = np.random.default_rng(0)
    X, Y = generator.normal(size=(300, 700)).astype("f"), nn.one_hot(generator.integers(4, size=700), 4).astype("f")
    network, found = nn.Network((300, 260, 4), output="softmax"), []
    for threads in (1, 2, 5):
        with monkeypatch.context() as patch:
            patch.setattr(engine.threads, "usable_threads", lambda threads=threads: threads)
            found.append(nn.train(network, X, Y, seed=3, progress=False, epochs=3, batch_size=batch_size))
    same(found[0], found[1])
    same(found[0], found[2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_whole_batches(layout, name, dtype, launched, monkeypatch) -> None:
    network, _, X, Y = problem((5, 20, 8, 3), ("relu", "tanh"), "softmax", m=103)
    weights = np.linspace(0, 2, 103)
    options = {"epochs": 60, "optimizer": OPTIMIZERS[name], "dtype": dtype, "weights": weights, "l2": 0.2}
    whole = train(network, layout(X), layout(Y), piecewise=False, monkeypatch=monkeypatch, **options)
    assert len(launched) == 60
    one_by_one = train(network, layout(X), layout(Y), piecewise=True, monkeypatch=monkeypatch, **options)
    same(whole, one_by_one)
    assert whole.history.columns()["learning_rate"] == one_by_one.history.columns()["learning_rate"]
    assert [epoch.epoch for epoch in whole.history] == list(range(1, 61))
    asked = train(network, layout(X), layout(Y), piecewise=False, monkeypatch=monkeypatch, callback=print, **options)
    same(whole, asked)


def test_several_epochs_go_on_and_are_gone_on_from(launched) -> None:
    network, _, X, Y = problem((5, 20, 3), "relu", "softmax", m=50)
    whole = nn.train(network, X, Y, epochs=90, progress=False)
    part = nn.train(network, X, Y, epochs=37, progress=False)
    rest = nn.train(network, X, Y, epochs=53, progress=False, state=part.state)
    np.testing.assert_array_equal(whole.params.vector, rest.params.vector)
    assert [epoch.epoch for epoch in rest.history] == list(range(38, 91))
    assert len(launched) == 180


def test_the_epoch_of_a_divergence_is_found_among_several(launched, monkeypatch) -> None:
    network, _, X, Y = problem((5, 20, 3), "relu", "identity", m=50)
    found = []
    for piecewise in (False, True):
        options = {"epochs": 500, "dtype": "float32", "optimizer": nn.GradientDescent(2.0)}
        with pytest.raises(nn.DivergenceError) as raised:
            train(network, X, Y, piecewise=piecewise, monkeypatch=monkeypatch, **options)
        found.append(raised.value)
    assert str(found[0]) == str(found[1])
    assert found[0].history.columns()["cost"] == found[1].history.columns()["cost"]
    np.testing.assert_array_equal(found[0].params.vector, found[1].params.vector)
    assert np.all(np.isfinite(found[0].params.vector))
    assert 1 < len(found[0].history) < 500
    assert launched


def test_a_schedule_that_raises_later_hides_no_divergence() -> None:
    network, _, X, Y = problem((5, 3), "relu", "identity", m=40)

    def schedule(t: int) -> float:
        if t >= 20:
            raise LookupError
        return 50.0

    with pytest.raises(nn.DivergenceError):
        nn.train(
            network, X * 9, Y, epochs=3000, optimizer=nn.GradientDescent(schedule), dtype="float32", progress=False
        )
    with pytest.raises(LookupError):
        nn.train(
            network, X * 9, Y, epochs=3000, optimizer=nn.GradientDescent(lambda t: schedule(t) * 0), progress=False
        )


class Scaled(nn.GradientDescent):
    """A rule with a number that its data class knows nothing of."""

    def __init__(self, k: float) -> None:
        super().__init__(0.1)
        object.__setattr__(self, "k", k)

    def step(self, *vectors: Any, g: Any, t: int, alpha: float, xp: Any) -> Any:
        return [vectors[0] - self.k * alpha * g]


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_rules_of_a_caller_s_own_are_told_apart(batch_size, backend) -> None:
    pytest.importorskip(backend)
    network, _, X, Y = problem((5, 20, 3), "relu", "softmax", m=64)
    options = {"epochs": 3, "batch_size": batch_size, "backend": backend, "progress": False}
    start = network.init(0).vector
    one, other = (nn.train(network, X, Y, optimizer=Scaled(k), **options).params.vector for k in (1.0, 0.0))
    np.testing.assert_array_equal(other, start)
    assert not np.array_equal(one, start)


def test_dropout_goes_piece_by_piece(launched, monkeypatch) -> None:
    network, _, X, Y = problem((5, 20, 3), "relu", "softmax", m=50)
    train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, epochs=1, batch_size=10, dropout=0.5)
    assert launched == []


def test_an_epoch_is_seen_as_before(launched) -> None:
    network, _, X, Y = problem((5, 20, 3), "relu", "softmax", m=50)
    seen = []
    options = {"epochs": 9, "batch_size": 10, "dtype": "float64", "validation": (X, Y), "progress": False}
    result = nn.train(network, X, Y, callback=lambda epoch: seen.append(epoch) or len(seen) == 4, **options)
    assert (result.stopped, len(seen), len(launched)) == ("callback", 4, 4 * 5)
    assert [epoch.epoch for epoch in seen] == [1, 2, 3, 4]
    assert seen[-1].validation_cost < seen[0].validation_cost


def test_divergence_is_seen(launched) -> None:
    network, _, X, Y = problem((5, 20, 3), "relu", "identity", m=50)
    with pytest.raises(nn.DivergenceError, match="diverged"):
        nn.train(
            network,
            X,
            Y * 1e3,
            epochs=50,
            batch_size=10,
            dtype="float64",
            optimizer=nn.GradientDescent(1e3),
            progress=False,
        )
    assert launched


class TestMemory:
    """A run's vectors are its result's, and what is between its steps the next run's."""

    @pytest.mark.parametrize("options", [{"batch_size": 16}, {}, {"batch_size": 16, "average": 0.9}])
    @pytest.mark.parametrize("batch_norm", [False, True])
    def test_a_result_stays_whatever_is_trained_after_it(self, batch_norm, options) -> None:
        network, _, X, Y = problem((5, 20, 8, 3), ("relu", "tanh"), "softmax", m=103)
        network = nn.Network(network.sizes, network.hidden, network.output, batch_norm=batch_norm)
        options = {"epochs": 3, "progress": False, **options}
        first = nn.train(network, X, Y, **options)
        vectors = [first.params.vector, first.state.s, first.state.v, first.state.average]
        vectors = [V for V in vectors if V is not None]
        before = [V.copy() for V in vectors]
        assert len(vectors) > 2
        nn.train(network, X, Y, params=first.params, state=first.state, **options)
        nn.train(network, X, Y, **options)
        for V, was in zip(vectors, before, strict=True):
            np.testing.assert_array_equal(V, was)

    def test_the_next_run_has_it_again(self, launched) -> None:
        network, _, X, Y = problem((5, 20, 8, 3), ("relu", "tanh"), "softmax", m=96)
        run = partial(nn.train, network, X, Y, epochs=2, batch_size=32, progress=False)
        first = run()
        for program in idle.living():
            program.release()
        assert idle.idle_bytes() == 0
        run()
        kept = idle.idle_bytes()
        assert kept > 32 * (5 + 3) * 4  # a batch, and what is between the products
        same(first, run())
        assert idle.idle_bytes() == kept

    def test_very_large_batches_are_not_kept(self, launched) -> None:
        for program in idle.living():
            program.release()
        X = np.ones((400, 2**16), "f").T
        nn.train(nn.Network((2**16, 1)), X, X[:1], epochs=1, batch_size=300, progress=False)
        assert len(launched) == 2
        assert idle.idle_bytes() <= idle.LIMIT < 2**16 * 300 * 4

    def test_what_is_kept_is_that_of_the_last_run(self, launched) -> None:
        """However much earlier ones would have left."""
        X, sizes = np.ones((400, 2**14), "f").T, range(380, 384)
        for size in sizes:
            nn.train(nn.Network((2**14, 1)), X, X[:1], epochs=1, batch_size=size, progress=False)
        assert 2**14 * 4 * sum(sizes) > idle.LIMIT >= idle.idle_bytes()
        kept = idle.idle_bytes()
        training_step._spare.take(2**14 * 4 * sizes[-1])
        assert idle.idle_bytes() == kept - 2**14 * 4 * sizes[-1]

    def test_runs_at_once_have_memory_of_their_own(self) -> None:
        network, _, X, Y = problem((5, 20, 8, 3), ("relu", "tanh"), "softmax", m=320)
        run = partial(nn.train, network, X, Y, epochs=20, batch_size=32, progress=False)
        alone = run()
        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(run) for _ in range(12)]:
                same(alone, future.result())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestEstimators:
    """The estimators train by such steps as well."""

    @staticmethod
    def fitted(kind: Any, X: Any, y: Any, *, piecewise: bool, monkeypatch: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            if piecewise:
                make_pieces(patch)
            return kind(random_state=0, max_iter=60, n_iter_no_change=100, **options).fit(X, y)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"batch_size": 7, "activation": "tanh"},
            {"solver": "sgd", "learning_rate": "adaptive"},
            {"solver": "sgd", "nesterovs_momentum": False, "shuffle": False, "batch_size": 16},
            {"early_stopping": True, "batch_size": 30},
            {"batch_size": 90},
        ],
    )
    def test_the_same_bits_as_piece_by_piece(self, options, launched, monkeypatch) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        generator = np.random.default_rng(0)
        X, y = generator.normal(size=(90, 6)), generator.integers(3, size=90)
        kind = sklearn.MLPClassifier
        one = self.fitted(kind, X, y, piecewise=False, monkeypatch=monkeypatch, **options)
        assert launched
        other = self.fitted(kind, X, y, piecewise=True, monkeypatch=monkeypatch, **options)
        np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-10)
        for found, expected in zip(one.coefs_, other.coefs_, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert one.t_ == other.t_

    @pytest.mark.parametrize("epochs", [10, 60])
    def test_a_batch_that_weighs_nothing_counts_for_nothing(self, epochs) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        generator = np.random.default_rng(0)
        X, y, weights = generator.normal(size=(90, 6)), generator.normal(size=90), np.ones(90)
        weights[20:40] = 0
        options = {"solver": "sgd", "shuffle": False, "batch_size": 20, "max_iter": epochs, "random_state": 0}
        kept = weights > 0
        one = sklearn.MLPRegressor(**options).fit(X, y, weights)
        other = sklearn.MLPRegressor(**options).fit(X[kept], y[kept], weights[kept])
        np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-12)

    def test_one_partial_fit_is_not_worth_it(self, launched) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        model = sklearn.MLPClassifier().partial_fit(np.eye(4), [0, 1, 1, 0], classes=[0, 1])
        model.partial_fit(np.eye(4)[:1], [1])
        assert launched == []


class TestJax:
    """On JAX arrays a step is one call of what JAX compiled."""

    @pytest.mark.parametrize(
        "options", [{}, {"l2": 0.3}, {"l1": 0.2}, {"l2": 0.3, "l1": 0.2}, {"weights": np.linspace(0.5, 2, 103)}]
    )
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_as_on_numpy(self, name, options) -> None:
        pytest.importorskip("jax")
        network, _, X, Y = problem((5, 20, 8, 3), ("relu", "tanh"), "softmax", m=103)
        runs = [
            nn.train(
                network,
                X.astype("f"),
                Y.astype("f"),
                epochs=4,
                batch_size=16,
                optimizer=OPTIMIZERS[name],
                backend=backend,
                seed=3,
                progress=False,
                **options,
            )
            for backend in ("numpy", "jax")
        ]
        vectors = [np.asarray(run.params.vector) for run in runs]
        np.testing.assert_allclose(vectors[1], vectors[0], atol=2e-5)
        costs = [run.history.columns()["cost"] for run in runs]
        np.testing.assert_allclose(costs[1], costs[0], rtol=2e-5)
        assert runs[1].state.t == runs[0].state.t == 4 * 7

    def test_one_compilation_serves_many_runs_and_changes_nothing_given(self) -> None:
        pytest.importorskip("jax")
        network, _, X, Y = problem((5, 20, 3), "relu", "softmax", m=60)
        backend = nn.backend("jax")
        params = network.init(0, backend="jax")
        before, given = np.array(params.vector), (backend.asarray(X, "float32"), backend.asarray(Y, "float32"))
        found = [
            nn.train(network, *given, params=params, epochs=2, batch_size=16, optimizer=nn.Adam(0.01), progress=False)
            for _ in range(3)
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(found[0].params.vector, other.params.vector)
        np.testing.assert_array_equal(params.vector, before)
        steps = engine.jitted_steps._compiled.cache_info()
        assert steps.hits >= 2
        rest = nn.train(network, *given, state=found[0].state, epochs=2, batch_size=16, optimizer=nn.Adam(0.01))
        whole = nn.train(network, *given, params=params, epochs=4, batch_size=16, optimizer=nn.Adam(0.01))
        np.testing.assert_array_equal(rest.params.vector, whole.params.vector)


def test_an_epoch_that_is_a_call_by_itself_keeps_no_copy_of_what_was_before_it(monkeypatch) -> None:
    network, params, X, Y = problem((5, 20, 3), "relu", "softmax", m=60)
    copies = list[int]()

    def copied(vector: Any, backend: Any) -> Any:
        copies.append(vector.size)
        return vector.copy()

    monkeypatch.setattr("nnarray.training.loop.copied", copied)
    for at_once, expected in ((1, 0), (4, 3)):  # theta and the two means of Adam, before four epochs
        monkeypatch.setattr("nnarray.training.timed_steps.TimedSteps.at_once", lambda _, most, n=at_once: min(most, n))
        copies.clear()
        nn.train(network, X, Y, params=params, epochs=4, optimizer=nn.Adam(0.01), progress=False)
        assert len(copies) == (expected if makes_machine_code() else 0)
