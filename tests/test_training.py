"""nn.train: its loop, its batches, what stops it, and what it leaves behind."""

import io
import os
import pickle
import signal
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import engine
from nnarray.training import watch
from nnarray.training.history import History

OPTIMIZERS = [nn.GradientDescent(0.1), nn.Momentum(0.1), nn.Nesterov(0.1), nn.RMSprop(0.01), nn.Adam(0.01)]
XOR = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]


@pytest.fixture
def seen(monkeypatch) -> list[engine.Batch]:
    """Every batch that training computes a gradient of."""
    batches: list[engine.Batch] = []
    real = engine.cost_and_gradients

    def spy(batch: engine.Batch, *args: Any, **options: Any) -> Any:
        X, Y, weights, _ = batch.tile(0, batch.columns, batch.Y.dtype, args[2])
        batches.append(batch._replace(X=X, Y=Y, weights=weights, order=None))
        return real(batch, *args, **options)

    monkeypatch.setattr(engine, "compiled_steps", lambda *_, **__: None)
    monkeypatch.setattr(engine, "cost_and_gradients", spy)
    return batches


def numbered(m: int) -> tuple[nn.Network, np.ndarray, np.ndarray]:
    """A network and m examples, of which the k-th is the number k."""
    X = np.arange(float(m))[None, :]
    return nn.Network((1, 1), output="identity"), X, X / m


def orders(batches: list[engine.Batch], m: int) -> list[list[int]]:
    """The examples' numbers in the order in which each epoch saw them."""
    numbers = np.concatenate([batch.X[0] for batch in batches]).astype(int).reshape(-1, m)
    return numbers.tolist()


class TestFullBatch:
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_it_is_the_loop_that_one_would_write_by_hand(self, optimizer) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=12)
        options = {"l2": 0.2, "weights": np.linspace(0.5, 2, 12)[None, :]}
        result = nn.train(network, X, Y, params=layers, optimizer=optimizer, epochs=7, **options)
        params, costs = nn.Parameters.from_layers(layers), []
        state = optimizer.init(params)
        for _ in range(7):
            J, gradients = network.gradients(params, X, Y, **options)
            params, state = optimizer.update(params, gradients, state)
            costs.append(float(J))
        np.testing.assert_array_equal(result.params.vector, params.vector)
        np.testing.assert_allclose(result.history.columns()["cost"], costs, rtol=1e-15)
        assert result.state.t == state.t == 7
        np.testing.assert_array_equal(result.state.v, state.v)
        np.testing.assert_array_equal(result.state.s, state.s)
        assert result.stopped == "epochs"

    @pytest.mark.parametrize("batch_size", [12, 13, 1000])
    def test_a_batch_as_large_as_the_data_is_the_full_batch(self, seen, batch_size) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=12)
        found, expected = (
            nn.train(network, X, Y, params=layers, epochs=3, batch_size=size).params.vector
            for size in (batch_size, None)
        )
        np.testing.assert_array_equal(found, expected)
        assert all(batch.X is X for batch in seen)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_batches_that_weigh_next_to_nothing_are_as_good_as_absent(self, dtype: str) -> None:
        network, X = nn.Network((1, 1), output="identity"), np.linspace(-1, 1, 12)[None, :]
        weights = np.where(np.arange(12) == 5, 1.0, float(np.finfo(dtype).smallest_subnormal))
        first, second = (
            nn.train(network, X, 3 * X, weights=w, epochs=4, batch_size=1, dtype=dtype, seed=0).params.vector
            for w in (weights, np.where(weights == 1, 1.0, 0.0))
        )
        np.testing.assert_array_equal(first, second)
        assert np.isfinite(first).all()

    def test_the_first_parameters_the_data_and_the_weights_are_not_written(self) -> None:
        network, layers, X, Y = problem((3, 4, 2), "relu", "softmax", m=12)
        params = nn.Parameters.from_layers(layers)
        weights = np.ones((1, 12))
        for V in (params.vector, X, Y, weights):
            V.flags.writeable = False
        before = params.vector.copy()
        result = nn.train(network, X, Y, params=params, weights=weights, epochs=3, batch_size=5, dropout=0.3, l2=0.1)
        np.testing.assert_array_equal(params.vector, before)
        assert not np.array_equal(result.params.vector, before)

    def test_it_starts_from_the_network_s_init(self) -> None:
        network, _, X, Y = problem((3, 4, 1), "tanh", "sigmoid", m=9)
        for options in ({}, {"seed": 5}, {"scheme": "xavier"}, {"seed": 2, "scheme": "small", "dtype": "float64"}):
            here = nn.train(network, X, Y, epochs=2, **options)
            there = nn.train(network, X, Y, params=network.init(**{"seed": 0} | options), epochs=2)
            np.testing.assert_array_equal(here.params.vector, there.params.vector)
            assert here.params.dtype == options.get("dtype", "float32")


