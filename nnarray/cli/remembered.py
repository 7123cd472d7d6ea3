"""The training settings stored in a model file, each used only if it is valid."""

from typing import Any, NamedTuple

from nnarray.cli.results import Baseline
from nnarray.files import Model
from nnarray.files.cells import MISSING, marks_of_missing


class Split(NamedTuple):
    """How the rows were split."""

    seed: int
    rows: int
    trained_on: int
    validation: float
    test: float


class Remembered(NamedTuple):
    """The training settings that later commands need."""

    na: tuple[str, ...] = MISSING
    header: bool | None = None
    thousands: str | None = None
    id: tuple[str, ...] = ()
    baseline: Baseline | None = None
    split: Split | None = None
    sketch: tuple[str, ...] = ()


def remembered(model: Model, classes: list[Any] | None) -> Remembered:
    """The settings in the model's file, with defaults for missing ones."""
    training = model.metadata.get("training", {})
    reading = _object(training, "reading")
    header, thousands = reading.get("header"), reading.get("thousands")
    return Remembered(
        marks_of_missing(model.metadata),
        header if isinstance(header, bool) else None,
        thousands if isinstance(thousands, str) else None,
        _texts(reading, "id"),
        _baseline(_object(training, "baseline"), classes),
        _split(_object(training, "split")),
        tuple(text for text in _texts(training, "sketch") if len(text) == 16 and set(text) <= set("0123456789abcdef")),
    )


def _object(known: dict[str, Any], key: str) -> dict[str, Any]:
    value = known.get(key)
    return value if isinstance(value, dict) else {}


def _texts(known: dict[str, Any], key: str) -> tuple[str, ...]:
    value = known.get(key)
    return tuple(value) if isinstance(value, list) and all(isinstance(text, str) for text in value) else ()


def _baseline(known: dict[str, Any], classes: list[Any] | None) -> Baseline | None:
    answer, name = known.get("answer"), known.get("name")
    right = isinstance(answer, int) and 0 <= answer < len(classes) if classes else isinstance(answer, int | float)
    return Baseline(answer, name) if right and isinstance(name, str) else None


def _split(known: dict[str, Any]) -> Split | None:
    counts: list[Any] = [known.get(name) for name in ("seed", "rows", "trained_on")]
    shares: list[Any] = [known.get(name) for name in ("validation", "test")]
    if not all(type(count) is int and count >= 0 for count in counts):
        return None
    if not all(isinstance(share, float | int) and 0 <= share < 1 for share in shares) or sum(shares) >= 1:
        return None
    return Split(*counts, *map(float, shares))
