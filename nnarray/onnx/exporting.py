"""A model with its preprocessing and its labels, from a table's cells on, as one ONNX graph."""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.backends import quiet, to_numpy
from nnarray.files import Model
from nnarray.files.cells import marks_of_missing, numbers_among
from nnarray.files.description import to_json
from nnarray.files.preprocessing import (
    FARTHEST,
    PERIODS,
    Category,
    Column,
    Date,
    Ignored,
    Number,
    Preprocessing,
    Scaling,
)
from nnarray.onnx.building import add_layers
from nnarray.onnx.library import onnx_library
from nnarray.onnx.writing import DEFAULT_OPSET, End, Nodes, check_opset, finished, host_layers

if TYPE_CHECKING:
    import onnx

TABLE = "X"
"""The input of a model whose columns are all numbers."""

TEXTS_DOMAIN = {"ai.onnx.ml": 2}
"""The operators that look texts up, and their version."""

RAW = Number(Scaling(0.0, 1.0), 0.0)
"""A column whose numbers enter the network as they are."""

TRUTH = ("True", "False")
"""What a table may write in small or in capital letters, too."""

DAYS = "days since 1970-01-01 UTC"
"""What the cells of a date are."""

KEPT = ("classes", "features", "target", "preprocessing", "user")
"""The metadata that are exported with the graph; those about training are not."""


@quiet
def model_to_onnx(
    model: Model, *, opset: int = DEFAULT_OPSET, missing: Sequence[str] | None = None
) -> "onnx.ModelProto":
    """A model file's network with its preprocessing, and its classes, as one ONNX graph: what `nnarray export` writes.

    Parameters
    ----------
    model : Model
        Of `nnarray.read_model`.
    opset : int, default=17
        The version of ONNX's operators, from 13 on.
    missing : sequence of str, optional
        The texts that mark a missing cell in a column of categories, and, as numbers, in one of numbers; by default
        those that did in training. One that is a category itself is that category.

    Returns
    -------
    onnx.ModelProto
        Rows are examples, m is any number. Where all columns are numbers or dates, the input "X" is float64, (m,
        columns), in the order of the metadata's "features". Where there are categories, each column that the model
        uses is an input of its own, (m, 1), under its own name: texts for categories, else float64. A missing number
        or date is NaN. Dates are days since 1970 in UTC, the day's time as its fraction: the metadata's "dates" names
        the columns that hold them, and says so.
        A model of classes has the outputs "label", (m,), of the classes' own kind, and "probabilities", (m, classes)
        in the parameters' dtype; others have "prediction", (m, n[L]), float64 where the target was scaled.
        Where a model takes raw numbers, without preprocessing, NaN gives a "prediction" of NaN; in a classifier no
        label is possible then, and a runtime raises an error (index out of bounds), as `predict` does.

    Raises
    ------
    ImportError
        Where onnx is missing (the extra `onnx`).
    TypeError, ValueError
        For an invalid opset, and for what a graph can't represent: two categories of the same text, one of them for
        missing cells, or classes that are whole numbers beyond 64 bits.
    """
    missing = marks_of_missing(model.metadata) if missing is None else missing
    return _as_graph(model, opset, missing, _Outputs)


def estimator_to_onnx(estimator: Any, *, opset: int) -> "onnx.ModelProto":
    """What `to_onnx` writes of a fitted classifier or regressor: its network, and of a classifier its labels."""
    network, params = estimator.to_network()
    metadata: dict[str, Any] = {}
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        metadata["features"] = [str(name) for name in names]
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return _as_graph(Model(network, params, metadata), opset, (), _Outputs)
    if estimator._label_binarizer.y_type_ == "multilabel-indicator":
        return _as_graph(Model(network, params, metadata), opset, (), _SeveralLabels)
    known = to_numpy(classes)
    if known.size == 1:
        msg = f"the classifier knows one class alone, {known[0]!r}: there is nothing that a graph could tell"
        raise ValueError(msg)
    metadata["classes"] = (known.astype("int64") if known.dtype.kind == "f" else known).tolist()
    return _as_graph(Model(network, params, metadata), opset, (), _Outputs)


def _as_graph(model: Model, opset: int, missing: Sequence[str], outputs_of: "type[_Outputs]") -> "onnx.ModelProto":
    onnx_library()
    opset = check_opset(opset)
    if model.network.batch_norm:
        network, params = model.network.folded(model.params)
        model = model._replace(network=network, params=params)
    metadata = {key: model.metadata[key] for key in KEPT if key in model.metadata}
    description = to_json(model.network, metadata)
    layers = host_layers(model.params)
    graph = Nodes(np.dtype(model.params.dtype))
    preprocessing = model.preprocessing or Preprocessing((RAW,) * model.network.sizes[0])
    cells = _Cells(graph, preprocessing.columns, metadata.get("features"))
    outputs = outputs_of(graph, model)  # takes its names before any node does
    X = TABLE
    if model.preprocessing is not None:
        X = _concatenated(graph, [_prepared(graph, run, missing) for run in cells.runs()])
    X = graph.node("Cast", X, to=_kind(graph.dtype))
    ends = outputs.of(add_layers(graph, X, layers, model.network.hidden, model.network.output), preprocessing.target)
    domains = TEXTS_DOMAIN if cells.has_texts else None
    made = finished(graph, cells.inputs, ends, opset=opset, description=description, entries=metadata, domains=domains)
    if dates := [cells.name(k) for k, column in enumerate(preprocessing.columns) if isinstance(column, Date)]:
        made.metadata_props.add(key="dates", value=json.dumps(dict.fromkeys(dates, DAYS), ensure_ascii=False))
    return made