class TestMiniBatches:
    @pytest.mark.parametrize(("m", "size", "sizes"), [(10, 3, [3, 3, 3, 1]), (12, 4, [4, 4, 4]), (5, 1, [1] * 5)])
    def test_an_epoch_sees_each_example_once_with_its_own_target_and_weight(self, seen, m, size, sizes) -> None:
        network, X, Y = numbered(m)
        result = nn.train(network, X, Y, weights=X + 1, epochs=3, batch_size=size, optimizer=nn.GradientDescent(1e-3))
        assert [batch.X.shape[1] for batch in seen] == sizes * 3
        for epoch in orders(seen, m):
            assert sorted(epoch) == list(range(m))
        for batch in seen:
            np.testing.assert_allclose(batch.Y, batch.X / m, rtol=1e-6)
            np.testing.assert_array_equal(batch.weights, batch.X + 1)
            assert batch.m == batch.weights.sum()
        assert result.state.t == 3 * len(sizes)

    def test_without_weights_m_is_the_batch_s_own_count(self, seen) -> None:
        nn.train(*numbered(10), epochs=1, batch_size=4, optimizer=nn.GradientDescent(1e-3))
        assert [batch.m for batch in seen] == [4, 4, 2]

    def test_the_order_changes_with_the_epoch_and_depends_on_the_seed_alone(self, seen) -> None:
        def order(seed: int | None, **options: Any) -> list[list[int]]:
            seen.clear()
            network, X, Y = numbered(30)
            hidden = nn.Network((1, 3, 1), output="identity") if "dropout" in options else network
            options = {"epochs": 3, "optimizer": nn.GradientDescent(1e-4)} | options
            nn.train(hidden, X, Y, seed=seed, batch_size=7, **options)
            return orders(seen, 30)

        first = order(seed=1)
        assert len({tuple(epoch) for epoch in first}) == 3
        assert order(seed=1) == first
        for other in (
            {"optimizer": nn.Adam()},
            {"dropout": 0.5},
            {"l2": 0.1},
            {"scheme": "zeros"},
            {"dtype": "float64"},
        ):
            assert order(seed=1, **other) == first
        assert order(seed=1, epochs=2) == first[:2]
        assert order(seed=2) != first
        assert order(seed=None) != order(seed=None)

    def test_the_cost_is_the_mean_over_the_examples_also_with_a_short_last_batch(self) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=11)
        still = nn.GradientDescent(0.0)
        for weights in (None, np.linspace(0.1, 3, 11)[None, :]):
            result = nn.train(
                network, X, Y, params=layers, weights=weights, epochs=2, batch_size=4, optimizer=still
            )  # fmt: skip
            expected = float(network.cost(layers, X, Y, weights=weights))
            assert result.history.columns()["cost"] == pytest.approx([expected] * 2, rel=1e-13)

    def test_the_cost_is_the_weighted_mean_also_where_a_batch_weighs_nothing(self) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=8)
        weights = np.array([[1.0, 1, 1, 0, 0, 0, 0, 0]])
        result = nn.train(
            network, X, Y, params=layers, weights=weights, epochs=1, batch_size=1, optimizer=nn.GradientDescent(0.0)
        )  # fmt: skip
        assert result.history[0].cost == pytest.approx(float(network.cost(layers, X, Y, weights=weights)), rel=1e-12)

    @pytest.mark.parametrize("l2", [0.0, 0.5])
    def test_a_batch_that_weighs_nothing_moves_nothing(self, l2) -> None:
        network, X, Y = numbered(2)
        moves = []
        for weights in ([[1.0, 0.0]], [[1.0]]):
            columns = slice(len(weights[0]))
            params = [(np.ones((1, 1)), np.zeros((1, 1)))]
            result = nn.train(
                network, X[:, columns] + 1, Y[:, columns], params=params, weights=weights, epochs=1, batch_size=1,
                optimizer=nn.GradientDescent(0.1), l2=l2,
            )  # fmt: skip
            moves.append(result.params.vector)
        np.testing.assert_allclose(moves[0], moves[1], rtol=1e-14)


