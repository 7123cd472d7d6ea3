"""Gradient checking, and the values that a network consists of: Network, Parameters, one_hot."""

import pickle
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn
from nnarray.backends import primitives_for
from nnarray.core.primitives import bind
from nnarray.engine import compiling

SMOOTH = ("sigmoid", "tanh", "identity")
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")


@pytest.fixture
def broken(monkeypatch) -> Any:
    """Puts a wrong step in the place of one of NumPy's, and nothing is compiled."""

    def install(name: str, wrong: Any) -> None:
        primitives = primitives_for(np)._replace(**{name: wrong(getattr(primitives_for(np), name))})
        monkeypatch.setattr(type(nn.backends.NUMPY), "primitives", primitives)
        monkeypatch.setattr(type(nn.backends.NUMPY), "compiles", False)

    return install


class TestCheckGradients:
    @pytest.mark.parametrize("output", OUTPUTS)
    @pytest.mark.parametrize("hidden", SMOOTH)
    def test_smooth_networks_are_right_to_1e_7(self, hidden, output) -> None:
        network, layers, X, Y = problem((3, 5, 4, 2), hidden, output, m=7)
        found = nn.check_gradients(network, layers, X, Y, l2=0.4, weights=np.linspace(0.5, 2, 7))
        assert 0 < found.relative_difference < 1e-7
        assert (found.checked, found.kinks) == (network.size, 0)
        assert found.analytic == pytest.approx(found.numerical, rel=1e-5, abs=1e-9)

    @pytest.mark.parametrize("hidden", ["relu", "leaky_relu"])
    def test_kinked_networks_are_right_away_from_kinks(self, hidden) -> None:
        network, layers, X, Y = problem((3, 5, 4, 2), hidden, "softmax", m=7)
        found = nn.check_gradients(network, layers, X, Y)
        assert found.relative_difference < 1e-7
        assert (found.checked, found.kinks) == (network.size, 0)

    def test_what_training_runs_is_what_is_checked_from_the_first_call_on(self, monkeypatch) -> None:
        """dW is 0.1 % too large in what is compiled, and nowhere else."""

        def bind_broken(xp: Any) -> Any:
            primitives = bind(xp)

            def linear_backward(dZ: Any, A_prev: Any, *, m: Any) -> Any:
                dW, db = primitives.linear_backward(dZ, A_prev, m=m)
                return dW * 1.001, db

            return primitives._replace(linear_backward=linear_backward)

        network, layers, X, Y = problem((3, 5, 4, 2), "tanh", "softmax", m=7)
        monkeypatch.setattr(compiling, "bind", bind_broken)
        monkeypatch.setattr(compiling, "compiled", compiling.compiled.__wrapped__)  # no program of the right ones
        assert nn.check_gradients(network, layers, X, Y).relative_difference > 1e-4

    def test_coordinates_are_drawn_by_the_seed_and_directions_see_every_parameter(self) -> None:
        network, layers, X, Y = problem((30, 40, 2), "tanh", "softmax", m=4)

        def check(**options: Any) -> Any:
            return nn.check_gradients(network, layers, X, Y, **options)

        assert network.size > 1000
        assert check().checked == 1000
        assert check(coordinates=10).checked == 10
        assert check(directions=3).checked == 3
        assert check(coordinates=5, directions=3).checked == 8
        assert check(coordinates=10, seed=1) == check(coordinates=10, seed=1)
        assert len({check(coordinates=1, seed=seed).worst for seed in range(6)}) > 1
        assert check(directions=4).relative_difference < 1e-7
        assert check(directions=4).worst in {f"direction {k}" for k in range(4)}

    WRONG = (
        ("W[1][3, 0]", 0, 0, (3, 0)),
        ("b[1][2, 0]", 0, 1, (2, 0)),
        ("W[2][1, 3]", 1, 0, (1, 3)),
        ("b[2][0, 0]", 1, 1, (0, 0)),
    )

    @pytest.mark.parametrize(("name", "layer", "which", "index"), WRONG)
    def test_a_wrong_entry_is_found_and_named(self, broken, name, layer, which, index) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=6)

        def wrong(linear_backward: Any) -> Any:
            def step(dZ: Any, A_prev: Any, *, m: Any) -> Any:
                gradients = linear_backward(dZ, A_prev, m=m)
                if dZ.shape[0] == network.sizes[layer + 1]:
                    gradients[which][index] += (
                        1e-3 * X.shape[1] / m
                    )  # what a step gives with m = 1 is still to be divided
                return gradients

            return step

        broken("linear_backward", wrong)
        found = nn.check_gradients(network, layers, X, Y)
        assert found.worst == name
        assert found.relative_difference > 1e-5
        assert found.analytic - found.numerical == pytest.approx(1e-3, rel=1e-3)

    @pytest.mark.parametrize("options", [{}, {"directions": 5}], ids=["coordinates", "directions"])
    def test_a_missing_transpose_s_like_is_found(self, broken, options) -> None:
        network, layers, X, Y = problem((3, 4, 4, 2), "tanh", "softmax", m=6)
        broken("linear_backward_input", lambda step: lambda dZ, W: step(dZ, W.T if W.shape == (4, 4) else W))
        assert nn.check_gradients(network, layers, X, Y, **options).relative_difference > 1e-2

    @pytest.mark.parametrize("hidden", ["relu", "leaky_relu"])
    def test_a_kink_is_counted_and_left_out(self, hidden) -> None:
        """Unit 0's Z is exactly 0 for the example 0: to move W[1][0, ·] or b[1][0] steps across, unless x is 0."""
        network = nn.Network((2, 2, 1), hidden)
        layers = [(np.array([[1.0, 1.0], [2.0, 1.0]]), np.zeros((2, 1))), (np.array([[1.0, -1.0]]), np.zeros((1, 1)))]
        X, Y = np.array([[1.0, 2.0], [-1.0, 3.0]]), np.array([[1.0, 0.0]])
        found = nn.check_gradients(network, layers, X, Y)
        assert (found.kinks, found.checked) == (3, network.size - 3)
        assert found.relative_difference < 1e-7
        assert "3 left out at kinks" in str(found)

    def test_where_all_is_left_out_nothing_is_claimed(self) -> None:
        layers = [(np.zeros((1, 1)), np.zeros((1, 1))), (np.ones((1, 1)), np.zeros((1, 1)))]
        found = nn.check_gradients(nn.Network((1, 1, 1)), layers, [[1.0]], [[1.0]], directions=3)
        assert (found.checked, found.kinks) == (0, 3)
        assert np.isnan(found.relative_difference)

    def test_float32_parameters_are_checked_in_float64(self, space: Space) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "exp", m=6)
        params, x, y = space.pairs(layers, "float32"), space.asarray(X, "float32"), space.asarray(Y, "float32")
        found = nn.check_gradients(network, params, x, y)
        assert found.relative_difference < 1e-7

    def test_what_it_found_as_a_sentence(self) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=6)
        found = nn.check_gradients(network, layers, X, Y)
        assert f"{found.relative_difference:.2e} over {network.size} derivatives" in str(found)
        assert found.worst in str(found)
        assert "kink" not in str(found)

    @pytest.mark.parametrize("options", [{"eps": 0.0}, {"eps": -1e-6}, {"l2": -1.0}, {"weights": [1.0]}])
    def test_bad_arguments_are_refused_by_name(self, options) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=6)
        with pytest.raises(ValueError, match=next(iter(options))):
            nn.check_gradients(network, layers, X, Y, **options)


