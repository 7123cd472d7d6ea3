"""Parameters: the vector theta, and its W and b by layer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, overload

import numpy as np

from nnarray.backends import (
    Backend,
    at_once,
    backend_of,
    convert,
    for_products,
    is_concrete,
    is_constant,
    number,
    quiet,
    same_backend,
)
from nnarray.backends import backend as default_backend
from nnarray.core.typing import Array, Pairs
from nnarray.network.pytrees import tell_libraries


class Layer(NamedTuple):
    """The parameters of one layer, or their gradients."""

    W: Array
    """(n[l], n[l-1])"""
    b: Array
    """(n[l], 1)"""


class Parameters(Sequence[Layer]):
    """Every W and b of a network, or their gradients: a sequence of layers over one vector.

    `params[0]` is layer 1, with fields W and b. `params.vector` is theta, shape (size,); on NumPy, CuPy and torch the
    layers are views of it, so writing into one writes into the other. Made by `Network.init`, `Network.parameters` and
    `Parameters.from_layers`.

    Parameters
    ----------
    theta : array, shape (size,)
        W[1], b[1], W[2], b[2], …, each W[l] row by row, float32 or float64. It is neither checked nor copied.
    sizes : sequence of int
        (n_x, n[1], …, n[L]).
    backend : Backend or None
        The backend of theta; None determines it on first use.

    Examples
    --------
    >>> import numpy as np
    >>> params = Parameters.from_layers([(np.ones((3, 2)), np.zeros((3, 1))), (np.ones((1, 3)), np.zeros((1, 1)))])
    >>> params.sizes, params.vector.shape, params[0].W.shape
    ((2, 3, 1), (13,), (3, 2))
    """

    __slots__ = ("_backend", "_layers", "sizes", "vector")

    def __init__(self, theta: Array, sizes: Sequence[int], backend: Backend | None) -> None:
        self.vector = theta
        self.sizes = tuple(sizes)
        self._backend = backend
        self._layers: tuple[Layer, ...] | None = None
        tell_libraries(Parameters)

    @classmethod
    @quiet
    def from_layers(cls, layers: Pairs, *, beside: Backend | None = None) -> "Parameters":
        """Parameters with the values of (W[1], b[1]), …, (W[L], b[L]), copied into one vector.

        Parameters
        ----------
        layers : Parameters or sequence of (W, b)
            W[l] (n[l], n[l-1]) and b[l] (n[l], 1), arrays of one namespace and device or nested lists.
        beside : Backend, optional
            The backend for nested lists; by default as in `nn.backend`.

        Returns
        -------
        params : Parameters
            float64 if any array is float64, else float32. Parameters are returned as they are.

        Raises
        ------
        ValueError
            For shapes that make no network.
        TypeError
            For what holds no real numbers, and arrays of two namespaces or devices.
        """
        if isinstance(layers, Parameters):
            return layers
        pairs, sizes, backend = as_layers(layers, beside)
        with backend.current():
            return cls(backend.primitives.join(pairs), sizes, backend)

    @property
    def backend(self) -> Backend:
        """The backend of theta, determined on first use: what a transform puts in its place need not be an array."""
        if self._backend is None:
            self._backend = backend_of(self.vector) or default_backend()
        return self._backend

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, 1…L."""
        if self._layers is not None:
            return self._layers
        with at_once(self.vector):
            layers = tuple(map(Layer._make, self.backend.primitives.split(self.vector, self.sizes)))
        if is_constant(self.vector):
            self._layers = layers
        return layers

    @property
    def dtype(self) -> str:
        """The dtype of every W and b, "float32" or "float64"."""
        return dtype_name(self.vector, self.backend)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Layer]: ...
    def __getitem__(self, index: int | slice) -> Layer | Sequence[Layer]:
        return self.layers[index]

    def __len__(self) -> int:
        return len(self.sizes) - 1

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def replace(self, theta: Array) -> "Parameters":
        """Parameters of the same sizes and backend over another vector.

        Parameters
        ----------
        theta : array, shape (size,)
            On this backend. It is neither checked nor converted, as `Network.parameters` does.

        Returns
        -------
        params : Parameters
        """
        return Parameters(theta, self.sizes, self.backend)

    @property
    def variables(self) -> Array:
        """Everything that training updates, as one vector: theta."""
        return self.vector

    def moved(self, theta: Array, gradients: "Parameters") -> "Parameters":
        """`replace`, after an update by these gradients."""
        return self.replace(theta)

    def to(self, backend: str | Backend, dtype: str | None = None) -> "Parameters":
        """These parameters on another backend or in another dtype.

        Parameters
        ----------
        backend : str or Backend
            The target backend, or its name, as in `nn.backend`.
        dtype : {"float32", "float64"}, optional
            Their dtype; left out, it stays.

        Returns
        -------
        params : Parameters
            `self` where nothing changes.

        Raises
        ------
        ValueError
            For an invalid dtype, or one that the backend does not support, and for the name of no backend.
        BackendUnavailableError
            For a backend that cannot run here.

        Examples
        --------
        >>> from nnarray import Network
        >>> Network((2, 1)).init(dtype="float64").to("numpy", "float32").dtype
        'float32'
        """
        backend = default_backend(backend)
        if backend is self.backend and dtype in (None, self.dtype):
            return self
        theta = backend.asarray(self.vector, dtype or self.dtype)
        same = theta is self.vector and backend == self.backend
        return self if same else Parameters(theta, self.sizes, backend)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.vector, self.sizes, self.backend.precision)

    def __repr__(self) -> str:
        if self._backend is None and not callable(getattr(self.vector, "__array_namespace__", None)):
            return f"Parameters(sizes={self.sizes}, vector={self.vector!r})"
        return f"Parameters(sizes={self.sizes}, size={self.vector.shape[0]}, dtype={self.dtype!r}, {self.backend!r})"

    @quiet
    def _repr_html_(self) -> str | None:
        """A table of each layer's shapes and ranges of W and b; None, so that the text is shown, for traced values."""
        if not is_concrete(self.vector) or self.vector.ndim != 1:
            return None
        from nnarray.network.html import table

        rows = [
            (l, tuple(W.shape), range_of(W, self.backend), tuple(b.shape), range_of(b, self.backend))
            for l, (W, b) in enumerate(self.layers, 1)
        ]
        return table(("layer", "W", "values", "b", "values"), rows, repr(self))