class TestWeights:
    def test_whole_weights_are_repeated_examples(self) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "sigmoid", m=6)
        counts = np.array([1, 3, 2, 1, 4, 1])
        weighted = nn.train(network, X, Y, params=layers, weights=counts, epochs=10, l2=0.3)
        repeated = nn.train(
            network, np.repeat(X, counts, axis=1), np.repeat(Y, counts, axis=1), params=layers, epochs=10, l2=0.3
        )
        np.testing.assert_allclose(weighted.params.vector, repeated.params.vector, rtol=1e-11)
        assert weighted.history[-1].cost == pytest.approx(repeated.history[-1].cost, rel=1e-12)

    def test_a_weight_of_zero_leaves_the_example_out(self) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "sigmoid", m=6)
        weights = np.array([[2.0, 0.0, 1.0, 0.5, 0.0, 1.0]])
        kept = weights[0] > 0
        weighted = nn.train(network, X, Y, params=layers, weights=weights, epochs=10, l2=0.3)
        without = nn.train(
            network, X[:, kept], Y[:, kept], params=layers, weights=weights[:, kept], epochs=10, l2=0.3
        )  # fmt: skip
        np.testing.assert_allclose(weighted.params.vector, without.params.vector, rtol=1e-11)


class TestDropout:
    NETWORK, LAYERS, X, Y = problem((3, 40, 30, 1), "tanh", "sigmoid", m=50)

    def train(self, dropout: Any, **options: Any) -> nn.TrainingResult:
        return nn.train(self.NETWORK, self.X, self.Y, params=self.LAYERS, dropout=dropout, epochs=4, **options)

    @pytest.mark.parametrize("rate", [0.0, (0.0, 0.0)])
    def test_a_rate_of_0_is_no_dropout(self, rate) -> None:
        plain = nn.train(self.NETWORK, self.X, self.Y, params=self.LAYERS, epochs=4)
        np.testing.assert_array_equal(self.train(rate).params.vector, plain.params.vector)
        assert not np.array_equal(self.train(0.5).params.vector, plain.params.vector)

    def test_masks_keep_the_mean_and_drop_each_layer_s_own_share(self, seen) -> None:
        """400 masks of 40 · 50 and 30 · 50 units: a share strays from its rate by less than 0.001 as a rule."""
        nn.train(self.NETWORK, self.X, self.Y, dropout=(0.5, 0.2), epochs=400)
        for l, rate in enumerate((0.5, 0.2)):
            masks = np.array([batch.draw_masks[l](0, 50) for batch in seen])
            assert masks.shape[1:] == (self.NETWORK.sizes[l + 1], 50)
            assert masks.dtype == np.float32
            np.testing.assert_array_equal(np.unique(masks), np.array([0, 1 / (1 - rate)], dtype=np.float32))
            assert np.mean(masks == 0) == pytest.approx(rate, abs=4e-3)
            assert masks.mean() == pytest.approx(1, abs=8e-3)
            assert len(np.unique(masks.reshape(400, -1), axis=0)) == 400

    def test_of_inputs_alone_it_needs_no_hidden_layer(self, seen) -> None:
        network, _, X, Y = problem((40, 1), (), "sigmoid", m=50)
        nn.train(network, X, Y, input_dropout=0.3, epochs=300)
        masks = np.array([batch.draw_input_mask(0, 50) for batch in seen])
        assert masks.shape == (300, 40, 50)
        assert np.mean(masks == 0) == pytest.approx(0.3, abs=4e-3)
        assert masks.mean() == pytest.approx(1, abs=8e-3)

    @pytest.mark.parametrize("rate", [0, 0.0, np.float32(0.0)])
    def test_none_of_inputs_changes_no_bit(self, rate) -> None:
        expected = self.train(0.4, batch_size=9).params.vector
        np.testing.assert_array_equal(self.train(0.4, batch_size=9, input_dropout=rate).params.vector, expected)

    @pytest.mark.parametrize("rate", [1.0, -0.1, "0.5", None, (0.1,), float("nan")])
    def test_bad_rates_of_inputs_are_refused(self, rate) -> None:
        with pytest.raises((ValueError, TypeError), match="input_dropout"):
            self.train(0.0, input_dropout=rate)

    def test_a_stream_s_inputs_drop_as_those_of_the_same_batches(self) -> None:
        order = [(self.X, self.Y)] * 3
        options = {"params": self.LAYERS, "input_dropout": 0.4}
        found = nn.train(self.NETWORK, order, epochs=2, **options).params.vector
        np.testing.assert_array_equal(found, nn.train(self.NETWORK, self.X, self.Y, epochs=6, **options).params.vector)

    def test_the_validation_cost_and_prediction_drop_nothing(self) -> None:
        result = self.train(0.5, input_dropout=0.5, validation=(self.X, self.Y))
        expected = float(self.NETWORK.cost(result.params, self.X, self.Y))
        assert result.history[-1].validation_cost == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        ("rate", "error"),
        [(1.0, ValueError), (-0.1, ValueError), ((0.5,), ValueError), ("0.5", Exception), (None, TypeError)],
    )
    def test_bad_rates_are_refused(self, rate, error) -> None:
        with pytest.raises(error, match="dropout"):
            self.train(rate)