class TestNetwork:
    def test_a_table_of_its_layers(self) -> None:
        lines = nn.Network((784, 100, 10), "tanh", "softmax").summary().splitlines()
        assert [line.split() for line in lines if not set(line) <= {"-"}] == [
            ["layer", "units", "activation", "W", "b", "parameters"],
            ["input", "784"],
            ["1", "100", "tanh", "(100,", "784)", "(100,", "1)", "78,500"],
            ["2", "10", "softmax", "(10,", "100)", "(10,", "1)", "1,010"],
            ["total", "79,510"],
        ]
        assert len({len(line) for line in lines if set(line) == {"-"}}) == 1

    def test_it_is_a_value(self) -> None:
        network = nn.Network([2, 3, 1], ["tanh"], "exp")
        assert network == nn.Network((2, 3, 1), "tanh", "exp")
        assert hash(network) == hash(nn.Network((2, 3, 1), "tanh", "exp"))
        for other in (
            nn.Network((2, 4, 1), "tanh", "exp"),
            nn.Network((2, 3, 1), "relu", "exp"),
            nn.Network((2, 3, 1), "tanh"),
        ):
            assert network != other
        assert pickle.loads(pickle.dumps(network)) == network
        assert eval(repr(network), {"Network": nn.Network}) == network
        with pytest.raises(AttributeError):
            network.sizes = (1, 1)

    @pytest.mark.parametrize(
        ("arguments", "sizes", "hidden", "output"),
        [
            (((3, 1),), (3, 1), (), "sigmoid"),
            (((3, 4, 1),), (3, 4, 1), ("relu",), "sigmoid"),
            (((3, 4, 5, 2), "tanh", "softmax"), (3, 4, 5, 2), ("tanh", "tanh"), "softmax"),
            ((np.array([3, 4, 5, 1]), ("tanh", "relu")), (3, 4, 5, 1), ("tanh", "relu"), "sigmoid"),
        ],
    )
    def test_its_fields(self, arguments, sizes, hidden, output) -> None:
        network = nn.Network(*arguments)
        assert (network.sizes, network.hidden, network.output) == (sizes, hidden, output)
        assert {type(n) for n in network.sizes} == {int}

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (((3,),), ValueError, "sizes"),
            (((3, 0, 1),), ValueError, r"sizes\[1\]"),
            (((3, 2.0, 1),), TypeError, r"sizes"),
            ((5,), TypeError, "sizes"),
            (((3, 4, 1), "mish"), ValueError, "hidden.*'relu'.*'mish'"),
            (((3, 4, 1), ("relu", "relu")), ValueError, "hidden.*1.*2"),
            (((3, 1), "mish"), ValueError, "hidden"),
            (((3, 1), "relu", "linear"), ValueError, "output.*'identity'.*'linear'"),
            (((3, 1), "relu", "softmax"), ValueError, "softmax.*sigmoid"),
        ],
    )
    def test_what_makes_no_network(self, arguments, error, message) -> None:
        with pytest.raises(error, match=message):
            nn.Network(*arguments)

    SCORES = (
        ("sigmoid", [[0.5, 0.4, 0.9, 0.1]], [[1, 1, 1, 0]], 0.5),
        ("sigmoid", [[0.9, 0.9], [0.1, 0.9]], [[1, 1], [0, 0]], 0.5),
        ("softmax", [[0.6, 0.2, 0.5], [0.4, 0.8, 0.5]], [[1, 1, 1], [0, 0, 0]], 2 / 3),
        ("identity", [[1.0, 2.0, 3.0]], [[1.0, 2.0, 6.0]], 1 - 9 / 14),
        ("identity", [[1.0, 2.0], [5.0, 5.0]], [[1.0, 2.0], [5.0, 5.0]], 1.0),
        ("identity", [[1.0, 2.0], [5.0, 6.0]], [[1.0, 2.0], [5.0, 5.0]], 0.5),
        ("exp", [[1.0, 2.0, 3.0]], [[1.0, 2.0, 6.0]], 1 - 9 / 14),
    )

    @pytest.mark.parametrize(("output", "A", "Y", "expected"), SCORES)
    def test_its_score(self, space: Space, output, A, Y, expected) -> None:
        """The network hands on Z = X, so that A[L] is what the table says."""
        n = len(A)
        to_Z = {"sigmoid": lambda A: np.log(A / (1 - A)), "softmax": np.log, "identity": np.array, "exp": np.log}
        pairs = space.pairs([(np.eye(n), np.zeros((n, 1)))])
        X = space.asarray(to_Z[output](np.array(A)))
        found = nn.Network((n, n), output=output).score(pairs, X, space.asarray(np.array(Y, float)))
        assert type(found) is float
        assert found == pytest.approx(expected, rel=1e-12)


