"""Training that goes on from where it ended, and training on streams of batches."""

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn

NETWORK, LAYERS, X, Y = problem((4, 6, 5, 2), ("tanh", "relu"), "sigmoid", m=23)
OPTIMIZERS = (
    nn.GradientDescent(0.3),
    nn.Momentum(0.3),
    nn.Nesterov(0.3),
    nn.RMSprop(0.01),
    nn.Adam(nn.schedules.CosineWithWarmup(0.02, steps=40, warmup=6)),
)
OPTIONS: dict[str, dict[str, Any]] = {
    "full batch": {},
    "mini-batches": {"batch_size": 5},
    "average": {"batch_size": 5, "average": 0.8},
    "average, validation and patience": {
        "batch_size": 5,
        "average": 0.9,
        "validation": (X[:, :9], Y[:, :9]),
        "patience": 50,
    },
    "average and patience with a full batch": {"average": 0.8, "patience": 50},
    "masks": {"batch_size": 7, "dropout": [0.3, 0.5]},
    "masks of a full batch": {"dropout": 0.25},
    "masks of inputs": {"batch_size": 7, "dropout": 0.3, "input_dropout": 0.2},
    "masks of inputs alone": {"input_dropout": 0.2},
    "penalty and weights": {"batch_size": 6, "l2": 0.3, "l1": 0.1, "weights": np.linspace(0.0, 2.0, 23)[None, :]},
    "validation": {"batch_size": 5, "validation": (X[:, :9], Y[:, :9]), "patience": 50},
    "patience": {"batch_size": 5, "patience": 50},
    "patience with a full batch": {"patience": 50},
    "patience with a full batch and masks": {"patience": 50, "dropout": 0.2},
}


def train(epochs: int, **options: Any) -> nn.TrainingResult:
    return nn.train(NETWORK, X, Y, epochs=epochs, **{"params": LAYERS, "seed": 3} | options)


def assert_same_run(found: nn.TrainingResult, expected: nn.TrainingResult) -> None:
    np.testing.assert_array_equal(found.params.vector, expected.params.vector)
    assert found.state.t == expected.state.t
    for mean in ("v", "s", "average"):
        np.testing.assert_equal(getattr(found.state, mean), getattr(expected.state, mean))


def rows(history: Any) -> list[Any]:
    return [record._replace(seconds=0.0) for record in history]


class TestGoingOn:
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_5_epochs_and_7_are_12_to_the_bit(self, optimizer, options) -> None:
        whole = train(12, optimizer=optimizer, **options)
        first = train(5, optimizer=optimizer, **options)
        kept = pickle.dumps(first.state)
        done = first.state.position.epoch  # with patience, that of the best parameters
        assert done == 5 or "patience" in options
        go_on = {"epochs": 12 - done, "optimizer": optimizer, **options, "params": None}
        second = train(**go_on | {"state": first.state, "seed": 9})
        assert rows([*first.history[:done], *second.history]) == rows(whole.history)
        assert_same_run(second, whole)
        assert pickle.dumps(first.state) == kept
        again = train(**go_on | {"state": pickle.loads(kept)})
        assert_same_run(again, whole)

    def test_on_every_namespace(self, space: Space) -> None:
        options = {"batch_size": 5, "dropout": 0.2, "optimizer": nn.Adam(0.02)}

        def run(epochs: int, **further: Any) -> nn.TrainingResult:
            params = space.pairs(LAYERS, "float64")
            X_here, Y_here = space.asarray(X, "float64"), space.asarray(Y, "float64")
            return nn.train(NETWORK, X_here, Y_here, epochs=epochs, **{"params": params} | options | further)

        whole, first = run(4), run(1)
        second = run(3, params=None, state=first.state)
        space.assert_same_place(second.params.vector, "float64")
        np.testing.assert_array_equal(space.to_numpy(second.params.vector), space.to_numpy(whole.params.vector))
        np.testing.assert_array_equal(space.to_numpy(second.state.s), space.to_numpy(whole.state.s))

    def test_in_many_small_steps(self) -> None:
        options = {"batch_size": 4, "dropout": 0.3, "optimizer": nn.Adam(0.02), "seed": None}
        result = train(1, **options)
        for _ in range(4):
            result = train(1, **options | {"state": result.state, "params": None})
        assert [result.state.t, result.history[0].epoch] == [30, 5]

    def test_seedless_runs_go_on_with_their_own_shuffles(self) -> None:
        options = {"batch_size": 4, "dropout": 0.3, "seed": None}
        first = train(2, **options)
        assert_same_run(
            train(3, **options | {"state": first.state}), train(3, **options | {"state": first.state, "seed": 1})
        )

    def test_parameters_that_are_given_beat_those_of_the_state(self) -> None:
        first = train(2)
        others = [(0 * W, b) for W, b in LAYERS]
        assert_same_run(
            train(1, state=first.state, params=others),
            train(1, state=first.state._replace(position=None), params=others),
        )

    def test_a_state_from_a_loop_of_one_s_own(self) -> None:
        optimizer, params = nn.Adam(0.05), nn.Parameters.from_layers(LAYERS)
        state = optimizer.init(params)
        for _ in range(3):
            params, state = optimizer.update(params, NETWORK.gradients(params, X, Y)[1], state)
        found = train(2, optimizer=optimizer, params=params, state=state)
        whole = train(5, optimizer=optimizer)
        np.testing.assert_allclose(found.params.vector, whole.params.vector, rtol=1e-13, atol=1e-15)
        assert found.state.t == 5

    def test_an_update_of_one_s_own_goes_on_from_a_result(self) -> None:
        first = train(4, optimizer=nn.Adam(0.05))
        g = NETWORK.gradients(first.params, X, Y)[1]
        params, state = nn.Adam(0.05).update(first.params, g, first.state)
        whole = train(5, optimizer=nn.Adam(0.05))
        np.testing.assert_allclose(params.vector, whole.params.vector, rtol=1e-13, atol=1e-15)
        assert (state.t, state.position) == (5, None)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"state": 3}, TypeError, "state must be that of an earlier result, got int"),
            ({"state": nn.Adam().init(LAYERS), "params": None}, ValueError, "state comes from no run of train"),
            ({"state": nn.Momentum().init(LAYERS)}, ValueError, "state must be of Adam for these params"),
            ({"state": nn.Adam().init([(np.ones((1, 4)), np.ones((1, 1)))])}, ValueError, "state must be of Adam"),
        ],
    )
    def test_states_that_do_not_fit(self, options, error, message) -> None:
        with pytest.raises(error, match=message):
            train(1, **options)