class TestValidationAndPatience:
    def test_without_validation_its_columns_are_empty(self) -> None:
        network, _, X, Y = problem((3, 1), (), "sigmoid", m=9)
        record = nn.train(network, X, Y, epochs=1).history[0]
        assert (record.validation_cost, record.validation_score) == (None, None)

    @pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
    def test_its_cost_and_score_are_those_of_the_parameters_after_the_epoch(self, output) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", output, m=20)
        records: list[nn.Epoch] = []
        result = nn.train(
            network, X[:, :12], Y[:, :12], params=layers, validation=(X[:, 12:], Y[:, 12:]), epochs=3, batch_size=5,
            l2=0.5, callback=records.append,
        )  # fmt: skip
        for record, kept in zip(records, result.history, strict=True):
            assert record.params is not None
            cost = float(network.cost(record.params, X[:, 12:], Y[:, 12:]))
            assert kept.validation_cost == pytest.approx(cost, rel=1e-13)
            assert kept.validation_score == network.score(record.params, X[:, 12:], Y[:, 12:])

    def up_and_down(self, costs: list[float], **options: Any) -> tuple[nn.TrainingResult, list[Any]]:
        """A run whose validation cost, ½ w² at x = 1, takes these values, and the parameters after each epoch."""
        seen: list[Any] = []
        result = nn.train(
            nn.Network((1, 1), output="identity"), [[1.0]], [[0.0]], params=[(np.zeros((1, 1)), np.zeros((1, 1)))],
            optimizer=Dictated(np.sqrt(2 * np.array(costs))), epochs=len(costs), validation=([[1.0]], [[0.0]]),
            callback=lambda record: seen.append(record.params), **options,
        )  # fmt: skip
        return result, seen

    @pytest.mark.parametrize(
        ("costs", "options", "ends", "best", "stopped"),
        [
            ([5, 4, 3, 2, 1], {"patience": 1}, 5, 5, "epochs"),
            ([5, 3, 4, 4, 1], {"patience": 2}, 4, 2, "patience"),
            ([5, 3, 4, 2, 6], {"patience": 2}, 5, 4, "epochs"),
            ([5, 3, 3, 3, 3], {"patience": 2}, 4, 2, "patience"),
            ([5, 4.9, 4.8, 4.7, 1], {"patience": 3, "min_delta": 0.5}, 4, 4, "patience"),
            ([5, 4.7, 4.4, 4.1, 3.8], {"patience": 2, "min_delta": 0.5}, 5, 5, "epochs"),
        ],
    )
    def test_patience_stops_and_restores_the_best_parameters(self, costs, options, ends, best, stopped) -> None:
        result, params = self.up_and_down(costs, **options)
        assert result.history.columns()["validation_cost"] == pytest.approx(costs[:ends], rel=1e-12)
        assert (len(result.history), result.best_epoch, result.stopped) == (ends, best, stopped)
        np.testing.assert_array_equal(result.params.vector, params[best - 1].vector)

    def test_without_patience_the_last_parameters_stay_and_the_best_epoch_is_told(self) -> None:
        result, params = self.up_and_down([5, 1, 3])
        assert (result.best_epoch, result.stopped) == (2, "epochs")
        np.testing.assert_array_equal(result.params.vector, params[-1].vector)


class Dictated(nn.GradientDescent):
    """An update that takes no notice of the gradient: the t-th sets theta to (ws[t], 0)."""

    def __init__(self, ws: np.ndarray) -> None:
        super().__init__(0.1)
        object.__setattr__(self, "ws", ws)

    def update_vector(self, theta: Any, g: Any, state: Any, backend: Any, *, in_place: bool = False) -> Any:
        return np.array([self.ws[state.t], 0.0]), state._replace(t=state.t + 1)


class Interrupted(nn.Momentum):
    """Ctrl-C comes in the middle of the fourth update."""

    def update_vector(self, theta: Any, g: Any, state: Any, backend: Any, *, in_place: bool = False) -> Any:
        if state.t == 3:
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(1000))  # where Python would let it through
        return super().update_vector(theta, g, state, backend, in_place=in_place)