class TestParameters:
    LAYERS = (
        (np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([[7.0], [8.0], [9.0]])),
        (np.array([[10.0, 11.0, 12.0]]), np.array([[13.0]])),
    )

    @pytest.fixture
    def params(self) -> nn.Parameters:
        return nn.Parameters.from_layers(self.LAYERS)

    def test_they_are_a_sequence_of_layers(self, params) -> None:
        assert len(params) == 2
        for (W, b), (W_expected, b_expected) in zip(params, self.LAYERS, strict=True):
            np.testing.assert_array_equal(W, W_expected)
            np.testing.assert_array_equal(b, b_expected)
        assert params[-1].b is params[1].b
        assert [layer.W.shape for layer in params[:]] == [(3, 2), (1, 3)]
        with pytest.raises(IndexError):
            params[2]

    def test_the_layers_are_views_of_the_vector(self, params) -> None:
        params[1].W[0, 2] = -1.0
        params.vector[8] = -2.0
        assert params.vector[11] == -1.0
        assert params[0].b[2, 0] == -2.0
        assert params[0].W.base is not None

    def test_from_layers_copies_the_values(self, params) -> None:
        params.vector[:] = 0.0
        assert self.LAYERS[0][0][0, 0] == 1.0
        assert nn.Parameters.from_layers(params) is params

    @pytest.mark.parametrize(
        ("dtypes", "expected"),
        [
            (("float32",) * 2, "float32"),
            (("float32", "float64"), "float64"),
            (("int64",) * 2, "float32"),
            (("float16",) * 2, "float32"),
        ],
    )
    def test_their_dtype(self, dtypes, expected) -> None:
        W, b = (np.ones((1, 1), dtype) for dtype in dtypes)
        params = nn.Parameters.from_layers([(W, b)])
        assert params.dtype == params.vector.dtype.name == expected

    @pytest.mark.parametrize(
        ("layers", "error", "message"),
        [
            ([], ValueError, "at least one"),
            ([(np.ones((2, 2)), np.ones(2))], ValueError, r"b\[1\].*\(2, 1\)"),
            ([(np.ones((2, 2)), np.ones((1, 2)))], ValueError, r"b\[1\].*\(2, 1\)"),
            ([(np.ones(2), np.ones((1, 1)))], ValueError, r"W\[1\]"),
            ([*LAYERS, (np.ones((2, 3)), np.ones((2, 1)))], ValueError, r"W\[3\].*\(n\[3\], 1\)"),
            ([(np.ones((1, 1), complex), np.ones((1, 1)))], TypeError, r"W\[1\].*complex"),
            ([(np.array([["a"]]), np.ones((1, 1)))], TypeError, r"W\[1\]"),
            ([np.ones((1, 1))], TypeError, "pairs"),
            (3, TypeError, "pairs"),
        ],
    )
    def test_what_makes_no_parameters(self, layers, error, message) -> None:
        with pytest.raises(error, match=message):
            nn.Parameters.from_layers(layers)

    # array-api-strict's own arrays cannot be pickled
    @pytest.mark.parametrize("space", ["numpy", "numpy-readonly", "torch", "jax", "cupy"], indirect=True)
    def test_pickle_and_copies(self, space: Space) -> None:
        params = nn.Parameters.from_layers(space.pairs(self.LAYERS, "float32"))
        again = pickle.loads(pickle.dumps(params))
        assert (again.sizes, again.dtype) == ((2, 3, 1), "float32")
        assert again.backend.xp is space.xp
        space.assert_same_place(again.vector, "float32")
        np.testing.assert_array_equal(space.to_numpy(again.vector), np.arange(1.0, 14.0))

    def test_a_copy_is_independent(self, params) -> None:
        import copy

        deep = copy.deepcopy(params)
        deep.vector[0] = 99.0
        assert params.vector[0] == 1.0
        assert deep[0].W[0, 0] == 99.0

    def test_replace_and_repr(self, params) -> None:
        other = params.replace(np.zeros(13))
        assert other.sizes == params.sizes
        assert not other[0].W.any()
        assert params[0].W.any()
        for words in ("(2, 3, 1)", "size=13", "float64", "numpy"):
            assert words in repr(params)

    def test_network_parameters_are_views_of_the_theta_given(self) -> None:
        network, theta = nn.Network((2, 3, 1)), np.arange(13.0)
        params = network.parameters(theta)
        assert params.vector is theta
        assert np.shares_memory(params[0].W, theta)
        assert params[0].W.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert network.parameters(list(range(13))).dtype == "float64"
        assert network.parameters(theta.astype("float32")).dtype == "float32"
        for wrong in (np.zeros(12), np.zeros((1, 13))):
            with pytest.raises(ValueError, match=r"\(size,\) = \(13,\)"):
                network.parameters(wrong)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_theta_is_brought_where_it_is_wanted(self, space, dtype) -> None:
        network, theta = nn.Network((2, 3, 1)), np.arange(13.0)
        params = network.parameters(theta, backend=space.backend, dtype=dtype)
        space.assert_same_place(params.vector, dtype)
        np.testing.assert_array_equal(space.to_numpy(params.vector), theta)
        assert network.parameters(params.vector, backend="numpy").dtype == dtype
        with pytest.raises(ValueError, match='dtype must be "float32" or "float64"'):
            network.parameters(theta, dtype="float16")

    def test_scipy_minimizes_over_theta(self) -> None:
        optimize = pytest.importorskip("scipy.optimize")
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=15)

        def fun(theta: np.ndarray) -> tuple[Any, np.ndarray]:
            J, gradients = network.gradients(network.parameters(theta), X, Y, l2=0.1)
            return J, gradients.vector

        start = nn.Parameters.from_layers(layers).vector
        found = optimize.minimize(fun, start, jac=True, options={"gtol": 1e-8, "maxiter": 500})
        assert np.abs(found.jac).max() < 1e-6
        assert found.fun < 0.5 * fun(start)[0]


