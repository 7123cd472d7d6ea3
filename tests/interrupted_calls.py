"""The public calls that are interrupted; each is made by its function, and returns true if an interrupt ended it."""

import sys
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_results import keep

import nnarray as nn
from nnarray.backends import backend_of
from nnarray.engine import compiling, native_calls, updates
from nnarray.programs.targets.llvm import compiler


def examples(n_x: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(n_x, m)).astype("float32")
    return X, (X[:1] > 0).astype("float32")


def training(m: int, n_x: int = 4, **options: Any) -> Callable[[], bool]:
    X, Y = examples(n_x, m)
    network = nn.Network((n_x, 8, 5, 1))
    return lambda: ended(nn.train(network, X, Y, epochs=2, progress=False, **options))


def ended(result: Any) -> bool:
    """Whether an interrupt ended training with this result, which is kept."""
    keep(result)
    return getattr(result, "stopped", None) == "interrupt"


class Fitting:
    """A fit of an estimator; one that was broken off is as good as none, or whole."""

    def __init__(self, kind: str = "MLPClassifier", method: str = "fit", **options: Any) -> None:
        ours = pytest.importorskip("nnarray.sklearn")
        X, Y = examples(4, 60)
        self.X, self.y = X.T, Y[0].astype(int)
        self.make = lambda: getattr(ours, kind)(hidden_layer_sizes=(5,), random_state=0, **{"max_iter": 2} | options)
        self.method, self.classes = (
            method,
            {"classes": [0, 1]} if (kind, method) == ("MLPClassifier", "partial_fit") else {},
        )
        self.model, self.is_broken = self.make(), False

    def __call__(self) -> bool:
        self.model, self.is_broken = self.make(), True
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(self.model, self.method)(self.X, self.y, **self.classes)
        self.is_broken = False  # an interrupt that ended training is told by a warning
        keep([*self.model.coefs_, *self.model.intercepts_, list(self.model.loss_curve_)])
        return any("interrupted" in str(warning.message) for warning in caught)

    def epochs_of(self, model: Any) -> set[int]:
        """How many epochs there were, as all that tells it says."""
        curves = [model.loss_curve_, model.validation_scores_, model.validation_loss_curve_]
        recorded = {len(curve) for curve in curves if curve is not None} | {model.n_iter_}
        examples = 54 if model.early_stopping else 60
        return recorded if model.solver == "lbfgs" else recorded | {model.t_ // examples}

    def check(self) -> None:
        """Raise for a model that is fitted in part."""
        model = self.model
        if not hasattr(model, "coefs_"):
            with pytest.raises(sys.modules["sklearn.exceptions"].NotFittedError):
                model.predict(self.X)
            return
        assert model.predict(self.X).shape == self.y.shape
        recorded = self.epochs_of(model)
        assert max(recorded) - min(recorded) <= (self.is_broken and 1), recorded
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(deepcopy(model), self.method)(self.X, self.y)  # which writes into what it goes on from


def predicting(method: str) -> Callable[[], bool]:
    fitting = Fitting()
    fitting()
    return lambda: ended(getattr(fitting.model, method)(fitting.X))


def of_library(library: str, call: Callable[..., Any], *shapes: tuple[int, int]) -> Callable[[], bool]:
    """A call with arrays of a library."""
    pytest.importorskip(library)
    place = nn.backend(library)
    data = [place.asarray(np.random.default_rng(0).random(shape), "float32") for shape in shapes]
    return lambda: call(*data)


def asking(what: str, sizes: tuple[int, ...], m: int) -> Callable[[], bool]:
    X, Y = examples(sizes[0], m)
    network = nn.Network(sizes)
    params, data = network.init(0), (X,) if what == "predict" else (X, Y)
    return lambda: ended(getattr(network, what)(params, *data, workers=2))


def trained(X: Any, Y: Any) -> bool:
    return ended(nn.train(nn.Network((4, 5, 1)), X, Y, epochs=2, batch_size=20, progress=False))


def predicted(X: Any) -> bool:
    network = nn.Network((4, 5, 1))
    return ended(network.predict(network.init(0, backend=backend_of(X)), X))


def arrays(library: str = "numpy", m: int = 12, n_y: int = 1) -> tuple[Any, Any]:
    """X (4, m) and Y (n_y, m) of a library."""
    pytest.importorskip(library)
    place, generator = nn.backend(library), np.random.default_rng(0)
    X = generator.normal(size=(4, m))
    return place.asarray(X, "float32"), place.asarray(generator.random((n_y, m)) < 0.5, "float32")


def asked(what: str, library: str = "numpy", **options: Any) -> Callable[[], bool]:
    """A call of a network on small arrays of a library."""
    network, (X, Y) = nn.Network((4, 5, 1), **options), arrays(library)
    params = network.init(0, backend=library)
    data = (X,) if what in {"predict", "forward"} else (X, Y)
    return lambda: ended(getattr(network, what)(params, *data))


def pulled(library: str = "numpy", m: int = 12, **options: Any) -> Callable[[], bool]:
    network, (X, Y) = nn.Network((4, 5, 1), **options), arrays(library, m)
    params = network.init(0, backend=library)
    return lambda: ended(network.vjp(params, X)[1](Y))


def training_on(library: str = "numpy", *, batch_norm: bool = False, **options: Any) -> Callable[[], bool]:
    network, (X, Y) = nn.Network((4, 5, 1), batch_norm=batch_norm), arrays(library, 40)
    given = {"epochs": 2, "progress": False, "seed": 0} | options
    return lambda: ended(nn.train(network, X, Y, **given))


class One:
    """A communicator of a single rank."""

    rank, size = 0, 1

    def allgather(self, thing: Any) -> list[Any]:
        return [thing]

    def Allreduce(self, V: np.ndarray | None, total: np.ndarray) -> None:
        if V is not None:
            total[...] = V


def in_this_thread() -> Any:
    """dask's arrays, which are computed in the thread that asks for them: there the signals come."""
    pytest.importorskip("dask").config.set(scheduler="sync")
    return pytest.importorskip("dask.array")


def in_chunks(what: str, *, host: bool = False) -> Callable[[], bool]:
    """A call of a network on arrays of dask, computed in this thread; targets on the `host` are cut like X."""
    da = in_this_thread()
    pytest.importorskip("distributed")  # whose settings are there from its import on
    network, given = nn.Network((4, 5, 1)), [da.from_array(V, chunks=(V.shape[0], (15, 25))) for V in arrays(m=40)]
    given[1] = given[1].compute() if host else given[1]
    params = network.init(0)
    if what == "train":
        return lambda: ended(nn.train(network, *given, epochs=2, batch_size=10, progress=False))
    if what == "predict":
        return lambda: ended(network.predict(params, given[0]).compute())
    return lambda: ended(getattr(network, what)(params, *given))


def fitting_chunks() -> Fitting:
    da = in_this_thread()
    fitting = Fitting(batch_size=20)
    fitting.X = da.from_array(fitting.X, chunks=((25, 35), 4))
    return fitting


def fitting_torch() -> Fitting:
    torch = pytest.importorskip("torch")
    sys.modules["sklearn"].set_config(array_api_dispatch=True)
    fitting = Fitting(batch_size=20)
    fitting.X, fitting.y = torch.asarray(fitting.X), torch.asarray(fitting.y)
    return fitting


def scored(kind: str = "MLPClassifier") -> Callable[[], bool]:
    fitting = Fitting(kind)
    fitting()
    return lambda: ended(fitting.model.score(fitting.X, fitting.y))


def as_onnx(what: str) -> Callable[[], bool]:
    pytest.importorskip("onnx")
    network = nn.Network((3, 4, 2), output="softmax", batch_norm=what == "normalized")
    params = network.init(0)
    if what == "normalized":
        X = np.random.default_rng(0).normal(size=(3, 9))
        params = nn.train(network, X, nn.one_hot(np.arange(9) % 2, 2), epochs=1, progress=False).params
    model = nn.to_onnx(network, params)
    return lambda: ended(nn.from_onnx(model) if what == "read" else nn.to_onnx(network, params))


def as_torch(what: str) -> Callable[[], bool]:
    pytest.importorskip("torch")
    network = nn.Network((3, 4, 1))
    params = network.init(0)
    module = nn.to_torch(network, params)
    return lambda: ended(nn.to_torch(network, params) if what == "to" else nn.from_torch(module))


def drawn(folder: Path) -> Callable[[], bool]:
    pytest.importorskip("matplotlib").use("Agg")
    history = nn.train(nn.Network((4, 3, 1)), *arrays(), epochs=2, progress=False).history
    return lambda: ended(history.plot(folder / "a.png"))


def boundary() -> Callable[[], bool]:
    pytest.importorskip("matplotlib").use("Agg")
    network = nn.Network((2, 3, 1))
    X = np.random.default_rng(0).normal(size=(2, 9))
    params = network.init(0)
    return lambda: ended(nn.plots.decision_boundary(network, params, X, X[:1] > 0, resolution=20))


def checked() -> Callable[[], bool]:
    network, (X, Y) = nn.Network((4, 3, 1), "tanh"), arrays()
    params = network.init(0, dtype="float64")
    return lambda: ended(nn.check_gradients(network, params, X, Y))


def own_updates(kind: str = "Adam") -> Callable[[], bool]:
    network, optimizer, (X, Y) = nn.Network((4, 3, 1)), getattr(nn, kind)(), arrays()
    params = network.init(0)
    g, state = network.gradients(params, X, Y)[1], optimizer.init(params)
    return lambda: ended(optimizer.update(params, g, state))


def commanding(words: str, folder: Path) -> Callable[[], bool]:
    from nnarray import cli

    return lambda: cli.main(words.format(folder).split()) == cli.INTERRUPTED


def on_a_table(folder: Path) -> Callable[[], bool]:
    """A command that writes all that there is to write."""
    rows = [f"{i},{'ab'[i % 2]},202{i % 3}-01-0{i % 7 + 1},{i * i % 13}" for i in range(40)]
    (folder / "t.csv").write_text("\n".join(["n,kind,day,y", *rows]) + "\n")
    words = "--plot {0}/a.png --history {0}/h.csv --split-out {0}/s.csv --out {0}/b.safetensors --checkpoint {0}/c"
    return commanding(f"train {{0}}/t.csv --target y --output identity --epochs 2 --batch-norm {words}", folder)


def with_model(words: str, folder: Path) -> Callable[[], bool]:
    """A command that wants a model."""
    commanding("train iris --epochs 1 --out {}/m.safetensors", folder)()
    return commanding(words, folder)


def cold(call: Callable[[], bool]) -> Callable[[], bool]:
    """The call with nothing traced or compiled before."""

    def forgetting() -> bool:
        for cache in (compiling.compiled, native_calls._compiled, updates._program):
            cache.cache_clear()
        compiler._functions.clear()
        return call()

    return forgetting


def checkpointing(folder: Path) -> Callable[[], bool]:
    path, run = folder / "run", training(20, batch_size=9, checkpoint=folder / "run", checkpoint_every=0)

    def call() -> bool:
        path.unlink(missing_ok=True)
        return run()

    return call


def resuming(folder: Path) -> Callable[[], bool]:
    network, (X, Y) = nn.Network((4, 8, 5, 1)), examples(4, 20)
    options: dict[str, Any] = {"batch_size": 6, "dropout": 0.1, "progress": False}
    nn.train(network, X, Y, epochs=1, checkpoint=folder / "run", **options)
    return lambda: ended(nn.train(network, X, Y, epochs=3, resume=folder / "run", **options))


def saving(folder: Path) -> Callable[[], bool]:
    network, path = nn.Network((2, 3, 1)), folder / "saved.safetensors"
    params = network.init(0)
    return lambda: ended(nn.save(path, network, params))


def loading(folder: Path) -> Callable[[], bool]:
    saving(folder)()
    return lambda: ended(nn.load(folder / "saved.safetensors"))


def untraced(call: Callable[[], Any]) -> Any:
    """What a test does for itself, which is not to be interrupted."""
    tracer = sys.gettrace()
    sys.settrace(None)
    made = call()
    sys.settrace(tracer)
    return made


class GoingOn(Fitting):
    """A fit of a copy of a fitted model, which goes on from what it has."""

    def __init__(self, method: str, **options: Any) -> None:
        super().__init__(method=method, batch_size=30, **options)
        self()
        first = self.model
        self.make, self.classes = (lambda: untraced(lambda: deepcopy(first))), {}

    def epochs_of(self, model: Any) -> set[int]:
        """As of others; `n_iter_` is of the last fit alone."""
        return {len(model.loss_curve_), model.t_ // 60}


def converting(what: str) -> Callable[[], bool]:
    """Estimators as networks, and the other way round."""
    fitting = Fitting()
    fitting()
    network, params = fitting.model.to_network()
    theirs = nn.to_sklearn(network, params)
    calls: dict[str, Callable[[], Any]] = {
        "to network": fitting.model.to_network,
        "from network": lambda: type(fitting.model).from_network(network, params).coefs_,
        "to scikit-learn": lambda: nn.to_sklearn(network, params).coefs_,
        "from scikit-learn": lambda: nn.from_sklearn(theirs),
    }
    return lambda: ended(calls[what]())


def squared() -> nn.Cost:
    """A cost of one's own."""
    return nn.Cost(lambda A, Y, xp: (A - Y) ** 2 / 2, dA=lambda A, Y, xp: A - Y)


def with_own_cost() -> Callable[[], bool]:
    network, (X, Y), cost = nn.Network((4, 5, 1)), arrays(), squared()
    params = network.init(0)
    return lambda: ended(network.gradients(params, X, Y, cost=cost))


def on_a_stream() -> Callable[[], bool]:
    """Training on batches that a function gives."""
    network, (X, Y) = nn.Network((4, 5, 1)), arrays(m=40)
    batches = [(X[:, i : i + 10], Y[:, i : i + 10]) for i in range(0, 40, 10)]
    return lambda: ended(nn.train(network, lambda: iter(batches), epochs=2, progress=False))


def on_disk(folder: Path) -> Callable[[], bool]:
    """Training on a file."""
    X, Y = arrays(m=40)
    np.save(folder / "X.npy", X.T)
    mapped = np.load(folder / "X.npy", mmap_mode="r").T
    return lambda: ended(nn.train(nn.Network((4, 5, 1)), mapped, Y, epochs=2, batch_size=10, progress=False))


def going_on() -> Callable[[], bool]:
    """Training from the state of an earlier result, which stays."""
    network, (X, Y), options = nn.Network((4, 5, 1)), arrays(m=40), {"batch_size": 10, "progress": False}
    first = nn.train(network, X, Y, epochs=1, **options)

    def call() -> bool:
        result = nn.train(network, X, Y, epochs=2, state=first.state, **options)
        keep([result, first])
        return result.stopped == "interrupt"

    return call


def diverging() -> Callable[[], bool]:
    """Training that ends with an error, whose parameters stay."""
    network, (X, Y) = nn.Network((4, 5, 1), output="identity"), arrays(m=40)
    optimizer = nn.GradientDescent(learning_rate=1e20)

    def call() -> bool:
        try:
            nn.train(network, 1e10 * X, Y, epochs=9, batch_size=10, optimizer=optimizer, progress=False)
        except nn.DivergenceError as error:  # of the epoch that a Ctrl-C ended, too
            return ended(error.params) or isinstance(error.__context__, KeyboardInterrupt)
        return True  # where it was interrupted before

    return call


def checkpointing_as_one_rank(folder: Path) -> Callable[[], bool]:
    path, run = folder / "run", training(20, batch_size=9, comm=One(), checkpoint=folder / "run", checkpoint_every=0)

    def call() -> bool:
        path.unlink(missing_ok=True)
        return run()

    return call


def beginning() -> Callable[[], bool]:
    """Parameters by all the ways that there are."""
    network = nn.Network((4, 5, 2))

    def call() -> bool:
        with nn.use_backend("numpy"):
            params = network.init(0)
        again = nn.Parameters.from_layers(list(params)).to("numpy", "float64")
        return ended([params, again, network.parameters(params.vector), nn.one_hot(np.arange(6) % 2, 2)])

    return call


def reading_a_model(folder: Path) -> Callable[[], bool]:
    """A model of a table, applied in Python."""
    pandas = pytest.importorskip("pandas")
    on_a_table(folder)()
    rows = pandas.read_csv(folder / "t.csv").head(5)

    def call() -> bool:
        model = nn.read_model(folder / "b.safetensors")
        return ended([model.predict(rows), model.prepare(rows)])

    return call


def plotting(what: str, folder: Path) -> Callable[[], bool]:
    """The other pictures."""
    pytest.importorskip("matplotlib").use("Agg")
    pyplot = (
        sys.modules["matplotlib.pyplot"]
        if "matplotlib.pyplot" in sys.modules
        else __import__("matplotlib.pyplot").pyplot
    )
    history = nn.train(nn.Network((4, 3, 1)), *arrays(), epochs=2, progress=False).history
    rates = {"a": nn.schedules.ExponentialDecay(0.1, 0.9)}
    calls: dict[str, Callable[[], Any]] = {
        "curves": lambda: nn.plots.cost_curves({"a": history}),
        "rates": lambda: nn.plots.learning_rates(rates, 10),
        "images": lambda: nn.plots.weight_images(np.ones((2, 4)), (2, 2)),
    }

    def call() -> bool:
        calls[what]()
        pyplot.close("all")
        return False

    return call


def going_on_from_the_shell(folder: Path) -> Callable[[], bool]:
    """A run that was kept goes on."""
    words = "train iris --out {0}/a.safetensors --checkpoint {0}/c --checkpoint-every 0 --patience 0 --force --epochs "
    first, rest = (commanding(f"{words}{epochs}", folder) for epochs in (1, 2))
    first()
    kept = (folder / "c").read_bytes() if (folder / "c").exists() else None

    def call() -> bool:
        if kept is not None:
            (folder / "c").write_bytes(kept)
        return rest()

    return call


def as_one_rank(call: Callable[[], bool]) -> Callable[[], bool]:
    """The command that trains, as mpiexec would start it on one rank that has others: a communicator of one."""
    from nnarray.cli import train as command

    def of_one_rank() -> bool:
        real, command.communicator = command.communicator, lambda _: One()
        try:
            return call()
        finally:
            command.communicator = real

    return of_one_rank


CONVERSIONS = "to network", "from network", "to scikit-learn", "from scikit-learn"

CALLS: dict[str, Callable[[Path], Callable[[], bool]]] = {
    "train on the whole batch": lambda _: training(20),
    "train in tiles": lambda _: training(3000, 300, workers=2),
    "train in captured steps": lambda _: training(20, batch_size=6),
    "train with checkpoints": checkpointing,
    "train on from a checkpoint": resuming,
    "train in captured steps of threads": lambda _: training(512, 300, batch_size=250),
    "train in captured steps of threads on the whole batch": lambda _: training(700, 200),
    "compile": lambda _: cold(training(20, batch_size=8)),
    "save": saving,
    "load": loading,
    "train on mini-batches": lambda _: training(
        20, batch_size=8, dropout=0.3, validation=examples(4, 9), patience=3, callback=lambda _: None
    ),
    "fit": lambda _: Fitting(batch_size=20, early_stopping=True),
    "fit by L-BFGS": lambda _: Fitting(solver="lbfgs"),
    "fit by gradient descent": lambda _: Fitting(solver="sgd", learning_rate="adaptive", dropout=0.2),
    "fit on whole batches": lambda _: Fitting("MLPRegressor", batch_size=60, shuffle=False),
    "fit in part": lambda _: Fitting(method="partial_fit", batch_size=30),
    "fit a regressor in part": lambda _: Fitting("MLPRegressor", "partial_fit", solver="sgd"),
    "classes by an estimator": lambda _: predicting("predict"),
    "probabilities by an estimator": lambda _: predicting("predict_proba"),
    "train on torch": lambda _: of_library("torch", trained, (4, 40), (1, 40)),
    "train on JAX": lambda _: of_library("jax", trained, (4, 40), (1, 40)),
    "predict on torch": lambda _: of_library("torch", predicted, (4, 40)),
    "predict on JAX": lambda _: of_library("jax", predicted, (4, 40)),
    "predict in tiles": lambda _: asking("predict", (30, 64, 1), 3000),
    "gradients in tiles": lambda _: asking("gradients", (30, 64, 1), 3000),
    "cost of one small tile": lambda _: asking("cost", (50, 20, 1), 100),
    "gradients on BLAS's own threads": lambda _: asking("gradients", (300, 400, 1), 200),
    "command line": lambda folder: commanding("train iris --epochs 1 --out {}/a.safetensors", folder),
    "predict from the shell": lambda folder: with_model("predict {0}/m.safetensors iris --out {0}/p.csv", folder),
    "evaluate from the shell": lambda folder: with_model("evaluate {0}/m.safetensors iris", folder),
}

FURTHER: dict[str, Callable[[Path], Callable[[], bool]]] = {
    "export from the shell": lambda folder: with_model("export {0}/m.safetensors {0}/m.onnx", folder),
    "info from the shell": lambda folder: with_model("info {0}/m.safetensors", folder),
    "score of a classifier": lambda _: scored(),
    "score of a regressor": lambda _: scored("MLPRegressor"),
    "fit with batch normalisation": lambda _: Fitting(batch_size=20, batch_norm=True),
    "fit by L-BFGS with batch normalisation": lambda _: Fitting("MLPRegressor", solver="lbfgs", batch_norm=True),
    "fit averages": lambda _: Fitting(batch_size=20, average=0.9, l1=1e-3),
    "fit torch": lambda _: fitting_torch(),
    "train with batch normalisation": lambda _: training_on(batch_norm=True, batch_size=10),
    "train with batch normalisation on torch": lambda _: training_on("torch", batch_norm=True, batch_size=10),
    "train with batch normalisation on JAX": lambda _: training_on("jax", batch_norm=True, batch_size=10),
    "train averages with both penalties": lambda _: training_on(average=0.9, l1=1e-3, l2=1e-2, batch_size=10),
    "train as one rank": lambda _: training_on(comm=One(), batch_size=10),
    "gradients of chunks": lambda _: in_chunks("gradients"),
    "gradients of chunks with targets on the host": lambda _: in_chunks("gradients", host=True),
    "predict chunks": lambda _: in_chunks("predict"),
    "gradients on torch": lambda _: asked("gradients", "torch"),
    "gradients on JAX": lambda _: asked("gradients", "jax"),
    "score on torch": lambda _: asked("score", "torch"),
    "forward": lambda _: asked("forward"),
    "gradients with batch normalisation": lambda _: asked("gradients", batch_norm=True),
    "vjp": lambda _: pulled(),
    "vjp in tiles": lambda _: pulled(m=40_000),
    "vjp on torch": lambda _: pulled("torch"),
    "vjp on JAX": lambda _: pulled("jax"),
    "to ONNX": lambda _: as_onnx("plain"),
    "to ONNX with batch normalisation": lambda _: as_onnx("normalized"),
    "from ONNX": lambda _: as_onnx("read"),
    "to torch": lambda _: as_torch("to"),
    "from torch": lambda _: as_torch("from"),
    "check gradients": lambda _: checked(),
    "update": lambda _: own_updates(),
    "update by momentum": lambda _: own_updates("Momentum"),
    "update by Nesterov's momentum": lambda _: own_updates("Nesterov"),
    "update by RMSprop": lambda _: own_updates("RMSprop"),
    "update by gradient descent": lambda _: own_updates("GradientDescent"),
    "fit on": lambda _: GoingOn("fit", warm_start=True),
    "fit on in part": lambda _: GoingOn("partial_fit"),
    "logarithms by an estimator": lambda _: predicting("predict_log_proba"),
    **{what: lambda _, what=what: converting(what) for what in CONVERSIONS},
    "gradients of one's own cost": lambda _: with_own_cost(),
    "train with one's own cost": lambda _: training_on(cost=squared(), batch_size=10),
    "train with weights and momentum": lambda _: training_on(
        weights=np.arange(40.0), optimizer=nn.Momentum(), batch_size=10, dropout=0.2
    ),
    "train on a stream": lambda _: on_a_stream(),
    "train on a file": on_disk,
    "train on from a state": lambda _: going_on(),
    "train until it diverges": lambda _: diverging(),
    "train as one rank with checkpoints": checkpointing_as_one_rank,
    "begin": lambda _: beginning(),
    "cost of chunks": lambda _: in_chunks("cost"),
    "score of chunks": lambda _: in_chunks("score"),
    "read a model": reading_a_model,
    "command line as one rank": lambda folder: as_one_rank(
        commanding("train iris --epochs 1 --out {0}/a.safetensors --checkpoint {0}/c", folder)
    ),
}
"""What goes the same ways for the most part."""

SELDOM: dict[str, Callable[[Path], Callable[[], bool]]] = {
    "train on a table": on_a_table,
    "draw a history": drawn,
    "fit chunks": lambda _: fitting_chunks(),
    "train on chunks": lambda _: in_chunks("train"),
    "draw a decision boundary": lambda _: boundary(),
    "info of the machine from the shell": lambda folder: commanding("info", folder),
    "draw curves": lambda folder: plotting("curves", folder),
    "draw rates": lambda folder: plotting("rates", folder),
    "draw images": lambda folder: plotting("images", folder),
    "evaluate with a picture from the shell": lambda folder: with_model(
        "evaluate {0}/m.safetensors iris --plot {0}/p.png", folder
    ),
    "train on from a checkpoint from the shell": going_on_from_the_shell,
}
"""What takes seconds under a tracer, and is only called where all points are taken."""