class TestPatience:
    """Parameters and state belong together: the parameters are those after `state.t` updates."""

    @pytest.mark.parametrize("rate", [0.05, 3.0, 30.0])
    @pytest.mark.parametrize("patience", [1, 3, 100])
    @pytest.mark.parametrize("further", [{}, {"batch_size": 9}, {"validation": (X, Y)}, {"dropout": 0.3}], ids=str)
    def test_parameters_are_those_after_the_updates_of_the_state(self, further, patience, rate) -> None:
        options = {"optimizer": nn.Momentum(rate), **further}
        result = train(20, patience=patience, **options)
        epochs, left = divmod(result.state.t, 3 if "batch_size" in further else 1)
        assert left == 0
        if epochs:
            assert_same_run(result, train(epochs, **options))
        else:  # where the first update made it worse
            np.testing.assert_array_equal(result.params.vector, nn.Parameters.from_layers(LAYERS).vector)

    def test_where_the_cost_falls_throughout_the_last_parameters_are_the_best(self) -> None:
        patient, plain = train(6, patience=100), train(6)
        assert (patient.stopped, patient.state.t) == ("epochs", 6)
        assert_same_run(patient, plain)

    def test_the_parameters_have_the_lowest_cost_of_all(self) -> None:
        result = train(40, optimizer=nn.GradientDescent(8.0), patience=5)
        lowest = min(record.cost for record in result.history)
        assert float(NETWORK.cost(result.params, X, Y)) <= lowest * (1 + 1e-12)

    @pytest.mark.parametrize("further", [{"batch_size": 7}, {"batch_size": 7, "validation": (X[:, ::2], Y[:, ::2])}])
    def test_it_goes_on_waiting(self, further) -> None:
        options = {"optimizer": nn.Momentum(12.0), "patience": 4, **further}
        whole = train(60, **options)
        assert whole.stopped == "patience"
        assert whole.best_epoch is not None
        first = train(whole.best_epoch, **options)
        assert first.state.position is not None
        second = train(50, state=first.state, params=None, **options)
        assert (second.stopped, second.best_epoch) == ("patience", whole.best_epoch)
        assert len(second.history) == 4
        assert_same_run(second, whole)


