"""Whatever instruction an interrupt comes at: BLAS's threads, the handler of SIGINT and NumPy's error state stay.

By default some points of each call. With NNARRAY_INTERRUPTS=all (`nox -s interrupts`) all of them, and of a call that
has very many, the first and the last of each place in the code, up to some thousands.
"""

import itertools
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked_faults import Folder, forked_faults
from interrupting import BrokenError, State, break_off, faults, interrupt, places, points, run
from threadpoolctl import threadpool_limits

import nnarray as nn
from nnarray.backends import BLAS_THREADS, Block, Ended, backend_of
from nnarray.engine import Ranks, compiling, native_calls, updates
from nnarray.programs.targets.llvm import compiler, training_step


@pytest.fixture(autouse=True)
def no_other_test_s_blocks() -> None:
    """Some tests leave a lock or a block behind on purpose, for which threads would wait for ever."""
    BLAS_THREADS.unlock()
    vars(BLAS_THREADS).update(vars(type(BLAS_THREADS)()))


@pytest.fixture(autouse=True)
def options_of_others() -> Iterator[None]:
    """Other libraries' options, which they or a test change, are for the tests to come what they were."""
    sklearn = pytest.importorskip("sklearn")
    before = sklearn.get_config()
    yield
    sklearn.set_config(**before)
    if "dask.config" in sys.modules:
        sys.modules["dask.config"].config.pop("scheduler", None)


ALL, POINTS = os.environ.get("NNARRAY_INTERRUPTS") == "all", 40

VERY_MANY = 10_000


def examples(n_x: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(n_x, m)).astype("float32")
    return X, (X[:1] > 0).astype("float32")


def training(m: int, n_x: int = 4, **options: Any) -> Callable[[], bool]:
    X, Y = examples(n_x, m)
    network = nn.Network((n_x, 8, 5, 1))
    return lambda: ended(nn.train(network, X, Y, epochs=2, progress=False, **options))


RESULT: list[bytes] = []
"""The numbers of the latest call that went on to its end."""


def ended(result: Any) -> bool:
    """Whether an interrupt ended training with this result, whose numbers are kept."""
    RESULT[:] = list(numbers(result))
    return getattr(result, "stopped", None) == "interrupt"


def numbers(result: Any) -> Iterator[bytes]:
    """The bytes of all arrays in a result."""
    if isinstance(result, nn.TrainingResult):
        result = result.params, [float(epoch.cost) for epoch in result.history]
    if isinstance(result, nn.Parameters):
        result = result.vector
    if hasattr(result, "state_dict"):  # torch's module
        result = [parameter.detach() for parameter in result.parameters()]
    if hasattr(result, "SerializeToString"):  # ONNX's model
        yield result.SerializeToString()
    elif isinstance(result, list | tuple):
        for part in result:
            yield from numbers(part)
    elif hasattr(result, "shape") or isinstance(result, float | int):
        yield np.asarray(result).tobytes()


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
        return any("interrupted" in str(warning.message) for warning in caught)

    def check(self) -> None:
        """Raise for a model that is fitted in part."""
        model = self.model
        if not hasattr(model, "coefs_"):
            with pytest.raises(sys.modules["sklearn.exceptions"].NotFittedError):
                model.predict(self.X)
            return
        assert model.predict(self.X).shape == self.y.shape
        curves = [model.loss_curve_, model.validation_scores_, model.validation_loss_curve_]
        recorded = {len(curve) for curve in curves if curve is not None} | {model.n_iter_}
        if model.solver != "lbfgs":
            recorded.add(model.t_ // (54 if model.early_stopping else 60))
        assert max(recorded) - min(recorded) <= (self.is_broken and 1), recorded
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(model, self.method)(self.X, self.y)


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


def own_updates() -> Callable[[], bool]:
    network, optimizer, (X, Y) = nn.Network((4, 3, 1)), nn.Adam(), arrays()
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
}
"""What goes the same ways for the most part."""

SELDOM: dict[str, Callable[[Path], Callable[[], bool]]] = {
    "train on a table": on_a_table,
    "draw a history": drawn,
    "fit chunks": lambda _: fitting_chunks(),
    "train on chunks": lambda _: in_chunks("train"),
    "draw a decision boundary": lambda _: boundary(),
}
"""What takes seconds under a tracer, and is only called where all points are taken."""

CALLS |= FURTHER | (SELDOM if ALL else {})


MOST = {
    **dict.fromkeys(FURTHER, 6),
    "compile": 2,
    "command line": 10,
    "predict from the shell": 8,
    "evaluate from the shell": 5,
    "fit": 8,
    "fit by gradient descent": 12,
    "fit on whole batches": 12,
    "fit in part": 10,
    "fit a regressor in part": 15,
    "fit by L-BFGS": 15,
    "train on JAX": 12,
}
"""Of the points of slower calls, fewer are taken where not all are."""

