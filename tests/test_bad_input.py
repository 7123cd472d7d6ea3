"""Bad input is refused where it enters, by an exception of the right type that names the argument, the expected and the
given; what can be used is converted, and nothing that a caller passes in is ever written to."""

import datetime
import decimal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import product
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn
from nnarray.engine import compute

SIZES, M = (3, 4, 2), 5
BAD_VALUES = (np.nan, np.inf, -np.inf)


def case(hidden: Any = "tanh", output: str = "softmax", sizes: tuple[int, ...] = SIZES, m: int = M) -> Any:
    return problem(sizes, hidden, output, m)


@contextmanager
def refused(exception: type[Exception], *parts: str) -> Iterator[None]:
    """The block raises exactly `exception`, with all the parts in its message."""
    with pytest.raises(exception) as caught:
        yield
    assert type(caught.value) is exception
    missing = [part for part in parts if part not in str(caught.value)]
    assert not missing, f"{missing} not in {caught.value}"


@contextmanager
def untouched(*arrays: Any) -> Iterator[None]:
    """The block leaves the bytes of all the arrays as they were."""
    before = [nn.backend("numpy").to_numpy(x).tobytes() for x in arrays]
    yield
    assert [nn.backend("numpy").to_numpy(x).tobytes() for x in arrays] == before


def flat(layers: Any) -> list[Any]:
    return [V for pair in layers for V in pair]


def with_value(host: np.ndarray, value: float, at: tuple[int, ...]) -> np.ndarray:
    changed = np.array(host)
    changed[at] = value
    return changed


def _validation(network: Any, params: Any, X: Any, Y: Any, weights: Any = None) -> Any:
    good = case()
    to = nn.Parameters.from_layers(params).backend.asarray
    return nn.train(network, to(good[2]), to(good[3]), params=params, epochs=1, validation=(X, Y))


# Every way in for data: from (network, params, X, Y, weights) to a result.
WAYS_IN: dict[str, Callable[..., Any]] = {
    "forward": lambda network, params, X, Y, w=None: network.forward(params, X),
    "predict": lambda network, params, X, Y, w=None: network.predict(params, X),
    "cost": lambda network, params, X, Y, w=None: network.cost(params, X, Y, weights=w),
    "gradients": lambda network, params, X, Y, w=None: network.gradients(params, X, Y, weights=w),
    "score": lambda network, params, X, Y, w=None: network.score(params, X, Y),
    "train": lambda network, params, X, Y, w=None: nn.train(network, X, Y, params=params, epochs=1, weights=w),
    "validation": _validation,
    "check_gradients": lambda network, params, X, Y, w=None: nn.check_gradients(network, params, X, Y, weights=w),
}
TAKES = {
    "X": tuple(WAYS_IN),
    "Y": ("cost", "gradients", "score", "train", "validation", "check_gradients"),
    "weights": ("cost", "gradients", "train", "check_gradients"),
}
ARGUMENT_AND_WAY = [(argument, way) for argument, ways in TAKES.items() for way in ways]


def named(argument: str, way: str) -> str:
    return f"validation {argument}" if way == "validation" else argument


def call(way: str, network: Any, params: Any, arguments: dict[str, Any]) -> Any:
    return WAYS_IN[way](network, params, arguments["X"], arguments["Y"], arguments.get("weights"))


# ---------------------------------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize(("argument", "way"), ARGUMENT_AND_WAY)
def test_nan_and_infinity(space: Space, argument: str, way: str) -> None:
    network, layers, X, Y = case("relu", "identity")
    hosts = {"X": X, "Y": Y, "weights": np.ones((1, M))}
    params = space.pairs(layers, "float32")
    for value in BAD_VALUES:
        at = (hosts[argument].shape[0] - 1, 3)
        bad = {**hosts, argument: with_value(hosts[argument], value, at)}
        given = {name: space.asarray(V, "float32") for name, V in bad.items()}
        with untouched(*given.values(), *flat(params)):  # noqa: SIM117
            with refused(ValueError, named(argument, way), "must be finite", f"got {value} at {list(at)}"):
                call(way, network, params, given)


