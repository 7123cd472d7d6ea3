"""Tables of examples, rows as in files: what pandas reads, NumPy's .npz and .npy, and scikit-learn's bundled sets."""

import os
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError
from nnarray.cli.frames import read_file
from nnarray.cli.names import did_you_mean, listed_names, no_such_column
from nnarray.cli.options import DEFAULT, Reading
from nnarray.cli.output import quoted
from nnarray.cli.streams import STANDARD_INPUT, refuse_dense, require_file
from nnarray.cli.table import Table

BUNDLED = ("digits", "breast_cancer", "diabetes", "iris", "wine")


def read_table(
    source: str,
    labels: str | None = None,
    *,
    reading: Reading = DEFAULT,
    as_written: Sequence[str] = (),
    target: str | None = None,
    with_target: bool = True,
    has_classes: bool = False,
) -> Table:
    """Read a bundled set by its name or a file; `labels` is the second file of an .npy pair.

    The columns in `as_written` are kept as text, and so are labels in the column `target` (None: the last), also where
    they look like fractions if it `has_classes`. Without a target, only X is read of arrays.
    """
    kind = source.lower()[-4:]
    if labels is not None and kind != ".npy":
        msg = f"{source} takes no second file, got {labels}: only an .npy file does, for its labels"
        raise CommandError(msg)
    if source in BUNDLED and not os.path.exists(source):
        return _read_bundled(source)
    if kind in (".npz", ".npy"):
        return _read_arrays(source, labels, with_target)
    if source != STANDARD_INPUT and not os.path.exists(source) and "." not in source and os.sep not in source:
        msg = f"{source} is neither a file nor one of {', '.join(BUNDLED)}{did_you_mean(source, BUNDLED)}"
        raise CommandError(msg)
    return read_file(source, reading, as_written, target, has_classes=has_classes)


def resolve(given: Sequence[str], names: Sequence[str] | None, source: str, option: str) -> list[str]:
    """The columns that an option names: each text a name, or several with commas between them."""
    if not given:
        return []
    if names is None:
        msg = f"{source} has no column names: {option} {given[0]} is for tables that have"
        raise CommandError(msg)
    known = set(names)
    words = [[text] if text in known else [word.strip() for word in text.split(",")] for text in given]
    resolved = [word for several in words for word in several if word]
    missing = [word for word in resolved if word not in known]
    if missing:
        raise CommandError(no_such_column(source, missing, names))
    return list(dict.fromkeys(resolved))


def resolve_one(name: str, table: Table, option: str) -> str:
    """The one column that an option names."""
    if table.names is None:
        return resolve([name], None, table.source, option)[0]
    if name not in table.names:
        raise CommandError(no_such_column(table.source, [name], table.names))
    return name


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
    names = [str(feature) for feature in loaded.feature_names]
    return Table(name, names, list(np.asarray(loaded.data, dtype="float64").T), "target", y=y)


def _read_arrays(source: str, labels: str | None, with_target: bool) -> Table:
    if source.lower().endswith(".npz"):
        arrays = _load(source, ("X", "y") if with_target else ("X",))
        X, y = arrays["X"], arrays.get("y")
    else:
        if with_target and labels is None:
            msg = f"the labels to {source} are missing: name a second file, such as y.npy"
            raise CommandError(msg)
        X = _load(source, ())[""]
        y = _load(labels, ())[""] if labels is not None and with_target else None
    X = _checked_X(source, X)
    y = None if y is None else _checked_y(labels or source, y, X.shape[0])
    return Table(source, None, list(X.T), None, y=y)


def _load(path: str, keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays called `keys` of an .npz file, or the one array of an .npy file, called ""."""
    require_file(path)
    try:
        with open(path, "rb") as file:
            if keys:
                return _members(path, file, keys)
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                msg = "it is an archive of several"
                raise TypeError(msg)
            return {"": loaded}
    except (FileNotFoundError, IsADirectoryError, PermissionError, CommandError):
        raise
    except Exception as error:
        msg = f"{path} cannot be read as NumPy arrays: {error}"
        raise CommandError(msg) from error


def _members(path: str, file: Any, keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of these names in an archive, after a look at its table of contents."""
    with zipfile.ZipFile(file) as archive:
        contents = archive.infolist()
    names = [member.filename for member in contents]
    wanted = [member for member in contents if member.filename.removesuffix(".npy") in keys]
    found = [member.filename.removesuffix(".npy") for member in wanted]
    missing = [key for key in keys if key not in found]
    if missing:
        shown = listed_names([name.removesuffix(".npy") for name in names])
        msg = f"{path} must hold arrays X and y, {missing[0]} is missing; it holds {shown}"
        raise CommandError(msg)
    if len(set(found)) < len(found):
        msg = f"{path} holds two arrays of one name among {listed_names(found)}"
        raise CommandError(msg)
    for member in wanted:
        refuse_dense(path, member.file_size, member.compress_size)
    file.seek(0)
    loaded = np.load(file, allow_pickle=False)
    arrays = {key: loaded[key] for key in keys}
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            msg = f"{path}: {key} is no array"
            raise CommandError(msg)
    return arrays


def _checked_X(source: str, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if X.dtype.kind not in "biuf" or X.ndim != 2 or 0 in X.shape:
        msg = f"{source}: X must be a table of numbers, one example per row, got shape {X.shape} and dtype {X.dtype}"
        raise CommandError(msg)
    X = _plain_floats(X)
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
    y = _plain_floats(y)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0, 0])
        msg = f"{source}: y must be finite, got {y[row]} in row {row} (counted from 0)"
        raise CommandError(msg)
    return y


def _plain_floats(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A long double as float64: nothing here computes in more."""
    with np.errstate(over="ignore"):
        return x.astype("float64") if x.dtype.kind == "f" and x.dtype.itemsize > 8 else x


def refuse_target(table: Table, target: str) -> None:
    """Raise CommandError where a target is named that the source does not have."""
    if table.names is None or table.y is not None:
        msg = f"{table.source} has no column {quoted(target)}: --target is for tables of named columns"
        raise CommandError(msg)
    raise CommandError(no_such_column(table.source, [target], table.names))