class _Run(NamedTuple):
    """Columns beside each other of one kind, and the name of their cells, (m, columns)."""

    columns: list[Any]
    cells: str


class _Cells:
    """The inputs of the graph."""

    def __init__(self, graph: Nodes, columns: Sequence[Column], names: Sequence[str] | None) -> None:
        self.graph, self.columns, self.features = graph, columns, names
        self.has_texts = any(isinstance(column, Category) for column in columns)
        self.names: dict[int, str] = {}
        self.inputs: list[End] = [(TABLE, _kind("float64"), ["m", len(columns)])]
        if self.has_texts:
            graph.taken = {""}
            self.names = {k: graph.fresh(self.name(k)) for k, c in enumerate(columns) if c.width}
            self.inputs = [(name, _kind_of(columns[k]), ["m", 1]) for k, name in self.names.items()]

    def name(self, k: int) -> str:
        """What column k is called."""
        return (self.features[k] if self.features else "") or f"column {k + 1}"

    def runs(self) -> Iterator[_Run]:
        """Adjacent columns of numbers together, every other column by itself."""
        used = [(k, column) for k, column in enumerate(self.columns) if not isinstance(column, Ignored)]
        for is_number, group in groupby(used, lambda pair: isinstance(pair[1], Number)):
            pairs = list(group)
            for some in [pairs] if is_number else [[pair] for pair in pairs]:
                yield _Run([column for _, column in some], self._cells([k for k, _ in some]))

    def _cells(self, indices: list[int]) -> str:
        if self.has_texts:
            return _concatenated(self.graph, [self.names[k] for k in indices])
        if indices == list(range(len(self.columns))):
            return TABLE
        return self.graph.node("Gather", TABLE, self.graph.constant_as_it_is(np.array(indices), "places"), axis=1)


def _kind(dtype: Any) -> int:
    kind: int = onnx_library().helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return kind


def _kind_of(column: Column) -> int:
    return _kind(object if isinstance(column, Category) else "float64")


def _concatenated(graph: Nodes, names: list[str]) -> str:
    return names[0] if len(names) == 1 else graph.node("Concat", *names, axis=1)


def _prepared(graph: Nodes, run: _Run, missing: Sequence[str]) -> str:
    """The inputs of the network that the columns become, float64, as `encode` makes them."""
    column = run.columns[0]
    if isinstance(column, Category):
        return _categories(graph, column, run.cells, missing)
    marks = numbers_among(tuple(missing)) if isinstance(column, Number) else []
    known = _filled(graph, run.cells, [column.fill for column in run.columns], marks)
    if isinstance(column, Date):
        parts = [_part(graph, name, known) for name in column.scalings]
        return _scaled(graph, _concatenated(graph, parts), list(column.scalings.values()))
    return _scaled(graph, known, [column.scaling for column in run.columns])


def _filled(graph: Nodes, cells: str, fills: list[float], marks: list[float]) -> str:
    """The numbers, each replaced where it is NaN or one of the marks of missing cells."""
    missing = graph.node("IsNaN", cells)
    for mark in marks:
        marked = graph.node("Equal", cells, graph.constant_as_it_is(np.array(mark), "mark"))
        missing = graph.node("Or", missing, marked)
    return graph.node("Where", missing, graph.constant_as_it_is(np.array(fills), "fill"), cells)


def _scaled(graph: Nodes, x: str, scalings: list[Scaling]) -> str:
    """(x - mean) / scale in float64, cut off where `Scaling` cuts it."""
    mean, scale = (
        graph.constant_as_it_is(np.array(V), name)
        for V, name in zip(zip(*scalings, strict=True), ("mean", "scale"), strict=True)
    )
    ends = [graph.constant_as_it_is(np.array(end), "end") for end in (-FARTHEST, FARTHEST)]
    return graph.node("Clip", graph.node("Div", graph.node("Sub", x, mean), scale), *ends)


def _part(graph: Nodes, name: str, days: str) -> str:
    """One of DATE_PARTS."""
    if name == "days":
        return days
    unit, function = name.split("_")
    period = graph.constant_as_it_is(np.array(PERIODS[unit]), "period")
    rest = graph.node("Mod", days, period, fmod=1)  # of the sign of `days`
    rest = graph.node("Mod", graph.node("Add", rest, period), period, fmod=1)
    turn = graph.node("Mul", graph.constant_as_it_is(np.array(2 * np.pi / PERIODS[unit]), "turn"), rest)
    return graph.node(function.capitalize(), turn)


