"""Parameters of a network with batch normalisation: W, beta and gamma, and the running averages for prediction."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nnarray.backends import (
    Backend,
    at_once,
    backend_of,
    convert,
    is_concrete,
    is_constant,
    quiet,
    require_finite,
    same_backend,
)
from nnarray.backends import backend as default_backend
from nnarray.core import batch_norm
from nnarray.core.typing import Array, Layers
from nnarray.engine.batch_norm import split, split_statistics
from nnarray.network.parameters import Layer, Parameters, as_layers, dtype_name, range_of
from nnarray.network.pytrees import tell_libraries


class NormalizedLayer(NamedTuple):
    """The parameters of a hidden layer with batch normalisation, or their gradients."""

    W: Array
    """(n[l], n[l-1])"""
    b: Array
    """beta, (n[l], 1), which stands instead of b: what b adds is taken out again with the mean"""
    gamma: Array
    """(n[l], 1)"""


class Averages(NamedTuple):
    """Mean and variance of a hidden layer's Z: of one batch, or exponentially weighted over the training batches."""

    mean: Array
    """(n[l], 1)"""
    variance: Array
    """(n[l], 1), the unbiased estimate Σ (Z - mean)² / (m-1)"""


class NormalizedParameters(Parameters):
    """Every W, beta and gamma of a network with batch normalisation, or their gradients, as `Parameters` are.

    `params[l-1]` of a hidden layer has the fields W, b (which is beta) and gamma; the last layer is plain. `averages`
    are the running averages of the hidden layers' mean and variance, by which `Network.predict` normalises: `nn.train`
    and `optimizer.update` move them a tenth of the way to those of each batch. (Those of gradients are the batch's.)

    Pass `params.vector` to transforms of JAX and torch, which would differentiate with respect to the averages, too.

    Parameters
    ----------
    theta : array, shape (size,)
        W[1], beta[1], gamma[1], W[2], …, W[L], b[L], each W[l] row by row. It is neither checked nor copied.
    sizes : sequence of int
        (n_x, n[1], …, n[L]).
    backend : Backend or None
        The backend of theta; None determines it on first use.
    statistics : array, shape (2 Σ n[l] of the hidden layers,), optional
        mean[1], variance[1], mean[2], …; without them, predictions are not possible.

    Examples
    --------
    >>> from nnarray import Network
    >>> params = Network((2, 3, 1), batch_norm=True).init()
    >>> params[0].gamma.shape, params.averages[0].variance[:, 0].tolist(), params.vector.shape
    ((3, 1), [1.0, 1.0, 1.0], (16,))
    """

    __slots__ = ("statistics",)

    def __init__(
        self, theta: Array, sizes: Sequence[int], backend: Backend | None, statistics: Array | None = None
    ) -> None:
        super().__init__(theta, sizes, backend)
        self.statistics = statistics
        tell_libraries(NormalizedParameters, ("vector", "statistics"))

    @classmethod
    @quiet
    def from_layers(cls, layers: Layers, *, beside: Backend | None = None) -> "NormalizedParameters":
        """Parameters with the values of (W[1], beta[1], gamma[1]), …, (W[L], b[L]), copied into one vector.

        Parameters
        ----------
        layers : NormalizedParameters or sequence of (W, beta, gamma)
            W[l] (n[l], n[l-1]), beta[l] and gamma[l] (n[l], 1), and of the last layer (W, b).
        beside : Backend, optional
            The backend for nested lists; by default as in `nn.backend`.

        Returns
        -------
        params : NormalizedParameters
            Without averages. Parameters are returned as they are.

        Raises
        ------
        ValueError
            For shapes that make no network.
        TypeError
            For what holds no real numbers, pairs, and arrays of two namespaces or devices.
        """
        if isinstance(layers, NormalizedParameters):
            return layers
        pairs, gammas = _parts(layers)
        named = {f"gamma[{l}]": gamma for l, gamma in enumerate(gammas, 1)}
        entered, sizes, backend = as_layers(pairs, same_backend(**named) or beside)
        same_backend(params=backend, **named)
        dtypes = {dtype_name(V, backend) for V in (entered[0].W, *gammas) if hasattr(V, "dtype")}
        dtype = "float64" if "float64" in dtypes else "float32"
        columns = [convert(gamma, name, backend=backend, dtype=dtype) for name, gamma in named.items()]
        for l, (gamma, n) in enumerate(zip(columns, sizes[1:-1], strict=True), 1):
            if tuple(gamma.shape) != (n, 1):
                msg = f"gamma[{l}] must have shape (n[{l}], 1) = ({n}, 1), a column, got {tuple(gamma.shape)}"
                raise ValueError(msg)
        whole = [(*pair, gamma) for pair, gamma in zip(entered[:-1], columns, strict=True)]
        with backend.current():
            theta = backend.primitives.join([*whole, entered[-1]])
        return cls(backend.asarray(theta, dtype), sizes, backend)

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers, 1…L."""
        if self._layers is not None:
            return self._layers
        with at_once(self.vector):
            *hidden, last = split(self.vector, self.sizes, xp=self.backend.xp)
        layers: Any = (*map(NormalizedLayer._make, hidden), Layer._make(last))
        if is_constant(self.vector):
            self._layers = layers
        return tuple(layers)

    @property
    def averages(self) -> tuple[Averages, ...] | None:
        """The mean and variance of each hidden layer's Z that predictions are normalised by; None where there are none.

        Views of the vector `statistics`, as the layers are of theta.
        """
        if self.statistics is None:
            return None
        with at_once(self.statistics):
            return tuple(map(Averages._make, split_statistics(self.statistics, self.sizes, xp=self.backend.xp)))

    def replace(self, theta: Array) -> "NormalizedParameters":
        """Parameters of the same sizes, backend and averages over another vector."""
        return NormalizedParameters(theta, self.sizes, self.backend, self.statistics)

    @property
    def variables(self) -> Array:
        """Everything that training updates, as one vector: theta, then the statistics."""
        return self.backend.xp.concat([self.vector, begun(self).statistics])

    def moved(self, theta: Array, gradients: Parameters) -> "NormalizedParameters":
        """The same over another vector, with the averages moved towards those of the gradients' batch.

        Raises ValueError for gradients that don't hold these: predictions would go by averages that stayed behind.
        """
        if self.statistics is None:
            return self.replace(theta)
        seen = getattr(gradients, "statistics", None)
        if seen is None:
            msg = (
                "gradients must hold their batch's mean and variance, as those of network.gradients and vjp do, and "
                "gradients.replace(vector); or give params without averages, network.parameters(params.vector)"
            )
            raise ValueError(msg)
        with self.backend.current():
            statistics = batch_norm.averaged(self.statistics, self.backend.asarray(seen, self.dtype))
        return NormalizedParameters(theta, self.sizes, self.backend, statistics)

    def to(self, backend: str | Backend, dtype: str | None = None) -> "NormalizedParameters":
        """These parameters on another backend or in another dtype, as `Parameters.to`."""
        backend = default_backend(backend)
        if backend is self.backend and dtype in (None, self.dtype):
            return self
        theta, statistics = (
            None if V is None else backend.asarray(V, dtype or self.dtype) for V in (self.vector, self.statistics)
        )
        return NormalizedParameters(theta, self.sizes, backend, statistics)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.vector, self.sizes, self.backend.precision, self.statistics)

    def __repr__(self) -> str:
        return f"Normalized{super().__repr__()}"

    @quiet
    def _repr_html_(self) -> str | None:
        """A table with the shape of W and the ranges of W, of b or beta and of gamma for each layer."""
        if not is_concrete(self.vector) or self.vector.ndim != 1:
            return None
        from nnarray.network.html import table

        rows = [
            (l, tuple(layer[0].shape), *(range_of(V, self.backend) for V in layer)) for l, layer in enumerate(self, 1)
        ]
        return table(("layer", "W", "values", "b or beta", "gamma"), rows, repr(self))


def enter(layers: Any) -> Parameters:
    """Parameters with or without batch normalisation as they are, and pairs (W, b) as Parameters."""
    return layers if isinstance(layers, NormalizedParameters) else Parameters.from_layers(layers)


def _parts(layers: Any) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """(W, beta) of every layer, and gamma of all but the last."""
    try:
        *hidden, (W, b) = layers
        triples = [(W, beta, gamma) for W, beta, gamma in hidden]
    except (TypeError, ValueError):
        msg = (
            "params of a network with batch normalisation must be NormalizedParameters or a sequence of "
            f"(W, beta, gamma) and at last (W, b), got {type(layers).__name__}"
        )
        raise TypeError(msg) from None
    return [*((W, beta) for W, beta, _ in triples), (W, b)], [gamma for _, _, gamma in triples]


def _rebuild(theta: Array, sizes: tuple[int, ...], precision: str | None, statistics: Array) -> NormalizedParameters:
    own = backend_of(theta) or default_backend()
    return NormalizedParameters(theta, sizes, replace(own, precision=precision), statistics)


def first_statistics(sizes: Sequence[int], theta: Array, backend: Backend) -> Array:
    """The initial averages, in theta's dtype: mean 0 and variance 1 for every unit, as in PyTorch."""
    xp, dtype = backend.xp, theta.dtype
    with backend.current():
        columns = [(xp.zeros_like(theta[:n]), xp.ones_like(theta[:n])) for n in sizes[1:-1]]
        return backend.primitives.join(columns) if columns else xp.zeros_like(theta[:0], dtype=dtype)