class TestStopping:
    NETWORK, LAYERS, X, Y = problem((3, 4, 1), "tanh", "sigmoid", m=20)

    def train(self, **options: Any) -> nn.TrainingResult:
        return nn.train(self.NETWORK, self.X, self.Y, **{"params": self.LAYERS, "epochs": 6} | options)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
    def test_an_interrupt_within_an_update_waits_for_its_end(self) -> None:
        handler = signal.getsignal(signal.SIGINT)
        result = self.train(optimizer=Interrupted(0.1), epochs=50, batch_size=5)
        assert (result.stopped, result.state.t) == ("interrupt", 4)
        whole = self.train(optimizer=nn.Momentum(0.1), epochs=1, batch_size=5)
        np.testing.assert_array_equal(result.params.vector, whole.params.vector)
        np.testing.assert_array_equal(result.state.v, whole.state.v)
        assert signal.getsignal(signal.SIGINT) is handler

    def test_training_in_another_thread_leaves_signals_alone(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(self.train, optimizer=nn.Momentum(0.1)).result()
        np.testing.assert_array_equal(result.params.vector, self.train(optimizer=nn.Momentum(0.1)).params.vector)

    def test_what_a_callback_keeps_does_not_change_afterwards(self) -> None:
        kept: list[nn.Parameters] = []
        self.train(callback=lambda record: kept.append(record.params), batch_size=5)
        for epochs, params in enumerate(kept, 1):
            np.testing.assert_array_equal(params.vector, self.train(epochs=epochs, batch_size=5).params.vector)

    def test_a_callback_sees_each_epoch_and_its_parameters_and_stops_the_run(self) -> None:
        records: list[nn.Epoch] = []

        def callback(record: nn.Epoch) -> bool:
            records.append(record)
            return record.epoch == 3

        result = self.train(callback=callback)
        assert result.stopped == "callback"
        assert [record.epoch for record in records] == [1, 2, 3]
        for record in records:
            assert record.params is not None
            expected = self.train(epochs=record.epoch).params.vector
            np.testing.assert_array_equal(record.params.vector, expected)
        assert [record.params for record in result.history] == [None] * 3
        np.testing.assert_array_equal(result.params.vector, records[-1].params.vector)

    def test_a_callback_s_error_comes_through(self) -> None:
        def callback(record: nn.Epoch) -> None:
            raise LookupError("from the callback")

        with pytest.raises(LookupError, match="from the callback"):
            self.train(callback=callback)

    def test_ctrl_c_in_a_callback(self) -> None:
        def callback(record: nn.Epoch) -> None:
            if record.epoch == 2:
                raise KeyboardInterrupt

        result = self.train(callback=callback)
        assert (result.stopped, len(result.history), result.state.t) == ("interrupt", 2, 2)
        np.testing.assert_array_equal(result.params.vector, self.train(epochs=2).params.vector)

    @pytest.mark.parametrize("calls", [0, 1, 7])
    def test_ctrl_c_within_an_epoch(self, monkeypatch, calls) -> None:
        real, made = engine.cost_and_gradients, []

        def interrupted(*args: Any, **options: Any) -> Any:
            if len(made) == calls:
                raise KeyboardInterrupt
            made.append(1)
            return real(*args, **options)

        monkeypatch.setattr(engine, "compiled_steps", lambda *_, **__: None)
        monkeypatch.setattr(engine, "cost_and_gradients", interrupted)
        result = self.train(batch_size=4)
        assert (result.stopped, result.state.t, len(result.history)) == ("interrupt", calls, calls // 5)
        assert result.best_epoch == (None if calls < 5 else 1)
        assert np.isfinite(self.NETWORK.predict(result.params, self.X)).all()

    @pytest.mark.parametrize("output", ["exp", "identity"])
    @pytest.mark.parametrize("batch_size", [None, 4])
    def test_divergence_keeps_the_last_finite_parameters(self, output, batch_size) -> None:
        network, layers, X, Y = problem((3, 4, 2), "relu", output, m=16)
        records: list[nn.Epoch] = []

        def rate(t: int) -> float:
            return 1e-3 if t < 8 else 1e30

        with pytest.raises(nn.DivergenceError, match=r"diverged in epoch .*learning_rate") as caught:
            nn.train(
                network, X, Y, params=layers, optimizer=nn.GradientDescent(rate), epochs=40, batch_size=batch_size,
                callback=records.append,
            )  # fmt: skip
        error = caught.value
        assert len(error.history) == len(records) >= 2
        np.testing.assert_array_equal(error.params.vector, records[-1].params.vector)
        assert np.isfinite(error.params.vector).all()
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), list(again.history)) == (nn.DivergenceError, str(error), list(error.history))
        np.testing.assert_array_equal(again.params.vector, error.params.vector)
        assert issubclass(nn.DivergenceError, FloatingPointError)

    def test_divergence_in_the_first_epoch_keeps_the_first_parameters(self) -> None:
        with pytest.raises(nn.DivergenceError) as caught:
            nn.train(
                nn.Network((1, 1), output="exp"),
                [[1.0]],
                [[0.0]],
                params=[(np.array([[800.0]]), np.zeros((1, 1)))],
                epochs=3,
            )
        assert caught.value.params.vector.tolist() == [800.0, 0.0]
        assert len(caught.value.history) == 0