def bad_X_problems(outputs: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """(label, network, layers, X, Y, weights), X finite, in which a bad X has the least chance to be noticed."""
    hiddens = ("relu", "tanh", "sigmoid", "leaky_relu", "identity")
    for hidden, output in product(hiddens, outputs):
        network, layers, X, Y = case(hidden, output)
        dead = [(layers[0][0], layers[0][1] - 50.0), (0.01 * layers[1][0], layers[1][1])]
        yield "plain", network, layers, X, Y, None
        yield "dead units", network, dead, X, Y, None
        yield "weights of zero in W", network, [(0.0 * W, b) for W, b in layers], X, Y, None
        yield "an example of weight 0", network, layers, X, Y, np.array([[1.0, 1.0, 1.0, 0.0, 1.0]])
        yield "one unit", *case(hidden, output, (1, 1, 2), 4), None
        yield "m = 1", *case(hidden, output, SIZES, 1), None
        yield "no hidden layer, m = 1", *case(hidden, output, (3, 2), 1), None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_always_finds_a_bad_X(space: Space, dtype: str) -> None:
    """`gradients` looks at X only where its result isn't finite, so no activation may hide what is in X."""
    outputs = ("sigmoid", "softmax", "identity", "exp") if space.name == "numpy" else ("sigmoid",)
    for label, network, layers, X, Y, weights in bad_X_problems(outputs):
        params, y = space.pairs(layers, dtype), space.asarray(Y, dtype)
        w = None if weights is None else space.asarray(weights, dtype)
        for value in BAD_VALUES:
            at = (X.shape[0] - 1, min(3, X.shape[1] - 1))
            x = space.asarray(with_value(X, value, at), dtype)
            with refused(ValueError, "X must be finite", f"at {list(at)}"):
                network.gradients(params, x, y, weights=w)
                pytest.fail(f"{label}: {value} in X went unseen by {network}")


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("m", [7, 40_000])
def test_one_layer_finds_a_bad_X(output: str, order: Any, m: int) -> None:
    """`predict` and `cost` look at X only where Z is not finite, or where a weight of zero could keep X from it."""
    network, layers, X, Y = case("relu", output, (3, 2), m)
    (W, b) = layers[0]
    half = W * [[1, 0, 1]]
    for V, value, at in product((W, half, 0 * W), BAD_VALUES, [(0, 0), (1, m - 1)]):
        bad = np.asarray(with_value(X, value, at), order=order)
        for ask in (lambda V, bad: network.predict([(V, b)], bad), lambda V, bad: network.cost([(V, b)], bad, Y)):
            with refused(ValueError, "X must be finite", f"at {list(at)}"):
                ask(V, bad)


def test_a_cost_of_ones_own_hides_no_bad_X() -> None:
    """Of A, an infinite Z may give a finite loss."""
    network, layers, X, Y = case("relu", "sigmoid", (3, 2), 7)
    squared = nn.Cost(lambda A, Y, *, xp: (A - Y) ** 2, dA=lambda A, Y, *, xp: 2 * (A - Y))
    with refused(ValueError, "X must be finite", "at [0, 6]"):
        network.cost(layers, with_value(X, np.inf, (0, 6)), Y, cost=squared)


@pytest.mark.parametrize(("share", "looks"), [(1.0, []), (0.0, ["X"])])
def test_one_layer_looks_at_X_where_blas_may_leave_it_out(share: float, looks: list[str], monkeypatch: Any) -> None:
    network, layers, X, Y = case("relu", "sigmoid", (3, 2), 7)
    params = [(layers[0][0] * [[1.0, 1.0, share]], layers[0][1])]
    looked_at = list[str]()
    monkeypatch.setattr(compute, "require_finite", lambda _, name, *__, **___: looked_at.append(name))
    network.predict(params, X, workers=1)
    assert looked_at == looks
    network.cost(params, X, Y, workers=1)
    assert looked_at == 2 * looks


def test_two_layers_find_a_bad_X_that_relu_hides() -> None:
    network, layers, X, Y = case("relu", "sigmoid", (3, 4, 1), 40_000)
    layers = [(-np.abs(layers[0][0]), layers[0][1]), layers[1]]
    bad = with_value(X, np.inf, (0, 39_999))
    for ask in (lambda: network.predict(layers, bad), lambda: network.cost(layers, bad, Y)):
        with refused(ValueError, "X must be finite", "at [0, 39999]"):
            ask()


@pytest.mark.parametrize("m", [7, 40_000])
def test_one_layer_predicts_where_Z_overflows(m: int) -> None:
    X = np.full((2, m), 3e38, "float32")
    X[:, 3] = 0.0
    params = [(np.full((1, 2), 10.0, "float32"), np.zeros((1, 1), "float32"))]
    A = nn.Network((2, 1)).predict(params, X)
    assert set(A[0, :3]) == {1.0}
    assert A[0, 3] == 0.5


def test_gradients_finds_a_bad_X_among_many_examples() -> None:
    network, layers, X, Y = case("relu", "sigmoid", (2, 3, 3, 1), 40_000)
    for value, at in product(BAD_VALUES, [(0, 0), (1, 39_999), (0, 20_001)]):
        with refused(ValueError, "X must be finite", f"at {list(at)}"):
            network.gradients(layers, with_value(X, value, at), Y)


@pytest.mark.parametrize(("argument", "way"), ARGUMENT_AND_WAY)
def test_float64_too_large_for_float32(argument: str, way: str) -> None:
    network, layers, X, Y = case("tanh", "identity")
    params = [(W.astype(np.float32), b.astype(np.float32)) for W, b in layers]
    hosts = {"X": X, "Y": Y, "weights": np.ones((1, M))}
    hosts[argument] = with_value(hosts[argument], 1e300, (0, 2))
    with refused(ValueError, named(argument, way), "must be finite in float32", "got inf at [0, 2]"):
        call(way, network, params, hosts)


# ------------------------------------------------------------------------------------------------- shapes

SHAPES: list[tuple[str, Callable[[np.ndarray], Any], tuple[str, ...]]] = [
    ("X", lambda X: X[0, 0], ("(n_x, m) = (3, m)", "got ()")),
    ("X", lambda X: X[:, 0], ("(n_x, m) = (3, m)", "got (3,)", "X[:, None]")),
    ("X", lambda X: X[0], ("(n_x, m) = (3, m)", "got (5,)")),
    ("X", lambda X: X[None], ("(n_x, m) = (3, m)", "got (1, 3, 5)")),
    ("X", lambda X: X.T, ("(n_x, m) = (3, m)", "got (5, 3)", "X.T?")),
    ("X", lambda X: X[:2], ("(n_x, m) = (3, m)", "got (2, 5)")),
    ("X", lambda X: X[:1], ("(n_x, m) = (3, m)", "got (1, 5)")),
    ("X", lambda X: X[:, :0], ("m ≥ 1", "got shape (3, 0)")),
    ("Y", lambda Y: Y[0, 0], ("(n[L], m) = (2, 5)", "got ()")),
    ("Y", lambda Y: Y[0], ("(n[L], m) = (2, 5)", "got (5,)", "nn.one_hot(")),
    ("Y", lambda Y: Y[:1], ("(n[L], m) = (2, 5)", "got (1, 5)", "nn.one_hot(")),
    ("Y", lambda Y: Y[None], ("(n[L], m) = (2, 5)", "got (1, 2, 5)")),
    ("Y", lambda Y: Y.T, ("(n[L], m) = (2, 5)", "got (5, 2)", "Y.T?")),
    ("Y", lambda Y: Y[:, :4], ("(n[L], m) = (2, 5)", "got (2, 4)")),
    ("Y", lambda Y: Y[:, :1], ("(n[L], m) = (2, 5)", "got (2, 1)")),
    ("Y", lambda Y: Y[:, :0], ("(n[L], m) = (2, 5)", "got (2, 0)")),
    ("Y", lambda Y: np.concatenate([Y, Y]), ("(n[L], m) = (2, 5)", "got (4, 5)")),
    ("weights", lambda w: w[0, 0], ("(1, m) = (1, 5) or (m,) = (5,)", "got ()")),
    ("weights", lambda w: w.T, ("(1, m) = (1, 5) or (m,) = (5,)", "got (5, 1)")),
    ("weights", lambda w: w[0, :4], ("(1, m) = (1, 5) or (m,) = (5,)", "got (4,)")),
    ("weights", lambda w: w[:, :1], ("(1, m) = (1, 5) or (m,) = (5,)", "got (1, 1)")),
    ("weights", lambda w: w[None], ("(1, m) = (1, 5) or (m,) = (5,)", "got (1, 1, 5)")),
    ("weights", lambda w: w[:, :0], ("(1, m) = (1, 5) or (m,) = (5,)", "got (1, 0)")),
]


@pytest.mark.parametrize(("argument", "way"), ARGUMENT_AND_WAY)
def test_shapes_are_never_broadcast(space: Space, argument: str, way: str) -> None:
    network, layers, X, Y = case()
    hosts = {"X": X, "Y": Y, "weights": np.ones((1, M))}
    params = space.pairs(layers)
    for of, change, parts in SHAPES:
        if of != argument:
            continue
        bad = {**hosts, argument: change(hosts[argument])}
        given = {name: space.asarray(V) for name, V in bad.items()}
        with refused(ValueError, named(argument, way), *parts):
            call(way, network, params, given)


def test_one_output_unit_says_how_to_make_a_column_of_targets() -> None:
    network, layers, X, Y = case(output="sigmoid", sizes=(3, 1))
    with refused(ValueError, "(n[L], m) = (1, 5)", "got (5,)", "make it Y[None, :]"):
        network.cost(layers, X, Y[0])


def test_examples_of_one_feature_stay_columns() -> None:
    network, layers, X, _ = case(output="sigmoid", sizes=(1, 1))
    assert network.predict(layers, X).shape == (1, M)
    for wrong in (X.T, X[0]):
        with refused(ValueError, "(n_x, m) = (1, m)", f"got {wrong.shape}"):
            network.predict(layers, wrong)


# -------------------------------------------------------------------------------------- values and targets

TARGETS = [
    ("sigmoid", [[0.0, 2.0, 1.0, 0.5, -1.0]], ("in [0, 1]", "'sigmoid'", "-1.0, 2.0")),
    ("sigmoid", [[1.0, 2.0, 3.0, 2.0, 1.0]], ("in [0, 1]", "'sigmoid'", "2.0, 3.0")),
    ("exp", [[0.0, 3.0, -2.0, 1.0, 7.0]], ("≥ 0", "'exp'", "-2.0")),
    ("softmax", [[1.0, 0, 0, 0, -1], [0, 1, 1, 1, 2]], ("in [0, 1]", "'softmax'", "-1.0, 2.0")),
    ("softmax", [[1.0, 0, 0.5, 0, 1], [1, 1, 0.25, 1, 0]], ("sum to 1", "'softmax'", "0.75, 2.0")),
    ("softmax", [[0.0] * 5, [0.0] * 5], ("sum to 1", "'softmax'", "0.0")),
]


@pytest.mark.parametrize(("output", "Y", "parts"), TARGETS)
def test_targets_that_the_output_cannot_model(space: Space, output: str, Y: Any, parts: tuple[str, ...]) -> None:
    network, layers, X, _ = case(output=output, sizes=(3, len(Y)))
    for way in TAKES["Y"]:
        if way == "validation" and output != "softmax":
            continue  # its training data are of two classes
        net, pairs = (nn.Network(SIZES, "tanh", "softmax"), case()[1]) if way == "validation" else (network, layers)
        with refused(ValueError, named("Y", way), *parts):
            WAYS_IN[way](net, space.pairs(pairs), space.asarray(X), space.asarray(np.array(Y)))


def test_targets_at_the_ends_of_the_range_are_right() -> None:
    for output, Y in [("sigmoid", [[0.0, 1.0, 0.5, 1e-30, 1.0]]), ("exp", [[0.0, 1e6, 0.5, 1.0, 2.0]])]:
        network, layers, X, _ = case(output=output, sizes=(3, 1))
        assert np.isfinite(network.cost(layers, X, Y))
    network, layers, X, _ = case(sizes=(3, 2))
    assert np.isfinite(network.cost(layers, X, [[0.3] * 5, [0.7] * 5]))  # label smoothing


WEIGHTS = [
    ([1.0, 1.0, -0.5, 1.0, 1.0], ("≥ 0", "-0.5")),
    ([0.0] * 5, ("positive sum", "sum of 0")),
    ([3e38] * 5, ("finite in float32", "sum of inf")),
    ([1e37, 1.0, 1.0, 1.0, 1.0], ("from 7.9e-31 to 1.3e+30", "sum of 1e+37", "divide them by the largest")),
    ([1e-39] * 5, ("from 7.9e-31 to 1.3e+30", "sum of ")),
]


@pytest.mark.parametrize(("weights", "parts"), WEIGHTS)
def test_weights_that_make_no_mean(space: Space, weights: list[float], parts: tuple[str, ...]) -> None:
    network, layers, X, Y = case()
    given = {"X": space.asarray(X, "float32"), "Y": space.asarray(Y, "float32")}
    for way in TAKES["weights"]:
        with refused(ValueError, "weights must", *parts):
            call(way, network, space.pairs(layers, "float32"), {**given, "weights": space.asarray(weights, "float32")})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_logits_have_an_exact_finite_loss(space: Space, dtype: str) -> None:
    X = space.asarray([[1000.0, -1000.0]], dtype)
    one, two = space.pairs([([[1.0]], [[0.0]])], dtype), space.pairs([([[1.0], [-1.0]], [[0.0], [0.0]])], dtype)
    expectations = [
        ("sigmoid", one, [[0.0, 1.0]], 1000.0, [1000.0, 0.0]),
        ("sigmoid", one, [[1.0, 0.0]], 0.0, [0.0, 0.0]),
        ("softmax", two, [[0.0, 1.0], [1.0, 0.0]], 2000.0, [1000.0, -1000.0, 0.0, 0.0]),
        ("softmax", two, [[1.0, 0.0], [0.0, 1.0]], 0.0, [0.0, 0.0, 0.0, 0.0]),
    ]
    for output, params, Y, J, theta in expectations:
        network = nn.Network((1, len(Y)), output=output)
        found, gradients = network.gradients(params, X, space.asarray(Y, dtype))
        assert float(found) == float(network.cost(params, X, space.asarray(Y, dtype))) == J
        assert space.to_numpy(gradients.vector).tolist() == theta


# --------------------------------------------------------------------------------------------------- types


def sparse(V: np.ndarray) -> Any:
    return pytest.importorskip("scipy.sparse").csr_array(V)


def frame(V: np.ndarray, **options: Any) -> Any:
    return pytest.importorskip("pandas").DataFrame(V, **options)


def torch_sparse(V: np.ndarray) -> Any:
    return pytest.importorskip("torch").tensor(V).to_sparse()


NO_ARRAYS: dict[str, tuple[Callable[[np.ndarray], Any], type[Exception], str]] = {
    "complex": (lambda V: V + 0j, TypeError, "complex128"),
    "complex list": (lambda V: (V + 1j).tolist(), TypeError, "complex128"),
    "object": (lambda V: V.astype(object), TypeError, "object"),
    "decimals": (lambda V: [[decimal.Decimal(1)] * V.shape[1]] * V.shape[0], TypeError, "object"),
    "huge integers": (lambda V: [[10**400] * V.shape[1]] * V.shape[0], TypeError, "object"),
    "text": (lambda V: V.astype(str), TypeError, "<U"),
    "string dtype": (lambda V: V.astype(np.dtypes.StringDType()), TypeError, "StringDType"),
    "a string": (lambda V: "data.csv", TypeError, "<U"),
    "bytes": (lambda V: b"data", TypeError, "|S"),
    "datetime": (lambda V: V.astype(int).astype("M8[s]"), TypeError, "datetime64"),
    "timedelta": (lambda V: V.astype(int).astype("m8[s]"), TypeError, "timedelta64"),
    "a date": (lambda V: datetime.date(2020, 1, 1), TypeError, "date"),
    "structured": (lambda V: np.zeros(V.shape, [("v", "f4")]), TypeError, "'v'"),
    "Ellipsis": (lambda V: ..., TypeError, "ellipsis"),
    "generator": (lambda V: (row for row in V), TypeError, "generator"),
    "dict": (lambda V: {"v": V}, TypeError, "dict"),
    "set": (lambda V: {1.0, 2.0}, TypeError, "set"),
    "scipy sparse": (sparse, TypeError, "csr_array"),
    "masked": (lambda V: np.ma.masked_array(V, V > 0), TypeError, "MaskedArray"),
    "ragged": (lambda V: [[1.0, 2.0], [3.0], [4.0]], ValueError, "rectangular"),
    "scalar": (lambda V: 3.0, ValueError, "got ()"),
    "object frame": (lambda V: frame(V, dtype=object), TypeError, "object"),
}


@pytest.mark.parametrize("kind", NO_ARRAYS)
@pytest.mark.parametrize(("argument", "way"), ARGUMENT_AND_WAY)
def test_what_is_no_array_of_real_numbers(argument: str, way: str, kind: str) -> None:
    network, layers, X, Y = case()
    hosts = {"X": X, "Y": Y, "weights": np.ones((1, M))}
    make, exception, part = NO_ARRAYS[kind]
    with refused(exception, named(argument, way), part):
        call(way, network, layers, {**hosts, argument: make(hosts[argument])})


@pytest.mark.parametrize("way", TAKES["X"])
def test_None_is_no_data(way: str) -> None:
    network, layers, X, Y = case()
    with refused(TypeError, named("X", way), "NoneType"):
        call(way, network, layers, {"X": None, "Y": Y})
    if way in TAKES["Y"]:
        with refused(TypeError, named("Y", way), "NoneType"):
            call(way, network, layers, {"X": X, "Y": None})


def test_sparse_and_complex_tensors() -> None:
    torch = pytest.importorskip("torch")
    network, layers, X, Y = case()
    params = [(torch.tensor(W), torch.tensor(b)) for W, b in layers]
    for bad, part in [(torch.tensor(X).to_sparse(), "dense"), (torch.tensor(X) + 0j, "complex128")]:
        with refused(TypeError, "X must", part):
            network.gradients(params, bad, torch.tensor(Y))


DTYPES = ["bool", "u1", "i1", "i4", "i8", "u8", "f2", "f4", "f8", "g", ">f4", ">f8", ">i2"]


@pytest.mark.parametrize("given", DTYPES)
def test_other_dtypes_are_converted_to_that_of_the_network(given: str) -> None:
    network, layers, X, Y = case()
    X, Y, weights = (X > 0).astype(given), Y.astype(given), np.array([1, 0, 1, 1, 0]).astype(given)
    for dtype in ("float32", "float64"):
        params = [(W.astype(dtype), b.astype(dtype)) for W, b in layers]
        with untouched(X, Y, weights, *flat(params)):
            J, gradients = network.gradients(params, X, Y, weights=weights)
            plain, reference = network.gradients(
                params, X.astype(dtype), Y.astype(dtype), weights=weights.astype(dtype)
            )
            assert J.dtype == gradients.vector.dtype == network.predict(params, X).dtype == np.dtype(dtype)
            assert plain == J
            np.testing.assert_array_equal(gradients.vector, reference.vector)
            assert nn.train(network, X, Y, params=params, epochs=1).params.dtype == dtype
            assert network.score(params, X, Y) == network.score(params, X.astype(dtype), Y.astype(dtype))


@pytest.mark.parametrize("given", ["bool", "uint8", "int64", "float32", "float64"])
def test_other_dtypes_in_every_namespace(space: Space, given: str) -> None:
    network, layers, X, Y = case()
    x, y = (X > 0).astype(given), Y.astype(given)
    J, gradients = network.gradients(space.pairs(layers, "float32"), space.asarray(x), space.asarray(y))
    space.assert_same_place(J, "float32")
    space.assert_same_place(gradients.vector, "float32")
    reference = network.gradients([(W.astype("f4"), b.astype("f4")) for W, b in layers], x, y)[0]
    np.testing.assert_allclose(float(J), float(reference), rtol=1e-6)


PARAMS_DTYPES = [("float16", "float32"), ("int32", "float32"), ("bool", "float32"), ("float32", "float32")]
PARAMS_DTYPES += [("float64", "float64"), (">f4", "float32"), (">f8", "float64"), ("longdouble", "float64")]


@pytest.mark.parametrize(("given", "dtype"), PARAMS_DTYPES)
def test_the_dtype_that_parameters_compute_in(given: str, dtype: str) -> None:
    network, layers, X, Y = case()
    pairs = [(W.astype(given), b.astype(given)) for W, b in layers]
    theta = np.concatenate([V.ravel() for V in flat(pairs)])
    with untouched(theta, *flat(pairs)):
        for params in (pairs, nn.Parameters.from_layers(pairs), network.parameters(theta)):
            assert network.predict(params, X.astype("f4")).dtype == np.dtype(dtype)
            assert network.gradients(params, X, Y)[1].dtype == dtype


def test_one_layer_in_float64_makes_all_of_them_so() -> None:
    _, layers, _, _ = case()
    (W, b), second = layers
    assert nn.Parameters.from_layers([(W.astype("f4"), b.astype("f4")), second]).dtype == "float64"


def as_matrix(V: np.ndarray) -> np.ndarray:
    return V.view(np.matrix)  # the constructor warns of its deprecation


ARRAY_LIKES: dict[str, Callable[[np.ndarray], Any]] = {
    "list": np.ndarray.tolist,
    "tuples": lambda V: tuple(map(tuple, V.tolist())),
    "list of rows": list,
    "frame": frame,
    "frame of int and float": lambda V: frame(V).astype({0: "int64", 1: "float32"}).astype({0: "float64"}),
    "matrix": as_matrix,
    "recarray": lambda V: V.view(np.recarray),
    "F order": np.asfortranarray,
}


@pytest.mark.parametrize("kind", ARRAY_LIKES)
def test_array_likes_are_taken(kind: str) -> None:
    network, layers, X, Y = case()
    X = np.round(X)
    make = ARRAY_LIKES[kind]
    A = network.predict(layers, make(X))
    assert type(A) is np.ndarray
    np.testing.assert_array_equal(A, network.predict(layers, X))
    assert network.cost(layers, make(X), make(Y)) == network.cost(layers, X, Y)
    assert network.score(layers, make(X), make(Y)) == network.score(layers, X, Y)


def test_parameters_as_nested_lists_follow_the_data(space: Space) -> None:
    """Lists live nowhere, so the arrays beside them decide where the call computes."""
    network, layers, X, Y = case()
    lists = [(W.tolist(), b.tolist()) for W, b in layers]
    x, y = space.asarray(X, "float32"), space.asarray(Y, "float32")
    space.assert_same_place(network.predict(lists, x), "float32")
    space.assert_same_place(network.cost(lists, x, y), "float32")
    space.assert_same_place(network.gradients(lists, x, y)[1].vector, "float32")
    space.assert_same_place(nn.train(network, x, y, params=lists, epochs=1).params.vector, "float32")
    assert 0.0 <= network.score(lists, x, y) <= 1.0


def test_data_as_nested_lists_follow_the_parameters(space: Space) -> None:
    network, layers, X, Y = case()
    params = space.pairs(layers, "float64")
    space.assert_same_place(network.predict(params, X.tolist()), "float64")
    space.assert_same_place(network.gradients(params, X.tolist(), Y.tolist(), weights=[1.0] * M)[1].vector, "float64")


# ------------------------------------------------------------------------------------------------ two places


def places() -> list[tuple[str, Any, Any]]:
    """(names in the message, one place's asarray, another's) for every two that this machine has."""
    pairs = [("numpy", "torch"), ("torch", "jax"), ("numpy", "jax"), ("jax", "numpy"), ("torch", "numpy")]
    return [pytest.param(a, b, id=f"{a}+{b}") for a, b in pairs]


def _opened(name: str) -> nn.Backend:
    reason = nn.backends.unavailable_reason(name)
    if reason:
        pytest.skip(reason)
    return nn.backend(name)


@pytest.mark.parametrize(("first", "second"), places())
def test_arrays_of_two_namespaces(first: str, second: str) -> None:
    here, there = _opened(first), _opened(second)
    _assert_never_mixed(here.asarray, there.asarray, first, second)


def test_arrays_of_two_devices(open_space: Callable[[str], Space]) -> None:
    here, there = open_space("strict"), open_space("strict-device")
    _assert_never_mixed(here.asarray, there.asarray, "CPU_DEVICE", "device1")


def _assert_never_mixed(here: Any, there: Any, first: str, second: str) -> None:
    network, layers, X, Y = case()
    weights = np.ones((1, M))
    params = [(here(W), here(b)) for W, b in layers]
    both = (first, second, "one place")
    for way in TAKES["X"]:
        with refused(TypeError, *both):
            call(way, network, params, {"X": there(X), "Y": there(Y)})
    for way in TAKES["Y"]:
        with refused(TypeError, "Y", *both):
            call(way, network, params, {"X": here(X), "Y": there(Y)})
    for way in TAKES["weights"]:
        with refused(TypeError, "weights", *both):
            call(way, network, params, {"X": here(X), "Y": here(Y), "weights": there(weights)})
    with refused(TypeError, "X", "Y", *both):
        nn.train(network, here(X), there(Y), epochs=1)
    (W, b), rest = params[0], params[1:]
    with refused(TypeError, "W[1]", "b[1]", *both):
        nn.Parameters.from_layers([(W, there(layers[0][1])), *rest])
    for optimizer in (nn.GradientDescent(), nn.Adam()):
        gradients = [(there(W), there(b)) for W, b in layers]
        with refused(TypeError, "params", "gradients", *both):
            optimizer.update(params, gradients, optimizer.init(params))
    assert tuple(b.shape) == (4, 1)


def test_an_explicit_backend_brings_everything_to_one_place() -> None:
    torch = pytest.importorskip("torch")
    network, layers, X, Y = case()
    result = nn.train(network, X, torch.tensor(Y), params=layers, epochs=1, backend="torch", validation=(X, Y))
    assert isinstance(result.params.vector, torch.Tensor)
    assert isinstance(nn.train(network, torch.tensor(X), Y, epochs=1, backend="numpy").params.vector, np.ndarray)


# ----------------------------------------------------------------------------------------------- parameters

PAIRS: dict[str, tuple[Callable[[Any], Any], type[Exception], tuple[str, ...]]] = {
    "None": (lambda p: None, TypeError, ("(W, b) pairs", "NoneType")),
    "number": (lambda p: 3, TypeError, ("(W, b) pairs", "int")),
    "theta": (lambda p: np.zeros(26), TypeError, ("(W, b) pairs", "ndarray")),
    "text": (lambda p: "model.safetensors", TypeError, ("(W, b) pairs", "str")),
    "dict": (lambda p: {"layer 1": p[0]}, TypeError, ("(W, b) pairs", "dict")),
    "triples": (lambda p: [(W, b, b) for W, b in p], TypeError, ("(W, b) pairs", "list")),
    "one bare pair": (lambda p: p[0], TypeError, ("(W, b) pairs", "tuple")),
    "empty": (lambda p: [], ValueError, ("at least one (W, b) pair",)),
    "too few layers": (lambda p: p[:1], ValueError, ("(3, 4, 2)", "(3, 4)")),
    "too many layers": (lambda p: [*p, (np.ones((1, 2)), np.ones((1, 1)))], ValueError, ("(3, 4, 2)", "(3, 4, 2, 1)")),
    "another network's": (lambda p: nn.Network((3, 5, 2)).init(), ValueError, ("(3, 4, 2)", "(3, 5, 2)")),
    "layers in reverse": (lambda p: p[::-1], ValueError, ("W[2]", "(n[2], n[1]) = (n[2], 2)", "got (4, 3)")),
    "W and b swapped": (lambda p: [(b, W) for W, b in p], ValueError, ("b[1]", "(n[1], 1) = (4, 1)", "got (4, 3)")),
    "W transposed": (lambda p: [(p[0][0].T, p[0][1]), p[1]], ValueError, ("W[1]", "got (3, 4)", "is it W.T?")),
    "b of rank 1": (lambda p: [(W, b[:, 0]) for W, b in p], ValueError, ("b[1]", "(4, 1), a column", "got (4,)")),
    "b as a row": (lambda p: [(W, b.T) for W, b in p], ValueError, ("b[1]", "(4, 1), a column", "got (1, 4)")),
    "b per example": (lambda p: [(p[0][0], np.ones((4, M))), p[1]], ValueError, ("b[1]", "(4, 1)", "got (4, 5)")),
    "W of rank 1": (lambda p: [(p[0][0][0], p[0][1])], ValueError, ("W[1]", "(n[1], n[0])", "got (3,)")),
    "W of rank 3": (lambda p: [(p[0][0][None], p[0][1])], ValueError, ("W[1]", "(n[1], n[0])", "got (1, 4, 3)")),
    "W without units": (lambda p: [(p[0][0][:0], p[0][1][:0])], ValueError, ("W[1]", "got (0, 3)")),
    "None as b": (lambda p: [(W, None) for W, _ in p], TypeError, ("b[1]", "NoneType")),
    "complex W": (lambda p: [(W + 0j, b) for W, b in p], TypeError, ("W[1]", "complex128")),
    "text in W": (lambda p: [(W.astype(str), b) for W, b in p], TypeError, ("W[1]", "<U")),
    "masked b": (lambda p: [(W, np.ma.masked_array(b)) for W, b in p], TypeError, ("b[1]", "MaskedArray")),
    "sparse W": (lambda p: [(sparse(W), b) for W, b in p], TypeError, ("W[1]", "csr_array")),
    "ragged W": (lambda p: [([[1.0, 2.0, 3.0], [1.0]], b) for _, b in p], ValueError, ("W[1]", "rectangular")),
}
FITS_ANY_NETWORK = ("too few layers", "too many layers", "another network's")


@pytest.mark.parametrize("kind", PAIRS)
def test_parameters_that_fit_no_network(kind: str) -> None:
    network, layers, X, Y = case()
    make, exception, parts = PAIRS[kind]
    for way in WAYS_IN:
        if way == "validation" or (way == "train" and kind == "None"):
            continue  # None stands for new parameters there
        with untouched(X, Y, *flat(layers)), refused(exception, *parts):
            call(way, network, make(layers), {"X": X, "Y": Y})
    if kind in FITS_ANY_NETWORK:
        return
    optimizer = nn.Adam()
    state = optimizer.init(layers)
    with refused(exception, *parts):
        nn.Parameters.from_layers(make(layers))
    with refused(exception, *parts):
        optimizer.init(make(layers))
    with refused(exception, *parts):
        optimizer.update(make(layers), layers, state)
    with refused(exception, *parts):
        optimizer.update(layers, make(layers), state)


def test_pairs_in_every_form_compute_the_same(space: Space) -> None:
    network, layers, X, Y = case()
    x, y = space.asarray(X), space.asarray(Y)
    pairs = space.pairs(layers)
    forms = [
        pairs,
        tuple(map(tuple, pairs)),
        [list(pair) for pair in pairs],
        [nn.Layer(*pair) for pair in pairs],
        nn.Parameters.from_layers(pairs),
        list(nn.Parameters.from_layers(pairs)),
        network.parameters(nn.Parameters.from_layers(pairs).vector),
    ]
    J, g = network.gradients(pairs, x, y)
    for params in forms:
        found, gradients = network.gradients(params, x, y)
        assert float(found) == float(J)
        np.testing.assert_array_equal(space.to_numpy(gradients.vector), space.to_numpy(g.vector))


def test_theta(space: Space) -> None:
    network = nn.Network(SIZES)
    for shape in [(), (25,), (27,), (26, 1), (1, 26)]:
        with refused(ValueError, "theta", "(size,) = (26,)", f"got {shape}"):
            network.parameters(space.asarray(np.zeros(shape)))
    theta = space.asarray(np.arange(26.0), "float32")
    space.assert_same_place(network.parameters(theta).vector, "float32")
    space.assert_same_place(network.parameters(space.asarray(np.arange(26))).vector, "float32")


@pytest.mark.parametrize("kind", [k for k, v in NO_ARRAYS.items() if v[1] is TypeError])
def test_theta_of_no_numbers(kind: str) -> None:
    with refused(TypeError, "theta", NO_ARRAYS[kind][2]):
        nn.Network((3, 6)).parameters(NO_ARRAYS[kind][0](np.ones((2, 12))))


# -------------------------------------------------------------------------------------------------- numbers

NO_NUMBERS = [True, np.True_, "0.1", None, 1j, np.complex128(1), [0.1], (0.1,), np.array([0.1]), np.array([0.1, 0.2])]
NOT_FINITE = [np.nan, np.inf, -np.inf]
NO_COUNTS = [True, np.True_, "3", 3.0, np.float64(3), 1j, [3], np.array([3])]


def _train(**arguments: Any) -> Any:
    network, _, X, Y = case()
    return nn.train(network, X, Y, **{"epochs": 1, "patience": 2, **arguments})


def _check(**arguments: Any) -> Any:
    network, layers, X, Y = case()
    return nn.check_gradients(network, layers, X, Y, **arguments)


def _of_network(method: str) -> Callable[..., Any]:
    def called(**arguments: Any) -> Any:
        network, layers, X, Y = case()
        return getattr(network, method)(layers, X, Y, **arguments)

    return called


# (what takes it, its name, numbers that are out of its range)
NUMBERS: list[tuple[Callable[..., Any], str, list[Any]]] = [
    (_of_network("cost"), "l2", [-0.1]),
    (_of_network("cost"), "l1", [-0.1]),
    (_of_network("gradients"), "l2", [-0.1]),
    (_of_network("gradients"), "l1", [-0.1]),
    (_train, "l2", [-1]),
    (_train, "l1", [-1]),
    (_check, "l2", [-1]),
    (_check, "l1", [-1]),
    (_check, "eps", [0, -1e-6]),
    (_train, "min_delta", [-0.1]),
    (_train, "dropout", [-0.1, 1, 1.5]),
    *((optimizer, "learning_rate", [-0.1]) for optimizer in (nn.GradientDescent, nn.Momentum, nn.Nesterov, nn.RMSprop)),
    (nn.Adam, "learning_rate", [-1]),
    *((optimizer, "beta", [-0.1, 1, 1.1]) for optimizer in (nn.Momentum, nn.Nesterov, nn.RMSprop)),
    (nn.Adam, "beta1", [-0.1, 1.0]),
    (nn.Adam, "beta2", [-0.1, 1.0]),
    (nn.Adam, "eps", [-1e-8]),
    (nn.RMSprop, "eps", [-1e-8]),
]


@pytest.mark.parametrize(("taker", "argument", "out_of_range"), NUMBERS)
def test_hyperparameters(taker: Callable[..., Any], argument: str, out_of_range: list[Any]) -> None:
    sequences = (list, tuple, np.ndarray) if argument == "dropout" else ()
    for value in NO_NUMBERS:
        if not isinstance(value, sequences):
            with refused(TypeError, argument, "number", repr(value)):
                taker(**{argument: value})
    for value in [*NOT_FINITE, *out_of_range]:
        with refused(ValueError, argument, "finite number", repr(value)):
            taker(**{argument: value})
    for value in (np.float32(0.5), np.float64(0.5), np.array(0.5), decimal.Decimal("0.5")):
        taker(**{argument: value})


COUNTS: list[tuple[Callable[..., Any], str]] = [
    (_train, "epochs"),
    (_train, "batch_size"),
    (_train, "patience"),
    (_train, "workers"),
    (_of_network("gradients"), "workers"),
    (_check, "coordinates"),
]


@pytest.mark.parametrize(("taker", "argument"), COUNTS)
def test_counts(taker: Callable[..., Any], argument: str) -> None:
    for value in NO_COUNTS:
        with refused(TypeError, argument, "whole number", repr(value)):
            taker(**{argument: value})
    for value in (-1, np.int64(-3)):
        with refused(ValueError, argument, "whole number", repr(value)):
            taker(**{argument: value})
    taker(**{argument: np.int64(2)})


def test_zero_is_no_count_of_epochs() -> None:
    for argument in ("epochs", "batch_size", "patience", "workers"):
        with refused(ValueError, argument, "≥ 1", "got 0"):
            _train(**{argument: 0})


@pytest.mark.parametrize("value", ["1", 1.5, True, -1])
def test_seeds(value: Any) -> None:
    exception = ValueError if value == -1 else TypeError
    for taker in (nn.Network(SIZES).init, _train, _check):
        with refused(exception, "seed", repr(value)):
            taker(seed=value)


def test_numpy_scalars_as_hyperparameters_leave_the_dtype() -> None:
    network = nn.Network(SIZES)
    params = network.init(seed=1, dtype="float32")
    for optimizer in (nn.GradientDescent, nn.Momentum, nn.Nesterov, nn.RMSprop, nn.Adam):
        plain = optimizer()
        given = optimizer(**{field.name: np.float64(getattr(plain, field.name)) for field in fields(plain)})
        found, state = given.update(params, params, given.init(params))
        assert found.dtype == "float32"
        assert all(V is None or V.dtype == np.float32 for V in (state.v, state.s))
        np.testing.assert_array_equal(found.vector, plain.update(params, params, plain.init(params))[0].vector)


# ------------------------------------------------------------------------------------ architecture and choices

ARCHITECTURES: list[tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ({"sizes": 5}, TypeError, ("sizes", "whole numbers", "5")),
    ({"sizes": None}, TypeError, ("sizes", "None")),
    ({"sizes": "34"}, TypeError, ("sizes", "'34'")),
    ({"sizes": (3, 2.0, 1)}, TypeError, ("sizes", "2.0")),
    ({"sizes": (3, True)}, TypeError, ("sizes", "True")),
    ({"sizes": (3, None)}, TypeError, ("sizes", "None")),
    ({"sizes": ()}, ValueError, ("sizes", "n_x and at least one layer", "()")),
    ({"sizes": (3,)}, ValueError, ("sizes", "n_x and at least one layer", "(3,)")),
    ({"sizes": (3, 0)}, ValueError, ("sizes[1]", "≥ 1", "got 0")),
    ({"sizes": (-3, 1)}, ValueError, ("sizes[0]", "≥ 1", "got -3")),
    ({"sizes": SIZES, "hidden": "mish"}, ValueError, ("hidden", "'leaky_relu'", "'mish'")),
    ({"sizes": SIZES, "hidden": "RELU"}, ValueError, ("hidden", "'relu'", "'RELU'")),
    ({"sizes": SIZES, "hidden": ("tanh", "tanh")}, ValueError, ("hidden", "one per hidden layer (1)", "got 2")),
    ({"sizes": SIZES, "hidden": []}, ValueError, ("hidden", "one per hidden layer (1)", "got 0")),
    ({"sizes": (3, 1), "hidden": ["relu"]}, ValueError, ("hidden", "one per hidden layer (0)", "got 1")),
    ({"sizes": SIZES, "hidden": [None]}, ValueError, ("hidden", "None")),
    ({"sizes": SIZES, "hidden": None}, TypeError, ("hidden", "None")),
    ({"sizes": SIZES, "hidden": 3}, TypeError, ("hidden", "3")),
    ({"sizes": SIZES, "hidden": np.tanh}, TypeError, ("hidden", "tanh")),
    ({"sizes": SIZES, "hidden": [["relu"]]}, ValueError, ("hidden", "['relu']")),
    ({"sizes": SIZES, "output": "relu"}, ValueError, ("output", "'softmax'", "'relu'")),
    ({"sizes": SIZES, "output": None}, ValueError, ("output", "None")),
    ({"sizes": SIZES, "output": ["sigmoid"]}, ValueError, ("output", "['sigmoid']")),
    ({"sizes": (3, 1), "output": "softmax"}, ValueError, ("softmax", "n[L] ≥ 2", "got 1", "sigmoid")),
]


@pytest.mark.parametrize(("arguments", "exception", "parts"), ARCHITECTURES)
def test_architectures(arguments: dict[str, Any], exception: type[Exception], parts: tuple[str, ...]) -> None:
    with refused(exception, *parts):
        nn.Network(**arguments)


def test_sizes_of_other_integers() -> None:
    for sizes in (np.array([3, 2]), [np.int32(3), np.int64(2)], iter((3, 2))):
        network = nn.Network(sizes)
        assert network.sizes == (3, 2)
        assert all(type(n) is int for n in network.sizes)


@pytest.mark.parametrize("dtype", ["float16", "int32", "bogus", np.float32, None])
def test_dtypes(dtype: Any) -> None:
    with refused(ValueError, "dtype", '"float32" or "float64"', repr(dtype)):
        nn.Network(SIZES).init(dtype=dtype)
    with refused(ValueError, "dtype", '"float32" or "float64"', repr(dtype)):
        _train(dtype=dtype)


@pytest.mark.parametrize("scheme", ["bogus", None, "He", ["he"]])
def test_schemes(scheme: Any) -> None:
    with refused(ValueError, "scheme", "'he'", "'xavier'", repr(scheme)):
        nn.Network(SIZES).init(scheme=scheme)
    with refused(ValueError, "scheme", "'he'", "'xavier'", repr(scheme)):
        _train(scheme=scheme)


VALIDATION: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda X, Y: 3, "int"),
    (lambda X, Y: (X,), "tuple"),
    (lambda X, Y: (X, Y, Y), "tuple"),
    (lambda X, Y: X, "ndarray"),
]


