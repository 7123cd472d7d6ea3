"""What a target column means: classes or numbers, and so which output and cost."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import nnarray as nn
from nnarray.cli.errors import CommandError
from nnarray.network.names import OutputName

MOST_CLASSES = 20
LEAST_EXAMPLES = 5
LEAST_ROWS = 4
"""Rows to each class, on average, that a target needs even where it was said to be classes."""

RULE = (
    f"Text and booleans are classes; whole numbers are classes if there are at most {MOST_CLASSES} different ones with "
    f"at least {LEAST_EXAMPLES} examples each on average; all else are real numbers. Two classes get the output "
    "sigmoid with one unit, more get softmax, real numbers get identity"
)


class Target(NamedTuple):
    """A target column, understood."""

    output: OutputName
    classes: list[Any] | None
    values: npt.NDArray[Any]
    """each example's class 0, 1, … where there are classes, else its number"""

    @property
    def units(self) -> int:
        """n[L]."""
        return len(self.classes) if self.classes is not None and self.output == "softmax" else 1

    def Y(self, values: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Y of shape (n[L], m), of these values or of all."""
        values = self.values if values is None else values
        if self.output == "softmax":
            return np.asarray(np.eye(self.units)[values].T)
        return np.asarray(values[None, :], dtype="float64")

    @property
    def strata(self) -> npt.NDArray[Any]:
        """For a split in proportion: each example's class, or the tenth of the real numbers that its own is in."""
        if self.classes is not None:
            return self.values
        ranks = np.argsort(np.argsort(self.values, kind="stable"), kind="stable")
        return np.asarray(ranks * 10 // ranks.size)

    def __str__(self) -> str:
        if self.classes is None:
            return f"real numbers from {self.values.min():g} to {self.values.max():g}"
        return f"{len(self.classes)} classes ({listed(self.classes)})"


def understand(y: npt.NDArray[Any], output: OutputName | None = None) -> Target:
    """The target column `y`, shape (m,), as classes or numbers; `output` chooses instead of the rule."""
    if output in ("identity", "exp") or (output is None and not _is_classes(y)):
        return Target(output or "identity", None, _numbers(y, output))
    names, codes = np.unique(y, return_inverse=True)
    classes = [_name(value) for value in names.tolist()]
    _check_classes(classes, codes, output)
    return Target(output or ("sigmoid" if len(classes) == 2 else "softmax"), classes, codes.reshape(-1))


def codes_of(y: npt.NDArray[Any], classes: list[Any]) -> npt.NDArray[Any]:
    """Each label's place among a model's classes, compared by name: the label 3.0 of a table is the class 3."""
    known = {str(name): code for code, name in enumerate(classes)}
    labels = [str(_name(value)) for value in y.tolist()]
    for row, label in enumerate(labels):
        if label not in known:
            msg = f"row {row + 1} has the target {label!r}, which is none of the model's classes: {listed(classes)}"
            raise CommandError(msg)
    return np.array([known[label] for label in labels])


def numbers_of(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A target of real numbers. Raises CommandError for text."""
    return _numbers(y, "identity")


def listed(classes: list[Any]) -> str:
    """The names of classes, the first nine of more than ten; in quotes where one holds a comma or a space."""
    shown = list(map(str, classes))
    if any(set(", ") & set(name) for name in shown):
        shown = list(map(repr, classes))
    return ", ".join(shown if len(shown) <= 10 else [*shown[:9], "…"])


def _is_classes(y: npt.NDArray[Any]) -> bool:
    if y.dtype.kind in "Ub":
        return True
    different = np.unique(y)
    whole = bool(np.all(different == np.floor(different)))
    return whole and different.size <= min(MOST_CLASSES, y.size / LEAST_EXAMPLES)


def _numbers(y: npt.NDArray[Any], output: str | None) -> npt.NDArray[Any]:
    if y.dtype.kind == "U":
        msg = f"the output {output!r} needs a target of numbers, this one holds text such as {str(y[0])!r}"
        raise CommandError(msg)
    if output == "exp" and y.min() < 0:
        msg = f"the output 'exp' models counts, and the target holds {y.min():g}"
        raise CommandError(msg)
    return y.astype("float64")


def _check_classes(classes: list[Any], codes: npt.NDArray[Any], output: str | None) -> None:
    if len(classes) == 1:
        msg = f"the target is {classes[0]!r} in every row: there is nothing to learn"
    elif not all(isinstance(name, str | int) for name in classes):
        msg = f"the output {output!r} needs a target of classes, this one holds fractions; use identity"
    elif len(classes) > max(2, codes.size / LEAST_ROWS):
        remedy = "" if isinstance(classes[0], str) else "; use identity"
        msg = (
            f"the target has {len(classes)} different values in {codes.size} rows: too many to be classes, which need "
            f"{LEAST_ROWS} rows each on average{remedy}"
        )
    elif output == "sigmoid" and len(classes) > 2:
        msg = f"the output 'sigmoid' tells two classes apart, the target has {len(classes)}; use softmax"
    else:
        return
    raise CommandError(msg)


def _name(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def class_names(network: nn.Network, metadata: dict[str, Any]) -> list[Any] | None:
    """The names of a model's classes, 0, 1, … where its file has none; None for a model that doesn't tell classes."""
    if network.output == "softmax":
        return list(metadata.get("classes", range(network.sizes[-1])))
    if network.output == "sigmoid" and network.sizes[-1] == 1:
        return list(metadata.get("classes", range(2)))
    return None
