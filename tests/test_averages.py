"""Exponentially weighted averages, and the weights that training averages along the way."""

from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn
from nnarray.core import averages

NETWORK, LAYERS, X, Y = problem((3, 6, 4, 2), ("tanh", "relu"), "softmax", m=13)
OPTIMIZERS = [nn.GradientDescent(0.2), nn.Momentum(0.2), nn.Adam(nn.schedules.ExponentialDecay(0.05, 0.9))]


class Recording(nn.Adam):
    """Adam that is called for each update, and keeps what it makes."""

    def update_vector(self, theta: Any, g: Any, state: Any, backend: Any, *, in_place: bool = False) -> Any:
        theta, state = super().update_vector(theta, g, state, backend, in_place=in_place)
        thetas.append(np.array(backend.to_numpy(theta), "float64"))
        return theta, state


thetas: list[np.ndarray] = []


def loops(values: Any, beta: float) -> np.ndarray:
    """The last average: each value weighted by beta to the power of its age."""
    weights = [beta**age for age in range(len(values))][::-1]
    return sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)


def train(space: Space, dtype: str, **options: Any) -> nn.TrainingResult:
    given = {"params": space.pairs(LAYERS, dtype), "seed": 3, "epochs": 4}
    return nn.train(NETWORK, space.asarray(X, dtype), space.asarray(Y, dtype), **given | options)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.98])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_averages_of_a_series_are_pandas_s(space: Space, dtype, tolerance, beta) -> None:
    pandas = pytest.importorskip("pandas")
    series = np.random.default_rng(0).normal(40, 20, size=(90, 3))
    expected = pandas.DataFrame(series).ewm(alpha=1 - beta, adjust=True).mean().to_numpy()
    found = list(averages.exponentially_weighted_averages([space.asarray(x, dtype) for x in series], beta=beta))
    for mean in found:
        space.assert_same_place(mean, dtype)
    np.testing.assert_allclose(np.array([space.to_numpy(mean) for mean in found]), expected, rtol=20 * tolerance)


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_training_gives_back_the_average_of_all_updates(space: Space, dtype, tolerance, batch_size) -> None:
    """Whether the optimiser is called for each update, or its rule is part of a captured step."""
    thetas.clear()
    plain = train(space, dtype, optimizer=Recording(0.05), batch_size=batch_size)
    made = list(thetas)
    assert len(made) == (4 if batch_size is None else 12)
    for optimizer in (nn.Adam(0.05), Recording(0.05)):
        result = train(space, dtype, optimizer=optimizer, batch_size=batch_size, average=0.7)
        space.assert_same_place(result.params.vector, dtype)
        np.testing.assert_allclose(
            space.to_numpy(result.params.vector), loops(made, 0.7), rtol=tolerance, atol=tolerance
        )
        trained = space.to_numpy(result.state.position.params.vector)
        np.testing.assert_allclose(trained, space.to_numpy(plain.params.vector), rtol=tolerance, atol=tolerance)
        assert result.state.t == result.state.position.averaged == len(made)