@pytest.mark.parametrize(("make", "part"), VALIDATION)
def test_validation_is_a_pair(make: Callable[[Any, Any], Any], part: str) -> None:
    network, _, X, Y = case()
    with refused(TypeError, "validation", "(X, Y)", part):
        nn.train(network, X, Y, epochs=1, validation=make(X, Y))


def test_dropout_has_one_rate_per_hidden_layer() -> None:
    for rates in [(0.1, 0.2), [], (0.5,) * 3]:
        with refused(ValueError, "dropout", "one per hidden layer (1)", f"got {len(rates)}"):
            _train(dropout=rates)
    with refused(TypeError, "dropout", "number", "'0.5'"):
        _train(dropout="0.5")
    for rates in [[0.5], (0.5,), np.array([0.5]), 0.5]:
        assert _train(dropout=rates).stopped == "epochs"


# ---------------------------------------------------------------------------------------------- optimisers

OTHER_STATES: list[tuple[Callable[[Any], Any], type[Exception], tuple[str, ...]]] = [
    (lambda params: None, TypeError, ("state", "NoneType")),
    (lambda params: {}, TypeError, ("state", "dict")),
    (lambda params: nn.Momentum().init(params), ValueError, ("state", "Adam")),
    (lambda params: nn.Adam().init(nn.Network((2, 1)).init()), ValueError, ("state", "(26,)", "(3,)")),
]


