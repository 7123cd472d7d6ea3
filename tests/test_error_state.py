"""Every public call gives the same under any `np.seterr`, leaves it, and warns of nothing that it survives."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import problem, targets

import nnarray as nn

STATES = ("ignore", "warn", "raise", "call", "print", "log")

SPREAD = np.array([1e-44, 1e-30, 1e-5, 1.0, 30.0, 1e4, 1e17, 1e30, -1e30, 0.0])
"""What examples are scaled by: far below and above what products and exponentials of float32 hold."""


def scaled(sizes: tuple[int, ...], hidden: str, output: str, m: int = 40) -> tuple[nn.Network, Any, Any, Any]:
    network, layers, X, Y = problem(sizes, hidden, output, m)
    return network, layers, X * np.resize(SPREAD, m), Y


def of_a_network(hidden: str, output: str) -> list[tuple[str, Callable[[], Any]]]:
    network, layers, X, Y = scaled((4, 6, 5, 3), hidden, output)
    params = nn.Parameters.from_layers([(W.astype("float32"), b.astype("float32")) for W, b in layers])
    mild = np.random.default_rng(1).normal(size=(4, 700)) * 30.0
    mild_Y = targets(output, 3, 700, np.random.default_rng(2))
    many, many_Y = np.tile(X, 200), np.tile(Y, 200)
    optimizer = nn.Adam(1e-30)
    gradients = params.replace(params.vector * np.float32(1e-30))

    def updated() -> Any:
        return optimizer.update(params, gradients, optimizer.init(params))[0].vector

    def trained() -> Any:
        result = nn.train(
            network, mild, mild_Y, epochs=2, optimizer=nn.Adam(1e-4), batch_size=50, validation=(mild, mild_Y)
        )
        return result.params.vector

    return [
        ("predict", lambda: network.predict(params, X)),
        ("predict in tiles", lambda: network.predict(params, many, workers=2)),
        ("forward", lambda: network.forward(params, X)[-1]),
        ("cost", lambda: network.cost(params, X, Y, l2=1e-30)),
        ("gradients", lambda: network.gradients(params, X, Y, weights=np.full(40, 1e-30))[1].vector),
        ("gradients in tiles", lambda: network.gradients(layers, many, many_Y, workers=2)[1].vector),
        ("score", lambda: np.array(network.score(params, mild, mild_Y))),
        ("from_layers", lambda: nn.Parameters.from_layers([(np.full((1, 2), 1e-300), np.ones((1, 1)))]).vector),
        ("parameters", lambda: network.parameters(np.full(network.size, 1e-320, np.longdouble)).vector),
        ("update", updated),
        ("train", trained),
        ("check_gradients", lambda: np.array(nn.check_gradients(network, layers, mild, mild_Y, coordinates=9).checked)),
    ]


def outcome(call: Callable[[], Any]) -> tuple[str, bytes]:
    try:
        return "result", np.asarray(call()).tobytes()
    except (ValueError, nn.DivergenceError) as error:
        return type(error).__name__, str(error).encode()


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid"])
def test_networks(hidden, output, capfd) -> None:
    for name, call in of_a_network(hidden, output):
        check(name, call)
    assert capfd.readouterr() == ("", "")


def check(name: str, call: Callable[[], Any]) -> None:
    """The same outcome in every state, on this thread and on another one, and no warning in any."""
    with np.errstate(all="ignore"):
        expected = outcome(call)
    found = list[Any]()

    def everywhere() -> None:
        for state in STATES:
            with np.errstate(all=state, call=Refusing()):
                before = np.geterr()
                with warnings.catch_warnings():
                    warnings.simplefilter("error", RuntimeWarning)
                    found.append((name, state, outcome(call)))
                assert np.geterr() == before
                assert isinstance(np.geterrcall(), Refusing)

    everywhere()
    other = threading.Thread(target=everywhere)
    other.start()
    other.join()
    assert found == [(name, state, expected) for state in STATES] * 2


class Refusing:
    """What NumPy would call or write to; it is never to be."""

    def __call__(self, *given: Any) -> None:
        raise AssertionError(given)

    def write(self, text: str) -> None:
        raise AssertionError(text)


def test_estimators(capfd) -> None:
    sklearn = pytest.importorskip("nnarray.sklearn")
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 4)) * 30
    classes, numbers = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0), np.maximum(0, X[:, 0] * 1e-40)
    wild = X * np.resize(SPREAD, 60)[:, None]
    for model, y in (
        (sklearn.MLPClassifier((5,), random_state=0, max_iter=3), classes),
        (sklearn.MLPClassifier((5,), random_state=0, max_iter=3, solver="lbfgs"), classes > 0),
        (sklearn.MLPRegressor(hidden_layer_sizes=(5,), random_state=0, max_iter=3), numbers),
        (
            sklearn.MLPRegressor(
                hidden_layer_sizes=(5,), random_state=0, max_iter=3, loss="poisson", early_stopping=True
            ),
            numbers,
        ),
    ):
        fitted = quietly_fitted(model, X, y)
        check("fit", lambda model=model, y=y: quietly_fitted(model, X, y).coefs_[0])
        for name in ("predict", "predict_proba", "predict_log_proba"):
            if hasattr(fitted, name):
                check(name, lambda fitted=fitted, name=name: getattr(fitted, name)(wild))
        check("score", lambda fitted=fitted, y=y: np.array(fitted.score(X, y)))
    assert capfd.readouterr() == ("", "")


def quietly_fitted(model: Any, X: np.ndarray, y: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # three iterations are few
        return model.fit(X, y)


def test_files_and_commands(tmp_path) -> None:
    from nnarray import cli

    network = nn.Network((2, 3, 1))
    params = network.init(0, dtype="float64")
    small = params.replace(params.vector * 1e-310)
    path = tmp_path / "model.safetensors"
    nn.save(path, network, small)
    check("save", lambda: nn.save(path, network, small))
    check("load", lambda: nn.load(path)[1].vector)
    table = tmp_path / "table.csv"
    rows = np.random.default_rng(0).normal(size=(40, 3)) * [1e-30, 1e30, 1.0]
    table.write_text("a,b,y\n" + "\n".join(",".join(map(repr, map(float, row))) for row in rows) + "\n")
    out = tmp_path / "out.safetensors"
    words = ["train", str(table), "--target", "y", "--epochs", "2", "--out", str(out)]
    check("train", lambda: np.array(cli.main(words)))


def test_a_callback_has_the_callers_own_state() -> None:
    network, _, X, Y = problem((3, 4, 1), "relu", "sigmoid", 10)
    seen = list[dict[str, str]]()
    with np.errstate(under="raise", over="call"):
        nn.train(network, X, Y, epochs=2, callback=lambda _: seen.append(np.geterr()))
        assert seen == [np.geterr()] * 2


def cutting(*_: Any, **__: Any) -> None:
    """Ctrl-C in a block of the standard library's, whose end it keeps from being reached."""
    BLOCKS.append(warnings.catch_warnings())
    BLOCKS[-1].__enter__()
    warnings.simplefilter("ignore")
    raise KeyboardInterrupt