@pytest.mark.parametrize("options", [{}, {"batch_size": 5}, {"batch_size": 5, "dropout": 0.3}], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_the_descent_takes_no_notice_and_a_beta_of_0_gives_its_last_weights(open_space, optimizer, options) -> None:
    space = open_space("numpy")
    plain = train(space, "float32", optimizer=optimizer, **options)
    for beta in (0.0, 0.9):
        result = train(space, "float32", optimizer=optimizer, average=beta, **options)
        np.testing.assert_array_equal(result.state.position.params.vector, plain.params.vector)
        assert [epoch.cost for epoch in result.history] == [epoch.cost for epoch in plain.history]
        assert np.array_equal(result.params.vector, plain.params.vector) == (beta == 0.0)


def test_many_epochs_in_one_call_are_those_one_by_one(open_space) -> None:
    space = open_space("numpy")
    at_once = train(space, "float64", epochs=300, average=0.99)
    one_by_one = train(space, "float64", epochs=300, average=0.99, callback=lambda epoch: None)
    np.testing.assert_array_equal(at_once.params.vector, one_by_one.params.vector)
    assert [epoch[:3] for epoch in at_once.history] == [epoch[:3] for epoch in one_by_one.history]


class TestValidation:
    def test_it_sees_the_average_and_so_does_a_callback(self, space: Space) -> None:
        records: list[nn.Epoch] = []
        options = {"validation": (space.asarray(X), space.asarray(Y)), "average": 0.8, "batch_size": 5}
        result = train(space, "float64", callback=records.append, **options)
        for record in records:
            assert record.validation_cost == pytest.approx(float(NETWORK.cost(record.params, *options["validation"])))
        found = space.to_numpy(result.params.vector)
        np.testing.assert_array_equal(found, space.to_numpy(records[-1].params.vector))
        assert not np.array_equal(found, space.to_numpy(result.state.position.params.vector))

    @pytest.mark.parametrize("validation", [True, False])
    @pytest.mark.parametrize("batch_size", [None, 5])
    def test_patience_gives_back_the_average_at_the_best_epoch(self, open_space, batch_size, validation) -> None:
        space, records = open_space("numpy"), [None]
        options = {"validation": (X[:, :5], Y[::-1, :5])} if validation else {}
        result = train(
            space, "float64", optimizer=nn.RMSprop(0.5), epochs=60, patience=3, average=0.8,
            batch_size=batch_size, callback=records.append, **options,
        )  # fmt: skip
        assert result.stopped == "patience"
        costs = [epoch.validation_cost if validation else epoch.cost for epoch in records[1:]]
        best = int(np.argmin(costs)) + 1
        assert result.best_epoch == best < len(costs)
        if not validation and batch_size is None:  # whose cost is that of before its update
            best -= 1
        kept = records[best].params.vector if best else nn.Parameters.from_layers(LAYERS).vector
        np.testing.assert_array_equal(result.params.vector, kept)


class TestGoingOn:
    def test_from_a_run_without_an_average_it_begins_one(self, open_space) -> None:
        space = open_space("numpy")
        first = train(space, "float64", epochs=3)
        thetas.clear()
        train(space, "float64", optimizer=Recording(), epochs=5)
        second = train(space, "float64", epochs=2, state=first.state, average=0.6, params=None)
        np.testing.assert_allclose(second.params.vector, loops(thetas[3:], 0.6), rtol=1e-12)
        assert second.state.position.averaged == 2

    def test_without_average_it_goes_on_from_the_trained_weights(self, open_space) -> None:
        space = open_space("numpy")
        first = train(space, "float64", epochs=3, average=0.9)
        second = train(space, "float64", epochs=2, state=first.state, params=None)
        np.testing.assert_array_equal(second.params.vector, train(space, "float64", epochs=5).params.vector)
        assert second.state.average is None

    @pytest.mark.parametrize("beta", [0.0, 0.3, 0.999])
    def test_with_another_beta_the_average_goes_on_from_where_it_is(self, open_space, beta) -> None:
        space = open_space("numpy")
        first = train(space, "float64", average=0.9, epochs=5)
        thetas.clear()
        train(space, "float64", optimizer=Recording(), epochs=6)
        options = {"average": beta, "params": None}
        second = train(space, "float64", epochs=1, state=first.state, **options)
        weight = beta * (1 - beta**5) / (1 - beta**6)
        expected = weight * loops(thetas[:5], 0.9) + (1 - weight) * thetas[5]
        np.testing.assert_allclose(second.params.vector, expected, rtol=1e-12)

    def test_a_state_of_other_sizes_is_refused(self, open_space) -> None:
        state = train(open_space("numpy"), "float64", optimizer=nn.GradientDescent(), average=0.9).state
        other, layers, X, Y = problem((2, 3, 1), "tanh", "sigmoid", m=5)
        with pytest.raises(ValueError, match="a running mean average of shape"):
            nn.train(other, X, Y, params=layers, epochs=1, state=state, optimizer=nn.GradientDescent(), average=0.9)


@pytest.mark.parametrize(
    ("beta", "error"), [(1.0, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("0.9", TypeError)]
)
def test_what_is_no_beta_is_refused(open_space, beta, error) -> None:
    with pytest.raises(error, match="average"):
        train(open_space("numpy"), "float64", average=beta)


def test_an_interrupted_run_gives_back_the_average_so_far(open_space) -> None:
    def stop(epoch: nn.Epoch) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    space = open_space("numpy")
    result = train(space, "float64", average=0.9, epochs=9, callback=stop)
    assert result.stopped == "interrupt"
    np.testing.assert_array_equal(result.params.vector, train(space, "float64", average=0.9, epochs=3).params.vector)