@pytest.mark.parametrize(("make", "exception", "parts"), OTHER_STATES)
def test_a_state_of_something_else(make: Any, exception: type[Exception], parts: tuple[str, ...]) -> None:
    params = nn.Network(SIZES).init()
    with refused(exception, *parts):
        nn.Adam().update(params, params, make(params))


def test_gradients_of_another_network_or_dtype() -> None:
    params = nn.Network(SIZES).init()
    for optimizer in (nn.GradientDescent(), nn.Adam()):
        with refused(ValueError, "gradients", "(3, 4, 2)", "(3, 5, 2)"):
            optimizer.update(params, nn.Network((3, 5, 2)).init(), optimizer.init(params))
        wide = nn.Network(SIZES).init(dtype="float64")
        assert optimizer.update(params, wide, optimizer.init(params))[0].dtype == "float32"


@pytest.mark.parametrize("optimizer", ["adam", nn.Adam, 0.1])
def test_what_is_no_optimizer(optimizer: Any) -> None:
    with refused(TypeError, "optimizer", repr(optimizer)):
        _train(optimizer=optimizer)


def test_what_is_no_callback_and_no_network() -> None:
    with refused(TypeError, "callback", "3"):
        _train(callback=3)
    _, layers, X, Y = case()
    with refused(TypeError, "network", "tuple"):
        nn.train(SIZES, X, Y, epochs=1)
    with refused(TypeError, "network", "NoneType"):
        nn.check_gradients(None, layers, X, Y)


