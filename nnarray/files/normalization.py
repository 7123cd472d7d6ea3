"""Normalising inputs: x := (x - mu)/sigma, with mu and sigma of the training part for every part."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.backends import (
    NUMPY,
    backend_of,
    host_array,
    is_dask_array,
    quiet,
    require_concrete,
    require_finite,
    require_numbers,
)
from nnarray.core.typing import Array, Pairs
from nnarray.files.model import Model
from nnarray.files.preprocessing import Number, Preprocessing, Scaling, to_plain
from nnarray.network import Network, Parameters
from nnarray.network.names import DTypeName

COLUMNS_AT_ONCE = 2**14
"""The number of examples converted to float64 at a time."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """(x - mean)/scale of every input, computed in float64 and rounded once.

    Numbers far from zero relative to their spread, such as dates and ids, keep the digits that tell examples apart.
    Results are clipped to ±10⁹.

    Attributes
    ----------
    mean, scale : ndarray of float64, shape (n_x, 1)
        The lecture's mu and sigma. The scale of a constant input is 1.

    Examples
    --------
    >>> X = np.array([[2e11, 2e11 + 4.0], [1.0, 1.0]])
    >>> normalization = Normalization.fit(X)
    >>> normalization(X).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        """Raise ValueError or TypeError for an invalid mean or scale."""
        for name in ("mean", "scale"):
            host = host_array(getattr(self, name), name)
            require_numbers(host, name, None)
            if host.ndim != 2 or host.shape[1] != 1 or not len(host) or len(host) != len(self.mean):
                msg = f"{name} must have shape (n_x, 1), mean and scale of the same n_x, got {host.shape}"
                raise ValueError(msg)
            object.__setattr__(self, name, host.astype("float64"))
            require_finite(getattr(self, name), name, NUMPY)
        if not (self.scale > 0).all():
            msg = f"scale must be > 0, got {self.scale.min():g}; that of an input which is always the same is 1"
            raise ValueError(msg)

    @classmethod
    @quiet
    def fit(cls, X: Any) -> "Normalization":
        """The means and standard deviations of the training examples.

        Parameters
        ----------
        X : array, shape (n_x, m)
            The training examples, and no others, of any namespace; a memory-mapped X is read in pieces.

        Returns
        -------
        Normalization
            mean (1/m) Σ x and scale sqrt((1/m) Σ (x - mean)²), over the columns.

        Raises
        ------
        ValueError
            For another rank, no examples, and values that are not finite, or whose squares are not.
        TypeError
            For what holds no real numbers, sparse and traced arrays.
        """
        host = _host(X)
        if host.ndim != 2 or 0 in host.shape:
            msg = f"X must have shape (n_x, m) with n_x, m ≥ 1, one example per column, got {host.shape}"
            raise ValueError(msg)
        mean, squares = np.zeros((host.shape[0], 1)), np.zeros((host.shape[0], 1))
        least, most = np.full_like(mean, np.inf), np.full_like(mean, -np.inf)
        for start in range(0, host.shape[1], COLUMNS_AT_ONCE):
            part = host[:, start : start + COLUMNS_AT_ONCE].astype("float64")
            require_finite(part, "X", NUMPY, first=start)
            mean, squares = _merged(mean, squares, start, part)
            least = np.minimum(least, part.min(axis=1, keepdims=True))
            most = np.maximum(most, part.max(axis=1, keepdims=True))
        varies = least < most
        scale = np.where(varies, np.sqrt(squares / host.shape[1]), 1.0)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            msg = "X must have a spread whose square is a float64, give it in another unit"
            raise ValueError(msg)
        return cls(np.where(varies, mean, least), scale)

    @quiet
    def __call__(self, X: Any, dtype: DTypeName = "float32") -> Array:
        """The normalised examples, for `train` and the network's own methods.

        Parameters
        ----------
        X : array, shape (n_x, m)
            Examples of any part: to train on, to validate, to predict.
        dtype : {"float32", "float64"}, default="float32"
            That of the network's parameters.

        Returns
        -------
        array, shape (n_x, m)
            Where X is, each example contiguous.

        Raises
        ------
        ValueError
            For another shape and values that are not finite.
        TypeError
            For what holds no real numbers, sparse and traced arrays.
        """
        host, place = _host(X), backend_of(X) or NUMPY
        self._require_shape(host, "X")
        require_finite(host, "X", NUMPY)
        return place.asarray(self._preprocessing.X(list(host), dtype), dtype)

    @quiet
    def inverse(self, A: Any, dtype: DTypeName = "float64") -> Array:
        """mean + scale A: the numbers that normalised ones stand for, such as a regression's predictions.

        Parameters
        ----------
        A : array, shape (n_x, m)
            Normalised values; with an object fitted on a regression's targets, the predictions A[L], (n[L], m).
        dtype : {"float32", "float64"}, default="float64"
            Of the result; numbers far from zero beside their spread need float64.

        Returns
        -------
        array, shape (n_x, m)
            Where A is.

        Raises
        ------
        ValueError
            For another shape.
        TypeError
            For what holds no real numbers, sparse and traced arrays.

        Examples
        --------
        >>> Y = np.array([[2019.0, 2021.0]])
        >>> years = Normalization.fit(Y)
        >>> years.inverse(years(Y)).tolist()
        [[2019.0, 2021.0]]
        """
        host = _host(A, "A")
        self._require_shape(host, "A")
        return (backend_of(A) or NUMPY).asarray(self.mean + self.scale * host.astype("float64"), dtype)

    def _require_shape(self, host: npt.NDArray[Any], argument: str) -> None:
        n_x = self.mean.shape[0]
        if host.ndim != 2 or host.shape[0] != n_x:
            msg = f"{argument} must have shape (n_x, m) = ({n_x}, m), one example per column, got {host.shape}"
            raise ValueError(msg)

    def model(self, network: Network, params: Pairs) -> Model:
        """The network with its normalisation as a model, whose `predict` takes raw examples, also after saving.

        Parameters
        ----------
        network : Network
            The architecture, of n_x inputs.
        params : Parameters or sequence of (W, b)
            Trained on X as normalised by this object.

        Returns
        -------
        Model
            `nn.save(path, *model[:2], metadata=model.metadata)` saves it; `nn.read_model(path)` restores it, and
            `nn.load(path)` returns the network with the normalisation folded into W[1] and b[1].

        Raises
        ------
        ValueError
            For a network of another n_x.

        Examples
        --------
        >>> X = np.array([[1000.0, 1001.0, 1002.0]])
        >>> normalization, network = Normalization.fit(X), Network((1, 1), output="identity")
        >>> model = normalization.model(network, [([[1.0]], [[2.0]])])
        >>> model.predict(X).round(2).tolist() == np.array([[0.78, 2.0, 3.22]], "float32").tolist()
        True
        """
        if network.sizes[0] != self.mean.shape[0]:
            msg = f"network must have n_x = {self.mean.shape[0]} inputs, got sizes {network.sizes}"
            raise ValueError(msg)
        return Model(network, Parameters.from_layers(params), {"preprocessing": to_plain(self._preprocessing)})

    @property
    def _preprocessing(self) -> Preprocessing:
        numbers = zip(self.mean[:, 0].tolist(), self.scale[:, 0].tolist(), strict=True)
        return Preprocessing(tuple(Number(Scaling(mean, scale), fill=mean) for mean, scale in numbers))


def _host(X: Any, name: str = "X") -> npt.NDArray[Any]:
    if is_dask_array(X):
        taken = "mean + scale A" if name == "A" else "(X - mean)/scale"
        msg = f"{name} must lie in memory, or in a file, got a dask array: give {name}.compute(), or take {taken} of it"
        raise TypeError(msg)
    require_concrete("nn.Normalization", **{name: X})
    host = host_array(X, name)
    require_numbers(host, name, None)
    return host


def _merged(mean: Any, squares: Any, count: int, part: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """The mean and Σ (x - mean)² of `count` columns and those of the part. Chan, Golub & LeVeque (1983)."""
    k = part.shape[1]
    own = part[:, :1] + (part - part[:, :1]).mean(axis=1, keepdims=True)
    delta = own - mean
    total = count + k
    moved = mean + delta * (k / total) if count else own
    return moved, squares + ((part - own) ** 2).sum(axis=1, keepdims=True) + delta**2 * (count * k / total)
