"""Plots for learners, drawn by matplotlib (the extra `plot`).

Each function draws into the axes given as `ax`, or into a new pyplot figure, and returns the axes; a notebook displays
the figure, a script after `plt.show()`. `History.plot` draws a whole run. `nnarray.examples` shows the plots of the
course's exercises.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nnarray.backends import NUMPY, quiet, require_finite
from nnarray.network import Network, Parameters
from nnarray.network.entry import enter_X, enter_Y
from nnarray.network.numbers import check_count
from nnarray.training import Epoch, History, TrainingResult

__all__ = ["cost_curves", "decision_boundary", "learning_rates", "weight_images"]

CURVES = tuple(name for name in Epoch._fields if name not in ("epoch", "params"))
"""The columns of a history that can be drawn."""


@quiet
def decision_boundary(
    network: Network, params: Any, X: Any, Y: Any = None, *, resolution: int = 200, ax: Any = None
) -> Any:
    """The predictions of a network with two inputs over the plane, and the examples.

    Parameters
    ----------
    network : Network
        With n_x = 2.
    params : Parameters or sequence of (W, b)
        W[l] (n[l], n[l-1]) and b[l] (n[l], 1).
    X : array, shape (2, m)
        The examples; the rectangle around them is drawn.
    Y : array, shape (n[L], m), optional
        Their targets, by which they are coloured; without them, no examples are drawn.
    resolution : int, default=200
        Points along each side.
    ax : matplotlib axes, optional
        Where to draw; left out, in a new figure.

    Returns
    -------
    matplotlib axes
        For "sigmoid" shaded by the probability of class 1, with a line where it is 0.5 (of several units, the lines
        alone), for "softmax" with an area for each class, for one unit of "identity" and "exp" shaded by the value.

    Raises
    ------
    ValueError
        For a network of other than two inputs, several units of "identity" or "exp", for shapes that don't fit, and for
        values that are not finite or that the output can't model.
    ImportError
        Where matplotlib is missing (the extra `plot`).

    Examples
    --------
    >>> from nnarray import train
    >>> X, Y = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
    >>> network = Network((2, 8, 1))
    >>> axes = decision_boundary(network, train(network, X, Y, epochs=300).params, X, Y)
    >>> axes.figure.savefig("/dev/null", format="png")
    """
    _check_is_planar(network)
    resolution = check_count(resolution, "resolution", at_least=2)
    params = Parameters.from_layers(params)
    X, Y = _examples(network, X, Y)
    x1, x2 = (_around(x, resolution) for x in X)
    grid = np.stack([x.ravel() for x in np.meshgrid(x1, x2)])
    A = _on_host(network.predict(params, params.backend.asarray(grid, params.dtype)))
    ax = _axes(ax)
    _SHADE[network.output](ax, x1, x2, A.reshape(-1, len(x2), len(x1)))
    if Y is not None:
        colours, shown = _colours(network.output, Y)
        ax.scatter(*X, c=colours, **shown, s=14, edgecolors="white", linewidths=0.4)
    ax.set(xlabel="x₁", ylabel="x₂")
    return ax


@quiet
def cost_curves(
    runs: History | TrainingResult | Mapping[str, History | TrainingResult], *, curve: str = "cost", ax: Any = None
) -> Any:
    """The costs of several runs, epoch by epoch, on one picture.

    Parameters
    ----------
    runs : mapping of str to History or TrainingResult, or one of these
        The runs by their names in the legend, such as the learning rate.
    curve : str, default="cost"
        What to draw instead: "validation_cost", "validation_score", "training_cost", "training_score", "learning_rate"
        or "seconds".
    ax : matplotlib axes, optional
        Where to draw; left out, in a new figure. `ax.set_yscale("log")` tells small costs apart.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError
        For a curve that no epoch has.
    TypeError
        For anything else than runs.
    ImportError
        Where matplotlib is missing (the extra `plot`).

    Examples
    --------
    >>> from nnarray import Adam, train
    >>> X, Y = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
    >>> runs = {f"{a:g}": train(Network((2, 8, 1)), X, Y, epochs=50, optimizer=Adam(a)) for a in (0.1, 0.01, 0.001)}
    >>> [line.get_label() for line in cost_curves(runs).lines]
    ['0.1', '0.01', '0.001']
    """
    from nnarray.training.figures import draw_curve, label_epochs

    if curve not in CURVES:
        msg = f"curve must be one of {', '.join(map(repr, CURVES))}, got {curve!r}"
        raise ValueError(msg)
    ax = _axes(ax)
    for name, run in (runs if isinstance(runs, Mapping) else {"": runs}).items():
        if not isinstance(run, History | TrainingResult):
            msg = f"runs must be a History, a TrainingResult or a mapping of names to these, got {type(run).__name__}"
            raise TypeError(msg)
        table = (run.history if isinstance(run, TrainingResult) else run).columns()
        draw_curve(ax, table["epoch"], table[curve], name)
    label_epochs(ax, "cost J" if curve == "cost" else curve.replace("_", " "))
    return ax


@quiet
def learning_rates(schedules: Mapping[str, Callable[[int], float]], updates: int, *, ax: Any = None) -> Any:
    """The learning rates of several schedules over the updates.

    Parameters
    ----------
    schedules : mapping of str to callable
        By their names in the legend, `nn.schedules` or functions of the number of updates made so far.
    updates : int
        How many updates to draw; an epoch has as many as it has mini-batches.
    ax : matplotlib axes, optional
        Where to draw; left out, in a new figure.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ImportError
        Where matplotlib is missing (the extra `plot`).

    Examples
    --------
    >>> from nnarray import schedules
    >>> axes = learning_rates({"halved every 20": schedules.StepDecay(0.1, 0.5, 20)}, 60)
    >>> axes.lines[0].get_ydata()[[0, 20, 40]].tolist()
    [0.1, 0.05, 0.025]
    """
    ax = _axes(ax)
    for name, schedule in schedules.items():
        ax.plot([schedule(t) for t in range(updates)], label=name)
    ax.set(xlabel="updates made", ylabel="learning rate")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax


@quiet
def weight_images(W: Any, shape: tuple[int, int], *, columns: int | None = None, ax: Any = None) -> Any:
    """The weights of each unit of a layer with images as inputs, as images.

    Parameters
    ----------
    W : array, shape (n, height · width)
        W[1], one row per unit.
    shape : (int, int)
        Height and width of an image.
    columns : int, optional
        Images per row; by default about as many as there are rows.
    ax : matplotlib axes, optional
        Where to draw; left out, in a new figure.

    Returns
    -------
    matplotlib axes
        Red where a bright pixel raises Z, blue where it lowers it, white where it counts for nothing.

    Raises
    ------
    ValueError
        For a shape that is not that of W's rows.
    ImportError
        Where matplotlib is missing (the extra `plot`).

    Examples
    --------
    >>> axes = weight_images(Network((64, 10)).init()[0].W, (8, 8), columns=5)
    >>> axes.images[0].get_array().shape  # two rows of five, with a line between them
    (17, 44)
    """
    W, (height, width) = _on_host(W), shape
    n = W.shape[0]
    if W.ndim != 2 or W.shape[1] != height * width:
        msg = f"W must have shape (n, height · width) = (n, {height * width}), got {W.shape}"
        raise ValueError(msg)
    columns = min(n, columns or int(np.ceil(np.sqrt(n))))
    rows = -(-n // columns)
    tiles = np.full((rows * columns, height + 1, width + 1), np.nan)
    tiles[:n, :height, :width] = W.reshape(n, height, width)
    picture = tiles.reshape(rows, columns, height + 1, width + 1).swapaxes(1, 2).reshape(rows * (height + 1), -1)
    most = float(np.abs(W).max())
    ax = _axes(ax)
    ax.imshow(picture[:-1, :-1], cmap="RdBu_r", vmin=-most, vmax=most)
    ax.set_axis_off()
    return ax


def _axes(ax: Any) -> Any:
    if ax is not None:
        if not hasattr(ax, "plot"):
            msg = f"ax must be the axes of a matplotlib figure, got {type(ax).__name__}"
            raise TypeError(msg)
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def _on_host(x: Any) -> Any:
    from nnarray.backends import backend_of

    own = backend_of(x)
    return np.asarray(x, "float64") if own is None else own.to_numpy(x)


def _examples(network: Network, X: Any, Y: Any) -> tuple[Any, Any]:
    """X (2, m) and Y (n[L], m) or None, checked, on the host."""
    X = enter_X(network, X, backend=NUMPY, dtype="float64")
    require_finite(X, "X", NUMPY)
    return X, None if Y is None else enter_Y(network, Y, m=X.shape[1], backend=NUMPY, dtype="float64")


def _check_is_planar(network: Network) -> None:
    if network.sizes[0] != 2:
        msg = f"a boundary in the plane needs n_x = 2, got a network with n_x = {network.sizes[0]}"
        raise ValueError(msg)
    if network.output in ("identity", "exp") and network.sizes[-1] > 1:
        msg = f"the values of one unit can be drawn, got {network.output!r} with n[L] = {network.sizes[-1]}"
        raise ValueError(msg)


def _around(x: Any, resolution: int) -> Any:
    """Points from a little below the least to a little above the largest."""
    low, high = x.min(), x.max()
    margin = 0.08 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, resolution)


def _shade_probability(ax: Any, x1: Any, x2: Any, A: Any) -> None:
    if len(A) == 1:
        ax.contourf(x1, x2, A[0], levels=np.linspace(0, 1, 11), cmap="RdBu_r", vmin=-0.3, vmax=1.3, alpha=0.8)
    for unit in A:
        ax.contour(x1, x2, unit, levels=[0.5], colors="0.2", linewidths=1.2)


def _shade_classes(ax: Any, x1: Any, x2: Any, A: Any) -> None:
    levels = np.arange(len(A) + 1) - 0.5
    ax.contourf(x1, x2, A.argmax(axis=0), levels=levels, **_classes(len(A)), alpha=0.3)


def _shade_values(ax: Any, x1: Any, x2: Any, A: Any) -> None:
    ax.figure.colorbar(ax.contourf(x1, x2, A[0], levels=20, cmap="viridis", alpha=0.7), ax=ax)


_SHADE = {"sigmoid": _shade_probability, "softmax": _shade_classes, "identity": _shade_values, "exp": _shade_values}


def _classes(count: int) -> dict[str, Any]:
    """A colour of its own for each of the classes 0, 1, …, or of combinations of labels."""
    if count <= 10:
        return {"cmap": "tab10", "vmin": 0, "vmax": 9}
    import matplotlib as mpl

    return {"cmap": mpl.colormaps["turbo"].resampled(count), "vmin": 0, "vmax": count - 1}


def _colours(output: str, Y: Any) -> tuple[Any, dict[str, Any]]:
    """A number for each example, and how numbers become colours."""
    if output == "softmax":
        return Y.argmax(axis=0), _classes(len(Y))
    if output != "sigmoid":
        return Y[0], {"cmap": "viridis"}
    if len(Y) == 1:
        return Y[0], {
            "cmap": "RdBu_r",
            "vmin": -0.125,
            "vmax": 1.125,
        }  # at its ends, blue and red are both next to black
    combinations, of_each = np.unique(Y, axis=1, return_inverse=True)
    return of_each.ravel(), _classes(combinations.shape[1])
