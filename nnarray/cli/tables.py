"""Tables of examples, rows as in files: CSV with a header, NumPy's .npz and .npy, and scikit-learn's bundled sets."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError

NOTHING = np.empty(0)

BUNDLED = ("digits", "breast_cancer", "diabetes", "iris", "wine")


class Table(NamedTuple):
    """Examples: X of shape (m, n_x), and y of shape (m,), which is empty where no target was asked for."""

    X: npt.NDArray[Any]
    y: npt.NDArray[Any]
    features: list[str] | None
    """the names of X's columns, where the source has names"""
    target: str | None


def read_table(
    source: str,
    labels: str | None = None,
    *,
    target: str | None = None,
    features: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    with_target: bool = True,
) -> Table:
    """Read a bundled set by its name or a file by its ending; `labels` is the second file of an .npy pair.

    `target` names the target's column (left out: the last one), `features` the columns wanted in X, in that order
    (left out: all but the target and those in `drop`).
    """
    if labels is not None and not source.lower().endswith(".npy"):
        msg = f"{source} takes no second file, got {labels}: only an .npy file does, for its labels"
        raise CommandError(msg)
    if source in BUNDLED:
        table = _read_bundled(source)
    elif source.lower().endswith(".csv"):
        return _read_csv(source, target, features, drop, with_target)
    elif source.lower().endswith((".npz", ".npy")):
        table = _read_arrays(source, labels, with_target)
    else:
        msg = f"{source!r} is neither a file ending in .csv, .npz or .npy nor one of {', '.join(BUNDLED)}"
        raise CommandError(msg)
    if target is not None and target != table.target:
        msg = f"{source} has no column {target!r}: --target is for CSV files"
        raise CommandError(msg)
    return _select(source, table, features, drop)


def _read_bundled(name: str) -> Table:
    try:
        from sklearn import datasets
    except ImportError:
        msg = (
            f"the data set {name} comes with scikit-learn, which is not installed: pip install scikit-learn "
            "(nnarray's extra [sklearn])"
        )
        raise CommandError(msg) from None
    loaded = getattr(datasets, f"load_{name}")()
    y = loaded.target if name == "diabetes" else loaded.target_names[loaded.target]
    return Table(np.asarray(loaded.data, dtype="float64"), y, [str(f) for f in loaded.feature_names], "target")


def _select(source: str, table: Table, features: Sequence[str] | None, drop: Sequence[str]) -> Table:
    if table.features is None:
        if drop:
            msg = f"{source} has no column names to drop {drop[0]!r} by"
            raise CommandError(msg)
        return table
    _require_columns(source, [*(features or ()), *drop], table.features)
    wanted = [name for name in (features or table.features) if name not in drop]
    columns = [table.features.index(name) for name in wanted]
    return table._replace(X=table.X[:, columns], features=wanted)


def _require_columns(source: str, wanted: Sequence[str], header: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in header]
    if missing:
        msg = f"{source} has no column {_names(missing)}; its columns are {_names(header)}{_separator(header)}"
        raise CommandError(msg)


def _names(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown}, … ({len(names)} in all)" if len(names) > most else shown


def _separator(header: Sequence[str]) -> str:
    """The question to add to an error where the header seems to be one cell for want of commas."""
    marks = [name for mark, name in ((";", "';'"), ("\t", "tabs")) if len(header) == 1 and mark in header[0]]
    return f": is it separated by {marks[0]}? It must be by commas" if marks else ""


def _read_arrays(source: str, labels: str | None, with_target: bool) -> Table:
    if source.lower().endswith(".npz"):
        arrays = _load(source, ("X", "y") if with_target else ("X",))
        X, y = arrays["X"], arrays.get("y", NOTHING)
    else:
        if with_target and labels is None:
            msg = f"the labels to {source} are missing: name a second file, such as y.npy"
            raise CommandError(msg)
        X = _load(source, ())[""]
        y = _load(labels, ())[""] if labels is not None and with_target else NOTHING
    X = _checked_X(source, X)
    return Table(X, _checked_y(labels or source, y, X.shape[0]) if with_target else NOTHING, None, None)