class TestOneHot:
    def test_a_1_at_each_label_s_row(self, space: Space) -> None:
        labels = space.asarray(np.array([2, 0, 1, 2]))
        Y = nn.one_hot(labels, 4)
        space.assert_same_place(Y, "float32")
        expected = [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]
        assert space.to_numpy(Y).tolist() == expected
        assert space.to_numpy(nn.one_hot(space.xp.reshape(labels, (1, 4)), 4)).tolist() == expected

    def test_its_dtype_and_lists(self) -> None:
        assert nn.one_hot([1, 0], 2, dtype="float64").dtype == np.float64
        assert nn.one_hot([True, False], 2).tolist() == [[0, 1], [1, 0]]

    @pytest.mark.parametrize(
        ("labels", "classes", "error", "message"),
        [
            ([0, 3, 7], 3, ValueError, "0 … 2, got 3, 7"),
            ([-1, 0], 3, ValueError, "-1"),
            ([0.0, 1.0], 2, TypeError, "float64"),
            ([], 2, ValueError, "at least one"),
            ([[0], [1]], 2, ValueError, r"\(2, 1\)"),
            (0, 2, ValueError, r"\(\)"),
            ([0], 0, ValueError, "classes"),
            ([0], 2.0, TypeError, "classes"),
        ],
    )
    def test_bad_labels_are_refused(self, labels, classes, error, message) -> None:
        with pytest.raises(error, match=message):
            nn.one_hot(labels, classes)