class TestConvergence:
    @pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu", "leaky_relu"])
    def test_xor(self, hidden) -> None:
        network = nn.Network((2, 8, 1), hidden)
        result = nn.train(network, *XOR, epochs=500, optimizer=nn.Adam(0.05))
        assert network.score(result.params, *XOR) == 1.0
        assert result.history[-1].cost < 0.1

    def test_logistic_regression_finds_scikit_learn_s_coefficients(self) -> None:
        linear_model = pytest.importorskip("sklearn.linear_model")
        network, _, X, Y = problem((3, 1), (), "sigmoid", m=80)
        result = nn.train(network, X, Y, l2=1.0, epochs=1500, optimizer=nn.GradientDescent(1.0), dtype="float64")
        expected = linear_model.LogisticRegression(C=1.0, tol=1e-10).fit(X.T, Y[0])
        np.testing.assert_allclose(result.params[0].W, expected.coef_, atol=1e-6)
        np.testing.assert_allclose(result.params[0].b[0], expected.intercept_, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_one_seed_gives_the_same_bits_twice(self, dtype) -> None:
        network, _, X, Y = problem((3, 8, 2), "relu", "softmax", m=30)
        first, second = (
            nn.train(network, X, Y, epochs=4, batch_size=7, dropout=0.2, seed=9, dtype=dtype) for _ in range(2)
        )
        assert first.params.vector.tobytes() == second.params.vector.tobytes()
        assert first.history.columns()["cost"] == second.history.columns()["cost"]
        assert first.params.dtype == dtype

    def test_more_epochs_continue_where_fewer_ended(self) -> None:
        network, layers, X, Y = problem((3, 4, 1), "tanh", "sigmoid", m=20)
        optimizer = nn.GradientDescent(0.3)
        half = nn.train(network, X, Y, params=layers, optimizer=optimizer, epochs=5)
        again = nn.train(network, X, Y, params=half.params, optimizer=optimizer, epochs=5)
        whole = nn.train(network, X, Y, params=layers, optimizer=optimizer, epochs=10)
        np.testing.assert_array_equal(again.params.vector, whole.params.vector)


@pytest.fixture(scope="module")
def result() -> nn.TrainingResult:
    network, _, X, Y = problem((3, 4, 1), "tanh", "sigmoid", m=20)
    rate = nn.schedules.ExponentialDecay(0.1, 0.5)
    return nn.train(network, X, Y, epochs=4, batch_size=5, validation=(X, Y), optimizer=nn.GradientDescent(rate))


class TestHistory:
    def test_its_columns(self, result) -> None:
        table = result.history.columns()
        assert list(table) == [*nn.training.Epoch._fields[:-1]]
        assert table["epoch"] == [1, 2, 3, 4]
        assert table["learning_rate"] == pytest.approx([0.1 * 0.5**t for t in (3, 7, 11, 15)])
        assert table["seconds"] == sorted(table["seconds"])
        assert 0 < table["seconds"][0] < 60
        assert all(type(value) is float for column in list(table.values())[1:] for value in column)

    def test_pandas_takes_them(self, result) -> None:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(result.history.columns())
        assert frame.shape == (4, 8)
        assert frame.cost.tolist() == [record.cost for record in result.history]

    def test_it_is_a_sequence(self, result) -> None:
        history = result.history
        assert len(history) == 4
        assert history[-1] is history[3]
        assert isinstance(history[1:], nn.History)
        assert list(history[1:]) == list(history)[1:]
        assert "4 epochs" in repr(history)
        assert list(pickle.loads(pickle.dumps(history))) == list(history)

    def test_training_and_validation_are_compared(self) -> None:
        """Of 2000 examples, chosen at random, without penalty, dropout and weights."""
        rng = np.random.default_rng(0)
        X, network = rng.normal(size=(3, 5000)), nn.Network((3, 6, 1), output="identity")
        Y, seen = X[:1] ** 2 + X[1:2], []
        nn.train(
            network,
            X,
            Y,
            validation=(X[:, :2500], Y[:, :2500]),
            epochs=2,
            batch_size=100,
            l2=5.0,
            dropout=0.3,
            weights=rng.uniform(size=5000),
            dtype="float64",
            callback=seen.append,
        )
        chosen = np.sort(np.random.default_rng(0).choice(5000, 2000, replace=False))
        for record in seen:
            cost = float(network.cost(record.params, X[:, chosen], Y[:, chosen]))
            assert record.training_cost == pytest.approx(cost, rel=1e-12)
            assert record.training_score == pytest.approx(network.score(record.params, X[:, chosen], Y[:, chosen]))
            assert record.cost > 1.2 * cost  # this one has the penalty

    def test_no_more_training_than_validation_examples_are_looked_at(self) -> None:
        rng, network, seen = np.random.default_rng(0), nn.Network((3, 1)), list[nn.Epoch]()
        X, Y = rng.normal(size=(3, 500)), rng.integers(0, 2, (1, 500))
        nn.train(network, X, Y, validation=(X[:, :40], Y[:, :40]), epochs=1, dtype="float64", callback=seen.append)
        chosen = np.sort(np.random.default_rng(0).choice(500, 40, replace=False))
        assert seen[0].training_cost == pytest.approx(network.cost(seen[0].params, X[:, chosen], Y[:, chosen]))

    def test_its_plot(self, result, tmp_path) -> None:
        pytest.importorskip("matplotlib").use("Agg")
        path = tmp_path / "history.png"
        figure = result.history.plot(os.fsencode(path))
        assert path.read_bytes().startswith(b"\x89PNG")
        labels = ["cost J, without penalty and dropout", "accuracy, without penalty and dropout"]
        assert [axis.get_ylabel() for axis in figure.axes] == labels
        for axis, key in zip(figure.axes, ("cost", "score"), strict=True):
            curves = {line.get_label(): line.get_ydata() for line in axis.lines}
            kept = f"epoch {result.history.kept_epoch}, kept"
            assert list(curves) == ["training", "validation", kept]
            for part in ("training", "validation"):
                assert curves[part].tolist() == result.history.columns()[f"{part}_{key}"]
            assert axis.lines[2].get_xdata() == [result.history.kept_epoch] * 2

    def test_its_plot_without_validation(self) -> None:
        pytest.importorskip("matplotlib").use("Agg")
        history = nn.train(nn.Network((2, 1)), *XOR, epochs=3).history
        (axis,) = history.plot().axes
        assert axis.get_ylabel() == "cost J with penalty and dropout"
        assert axis.lines[0].get_ydata().tolist() == [record.cost for record in history]
        assert history[0].training_cost is history[0].training_score is None

    @pytest.mark.parametrize("patience", [2, None])
    def test_it_knows_the_epoch_that_was_kept(self, patience) -> None:
        X, Y = (np.array(V, dtype="float64") for V in XOR)
        wrong = (X, 1 - Y)  # learning makes these worse, so that the first epoch is the best
        result = nn.train(nn.Network((2, 8, 1)), X, Y, epochs=9, validation=wrong, patience=patience)
        assert result.history.kept_epoch == (result.best_epoch if patience else 9)
        assert result.history[:1].kept_epoch == result.history.kept_epoch

    def test_a_plot_of_one_epoch_and_without_a_file(self, result) -> None:
        pytest.importorskip("matplotlib").use("Agg")
        figure = result.history[:1].plot()
        assert len(figure.axes[0].lines[0].get_xdata()) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestProgress:
    def train(self, **options: Any) -> None:
        nn.train(nn.Network((2, 1)), *XOR, epochs=3, **options)

    def test_off_a_terminal_nothing_is_written(self, capfd) -> None:
        self.train()
        self.train(progress=False)
        assert capfd.readouterr() == ("", "")

    def test_on_a_terminal_a_bar_shows_the_cost_unless_told_otherwise(self, monkeypatch) -> None:
        monkeypatch.setattr(sys, "stderr", Terminal())
        self.train(progress=False)
        assert sys.stderr.getvalue() == ""
        self.train()
        assert "3/3" in sys.stderr.getvalue()
        assert "cost=" in sys.stderr.getvalue()

    def test_a_bar_that_is_asked_for_is_shown_anywhere(self, capsys) -> None:
        self.train(progress=True, validation=XOR)
        out, err = capsys.readouterr()
        assert out == ""
        for words in ("3/3", "cost=", "validation score=", "epoch"):
            assert words in err


class TestData:
    @pytest.mark.parametrize(("dtype", "copied"), [("float32", False), ("float64", True)])
    def test_a_table_s_transpose_is_not_copied_whole(self, dtype, copied) -> None:
        """Measured: the memory above the data at its height; float64 into a float32 network shows that it can fail."""
        table = np.ones((40_000, 50), dtype)
        Y = np.zeros((1, 40_000), "float32")
        tracemalloc.start()
        try:
            nn.train(nn.Network((50, 1)), table.T, Y, epochs=1, batch_size=256)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (peak > 0.25 * 40_000 * 50 * 4) == copied

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_a_full_batch_is_the_caller_s_own_memory(self, seen, order) -> None:
        table = np.asarray(np.random.default_rng(0).normal(size=(20, 3)), dtype="float32", order=order)
        nn.train(nn.Network((3, 1)), table.T, np.zeros((1, 20)), epochs=1)
        assert np.shares_memory(seen[0].X, table)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_backend_moves_the_data(self, dtype) -> None:
        torch = pytest.importorskip("torch")
        network, _, X, Y = problem((3, 4, 1), "tanh", "sigmoid", m=20)
        options = {"epochs": 3, "batch_size": 8, "dtype": dtype}
        moved = nn.train(network, X, Y, backend="torch", validation=(X, Y), weights=np.ones(20), **options)
        assert moved.params.backend.name == "torch"
        assert moved.params.vector.dtype == getattr(torch, dtype)
        stayed = nn.train(network, X, Y, **options)
        assert isinstance(stayed.params.vector, np.ndarray)
        np.testing.assert_allclose(moved.params.vector.numpy(), stayed.params.vector, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"epochs": 0}, ValueError, "epochs"),
            ({"epochs": 1.5}, TypeError, "epochs"),
            ({"batch_size": 0}, ValueError, "batch_size"),
            ({"patience": 0}, ValueError, "patience"),
            ({"min_delta": np.nan}, ValueError, "min_delta"),
            ({"l2": -1.0}, ValueError, "l2"),
            ({"workers": 0}, ValueError, "workers"),
            ({"scheme": "ones"}, ValueError, "scheme"),
            ({"dtype": "float16"}, ValueError, "dtype"),
            ({"validation": [1]}, TypeError, "validation"),
            ({"validation": ([[1.0]], [[1.0]])}, ValueError, "validation X"),
            ({"validation": (XOR[0], [[0, 1, 2, 0]])}, ValueError, "validation Y"),
            ({"weights": [1, 1, 1]}, ValueError, "weights"),
            ({"weights": [1, 1, 1, -1]}, ValueError, "weights"),
            ({"params": [(np.ones((1, 3)), np.ones((1, 1)))]}, ValueError, "params"),
        ],
    )
    def test_bad_arguments_are_refused_by_name(self, options, error, message) -> None:
        with pytest.raises(error, match=message):
            nn.train(nn.Network((2, 1)), *XOR, **{"epochs": 1} | options)

    @pytest.mark.parametrize(
        ("X", "Y", "message"), [([[0, np.nan]] * 2, [[0, 1]], "X"), ([[0, 1]] * 2, [[np.inf, 0]], "Y")]
    )
    def test_numbers_that_are_not_finite_are_refused(self, X, Y, message) -> None:
        with pytest.raises(ValueError, match=f"^{message} "):
            nn.train(nn.Network((2, 1)), X, Y, epochs=1)


