"""The quality of predictions, compared with a baseline, in figures, words and tables."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.cli.output import one_line
from nnarray.files.model import codes

MOST_SHOWN = 20
"""Classes up to which a confusion matrix is printed."""


class Baseline(NamedTuple):
    """The best constant prediction from the training part: its most frequent class or its mean."""

    answer: Any
    """the class's code, or the number"""
    name: str


def baseline(values: npt.NDArray[Any], classes: Sequence[Any] | None) -> Baseline:
    """The best constant prediction."""
    if classes is None:
        return Baseline(float(np.mean(values)), f"the mean {np.mean(values):.6g}")
    code = int(np.bincount(values).argmax())
    return Baseline(code, f"the most frequent class {one_line(classes[code])}")


def probabilities(A: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The probability of each class, shape (m, classes), in float64, with rows that sum to 1."""
    A = A.astype("float64")
    p = A.T if A.shape[0] > 1 else np.column_stack([1 - A[0], A[0]])
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def figures(
    A: npt.NDArray[Any], true: npt.NDArray[Any], classes: Sequence[Any] | None, base: Baseline | None
) -> dict[str, Any]:
    """All figures of predictions A (n[L], m) for the true codes or numbers, as --json prints them."""
    found = _of_numbers(A[0], true) if classes is None else _of_classes(A, true, classes)
    if base is None:
        return found
    same = np.full(true.size, base.answer)
    if classes is None:
        alone = {key: value for key, value in _of_numbers(same, true).items() if key != "examples"}
    else:
        alone = {"accuracy": float(np.mean(same == true))}
    return found | {"baseline": {"answer": base.name, **alone}}


def _of_numbers(A: npt.NDArray[Any], Y: npt.NDArray[Any]) -> dict[str, Any]:
    A, Y = A.astype("float64"), Y.astype("float64")
    unit = max(float(np.abs(Y).max()), float(np.abs(A).max())) or 1.0  # squares of what is near 1e-300 would be 0
    error, deviation = (Y - A) / unit, Y / unit - np.mean(Y / unit)
    residual, total = float(np.sum(error**2)), float(np.sum(deviation**2))
    return {
        "examples": int(Y.size),
        "r2": 1 - residual / total if total > 0 else None,
        "rmse": unit * float(np.sqrt(residual / Y.size)),
        "mae": unit * float(np.mean(np.abs(error))),
    }


def _of_classes(A: npt.NDArray[Any], true: npt.NDArray[Any], classes: Sequence[Any]) -> dict[str, Any]:
    said = codes(A)
    right = int(np.sum(said == true))
    found: dict[str, Any] = {"examples": int(true.size), "accuracy": right / true.size, "right": right}
    found |= _of_probabilities(probabilities(A), true, len(classes))
    matrix = confusion(said, true, len(classes))
    found["classes"] = {str(name): _of_class(matrix, code) for code, name in enumerate(classes)}
    return found | {"confusion": matrix.tolist()}


def _of_probabilities(p: npt.NDArray[Any], true: npt.NDArray[Any], n: int) -> dict[str, float | None]:
    """Log loss and the area under the ROC curve (of one class against the rest, where there are more than two).

    None without scikit-learn, and where not all classes occur, of which the area says nothing.
    """
    try:
        from sklearn.metrics import log_loss, roc_auc_score
    except ImportError:
        return {"log_loss": None, "roc_auc": None}
    loss = float(log_loss(true, p, labels=np.arange(n)))
    if np.unique(true).size < n:
        return {"log_loss": loss, "roc_auc": None}
    scores = p[:, 1] if n == 2 else p
    return {"log_loss": loss, "roc_auc": float(roc_auc_score(true, scores, multi_class="ovr"))}


def confusion(said: npt.NDArray[Any], true: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """How many examples of each true class (rows) were said to be of each class (columns)."""
    return np.bincount(true * n + said, minlength=n * n).reshape(n, n)


def _of_class(matrix: npt.NDArray[Any], code: int) -> dict[str, Any]:
    right, said, true = int(matrix[code, code]), int(matrix[:, code].sum()), int(matrix[code].sum())
    return {
        "precision": right / said if said else None,
        "recall": right / true if true else None,
        "f1": 2 * right / (said + true) if said + true else None,
        "count": true,
    }


def headline(found: dict[str, Any]) -> str:
    """The main figure, with a plain statement where it is no better than the baseline."""
    base = found.get("baseline")
    if "accuracy" in found:
        useless = base is not None and found["accuracy"] <= base["accuracy"]
        worth = f", no better than {base['answer']} alone ({base['accuracy']:.4f})" if useless and base else ""
        return f"accuracy {found['accuracy']:.4f} ({found['right']} of {found['examples']} right){worth}"
    r2, rmse = found["r2"], f"RMSE {found['rmse']:.6g}"
    if r2 is None:
        return f"R² undefined (the target is constant), {rmse}"
    useless = base is not None and found["rmse"] >= base["rmse"]
    worth = f", no better than {base['answer']} alone (RMSE {base['rmse']:.6g})" if useless and base else ""
    return f"R² {r2:{'.4f' if r2 > -1e6 else '.4g'}}, {rmse}{worth}"


def details(found: dict[str, Any]) -> str:
    """The other figures, in one line."""
    shown = []
    if "accuracy" in found:
        names = (("log_loss", "log loss"), ("roc_auc", "ROC AUC"))
        shown += [f"{name} {found[key]:.4f}" for key, name in names if found[key] is not None]
    else:
        shown.append(f"MAE {found['mae']:.6g}")
    base = found.get("baseline")
    if base is not None:
        figure = f"accuracy {base['accuracy']:.4f}" if "accuracy" in base else f"RMSE {base['rmse']:.6g}"
        shown.append(f"{base['answer']} alone: {figure}")
    return "; ".join(shown)


def class_table(found: dict[str, Any]) -> str:
    """Precision, recall, F1 and count of every class."""
    rows: list[Sequence[str]] = [("class", "precision", "recall", "F1", "count")]
    for name, of in found["classes"].items():
        shown = ["-" if of[key] is None else f"{of[key]:.4f}" for key in ("precision", "recall", "f1")]
        rows.append((_short(name), *shown, str(of["count"])))
    return aligned(rows)


def confusion_table(found: dict[str, Any]) -> str:
    """The confusion matrix, of not too many classes."""
    names = [_short(name, 12) for name in found["classes"]]
    rows: list[Sequence[str]] = [("true \\ predicted", *names)]
    rows += [(name, *map(str, row)) for name, row in zip(names, found["confusion"], strict=True)]
    return aligned(rows)


def report(found: dict[str, Any]) -> str:
    """Tables by class, where there are classes."""
    if "accuracy" not in found:
        return ""
    matrix = f"\n\n{confusion_table(found)}" if len(found["classes"]) <= MOST_SHOWN else ""
    return f"\n\n{class_table(found)}{matrix}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a table: the first column flush left, the others flush right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(w) if k else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def _short(name: str, most: int = 40) -> str:
    name = one_line(name)
    return name if len(name) <= most else name[: most - 1] + "…"
