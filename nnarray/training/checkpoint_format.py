"""A checkpoint: the state of a run in one safetensors file, from which it resumes to the same bits.

The file holds tensors and one entry of JSON, and is treated as untrusted: nothing in it is run, and everything is
validated before it is used.

    {"format": 1, "run": {…}, "first": 0, "seconds": 12.5,
     "now": {"t": 40, "epoch": 5, "order": {…}, "masks": {…}, "waiting": null}, "best": null,
     "patience": {"lowest": 0.3, "reference": 0.3, "waited": 0, "best_epoch": 5},
     "within": {"group": 0, "done": 3, "is_number": true, "counted": 0.0}}

"run" identifies the run; "order" and "masks" are generator states, from which an epoch's order is drawn again. A run on
several ranks also has "draws": for each rank, "order" and "masks" for "now" and "best". The tensors are theta, the
running means v and s and the statistics of batch normalisation, the same for the best epoch where one is kept, the
columns of the history and, within an epoch, the sum of its costs so far. A checksum of all that tells a damaged file.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

from nnarray.backends import NUMPY, Backend
from nnarray.backends.reading import json_object, read_as, short
from nnarray.network.batch_norm import NormalizedParameters, require_variances
from nnarray.network.parameters import Parameters
from nnarray.training.checkpoint_schema import DESCRIPTION, DRAWS, WITHIN, require_all
from nnarray.training.epoch_progress import StoredProgress
from nnarray.training.history import Epoch
from nnarray.training.state import MEANS, Position, State, Waiting
from nnarray.training.stopping import PatienceState

ENTRY, FORMAT = "nnarray checkpoint", 1
"""The entry of the file's metadata that holds the JSON, and its version."""

CHECKSUM = "crc32"
"""The entry that holds the checksum, which files had not always."""

CHECKSUMS = {"examples": "X or Y", "weights_checksum": "weights", "validation_checksum": "X or Y of validation"}
"""The fields of a run's identity that tell its data from others of the same shape."""

COLUMNS = tuple(name for name in Epoch._fields if name not in ("epoch", "params"))
REQUIRED = ("cost", "learning_rate", "seconds")
"""Those of the history, and those of every history; the others are of validation."""

TENSORS = {
    *(f"{key}.{name}" for key in ("now", "best") for name in ("theta", "statistics", *MEANS, "average")),
    *(f"history.{name}" for name in COLUMNS),
    "total",
    "costs",
}
"""The names of all tensors."""

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]


class Checkpoint(NamedTuple):
    """The state of a run."""

    run: Mapping[str, Any]
    """what identifies it: network, data, optimiser, options"""
    first: int
    """the epoch after which it began, 0 unless it resumed from another run's state"""
    seconds: float
    """how long it has trained"""
    now: State
    """theta, running means and generators; of an epoch that has begun, the order is to be drawn again"""
    best: State | None
    """the same for the best epoch, with early stopping"""
    patience: PatienceState
    """what early stopping has seen"""
    within: StoredProgress | None
    """how far the present epoch has come; None between two"""
    history: Tensors
    """the columns of its history, by name"""
    draws: Sequence[Mapping[str, Any]] | None = None
    """of a run on several ranks, what each of them draws next, and what it would have drawn after the best epoch"""


class HistoryTable:
    """The columns of a history, to which only the new epochs are added."""

    def __init__(self) -> None:
        self._columns: Tensors = {}

    def of(self, history: Sequence[Epoch]) -> Tensors:
        """The columns that it has, by name."""
        known = len(self._columns.get(REQUIRED[0], ()))
        new = list(history[known:])
        names = [name for name in COLUMNS if new and getattr(new[0], name) is not None] or REQUIRED
        if new or not self._columns:
            late = {name: np.fromiter(map(attrgetter(name), new), "float64", len(new)) for name in names}
            early = self._columns if known else {name: column[:0] for name, column in late.items()}
            self._columns = {name: np.concatenate([early[name], column]) for name, column in late.items()}
        return self._columns


def records(first: int, columns: Tensors) -> list[Epoch]:
    """The epochs after the `first` one, of these columns."""
    count = len(columns[REQUIRED[0]])
    values = [columns[name].tolist() if name in columns else [None] * count for name in COLUMNS]
    return [Epoch(*row) for row in zip(range(first + 1, first + count + 1), *values, strict=True)]