# ------------------------------------------------------------------------------------------------ one_hot

LABELS: list[tuple[Any, Any, type[Exception], tuple[str, ...]]] = [
    ([0, 3, 1, 7], 3, ValueError, ("labels", "0 … 2", "3, 7")),
    ([-1, 0], 2, ValueError, ("labels", "0 … 1", "-1")),
    (np.arange(20), 3, ValueError, ("labels", "0 … 2", "3, 4, 5, 6, 7, …", "17")),
    (np.array([2**63], dtype=np.uint64), 3, ValueError, ("labels", "9223372036854775808")),
    ([], 3, ValueError, ("labels", "at least one", "(0,)")),
    (2, 3, ValueError, ("labels", "(m,) or (1, m)", "()")),
    ([[0], [1]], 3, ValueError, ("labels", "(m,) or (1, m)", "(2, 1)")),
    ([[[0]]], 3, ValueError, ("labels", "(m,) or (1, m)", "(1, 1, 1)")),
    ([[0], [1, 2]], 3, ValueError, ("labels", "rectangular")),
    ([0.0, 1.0], 3, TypeError, ("labels", "integers", "float64")),
    ([np.nan], 3, TypeError, ("labels", "integers", "float64")),
    (["a"], 3, TypeError, ("labels", "integers", "<U1")),
    ([1j], 3, TypeError, ("labels", "integers", "complex128")),
    (np.array([0, 1], dtype="m8[s]"), 3, TypeError, ("labels", "integers", "timedelta64")),
    (None, 3, TypeError, ("labels", "NoneType")),
    ((label for label in [0, 1]), 3, TypeError, ("labels", "generator")),
    (np.ma.masked_array([0, 1], [True, False]), 3, TypeError, ("labels", "MaskedArray")),
    ([0], 0, ValueError, ("classes", "≥ 1", "0")),
    ([0], -2, ValueError, ("classes", "≥ 1", "-2")),
    ([0], True, TypeError, ("classes", "True")),
    ([0], 2.0, TypeError, ("classes", "2.0")),
    ([0], "2", TypeError, ("classes", "'2'")),
    ([0], None, TypeError, ("classes", "None")),
]