def _load(path: str, keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays called `keys` of an .npz file, or the one array of an .npy file, called ""."""
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not keys:
                return {"": np.asarray(loaded)}
            missing = [key for key in keys if key not in loaded]
            found = {key: loaded[key] for key in keys if key in loaded}
            names = list(loaded)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:
        msg = f"{path} cannot be read as NumPy arrays: {error}"
        raise CommandError(msg) from error
    if missing:
        msg = f"{path} must hold arrays X and y, {missing[0]} is missing; it holds {_names(names)}"
        raise CommandError(msg)
    return found


def _checked_X(source: str, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if X.dtype.kind not in "biuf" or X.ndim != 2 or 0 in X.shape:
        msg = f"{source}: X must be a table of numbers, one example per row, got shape {X.shape} and dtype {X.dtype}"
        raise CommandError(msg)
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0].tolist()
        msg = f"{source}: X must be finite, got {X[row, column]} in row {row}, column {column} (counted from 0)"
        raise CommandError(msg)
    return X


def _checked_y(source: str, y: npt.NDArray[Any], m: int) -> npt.NDArray[Any]:
    y = y.reshape(-1) if y.ndim == 2 and 1 in y.shape else y
    if y.dtype.kind not in "biufU" or y.shape != (m,):
        msg = f"{source}: y must be {m} numbers or texts, one per row of X, got shape {y.shape} and dtype {y.dtype}"
        raise CommandError(msg)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0, 0])
        msg = f"{source}: y must be finite, got {y[row]} in row {row} (counted from 0)"
        raise CommandError(msg)
    return y


def _read_csv(
    path: str, target: str | None, features: Sequence[str] | None, drop: Sequence[str], with_target: bool
) -> Table:
    header, rows, lines = _cells(path)
    if with_target and target is None:
        target = header[-1]
    wanted = list(features) if features else [name for name in header if name != target and name not in drop]
    _require_columns(path, [*wanted, *([target] if with_target and target is not None else []), *drop], header)
    if not wanted:
        msg = f"{path} has no column besides the target {target!r}{_separator(header)}"
        raise CommandError(msg)
    X = np.empty((len(rows), len(wanted)))
    for k, name in enumerate(wanted):
        X[:, k] = _numbers(path, name, _column(rows, header, name), lines)
    y = _target(path, target, _column(rows, header, target), lines) if with_target and target is not None else NOTHING
    return Table(X, y, wanted, target)


def _cells(path: str) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows of cells, and each row's line in the file."""
    rows, lines = [], []
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} cannot be read as CSV in UTF-8: {error}"
        raise CommandError(msg) from error
    _check_header(path, header)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            counts = f"the row has {len(row)} cells, the header has {len(header)}"
            msg = f"{path}, line {line}: {counts}{_separator(header)}"
            raise CommandError(msg)
    if not rows:
        msg = f"{path} has no rows below its header"
        raise CommandError(msg)
    return header, rows, lines


def _check_header(path: str, header: list[str]) -> None:
    if not header or "" in header:
        msg = f"{path} needs a first line with a name for every column, got {_names(header) or 'an empty file'}"
    elif len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        msg = f"{path} has two columns called {twice!r}"
    elif all(_is_number(name) for name in header):
        msg = f"{path} needs a first line with the names of its columns, got numbers: {_names(header)}"
    else:
        return
    raise CommandError(msg)


def _column(rows: list[list[str]], header: list[str], name: str) -> list[str]:
    k = header.index(name)
    return [row[k].strip() for row in rows]


def _numbers(path: str, name: str, cells: list[str], lines: list[int]) -> npt.NDArray[Any]:
    """A feature column as finite numbers, or an error that says where it is not."""
    try:
        numbers = np.array(cells, dtype="float64")
    except ValueError:
        numbers = np.array([float(cell) if _is_number(cell) else np.nan for cell in cells])
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise CommandError(_bad_cell(path, name, cells, int(bad[0]), lines))
    return numbers


def _bad_cell(path: str, name: str, cells: list[str], row: int, lines: list[int]) -> str:
    texts = [cell for cell in cells if cell and not _is_number(cell)]
    if len(texts) > len(cells) / 2:
        return (
            f"{path}: the column {name!r} holds text such as {texts[0]!r}; make it numbers, or leave it out with --drop"
        )
    what = f"{cells[row]!r} is not a finite number" if cells[row] else "the cell is empty"
    return f"{path}, row {row + 1} (line {lines[row]}), column {name!r}: {what}"


def _target(path: str, name: str, cells: list[str], lines: list[int]) -> npt.NDArray[Any]:
    """The target column as numbers if every cell is one, else as text."""
    for row, cell in enumerate(cells):
        if not cell or cell.lower() == "nan":
            raise CommandError(_bad_cell(path, name, cells, row, lines))
    if all(map(_is_number, cells)):
        return _numbers(path, name, cells, lines)
    return np.array(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
