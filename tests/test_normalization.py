"""Normalised inputs: fitted in float64, kept with the network, saved in its file, and used by predict."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal([[3.0], [-40.0], [2e11], [1e-9]], [[1.0], [20.0], [10.0], [1e-12]], size=(4, 60))


def exact(x: Any) -> tuple[float, float]:
    """The mean and the standard deviation of a row, in fractions."""
    values = [Fraction(float(value)) for value in x]
    mean = sum(values) / len(values)
    return float(mean), float(sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5


def test_the_figures_are_those_of_fractions(space: Space) -> None:
    found = nn.Normalization.fit(space.asarray(X))
    expected = np.array([exact(x) for x in X])
    np.testing.assert_allclose(found.mean[:, 0], expected[:, 0], rtol=1e-15)
    np.testing.assert_allclose(found.scale[:, 0], expected[:, 1], rtol=1e-10)
    assert found.mean.shape == found.scale.shape == (4, 1)
    assert found.mean.dtype == found.scale.dtype == np.float64


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_examples_are_scikit_learn_s_in_the_place_of_x(space: Space, dtype) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    normalization = nn.Normalization.fit(space.asarray(X))
    other = X[:, ::-1][:, :7] + X.std(axis=1, keepdims=True)
    found = normalization(space.asarray(other), dtype)
    space.assert_same_place(found, dtype)
    expected = preprocessing.StandardScaler().fit(X.T).transform(other.T).T
    np.testing.assert_allclose(space.to_numpy(found), expected, rtol=1e-5 if dtype == "float32" else 1e-9)


def test_examples_in_a_file_are_taken_piece_by_piece(tmp_path) -> None:
    table = np.memmap(tmp_path / "x", "float32", "w+", shape=(50_001, 3))
    table[:] = np.random.default_rng(1).normal([5.0, 0.0, -300.0], [1.0, 0.1, 7.0], (50_001, 3))
    found = nn.Normalization.fit(table.T)
    values = np.array(table, "float64")
    np.testing.assert_allclose(found.mean[:, 0], values.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.scale[:, 0], values.std(axis=0), rtol=1e-12)
    normal = found(table.T, "float64")
    np.testing.assert_allclose(normal.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(normal.std(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 2e11, -1e300])
def test_an_input_that_is_always_the_same_becomes_0(value) -> None:
    normalization = nn.Normalization.fit(np.array([[value] * 7, range(7)]))
    assert (normalization.mean[0, 0], normalization.scale[0, 0]) == (value, 1.0)
    assert normalization(np.array([[value], [3.0]])).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("kind", ["int64", "bool", "float16", list])
def test_numbers_of_other_kinds(kind) -> None:
    given = np.array([[0, 1, 1, 0], [1, 1, 0, 1]])
    normalization = nn.Normalization.fit(given.tolist() if kind is list else given.astype(kind))
    np.testing.assert_allclose(normalization.mean[:, 0], [0.5, 0.75], rtol=1e-15)
    np.testing.assert_allclose(normalization.scale[:, 0], [0.5, 0.75**0.5 / 2], rtol=1e-15)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (np.zeros(3), ValueError, "must have shape (n_x, m)"),
        (np.zeros((2, 0)), ValueError, "must have shape (n_x, m)"),
        (np.array([[1.0, np.nan]]), ValueError, "X"),
        (np.array([[1.0, np.inf]]), ValueError, "X"),
        (np.array([[-1e300, 1e300]]), ValueError, "X"),
        (np.array([["a", "b"]]), TypeError, "X"),
        (np.array([[1j, 2.0]]), TypeError, "X"),
    ],
)
def test_what_has_no_figures_is_refused(given, error, said) -> None:
    import re

    with pytest.raises(error, match=re.escape(said)):
        nn.Normalization.fit(given)


def test_other_inputs_than_those_of_the_fit_are_refused() -> None:
    normalization = nn.Normalization.fit(X)
    with pytest.raises(ValueError, match=r"X must have shape \(n_x, m\) = \(4, m\)"):
        normalization(X[:3])
    with pytest.raises(ValueError, match="X"):
        normalization(np.where(X > 1e10, np.nan, X))
    with pytest.raises(ValueError, match="n_x = 4"):
        normalization.model(nn.Network((3, 1)), nn.Network((3, 1)).init())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_model_predicts_from_raw_examples_before_and_after_its_file(space: Space, dtype, tmp_path) -> None:
    network, layers, _, Y = problem((4, 5, 3), "tanh", "softmax", m=60)
    given, later = space.asarray(X[:, :40]), space.asarray(X[:, 40:])
    normalization = nn.Normalization.fit(given)
    result = nn.train(
        network,
        normalization(given, dtype),
        space.asarray(Y[:, :40], dtype),
        params=space.pairs(layers, dtype),
        epochs=2,
    )
    model = normalization.model(network, result.params)
    expected = network.predict(result.params, normalization(later, dtype))
    np.testing.assert_array_equal(space.to_numpy(model.predict(later)), space.to_numpy(expected))
    nn.save(tmp_path / "m.safetensors", *model[:2], metadata=model.metadata)
    again = nn.read_model(tmp_path / "m.safetensors", "numpy")
    tolerance = 1e-10 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(again.predict(X[:, 40:]), space.to_numpy(expected), rtol=tolerance)
    folded, params = nn.load(tmp_path / "m.safetensors", "numpy")
    assert params.dtype == "float64"  # what float32 could not hold
    found = folded.predict(params, X[:, 40:])
    np.testing.assert_allclose(found, space.to_numpy(expected), rtol=1e-4 if dtype == "float32" else 1e-5)


def test_the_command_line_predicts_with_it(here, run) -> None:
    network = nn.Network((4, 1), output="identity")
    model = nn.Normalization.fit(X).model(network, network.init(seed=1, dtype="float64"))
    nn.save("m.safetensors", *model[:2], metadata=model.metadata)
    np.savetxt("x.csv", X.T, delimiter=",", header="a,b,c,d", comments="", fmt="%.17g")
    code, out, _ = run("predict", "m.safetensors", "x.csv")
    assert code == 0
    found = np.array([float(line) for line in out.split()[1:]])
    np.testing.assert_allclose(found, model.predict(X)[0], rtol=1e-6)


WRONG: dict[str, tuple[Any, Any, str]] = {
    "no spread": ([[0.0]], [[0.0]], "scale must be > 0, got 0"),
    "negative": ([[0.0], [1.0]], [[1.0], [-2.0]], "scale must be > 0, got -2"),
    "NaN": ([[np.nan]], [[1.0]], "mean must be finite"),
    "infinity": ([[0.0]], [[np.inf]], "scale must be finite"),
    "rank 1": ([0.0, 1.0], [1.0, 1.0], r"mean must have shape \(n_x, 1\).*got \(2,\)"),
    "two lengths": ([[0.0]], [[1.0], [1.0]], r"same n_x, got \(2, 1\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mean_and_a_scale_that_are_none_are_refused(name: str) -> None:
    mean, scale, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        nn.Normalization(mean, scale)


def test_a_mean_and_a_scale_of_ones_own_may_be_lists_of_any_numbers() -> None:
    normalization = nn.Normalization([[1], [2]], np.array([[2.0], [4.0]], "float32"))
    assert normalization([[3, 5], [2, 10]]).tolist() == [[1.0, 2.0], [0.0, 2.0]]


def test_a_dask_array_is_told_apart_from_what_is_traced() -> None:
    da = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match=r"got a dask array: give X\.compute\(\)"):
        nn.Normalization.fit(da.ones((2, 5)))


class TestTargets:
    def test_a_regression_on_numbers_far_from_zero_is_told_in_their_unit(self, space) -> None:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(3, 50))
        Y = 2e9 + 1000 * (rng.normal(size=(2, 3)) @ X)
        targets, network = nn.Normalization.fit(space.asarray(Y)), nn.Network((3, 2), output="identity")
        np.testing.assert_allclose(space.to_numpy(targets.inverse(targets(space.asarray(Y), "float64"))), Y, rtol=1e-15)
        given = space.asarray(X), targets(space.asarray(Y), "float64")
        result = nn.train(network, *given, epochs=2000, optimizer=nn.GradientDescent(0.3), dtype="float64")
        found = targets.inverse(network.predict(result.params, given[0]))
        space.assert_same_place(found, "float64")
        np.testing.assert_allclose(space.to_numpy(found), Y, rtol=0, atol=1e-3)

    @pytest.mark.parametrize(
        ("A", "error", "told"),
        [
            (np.zeros((2, 5)), ValueError, r"A must have shape \(n_x, m\) = \(1, m\)"),
            (np.zeros(5), ValueError, "A must have shape"),
            (np.array([["a"]]), TypeError, "A must hold real numbers"),
        ],
    )
    def test_what_is_none_is_refused(self, A, error, told) -> None:
        with pytest.raises(error, match=told):
            nn.Normalization.fit(np.array([[1.0, 2.0]])).inverse(A)