def as_bytes(checkpoint: Checkpoint, backend: Backend) -> bytes:
    """The content of the file."""
    from safetensors.numpy import save

    states, within = {"now": checkpoint.now, "best": checkpoint.best}, checkpoint.within
    tensors = {name: V for key, state in states.items() if state for name, V in _vectors(key, state, backend).items()}
    tensors |= {f"history.{name}": column for name, column in checkpoint.history.items()}
    if within is not None:
        tensors |= {"total": within.total, "costs": within.costs}
    description = {
        "format": FORMAT,
        "run": checkpoint.run,
        "first": checkpoint.first,
        "seconds": checkpoint.seconds,
        "now": _plain(checkpoint.now),
        "best": _plain(checkpoint.best),
        "patience": _without_infinities(checkpoint.patience),
        "within": within and {name: getattr(within, name) for name in WITHIN},
    }
    if checkpoint.draws is not None:
        description["draws"] = checkpoint.draws
    contiguous = {name: np.ascontiguousarray(V) for name, V in tensors.items()}
    text = json.dumps(description, allow_nan=False)
    content: bytes = save(contiguous, metadata={ENTRY: text, CHECKSUM: _checksum(text, contiguous)})
    return content


def _checksum(text: str, tensors: Tensors) -> str:
    """That of the JSON, and of all tensors by name."""
    found = crc32(text.encode())
    for name in sorted(tensors):
        found = crc32(tensors[name].tobytes(), crc32(name.encode(), found))
    return str(found)


def read_checkpoint(path: str, run: Mapping[str, Any], first: Parameters, remembers: Sequence[str]) -> Checkpoint:
    """The checkpoint of this run in a file, on the host: with parameters like the `first`, and these running means.

    Raises ValueError for a checkpoint of another run, ModelFileError for an invalid file, and as `open` does.
    """
    description, tensors = read_as("checkpoint", path, _content)
    _require_same_run(path, description["run"], run)
    return read_as("checkpoint", path, lambda _: _checkpoint(description, tensors, first, remembers))


def is_checkpoint(path: str) -> bool:
    """Whether the file is a checkpoint, valid or not."""
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):  # opening a pipe would block
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return ENTRY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _vectors(key: str, state: State, backend: Backend) -> Tensors:
    assert state.position is not None
    params = state.position.params
    vectors = {"theta": params.vector, "average": state.average} | {name: getattr(state, name) for name in MEANS}
    if isinstance(params, NormalizedParameters):
        vectors["statistics"] = params.statistics
    return {f"{key}.{name}": backend.to_numpy(V) for name, V in vectors.items() if V is not None}


def _plain(state: State | None) -> dict[str, Any] | None:
    if state is None:
        return None
    position = state.position
    assert position is not None
    waiting = position.waiting and _without_infinities(position.waiting)
    return {
        "t": state.t,
        **{name: getattr(position, name) for name in ("epoch", "order", "masks", "averaged")},
        "waiting": waiting,
    }


def _without_infinities(costs: Any) -> dict[str, Any]:
    """The fields of early stopping's state, with None for an infinite cost, which JSON lacks."""
    return {name: None if value == math.inf else value for name, value in costs._asdict().items()}


def _with_infinities(costs: Mapping[str, Any]) -> dict[str, Any]:
    return {**costs, **{name: math.inf for name in ("lowest", "reference") if costs[name] is None}}


def _content(path: str) -> tuple[dict[str, Any], Tensors]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        entries = file.metadata() or {}
        text, checksum = entries.pop(ENTRY, None), entries.pop(CHECKSUM, None)
        if text is None:
            msg = f'its metadata has no entry "{ENTRY}"'
            raise ValueError(msg)
        description = json_object(text)
        if description.get("format") != FORMAT:
            msg = f"its format is {short(description.get('format'))}, this version of nnarray reads {FORMAT}"
            raise ValueError(msg)
        draws = description.pop("draws", None)
        require_all(description, DESCRIPTION, "description")
        require_all({"draws": draws}, DRAWS, "description")
        description["draws"] = draws
        dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - it is no mapping
        strange = [name for name, dtype in dtypes.items() if name not in TENSORS or dtype not in ("F32", "F64")]
        if strange:
            msg = f"its tensors must be float32 or float64, of known names, and not {short(strange)}"
            raise ValueError(msg)
        tensors = {name: file.get_tensor(name) for name in dtypes}
        if entries or (checksum is not None and checksum != _checksum(text, tensors)):
            msg = "its content is not what was written: its checksum is another, or its metadata has other entries"
            raise ValueError(msg)
        return description, tensors