@pytest.mark.parametrize(("labels", "classes", "exception", "parts"), LABELS)
def test_labels(labels: Any, classes: Any, exception: type[Exception], parts: tuple[str, ...]) -> None:
    with refused(exception, *parts):
        nn.one_hot(labels, classes)


def test_labels_of_every_namespace(space: Space) -> None:
    for dtype in ("int64", "uint8", "bool"):
        labels = space.asarray(np.array([1, 0, 1]).astype(dtype))
        with untouched(labels):
            Y = nn.one_hot(labels, 2)
        space.assert_same_place(Y, "float32")
        assert space.to_numpy(Y).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    space.assert_same_place(nn.one_hot(labels, 2, dtype="float64"), "float64")
    with refused(ValueError, "labels", "0 … 1", "5"):
        nn.one_hot(space.asarray(np.array([[5, 0]])), 2)


@pytest.mark.parametrize("dtype", ["float16", "int64", "bogus"])
def test_one_hot_is_float32_or_float64(dtype: str) -> None:
    with refused(ValueError, "dtype", '"float32" or "float64"', repr(dtype)):
        nn.one_hot([0, 1], 2, dtype=dtype)


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_divergence_keeps_the_last_finite_parameters(space: Space, hidden: str) -> None:
    network, layers, X, Y = case(hidden, "identity")
    x, y, params = space.asarray(X, "float32"), space.asarray(Y, "float32"), space.pairs(layers, "float32")
    with untouched(x, y, *flat(params)), pytest.raises(nn.DivergenceError, match=r"learning_rate.*1e\+12") as caught:
        nn.train(network, x, y, params=params, epochs=50, optimizer=nn.GradientDescent(1e12))
    assert isinstance(caught.value, FloatingPointError)
    space.assert_same_place(caught.value.params.vector, "float32")
    assert np.isfinite(space.to_numpy(caught.value.params.vector)).all()
    assert all(np.isfinite(epoch.cost) for epoch in caught.value.history)
    assert network.predict(caught.value.params, x).shape == (2, M)