def _categories(graph: Nodes, column: Category, cells: str, missing: Sequence[str]) -> str:
    """0 and 1 for each category; 0 in all of them for a text that is none."""
    codes = _codes(column, missing)
    attributes = {"keys_strings": list(codes), "values_int64s": list(codes.values()), "default_int64": -1}
    code = graph.node("LabelEncoder", cells, domain="ai.onnx.ml", **attributes)
    categories = graph.constant_as_it_is(np.arange(column.width)[None, :], "categories")
    return graph.node("Cast", graph.node("Equal", code, categories), to=_kind("float64"))


def _codes(column: Category, missing: Sequence[str]) -> dict[str, int]:
    """The code of every text that has one."""
    codes = {text: code for code, text in enumerate(column.categories) if text is not None}
    if None in column.categories:
        if "" in codes:
            msg = "a column has the empty text as a category beside missing cells, which no ONNX graph tells apart"
            raise ValueError(msg)
        codes = {text: column.categories.index(None) for text in missing} | codes
    if set(column.categories) <= {*TRUTH, None}:
        codes = {as_written: codes[text] for text in TRUTH if text in codes for as_written in _spellings(text)} | codes
    return codes or {"": -1}


def _spellings(text: str) -> tuple[str, ...]:
    return text, text.lower(), text.upper()


class _Outputs:
    """The outputs of the graph."""

    def __init__(self, graph: Nodes, model: Model) -> None:
        self.graph, self.n = graph, model.network.sizes[-1]
        self.classes = _classes(model)
        names = ["prediction"] if self.classes is None else ["label", "probabilities"]
        self.names = [graph.fresh(name) for name in names]

    def of(self, A: str, target: Scaling | None) -> list[End]:
        """The outputs, of A[L], (m, n[L])."""
        if self.classes is not None:
            return self._labels(A, self.classes)
        kind = self.graph.dtype if target is None else np.dtype("float64")
        if target is None:
            self.graph.output(self.names[0], "Identity", A)
        else:
            mean, scale = (self.graph.constant_as_it_is(np.array(V), "target") for V in target)
            scaled = self.graph.node("Mul", self.graph.node("Cast", A, to=_kind("float64")), scale)
            self.graph.output(self.names[0], "Add", scaled, mean)
        return [(self.names[0], _kind(kind), ["m", self.n])]

    def _labels(self, A: str, classes: npt.NDArray[Any]) -> list[End]:
        graph = self.graph
        if self.n == 1:
            said = graph.node("Greater", A, graph.constant(np.array(0.5), "half"))
            code = graph.node("Cast", said, to=_kind("int64"))
            code = graph.node("Squeeze", code, graph.constant_as_it_is(np.array([1]), "axis"))
            one = graph.constant(np.array(1.0), "one")
            graph.output(self.names[1], "Concat", graph.node("Sub", one, A), A, axis=1)
        else:
            code = graph.node("ArgMax", A, axis=1, keepdims=0)
            graph.output(self.names[1], "Identity", A)
        code = graph.node("Where", self._unknown(A), graph.constant_as_it_is(np.array(len(classes)), "none"), code)
        graph.output(self.names[0], "Gather", graph.constant_as_it_is(classes, "classes"), code, axis=0)
        ends: list[End] = [(self.names[0], _kind(classes.dtype), ["m"])]
        return [*ends, (self.names[1], _kind(graph.dtype), ["m", len(classes)])]

    def _unknown(self, A: str) -> str:
        """Whether A is NaN, (m,): there is no class then, and the code beyond the last one is an error of Gather's."""
        total = self.graph.node("ReduceSum", A, self.graph.constant_as_it_is(np.array([1]), "units"), keepdims=0)
        return self.graph.node("IsNaN", total)


class _SeveralLabels(_Outputs):
    """The outputs of an estimator of several labels, each 0 or 1."""

    def __init__(self, graph: Nodes, model: Model) -> None:
        self.graph, self.n, self.classes = graph, model.network.sizes[-1], None
        self.names = [graph.fresh(name) for name in ("label", "probabilities")]

    def of(self, A: str, target: Scaling | None) -> list[End]:
        """The outputs, of A[L], (m, n[L])."""
        said = self.graph.node("Greater", A, self.graph.constant(np.array(0.5), "half"))
        self.graph.output(self.names[0], "Cast", said, to=_kind("int64"))
        self.graph.output(self.names[1], "Identity", A)
        kinds = _kind("int64"), _kind(self.graph.dtype)
        return [(name, kind, ["m", self.n]) for name, kind in zip(self.names, kinds, strict=True)]


def _classes(model: Model) -> npt.NDArray[Any] | None:
    """The classes that a model tells, 0, 1, … where it has no names for them; None for one that tells none."""
    n, output = model.network.sizes[-1], model.network.output
    if output not in ("sigmoid", "softmax") or (output == "sigmoid" and n > 1):
        return None
    classes = model.metadata.get("classes", list(range(max(n, 2))))
    if isinstance(classes[0], str):
        return np.array(classes, dtype=object)
    try:
        return np.array(classes, dtype=bool if isinstance(classes[0], bool) else "int64")
    except OverflowError:
        msg = "the classes are whole numbers beyond 64 bits, which no ONNX graph holds"
        raise ValueError(msg) from None