BLOCKS: list[Any] = []


def test_warnings_are_filtered_as_before_where_ctrl_c_ends_training() -> None:
    X, Y = np.ones((4, 40)), np.zeros((1, 40))
    with warnings.catch_warnings():
        filters = warnings.filters
        result = nn.train(nn.Network((4, 3, 1)), X, Y, epochs=3, callback=cutting, progress=False)
        assert result.stopped == "interrupt"
        assert warnings.filters is filters


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_warnings_are_filtered_as_before_where_ctrl_c_ends_a_fit(method, monkeypatch) -> None:
    estimators = pytest.importorskip("nnarray.sklearn")
    monkeypatch.setattr("nnarray.sklearn.report.Report.iteration", cutting)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = warnings.filters
        getattr(estimators.MLPRegressor(hidden_layer_sizes=(3,), max_iter=2), method)(np.eye(8), np.arange(8.0))
        assert warnings.filters is filters
    assert [str(warning.message) for warning in caught] == ["Training interrupted by user."]


TABLES = {"ordinary": 1.0, "huge": 1e300, "tiny": 1e-310, "zeros": 0.0}


@pytest.mark.filterwarnings("ignore:.*far beyond all of training's:UserWarning")
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("scale", TABLES.values(), ids=TABLES)
def test_models_of_files(scale, normalized, tmp_path, capfd) -> None:
    """Of weights as large as float32 holds and columns of a spread that nearly is none, the products are infinite."""
    network = nn.Network((2, 3, 1), output="sigmoid", batch_norm=normalized)
    params, table = network.init(0), np.random.default_rng(0).normal(size=(2, 12)) * scale
    column = {"kind": "number", "mean": 1e300, "scale": 1e-300, "fill": 0.0}
    metadata = {"features": ["a", "b"], "preprocessing": {"columns": [column] * 2}}
    nn.save(tmp_path / "model", network, params.replace(params.vector * np.float32(1e30)), metadata=metadata)
    model = nn.read_model(tmp_path / "model")
    check("prepare", lambda: model.prepare(table))
    check("predict", lambda: model.predict(table))
    check("labels", lambda: np.array(model.labels(table)))
    check("raw", lambda: model.raw()[1].vector)
    check("load", lambda: nn.load(tmp_path / "model")[1].vector)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "schedule",
    [
        nn.schedules.Constant(np.float32(1e-30)),
        nn.schedules.InverseTimeDecay(np.float64(1e-300), np.float64(1e300)),
        nn.schedules.InverseSquareRootDecay(np.float64(1e308), np.float64(1e308)),
        nn.schedules.ExponentialDecay(np.float32(1e30), np.float32(0.5)),
        nn.schedules.StepDecay(np.float64(1e-300), np.float64(0.5), np.int32(1)),
        nn.schedules.CosineWithWarmup(np.float32(1e-44), np.int64(3000), np.int64(3)),
        lambda t: np.float32(1e-30) * np.float32(0.5) ** t,
    ],
)
def test_schedules(schedule) -> None:
    for t in (0, 5, 3000, np.int32(7), np.int64(2**62)):
        if isinstance(schedule, nn.schedules.Schedule):
            check("schedule", lambda t=t: np.array(schedule(t)))
        check("alpha", lambda t=t: np.array(nn.Adam(schedule).alpha(t)))


def test_curves_of_schedules() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    tiny = {"tiny": lambda t: np.float64(1e-300) * np.float64(1e-3) ** t}

    def drawn() -> Any:
        return nn.plots.learning_rates(tiny, 20, ax=ax).lines[-1].get_ydata()

    check("learning_rates", drawn)
