"""The short way in: the same results as by the long one, and the same errors, whatever is given."""

from typing import Any

import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import engine
from nnarray.backends import makes_machine_code
from nnarray.programs.targets.llvm import program

pytestmark = pytest.mark.skipif(not makes_machine_code(), reason="there is no machine code here")

OUTPUTS = ("sigmoid", "softmax", "identity", "exp")


@pytest.fixture
def taken(monkeypatch) -> dict[str, list[bool]]:
    """For each question, whether it was answered the short way."""
    found: dict[str, list[bool]] = {}

    def watch(name: str) -> None:
        real = getattr(engine.native_calls, name)

        def call(*given: Any) -> Any:
            answer = real(*given)
            found.setdefault(name, []).append(answer is not None)
            return answer

        monkeypatch.setattr(engine.native_calls, name, call)

    for name in ("gradients", "cost", "predict", "update"):
        watch(name)
    return found


def the_long_way(monkeypatch: Any, call: Any) -> Any:
    with monkeypatch.context() as patch:
        for name in ("gradients", "cost", "predict", "update"):
            patch.setattr(engine.native_calls, name, lambda *_: None)
        return call()


def asked(network: nn.Network, params: Any, X: Any, Y: Any, **options: Any) -> list[np.ndarray]:
    J, gradients = network.gradients(params, X, Y, **options)
    return [
        np.asarray(J),
        gradients.vector,
        np.asarray(network.cost(params, X, Y, **options)),
        network.predict(params, X),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("sizes", "m"), [((3, 4, 2), 7), ((5, 2), 1), ((64, 100, 10), 200), ((2, 3, 5, 4, 2), 400)])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda V: np.repeat(V, 2, axis=0)[::2]])
def test_the_same_bits(layout, sizes, m, output, dtype, taken, monkeypatch) -> None:
    network, layers, X, Y = problem(sizes, "tanh", output, m=m)
    params = nn.Parameters.from_layers(layers).to(nn.backend("numpy"), dtype)
    X, Y = layout(X.astype(dtype)), layout(Y.astype(dtype))
    for options in ({}, {"l2": 0.3}, {"l1": 0.2}, {"l2": 0.3, "l1": 0.2}):
        found = asked(network, params, X, Y, **options)
        for one, other in zip(
            found, the_long_way(monkeypatch, lambda o=options: asked(network, params, X, Y, **o)), strict=True
        ):
            assert one.dtype == dtype
            np.testing.assert_array_equal(one, other)
    blas_reads_it = not (layout not in (np.ascontiguousarray, np.asfortranarray) and sizes[0] > 16)
    assert all(all(answers) for answers in taken.values()) or not blas_reads_it
    assert set(taken) == {"gradients", "cost", "predict"}


def given(name: str) -> dict[str, Any]:
    """A network with arrays that are right but for one thing."""
    network, layers, X, Y = problem((4, 5, 3), "relu", "softmax", m=6)
    case: dict[str, Any] = {"network": network, "params": nn.Parameters.from_layers(layers), "X": X, "Y": Y, "l2": 0.1}
    changed = {
        "nan in X": ("X", np.where(np.arange(6) == 3, np.nan, X)),
        "infinity in X": ("X", np.where(np.arange(6) == 3, np.inf, X)),
        "nan in Y": ("Y", np.where(np.arange(6) == 3, np.nan, Y)),
        "Y too large": ("Y", Y * 3),
        "Y does not sum to 1": ("Y", Y * 0.5),
        "Y negative": ("Y", Y - 0.01),
        "X transposed": ("X", X.T),
        "X of rank 1": ("X", X[:, 0]),
        "X without examples": ("X", X[:, :0]),
        "Y of one row": ("Y", Y[:1]),
        "Y of other m": ("Y", Y[:, :5]),
        "complex X": ("X", X.astype(complex)),
        "text": ("X", X.astype(str)),
        "masked X": ("X", np.ma.masked_invalid(X)),
        "l2 negative": ("l2", -1.0),
        "l2 nan": ("l2", np.nan),
        "l2 beyond floats": ("l2", 10**400),
        "l2 text": ("l2", "1"),
        "l2 true": ("l2", True),
        "params of other sizes": ("params", nn.Network((4, 6, 3), output="softmax").init(0)),
        "params none": ("params", None),
    }
    argument, value = changed[name]
    return case | {argument: value}


WRONG = [
    "nan in X",
    "infinity in X",
    "nan in Y",
    "Y too large",
    "Y does not sum to 1",
    "Y negative",
    "X transposed",
    "X of rank 1",
    "X without examples",
    "Y of one row",
    "Y of other m",
    "complex X",
    "text",
    "masked X",
    "l2 negative",
    "l2 nan",
    "l2 beyond floats",
    "l2 text",
    "l2 true",
    "params of other sizes",
    "params none",
]