def test_cost_is_to_the_bit_what_gradients_gives() -> None:
    for seed in range(20):
        network, layers, X, Y = problem((3, 4, 1), "tanh", "sigmoid", m=7, seed=seed)
        params = nn.Parameters.from_layers([(W.astype("f"), b.astype("f")) for W, b in layers])
        assert network.cost(params, X, Y, l2=0.3) == network.gradients(params, X, Y, l2=0.3)[0]


def test_accuracy_is_the_share_of_right_examples() -> None:
    network = nn.Network((1, 1))
    params = network.parameters([1.0, 0.0])
    X = np.array([[-2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    assert network.score(params, X, np.array([[0, 1, 1, 1, 1, 1, 1]])) == 6 / 7


def test_checking_nothing_is_refused() -> None:
    network, layers, X, Y = problem((3, 1), "tanh", "sigmoid", m=7)
    with pytest.raises(ValueError, match="coordinates must be a whole number ≥ 1"):
        nn.check_gradients(network, layers, X, Y, coordinates=0)


class TestGradientsOfOnesOwn:
    """A backward pass that somebody wrote, by the lecture's formulas."""

    def backward(self, layers: Any, X: np.ndarray, Y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        (W1, b1), (W2, b2) = layers
        A1 = np.tanh(W1 @ X + b1)
        dZ2 = 1 / (1 + np.exp(-(W2 @ A1 + b2))) - Y
        dZ1 = W2.T @ dZ2 * (1 - A1**2)
        m = X.shape[1]
        return [(dZ @ A.T / m, dZ.mean(axis=1, keepdims=True)) for dZ, A in ((dZ1, X), (dZ2, A1))]

    def test_a_right_one_passes_and_a_wrong_one_is_found(self, space: Space) -> None:
        network, layers, X, Y = problem((3, 4, 1), "tanh", "sigmoid", m=7)
        given = space.pairs(layers), space.asarray(X), space.asarray(Y)
        right = self.backward(layers, X, Y)
        found = nn.check_gradients(network, *given, gradients=space.pairs(right))
        assert found.relative_difference < 1e-7
        assert nn.check_gradients(network, *given, gradients=right).relative_difference < 1e-7
        right[0][1][2] *= -1
        found = nn.check_gradients(network, *given, gradients=space.pairs(right))
        assert found.relative_difference > 1e-3
        assert found.worst == "b[1][2, 0]"

    def test_other_shapes_and_what_is_not_finite(self) -> None:
        network, layers, X, Y = problem((3, 4, 1), "tanh", "sigmoid", m=7)
        right = self.backward(layers, X, Y)
        with pytest.raises(ValueError, match=r"sizes \(3, 4, 1\), got sizes \(3, 4\)"):
            nn.check_gradients(network, layers, X, Y, gradients=right[:1])
        right[0][0][0, 0] = np.nan
        with pytest.raises(ValueError, match="gradients must be finite"):
            nn.check_gradients(network, layers, X, Y, gradients=right)


def test_weights_that_lie_the_other_way_round_are_told() -> None:
    network, layers, X, Y = problem((4, 3, 1), "tanh", "sigmoid", m=7)
    with pytest.raises(ValueError, match=r"W\[1\] must have shape .* got \(4, 3\) and b\[1\] .* is it W\.T\?"):
        network.gradients([(W.T, b) for W, b in layers], X, Y)


def test_labels_that_are_floats_are_told_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"labels must be integers 0 … 2, got dtype float64; .* labels\.astype\(int\)"):
        nn.one_hot(np.array([[2.0, 0.0]]), 3)