def test_ctrl_c_returns_what_there_is() -> None:
    network, _, X, Y = case()

    def interrupt(record: nn.Epoch) -> None:
        if record.epoch == 3:
            raise KeyboardInterrupt

    result = nn.train(network, X, Y, epochs=100, callback=interrupt)
    assert (result.stopped, len(result.history)) == ("interrupt", 3)
    assert np.isfinite(result.params.vector).all()


# ------------------------------------------------------------------------------------- inputs stay as they are


def _everything(network: nn.Network, layers: Any, params: Any, X: Any, Y: Any, w: Any) -> Iterator[tuple[str, Any]]:
    for name, way in WAYS_IN.items():
        yield name, lambda way=way: way(network, layers, X, Y, w)
        yield f"{name}, Parameters", lambda way=way: way(network, params, X, Y, w)
    yield "l2", lambda: network.gradients(params, X, Y, l2=0.5)
    for optimizer in (nn.GradientDescent(), nn.Momentum(), nn.Nesterov(), nn.RMSprop(), nn.Adam()):
        yield repr(optimizer), lambda o=optimizer: o.update(params, params, o.init(params))
        yield f"train, {optimizer}", lambda o=optimizer: nn.train(
            network, X, Y, params=params, optimizer=o, weights=w, epochs=2, batch_size=2, l2=0.1, dropout=0.5,
            validation=(X, Y), patience=1,
        )  # fmt: skip