MOST_PLACES = 3000
"""Of a call that has very many, where all are taken: spread over it."""


def sampled(call: Callable[[], bool], *, opcodes: bool, most: int = POINTS) -> Sequence[int]:
    """Points spread over the whole call, from 1 on, or all."""
    call()
    call()
    count = points(call, opcodes=opcodes)
    if ALL and count > VERY_MANY:
        chosen = places(call, opcodes=opcodes)
        return chosen[:: -(-len(chosen) // MOST_PLACES)]
    return range(1, count + 1, 1 if ALL else max(1, count // most))


BY_FORKS = {
    name
    for name in CALLS
    if name.startswith(
        ("fit", "score", "classes", "prob", "check", "train as", "train with batch", "train av", "train on m")
    )
    and "JAX" not in name
}
"""Calls that need no other thread and write no file: where all points are taken, each is reached by a fork."""

WRITING_BY_FORKS = {"command line", "predict from the shell", "evaluate from the shell"}
"""The same of commands that write files, at a place of eight outside of nnarray: they go through very many."""

needs_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")


def broken(name: str, act: Callable[[], None], folder: Path) -> list[str]:
    """What was wrong after a call that was broken off."""
    call = CALLS[name](folder)
    checks = {"check": call.check} if isinstance(call, Fitting) else {}
    if ALL and name in WRITING_BY_FORKS:
        call()
        files = Folder(folder)
        options: dict[str, Any] = {"may_fork": files.may_fork, "after_each": files.put_back, "check": files.check}
        return forked_faults(call, act=act, outside=8, **options).wrong
    if ALL and name in BY_FORKS:
        call()
        return forked_faults(call, act=act, **checks).wrong
    chosen = sampled(call, opcodes=False, most=MOST.get(name, POINTS))
    return faults(call, act=act, chosen=chosen, opcodes=False, **checks)


class TestEveryPoint:
    @pytest.mark.parametrize("name", CALLS)
    def test_ctrl_c_changes_nothing_that_lasts(self, name, tmp_path, capfd) -> None:
        assert broken(name, interrupt, tmp_path) == []

    @pytest.mark.parametrize("name", CALLS)
    def test_nor_does_an_exception_that_cannot_be_put_off(self, name, tmp_path, capfd) -> None:
        assert broken(name, break_off, tmp_path) == []

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("train on torch", "autograd/grad_mode.py"),
            ("fit", "sklearn/_config.py"),
            ("fit in part", "sklearn/_config.py"),
            ("gradients of chunks", "contextlib.py"),
            ("gradients of chunks with targets on the host", "engine/dask_chunks.py"),
            ("gradients of chunks with targets on the host", "warnings.py"),
            ("predict chunks", "contextlib.py"),
        ],
    )
    @pytest.mark.parametrize("act", [interrupt, break_off])
    def test_while_another_library_changes_or_enters_what_is_to_be_left(self, name, file, act, tmp_path) -> None:
        call = CALLS[name](tmp_path)
        call()
        chosen = places(call, opcodes=False, of=file)
        assert len(chosen) > 5
        checks = {"check": call.check} if isinstance(call, Fitting) else {}
        assert (
            faults(call, act=act, chosen=chosen[:: 1 if ALL or len(chosen) < 200 else 3], opcodes=False, **checks) == []
        )

    @pytest.mark.parametrize("name", ["train on the whole batch", "gradients in tiles", "cost of one small tile"])
    def test_between_any_two_instructions(self, name, tmp_path) -> None:
        call = CALLS[name](tmp_path)
        assert faults(call, act=break_off, chosen=sampled(call, opcodes=True), opcodes=True) == []

    def test_at_every_instruction_of_a_block(self) -> None:
        """All of them in any case: this is what every call stands on."""

        def call() -> None:
            block = Block(one=True)
            with Ended(block), block:
                assert set(BLAS_THREADS._blocks)

        for act in (interrupt, break_off):
            chosen = range(1, points(call, opcodes=True) + 1)
            assert len(chosen) > 100
            assert faults(lambda: call() or False, act=act, chosen=chosen, opcodes=True) == []

    def test_at_every_line_of_a_block_of_ranks(self) -> None:
        def call() -> bool:
            ranks = Ranks(One())
            try:
                with Ended(ranks), ranks:
                    ranks.sums(1.0)
            except KeyboardInterrupt:
                return True
            return False

        for act in (interrupt, break_off):
            chosen = range(1, points(call, opcodes=False) + 1)
            assert len(chosen) > 50
            assert faults(call, act=act, chosen=chosen, opcodes=False) == []

    def test_saving_leaves_the_old_file_or_the_new_one_and_nothing_beside_it(self, tmp_path) -> None:
        network, path = nn.Network((2, 3, 1)), tmp_path / "model.safetensors"
        old, new = network.init(1), network.init(2)
        nn.save(path, network, old)

        def check() -> None:
            assert os.listdir(tmp_path) == [path.name]
            theta = nn.load(path)[1].vector
            assert np.array_equal(theta, old.vector) or np.array_equal(theta, new.vector)

        def call() -> bool:
            nn.save(path, network, new)
            return False

        for act in (interrupt, break_off):
            chosen = sampled(call, opcodes=False)
            nn.save(path, network, old)
            assert faults(call, act=act, chosen=chosen, opcodes=False, check=check) == []

    @needs_forks
    @pytest.mark.parametrize("is_whole", [True, False])
    def test_forked_children_see_what_a_plain_block_leaves_behind(self, is_whole) -> None:
        done = run("import sys, test_interrupts; test_interrupts.forked(sys.argv[1] == 'True')", str(is_whole))
        assert (done.stdout, done.stderr) == (f"True True {is_whole}\n", "")

    def test_the_harness_sees_what_a_plain_block_leaves_behind(self) -> None:
        def call() -> bool:
            with Block(one=True):  # without the outer half
                return False

        chosen = range(1, points(call, opcodes=False) + 1)
        try:
            assert faults(call, act=break_off, chosen=chosen, opcodes=False) != []
        finally:
            BLAS_THREADS.unlock()  # which a plain block may leave locked, too, and other threads would wait


SIGNALLED = """
import os, random, signal, sys, threading, time
import numpy as np
import nnarray as nn
from interrupting import State
rng = np.random.default_rng(0)
X = rng.normal(size=(20, 3000)).astype("float32")
Y = (X[:1] > 0).astype("float32")
network = nn.Network((20, 30, 1))
params = network.init(0)
calls = [
    lambda: nn.train(network, X, Y, epochs=3, progress=False, batch_size=500),
    lambda: nn.train(network, X[:, :50], Y[:, :50], epochs=20, progress=False),
    lambda: network.gradients(params, X, Y, workers=2),
]
expected = network.gradients(params, X, Y)[1].vector
for call in calls:
    call()
signal.signal(signal.SIGINT, signal.default_int_handler)
before, rounds, wrong = State.now(), 0, 0
until = time.time() + float(sys.argv[1])
delays = random.Random(0)
while time.time() < until or rounds <= 20:  # on a busy machine, rounds take seconds
    try:
        alarm = threading.Timer(delays.random() * 0.02, os.kill, (os.getpid(), signal.SIGINT))
        alarm.start()
        calls[rounds % 3]()
        alarm.join()
    except KeyboardInterrupt:
        pass
    alarm.join()
    rounds += 1
    wrong += State.now() != before
print(wrong, rounds > 20, np.array_equal(network.gradients(params, X, Y)[1].vector, expected))
"""


def forked(is_whole: bool) -> None:
    """In a process without other threads: print whether there were many forks, none left, and nothing wrong."""

    def call() -> bool:
        block = Block(one=True)
        with Ended(block) if is_whole else nullcontext(), block:
            return False

    with threadpool_limits(2, user_api="blas"):  # with one, there is nothing to leave behind
        found = forked_faults(call, act=break_off)
    print(found.forks > 30, not found.left, found.wrong == [])


def test_real_signals_at_random_moments() -> None:
    done = run(SIGNALLED, "3")
    assert (done.stdout, done.stderr) == ("0 True True\n", "")


class TestOtherThreads:
    """The bits of a result do not depend on what other threads do."""

    @pytest.mark.parametrize("m", [40, 300, 700])
    def test_a_batch_of_one_tile_has_the_same_bits_beside_one_in_tiles(self, m) -> None:
        network = nn.Network((200, 300, 1))
        X, Y = examples(200, m)
        wide, wide_Y = examples(200, 6000)
        params = network.init(0)
        expected = network.gradients(params, X, Y)[1].vector
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                network.gradients(params, wide, wide_Y)

        other = threading.Thread(target=work, daemon=True)
        other.start()
        try:
            for _ in range(10):
                np.testing.assert_array_equal(network.gradients(params, X, Y)[1].vector, expected)
        finally:
            over.set()
            other.join(60)
            assert not other.is_alive()

    def test_blocks_of_two_kinds_take_turns(self) -> None:
        before, seen, rest = State.now(), list[bool](), list[set[bool]]()
        now = list[bool]()

        def work(one: bool) -> None:
            for _ in range(30):
                block = Block(one=one)
                with Ended(block), block:
                    now.append(one)
                    time.sleep(0.0005)
                    rest.append(set(now))
                    now.remove(one)
                seen.append(one)

        threads = [threading.Thread(target=work, args=(i % 2 == 0,), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(seen) == 120
        assert all(len(kinds) == 1 for kinds in rest)
        assert State.now() == before

    @pytest.mark.parametrize(
        ("where", "step", "dropout"), [("engine", "cost_and_gradients", 0.1), ("steps", "launch", 0.0)]
    )
    def test_a_run_of_small_steps_lets_others_in_between_two_steps(self, where, step, dropout, monkeypatch) -> None:
        network, entered = nn.Network((4, 5, 1)), threading.Event()
        X, Y = examples(4, 64)

        def other() -> None:
            block = Block(one=False)
            with Ended(block), block:
                entered.set()

        def callback(_: nn.Epoch) -> bool:
            return entered.is_set()

        thread = threading.Thread(target=other, daemon=True)
        started = itertools.count()
        owner = {"engine": nn.engine, "steps": training_step.TrainingSteps}[where]
        real = getattr(owner, step)

        def begun(*given: Any, **options: Any) -> Any:
            if next(started) == 3:
                thread.start()
                time.sleep(0.05)
            return real(*given, **options)

        monkeypatch.setattr(owner, step, begun)
        nn.train(network, X, Y, epochs=9, batch_size=4, dropout=dropout)
        thread.join(10)
        assert entered.is_set()

    def test_a_callback_may_wait_for_a_thread_that_computes(self) -> None:
        network, large = nn.Network((4, 5, 1)), nn.Network((300, 400, 1))
        X, Y = examples(4, 64)
        wide = examples(300, 200)
        params = large.init(0)

        def callback(_: nn.Epoch) -> None:
            thread = threading.Thread(target=large.gradients, args=(params, *wide), daemon=True)
            thread.start()
            thread.join(20)
            assert not thread.is_alive()

        assert nn.train(network, X, Y, epochs=2, callback=callback).stopped == "epochs"

    @pytest.mark.parametrize(("sizes", "m"), [((64, 100, 10), 1797), ((30, 20, 4), 90), ((50, 60, 1), 5000)])
    def test_any_number_of_threads_gives_the_same_bits(self, sizes, m) -> None:
        code = (
            "import sys, numpy as np, nnarray as nn, zlib\n"
            f"network = nn.Network({sizes}); X = np.random.default_rng(0).normal(size=({sizes[0]}, {m}))\n"
            f"Y = (np.random.default_rng(1).random(({sizes[-1]}, {m})) < 0.5)\n"
            "params = network.init(0)\n"
            "one = [network.gradients(params, X, Y, workers=w)[1].vector.tobytes() for w in (1, 2, 3)]\n"
            "assert len(set(one)) == 1; print(zlib.crc32(one[0]))"
        )
        found = {run(code, NNARRAY_NUM_THREADS=threads).stdout for threads in ("1", "2", "4")}
        assert len(found) == 1
        assert found.pop().strip().isdecimal()


NO_THREADS = """
import gc, sys, threading, time, weakref
import numpy as np
import nnarray as nn
rng = np.random.default_rng(0)
X = rng.normal(size=(20, 30_000)).astype("float32")
Y = (X[:1] > 0).astype("float32")
network = nn.Network((20, 30, 1))
params = network.init(0)
expected = network.gradients(params, X, Y, workers=1)[1].vector
if sys.argv[1] == "later":
    network.gradients(params, X, Y, workers=2)
threading.stack_size(2**46)  # more address space than there is
try:
    threading.Thread(target=print).start()
    print("it started")
except RuntimeError:
    pass
for _ in range(3):
    for call in (lambda X: network.gradients(params, X, Y, workers=6)[1].vector,
                 lambda X: nn.train(network, X, Y, params=params, epochs=1, workers=6) and expected):
        mine = X.copy()
        assert np.array_equal(call(mine), expected)
        gone = weakref.ref(mine)
        del mine
        gc.collect()
        assert gone() is None
threading.stack_size(0)
assert np.array_equal(network.gradients(params, X, Y, workers=3)[1].vector, expected)
until = time.monotonic() + 20  # a thread that was started has its name when its turn comes
while not (found := [thread for thread in threading.enumerate() if thread.name.startswith("nnarray")]):
    assert time.monotonic() < until
    time.sleep(0.01)
print(True)
"""


@pytest.mark.parametrize("when", ["at once", "later"])
def test_where_no_thread_is_to_be_had_the_caller_computes_alone(when) -> None:
    done = run(NO_THREADS, when)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_handler_that_a_callback_installs_stays() -> None:
    def mine(*_: Any) -> None:
        raise BrokenError

    before = signal.getsignal(signal.SIGINT)
    try:
        training(20, callback=lambda _: signal.signal(signal.SIGINT, mine))()
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