def test_an_interrupt_while_epochs_are_read_loses_none(monkeypatch) -> None:
    monkeypatch.setattr(watch.Watch, "is_due", False)
    append = History.append

    def interrupted(history: History, epoch: Any) -> None:
        append(history, epoch)
        if epoch.epoch == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(History, "append", interrupted)
    network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=20)
    result = nn.train(network, X, Y, params=layers, epochs=12)
    assert result.stopped == "interrupt"
    assert [record.epoch for record in result.history] == list(range(1, 13))
    assert result.state.t == 12


def test_an_interrupt_in_validation_leaves_the_epoch_unrecorded(monkeypatch) -> None:
    from nnarray.network import scoring

    network, layers, X, Y = problem((4, 6, 2), "tanh", "softmax", m=20)
    whole = nn.train(network, X, Y, params=layers, epochs=3, validation=(X, Y))
    real = scoring.score
    for epoch in (1, 3):
        calls: list[int] = []

        def score(*given, calls=calls, epoch=epoch):
            calls.append(1)
            if len(calls) == 2 * epoch - (epoch == 1):  # in the validation part or in the training part
                raise KeyboardInterrupt
            return real(*given)

        monkeypatch.setattr(scoring, "score", score)
        found = nn.train(network, X, Y, params=layers, epochs=5, validation=(X, Y))
        assert found.stopped == "interrupt"
        assert [e.validation_cost for e in found.history] == [e.validation_cost for e in whole.history[: epoch - 1]]


def test_a_state_of_another_dtype_is_converted() -> None:
    _network, layers, _, _ = problem((4, 6, 2), "tanh", "softmax", m=20)
    params = nn.Parameters.from_layers([(W.astype("f4"), b.astype("f4")) for W, b in layers])
    optimizer = nn.Adam(0.1)
    state = optimizer.update(params, params, optimizer.init(params))[1]
    wide = state._replace(v=state.v.astype("f8"), s=state.s.astype(">f8"))
    expected, found = (optimizer.update(params, params, given) for given in (state, wide))
    np.testing.assert_array_equal(found[0].vector, expected[0].vector)
    assert found[1].v.dtype == "float32"


@pytest.mark.parametrize(
    "wrong", [{"dropout": 1.0}, {"dropout": [0.1]}, {"l2": -1.0}, {"workers": 0}, {"workers": 1.5}, {"dropout": "much"}]
)
def test_options_are_refused_before_the_examples_are_read(wrong) -> None:
    def never() -> Any:
        pytest.fail("it was read")
        yield

    for X, Y in ((never, None), (np.full((2, 9), np.nan), np.zeros((1, 9)))):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            nn.train(nn.Network((2, 3, 3, 1)), X, Y, epochs=1, **wrong)