@pytest.mark.parametrize(("hidden", "dtype"), [("relu", "float32"), ("identity", "float64")])
def test_no_call_writes_to_its_inputs(space: Space, hidden: str, dtype: str) -> None:
    network, layers, X, Y = case(hidden, "identity")
    x, y, w = (space.asarray(V, dtype) for V in (X, Y, np.linspace(0.5, 1.5, M)[None, :]))
    pairs = space.pairs(layers, dtype)
    params = nn.Parameters.from_layers(pairs)
    for name, do in _everything(network, pairs, params, x, y, w):
        before = [space.to_numpy(V).tobytes() for V in (x, y, w, params.vector, *flat(pairs))]
        do()
        after = [space.to_numpy(V).tobytes() for V in (x, y, w, params.vector, *flat(pairs))]
        assert after == before, f"{name} wrote to its input"


def test_an_update_leaves_the_state_before_it_as_it_was(space: Space) -> None:
    network = nn.Network(SIZES)
    params = network.init(seed=1, backend=space.backend)
    for optimizer in (nn.Momentum(), nn.Nesterov(), nn.RMSprop(), nn.Adam()):
        _, state = optimizer.update(params, params, optimizer.init(params))
        means = [V for V in (state.v, state.s) if V is not None]
        with untouched(*means, params.vector):
            optimizer.update(params, params, state)


def test_parameters_from_layers_are_a_copy() -> None:
    _, layers, _, _ = case()
    params = nn.Parameters.from_layers(layers)
    with untouched(*flat(layers)):
        params.vector[:] = 0.0