class TestStreams:
    BATCHES = ((X[:, :8], Y[:, :8]), (X[:, 8:10], Y[:, 8:10]), (X[:, 10:], Y[:, 10:]))

    def by_hand(self, batches: Any, epochs: int, optimizer: Any) -> tuple[nn.Parameters, list[float]]:
        params, costs = nn.Parameters.from_layers(LAYERS), []
        state = optimizer.init(params)
        for _ in range(epochs):
            total, m = 0.0, 0.0
            for X_b, Y_b, *w in batches:
                J, g = NETWORK.gradients(params, X_b, Y_b, weights=w[0] if w else None)
                params, state = optimizer.update(params, g, state)
                count = float(np.sum(w[0])) if w else X_b.shape[1]
                total, m = total + float(J) * count, m + count
            costs.append(total / m)
        return params, costs

    def generator(self) -> Iterator[Any]:
        yield from self.BATCHES

    @pytest.mark.parametrize("kind", ["list", "tuple", "function", "lambda", "weights"])
    def test_one_update_for_each_batch(self, kind) -> None:
        weights = np.linspace(0.5, 2.0, 23)
        weighted = [(X_b, Y_b, weights[: X_b.shape[1]]) for X_b, Y_b in self.BATCHES]
        streams: dict[str, Any] = {
            "list": [list(batch) for batch in self.BATCHES], "tuple": self.BATCHES, "function": self.generator,
            "lambda": lambda: zip(*zip(*self.BATCHES, strict=True), strict=True), "weights": weighted,
        }  # fmt: skip
        optimizer = nn.Adam(0.02)
        result = nn.train(NETWORK, streams[kind], params=LAYERS, epochs=4, optimizer=optimizer)
        params, costs = self.by_hand(weighted if kind == "weights" else self.BATCHES, 4, optimizer)
        np.testing.assert_allclose(result.params.vector, params.vector, rtol=1e-12, atol=1e-14)
        assert result.history.columns()["cost"] == pytest.approx(costs, rel=1e-12)
        assert result.state.t == 12

    def test_a_generator_serves_for_one_epoch(self) -> None:
        result = nn.train(NETWORK, self.generator(), params=LAYERS, epochs=1)
        expected = nn.train(NETWORK, self.generator, params=LAYERS, epochs=1)
        assert_same_run(result, expected)

    def test_a_stream_goes_on(self) -> None:
        options = {"params": LAYERS, "dropout": 0.3, "validation": (X, Y), "patience": 30}
        whole = nn.train(NETWORK, self.generator, epochs=5, **options)
        first = nn.train(NETWORK, self.generator, epochs=2, **options)
        second = nn.train(NETWORK, self.generator, epochs=3, **options | {"params": None, "state": first.state})
        assert_same_run(second, whole)
        assert rows([*first.history, *second.history]) == rows(whole.history)

    def test_a_data_loader(self) -> None:
        torch = pytest.importorskip("torch")
        from torch.utils.data import DataLoader, TensorDataset

        table = TensorDataset(torch.tensor(X.T), torch.tensor(Y.T))
        loader = DataLoader(table, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))
        seen = []

        def batches() -> Iterator[Any]:
            for X_b, Y_b in loader:
                seen.append((X_b.numpy().T, Y_b.numpy().T))
                yield X_b.T, Y_b.T

        params = [(torch.tensor(W), torch.tensor(b)) for W, b in LAYERS]
        result = nn.train(NETWORK, batches, params=params, epochs=1, optimizer=nn.Momentum(0.1))
        expected, _ = self.by_hand(seen, 1, nn.Momentum(0.1))
        np.testing.assert_allclose(result.params.vector.numpy(), expected.vector, rtol=1e-12, atol=1e-14)
        columns = DataLoader(
            table, batch_size=8, collate_fn=lambda rows: [torch.stack(V, dim=1) for V in zip(*rows, strict=True)]
        )
        result = nn.train(NETWORK, columns, epochs=3, dtype="float64")
        assert (result.state.t, result.params.backend.name, result.params.dtype) == (9, "torch", "float64")

    def test_on_every_namespace(self, space: Space) -> None:
        batches = [(space.asarray(X_b, "float64"), space.asarray(Y_b, "float64")) for X_b, Y_b in self.BATCHES]
        result = nn.train(NETWORK, lambda: iter(batches), epochs=2, params=space.pairs(LAYERS, "float64"))
        space.assert_same_place(result.params.vector, "float64")
        expected = nn.train(NETWORK, self.BATCHES, epochs=2, params=LAYERS)
        np.testing.assert_allclose(space.to_numpy(result.params.vector), expected.params.vector, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize(
        ("stream", "options", "error", "message"),
        [
            (X, {}, TypeError, "Y must be given"),
            (3.0, {}, TypeError, "Y must be given"),
            (X.tolist(), {}, TypeError, "X must give batches"),
            ([], {}, ValueError, "X gave no batch"),
            (lambda: iter(()), {}, ValueError, "X gave no batch"),
            (iter(BATCHES), {}, ValueError, "used up after one epoch of 2"),
            ([X], {}, TypeError, r"X must give batches \(X, Y\) or \(X, Y, weights\), got a ndarray"),
            ([(X,)], {}, TypeError, "got a tuple of 1"),
            ([(X.T, Y.T)], {}, ValueError, "batch 1: X must have shape .* is it X.T"),
            ([BATCHES[0], (X, Y[:, :5])], {}, ValueError, "batch 2: Y must have shape"),
            ([BATCHES[0], (X * np.nan, Y)], {}, ValueError, "batch 2: X must be finite"),
            (BATCHES, {"batch_size": 5}, ValueError, "batch_size must be left out"),
            (BATCHES, {"weights": np.ones((1, 23))}, ValueError, "weights must be left out"),
        ],
    )  # fmt: skip
    def test_streams_that_are_none(self, stream, options, error, message) -> None:
        with pytest.raises(error, match=message):
            nn.train(NETWORK, stream, epochs=2, params=LAYERS, **options)

    def test_a_stream_that_ends_after_the_first_epoch(self) -> None:
        begun = self.generator()
        with pytest.raises(ValueError, match="X gave no batch in an epoch"):
            nn.train(NETWORK, lambda: begun, epochs=2, params=LAYERS)