def range_of(V: Array, backend: Backend) -> str:
    """The least and the largest entry, for people."""
    with backend.current():
        return f"{number(backend.xp.min(V)):.3g} … {number(backend.xp.max(V)):.3g}"


def as_layers(layers: Any, beside: Backend | None = None) -> tuple[list[Layer], tuple[int, ...], Backend]:
    """Any sequence of (W, b) as layers of one backend and dtype, with their sizes (n_x, n[1], …, n[L]).

    Nested lists have no backend yet: they go to `beside`, that of the arrays they are used with.
    """
    try:
        pairs = [(W, b) for W, b in layers]
    except (TypeError, ValueError):
        msg = f"params must be Parameters or a sequence of (W, b) pairs, got {type(layers).__name__}"
        raise TypeError(msg) from None
    if not pairs:
        msg = "params must have at least one (W, b) pair, got none"
        raise ValueError(msg)
    named = {name: V for l, (W, b) in enumerate(pairs, 1) for name, V in ((f"W[{l}]", W), (f"b[{l}]", b))}
    backend = same_backend(**named) or beside or default_backend()
    dtypes = {dtype_name(V, backend) for V in named.values() if hasattr(V, "dtype")}
    dtype = "float64" if "float64" in dtypes else "float32"
    converted = {name: convert(V, name, backend=backend, dtype=dtype) for name, V in named.items()}
    result = [Layer(converted[f"W[{l}]"], converted[f"b[{l}]"]) for l in range(1, len(pairs) + 1)]
    sizes = _sizes_of(result)
    with backend.current():
        return [Layer(for_products(W, W.dtype, backend), b) for W, b in result], sizes, backend


def dtype_name(x: Array, backend: Backend) -> str:
    """The dtype that the values of `x` are computed in: "float64" for floats of 64 bits and more, else "float32"."""
    if isinstance(x.dtype, np.dtype):  # of either byte order
        return "float64" if x.dtype.kind == "f" and x.dtype.itemsize >= 8 else "float32"
    return "float64" if x.dtype == backend.xp.float64 else "float32"


def _sizes_of(layers: Sequence[Layer]) -> tuple[int, ...]:
    sizes: list[int] = []
    for l, (W, b) in enumerate(layers, 1):
        if W.ndim != 2 or 0 in W.shape or (sizes and W.shape[1] != sizes[-1]):
            expected = f"(n[{l}], n[{l - 1}])" + (f" = (n[{l}], {sizes[-1]})" if sizes else "")
            msg = f"W[{l}] must have shape {expected}, got {tuple(W.shape)}"
            raise ValueError(msg)
        if tuple(b.shape) != (W.shape[0], 1):
            msg = f"b[{l}] must have shape (n[{l}], 1) = ({W.shape[0]}, 1), a column, got {tuple(b.shape)}"
            if tuple(b.shape) == (W.shape[0],):
                msg += "; make it b[:, None]"
            elif b.shape[0] == W.shape[1]:
                msg = (
                    f"W[{l}] must have shape (n[{l}], n[{l - 1}]) with a row for each entry of b[{l}], got "
                    f"{tuple(W.shape)} and b[{l}] of shape {tuple(b.shape)}; is it W.T?"
                )
            raise ValueError(msg)
        sizes = [*(sizes or [W.shape[1]]), W.shape[0]]
    return tuple(sizes)


def _rebuild(theta: Array, sizes: tuple[int, ...], precision: str | None = None) -> Parameters:
    own = backend_of(theta) or default_backend()
    return Parameters(theta, sizes, own if precision is None else replace(own, precision=precision))