@pytest.mark.parametrize("question", ["gradients", "cost", "predict"])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_as_by_the_long_way(name, question, monkeypatch) -> None:
    case = given(name)
    arguments = [case["params"], case["X"]] + ([] if question == "predict" else [case["Y"]])
    options = {} if question == "predict" else {"l2": case["l2"]}

    def call() -> str:
        try:
            getattr(case["network"], question)(*arguments, **options)
        except (TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    said = call()
    assert said == the_long_way(monkeypatch, call)
    is_about_Y = name.startswith(("Y", "nan in Y", "l2"))
    assert said != "nothing" or (question == "predict" and is_about_Y)


@pytest.mark.parametrize(
    "change",
    [
        lambda V: V.astype("float64"),
        lambda V: V.astype("int64"),
        lambda V: V.astype(V.dtype.newbyteorder()),
        lambda V: V.astype("float16"),
        lambda V: V.tolist(),
        lambda V: np.repeat(V, 2, axis=1)[:, ::-2],
        lambda V: V.view(type("Own", (np.ndarray,), {})),
        lambda V: np.frombuffer(b"\0" + V.tobytes(), np.uint8)[1:].view(V.dtype).reshape(V.shape),
    ],
    ids=["float64", "int64", "byte order", "float16", "list", "backwards", "subclass", "misaligned"],
)
def test_other_arrays_are_converted_as_before(change, monkeypatch) -> None:
    network, layers, X, Y = problem((4, 5, 3), "relu", "softmax", m=6)
    params = nn.Parameters.from_layers(layers).to(nn.backend("numpy"), "float32")
    X, Y = np.round(X.astype("float32")), np.eye(3, dtype="float32")[:, [0, 1, 2, 0, 1, 2]]
    found = asked(network, params, change(X), change(Y))
    for one, other in zip(
        found, the_long_way(monkeypatch, lambda: asked(network, params, change(X), change(Y))), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [nn.GradientDescent(), nn.Momentum(), nn.Nesterov(), nn.RMSprop(), nn.Adam()])
def test_updates_have_the_same_bits_and_change_nothing_given(optimizer, dtype, taken, monkeypatch) -> None:
    network, layers, X, Y = problem((4, 5, 3), "relu", "softmax", m=6)
    params = nn.Parameters.from_layers(layers).to(nn.backend("numpy"), dtype)
    _, gradients = network.gradients(params, X.astype(dtype), Y.astype(dtype))

    def three() -> Any:
        theta, state = params, optimizer.init(params)
        for _ in range(3):
            theta, state = optimizer.update(theta, gradients, state)
        return theta, state

    before = params.vector.copy(), gradients.vector.copy()
    (theta, state), (expected, expected_state) = three(), the_long_way(monkeypatch, three)
    assert taken["update"] == [True] * 3
    np.testing.assert_array_equal(theta.vector, expected.vector)
    assert state.t == expected_state.t == 3
    for name in optimizer.remembers:
        np.testing.assert_array_equal(getattr(state, name), getattr(expected_state, name))
    np.testing.assert_array_equal(params.vector, before[0])
    np.testing.assert_array_equal(gradients.vector, before[1])


def test_what_blas_cannot_read_is_found_out_once(monkeypatch) -> None:
    network, layers, X, _ = problem((40, 50, 3), "relu", "softmax", m=6)
    params, X = nn.Parameters.from_layers(layers), np.repeat(X, 2, axis=1)[:, ::-2]
    expected = network.predict(params, X)
    tried, real = list[object](), program.Bound
    monkeypatch.setattr(program, "Bound", lambda *given: tried.append(given) or real(*given))
    for _ in range(5):
        np.testing.assert_array_equal(network.predict(params, X), expected)
    assert tried == []


def test_theta_is_read_anew_in_each_call() -> None:
    network, layers, X, _ = problem((4, 5, 3), "relu", "softmax", m=6)
    params = nn.Parameters.from_layers(layers)
    first = network.predict(params, X)
    params[0].W[...] = 0.0
    params.vector[-3:] = [5.0, 0.0, 0.0]
    second = network.predict(params, X)
    assert not np.array_equal(first, second)
    assert set(second.argmax(axis=0)) == {0}


def test_gradients_that_overflow_are_given_as_before() -> None:
    network = nn.Network((1, 1), output="identity")
    params = network.parameters(np.array([1.0, 0.0], "float32"))
    _, gradients = network.gradients(params, np.array([[1e30]], "float32"), np.array([[0.0]], "float32"))
    assert np.isinf(gradients[0].W[0, 0])