def _require_same_run(path: str, found: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    run = json.loads(json.dumps(run))
    for name in (*run, *found):
        if name in CHECKSUMS and name != "examples" and name not in found:
            continue  # of a file from before
        if found.get(name) != run.get(name) and name in CHECKSUMS:
            other = f"its {CHECKSUMS[name]} are of this shape, and hold other numbers"
            msg = f"{path} is a checkpoint of another run: {other}"
            raise ValueError(msg)
        if found.get(name) != run.get(name):
            msg = (
                f"{path} is a checkpoint of another run: {short(name)} is {short(found.get(name), 200)} there and "
                f"{short(run.get(name), 200)} here; say the same as there, or name another file"
            )
            raise ValueError(msg)


def _checkpoint(
    description: dict[str, Any], tensors: Tensors, first: Parameters, remembers: Sequence[str]
) -> Checkpoint:
    states = {
        key: None if description[key] is None else _state(key, description[key], tensors, first, remembers)
        for key in ("now", "best")
    }
    now, best, begun = states["now"], states["best"], description["first"]
    assert now is not None
    assert now.position is not None
    epoch, patience = now.position.epoch, PatienceState(**_with_infinities(description["patience"]))
    best_epochs = [state.position.epoch for state in (now, best) if state and state.position]
    best_epochs += [] if patience.best_epoch is None else [patience.best_epoch]
    if not begun <= min(best_epochs) <= max(best_epochs) <= epoch:
        msg = f"its epochs {best_epochs} are not all between {begun} and {epoch}"
        raise ValueError(msg)
    within = description["within"] and StoredProgress(
        **description["within"], total=_vector(tensors, "total", 1), costs=_vector(tensors, "costs", None)
    )
    history = {
        name: _vector(tensors, f"history.{name}", epoch - begun, "float64")
        for name in COLUMNS
        if name in REQUIRED or f"history.{name}" in tensors
    }
    if tensors:
        msg = f"it has tensors that don't belong to it: {short(sorted(tensors))}"
        raise ValueError(msg)
    draws, ranks = description["draws"], description["run"].get("ranks")
    if (None if draws is None else len(draws)) != ranks:
        msg = f"its draws are not those of {ranks} ranks"
        raise ValueError(msg)
    return Checkpoint(description["run"], begun, description["seconds"], now, best, patience, within, history, draws)


def _state(key: str, plain: dict[str, Any], tensors: Tensors, first: Parameters, remembers: Sequence[str]) -> State:
    size, variables = first.vector.shape[0], first.variables.shape[0]
    means = {name: _vector(tensors, f"{key}.{name}", size, first.dtype) for name in remembers}
    params, waiting = _params(key, tensors, first), plain["waiting"]
    waiting = waiting and Waiting(**_with_infinities(waiting))
    position = Position(plain["epoch"], params, plain["order"], plain["masks"], waiting, plain["averaged"])
    if f"{key}.average" in tensors:
        means["average"] = _vector(tensors, f"{key}.average", variables, first.dtype)
        _require_finite(means["average"], "averaged weights")
    elif plain["averaged"]:
        msg = f"its average of {plain['averaged']} updates is missing"
        raise ValueError(msg)
    return State(plain["t"], **means, position=position)


def _params(key: str, tensors: Tensors, first: Parameters) -> Parameters:
    """Parameters like the first ones."""
    theta = _vector(tensors, f"{key}.theta", first.vector.shape[0], first.dtype)
    _require_finite(theta, "weights")
    if not isinstance(first, NormalizedParameters):
        return Parameters(theta, first.sizes, NUMPY)
    statistics = _vector(tensors, f"{key}.statistics", first.variables.shape[0] - len(theta), first.dtype)
    require_variances(statistics, first.sizes, NUMPY)
    return NormalizedParameters(theta, first.sizes, NUMPY, statistics)


def _require_finite(vector: npt.NDArray[Any], what: str) -> None:
    if not np.isfinite(vector).all():
        msg = f"its {what} are not all finite"
        raise ValueError(msg)


def _vector(tensors: Tensors, name: str, length: int | None, dtype: str | None = None) -> npt.NDArray[Any]:
    """A validated tensor, removed from `tensors`; None for `length` or `dtype` accepts any."""
    found = tensors.pop(name, None)
    dtypes = ("float32", "float64") if dtype is None else (dtype,)
    shape = None if found is None else found.shape
    if found is None or found.ndim != 1 or len(found) != (len(found) if length is None else length):
        msg = f"{name} must have shape ({'any' if length is None else length},), got {shape}"
        raise ValueError(msg)
    if found.dtype.name not in dtypes:
        msg = f"{name} must be {' or '.join(dtypes)}, got {found.dtype.name}"
        raise ValueError(msg)
    return found.copy()