def begun(params: NormalizedParameters) -> NormalizedParameters:
    """The parameters, with initial averages where they have none."""
    if params.statistics is not None:
        return params
    statistics = first_statistics(params.sizes, params.vector, params.backend)
    return NormalizedParameters(params.vector, params.sizes, params.backend, statistics)


def enter_statistics(statistics: Any, sizes: Sequence[int], *, backend: Backend, dtype: str) -> Array | None:
    """The averages in `dtype` on `backend`, finite, with variances that are not negative; None stays None."""
    if statistics is None:
        return None
    statistics = convert(statistics, "statistics", backend=backend, dtype=dtype)
    count = 2 * sum(sizes[1:-1])
    if tuple(statistics.shape) != (count,):
        msg = f"statistics must have shape (2 Σ n[l],) = ({count},), got {tuple(statistics.shape)}"
        raise ValueError(msg)
    require_variances(statistics, sizes, backend)
    return statistics


def require_variances(statistics: Array, sizes: Sequence[int], backend: Backend) -> None:
    """Raise ValueError for averages that are not finite, and for negative variances."""
    if not is_concrete(statistics):
        return
    require_finite(statistics, "statistics", backend)
    host = backend.to_numpy(statistics)
    for l, (_, variance) in enumerate(split_statistics(host, sizes, xp=np), 1):
        if (variance < 0).any():
            msg = f"statistics must hold variances ≥ 0, got {variance.min():g} in layer {l}"
            raise ValueError(msg)


def folded(params: NormalizedParameters) -> Parameters:
    """The (W, b) of the plain network that normalises by the averages. Raises ValueError where there are none."""
    averages = params.averages
    if averages is None:
        msg = (
            "params must hold averages of mean and variance to predict by: those of nn.train, of network.init or "
            "network.parameters(theta, statistics=…) do, sequences of (W, beta, gamma) don't"
        )
        raise ValueError(msg)
    hidden: Any
    *hidden, last = params.layers
    xp = params.backend.xp
    with params.backend.current(), at_once(params.vector):
        pairs = [
            batch_norm.folded(W, beta, gamma, mean, variance, xp=xp)
            for (W, beta, gamma), (mean, variance) in zip(hidden, averages, strict=True)
        ]
        return Parameters(params.backend.primitives.join([*pairs, last]), params.sizes, params.backend)
