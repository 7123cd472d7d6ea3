"""Network: the architecture, with its predictions, costs, gradients and scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack, overload

import numpy as np
import numpy.typing as npt

from nnarray import engine
from nnarray.backends import Backend, choose, convert, for_products, is_dask_array, quiet, require_finite, same_backend
from nnarray.core import vector
from nnarray.core.initial import initial_layers
from nnarray.core.typing import Array
from nnarray.network import calls, scoring
from nnarray.network.architecture import check_scheme, checked_flag, checked_hidden, checked_output, checked_sizes
from nnarray.network.batch_norm import NormalizedParameters, begun, enter_statistics, folded
from nnarray.network.costs import Cost, with_cost
from nnarray.network.entry import enter_batch, enter_normalized, enter_parameters, enter_X, plain_theta
from nnarray.network.keywords import explained
from nnarray.network.names import DTypeName, HiddenName, OutputName, SchemeName
from nnarray.network.numbers import check_optional_count, check_seed
from nnarray.network.parameters import Parameters, dtype_name
from nnarray.network.summary import summarize
from nnarray.network.typing import ArrayT, CostOptions


@dataclass(frozen=True)
class Network:
    """A dense network: sizes (n_x, n[1], …, n[L]), the hidden layers' activations and the output.

    A network holds no numbers: its methods are pure functions of the parameters they are given, which may be
    `Parameters` or any sequence of (W, b) pairs, of arrays of any Array API namespace.

    Parameters
    ----------
    sizes : sequence of int
        (n_x, n[1], …, n[L]). `Network((n_x, 1))` is logistic regression.
    hidden : str or sequence of str, default="relu"
        "relu", "tanh", "sigmoid", "leaky_relu", "identity", "gelu" (exact), "gelu_tanh" (its approximation), "silu",
        "softplus", "elu" or "selu", one for all hidden layers or one per layer.
    output : str, default="sigmoid"
        The last activation and with it the cost: "sigmoid" (binary, multilabel), "softmax" (one class of n[L]),
        "identity" (regression, half the squared error) or "exp" (counts, Poisson).
    batch_norm : bool, default=False
        Batch normalisation of the hidden layers, before g: Z = W A_prev is normalised by the batch's mean and standard
        deviation, and g is applied to gamma Z_norm + beta (Ioffe & Szegedy, ICML 2015). The parameters are
        `NormalizedParameters`, (W, beta, gamma) of hidden layers. `gradients`, `cost`, `vjp` and `nn.train` run in
        training mode: they use the batch's own mean and variance, over at least 2 examples of equal weight. For a batch
        of several tiles they store Z of the hidden layers (`cost` that of one layer), so that memory grows with m.
        `forward`, `predict` and `score` use the parameters' running averages, as the plain network of `folded` does.

    Raises
    ------
    ValueError
        For invalid sizes or names.
    TypeError
        For sizes that are no integers.

    Examples
    --------
    >>> network = Network((2, 3, 1), hidden="tanh")
    >>> params = network.init(seed=0)
    >>> network.predict(params, [[0.0, 1.0], [1.0, 0.0]]).shape
    (1, 2)
    """

    sizes: tuple[int, ...]
    hidden: tuple[HiddenName, ...] = ("relu",)
    output: OutputName = "sigmoid"
    batch_norm: bool = False
    reported_loss: ClassVar[None] = None
    """None: the cost is that of the output's own loss"""
    own_cost: ClassVar[None] = None
    """None: a custom cost is an argument of each call"""

    @explained
    def __init__(
        self,
        sizes: Sequence[int],
        hidden: HiddenName | Sequence[HiddenName] = "relu",
        output: OutputName = "sigmoid",
        batch_norm: bool = False,
    ) -> None:
        sizes = checked_sizes(sizes)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "hidden", checked_hidden(hidden, len(sizes) - 2))
        object.__setattr__(self, "output", checked_output(output, sizes[-1]))
        object.__setattr__(self, "batch_norm", checked_flag(batch_norm, "batch_norm"))

    def __repr__(self) -> str:
        further = ", batch_norm=True" if self.batch_norm else ""
        return f"Network(sizes={self.sizes!r}, hidden={self.hidden!r}, output={self.output!r}{further})"

    @property
    def size(self) -> int:
        """The number of parameters, the length of theta."""
        return engine.batch_norm.theta_size(self.sizes) if self.batch_norm else vector.vector_size(self.sizes)

    @explained
    @quiet
    def init(
        self,
        seed: int | None = 0,
        scheme: SchemeName = "he",
        *,
        backend: str | Backend | None = None,
        dtype: DTypeName = "float32",
    ) -> Parameters:
        """Initial parameters, W normal with the scheme's standard deviation, b zero; the same on every backend.

        Parameters
        ----------
        seed : int or None, default=0
            Seed of the draw, which is made on the host in float64; None draws different parameters each time.
        scheme : {"he", "xavier", "lecun", "small", "zeros"}, default="he"
            The standard deviation of W[l]: sqrt(2/n[l-1]); Glorot's sqrt(2/(n[l-1]+n[l])); sqrt(1/n[l-1]), which the
            lecture calls Xavier; 0.01; or 0.
        backend : str or Backend, optional
            The backend to create them on; by default as in `nn.backend`.
        dtype : {"float32", "float64"}, default="float32"
            Their dtype.

        Returns
        -------
        params : Parameters
            W[l] (n[l], n[l-1]) and b[l] (n[l], 1).

        Raises
        ------
        ValueError
            For an invalid scheme, dtype or seed.
        BackendUnavailableError
            For a backend that cannot run here.
        """
        check_scheme(scheme)
        chosen = choose(backend, None)
        chosen.dtype(dtype)
        layers = initial_layers(self.sizes, scheme, np.random.default_rng(check_seed(seed)))
        if self.batch_norm:
            *hidden, last = layers
            whole = [*((W, beta, np.ones_like(beta)) for W, beta in hidden), last]
            return begun(NormalizedParameters(chosen.asarray(vector.join(whole, xp=np), dtype), self.sizes, chosen))
        return Parameters(chosen.asarray(vector.join(layers, xp=np), dtype), self.sizes, chosen)

    @quiet
    def parameters(
        self,
        theta: Any,
        *,
        backend: str | Backend | None = None,
        dtype: DTypeName | None = None,
        statistics: Any = None,
    ) -> Parameters:
        """The parameters over the vector `theta`: views of it where the namespace has views.

        Parameters
        ----------
        theta : array, shape (size,)
            W[1], b[1], W[2], b[2], …, each W[l] row by row. On CuPy, a theta that is not contiguous is copied.
        backend : str or Backend, optional
            The backend to create them on; by default that of theta.
        dtype : {"float32", "float64"}, optional
            Their dtype; left out, float32 and float64 stay as they are, and every other real dtype becomes float32.
        statistics : array, shape (2 Σ n[l] of the hidden layers,), optional
            With batch normalisation, the running averages mean[1], variance[1], mean[2], …, n[l] entries each.

        Returns
        -------
        params : Parameters
            W[l] (n[l], n[l-1]) and b[l] (n[l], 1); with batch normalisation NormalizedParameters, theta then holding
            W[l], beta[l] and gamma[l] of the hidden layers.

        Raises
        ------
        ValueError
            For another shape.
        TypeError
            For what holds no real numbers.
        """
        own = same_backend(theta=theta)
        chosen = choose(backend, own)
        name: str = dtype or ("float64" if own is None else dtype_name(theta, own))
        chosen.dtype(name)
        theta = convert(theta, "theta", backend=chosen, dtype=name)
        if tuple(theta.shape) != (self.size,):
            msg = f"theta must have shape (size,) = ({self.size},), got {tuple(theta.shape)}"
            raise ValueError(msg)
        if self.batch_norm:
            statistics = enter_statistics(statistics, self.sizes, backend=chosen, dtype=name)
            return NormalizedParameters(chosen.side_by_side(theta), self.sizes, chosen, statistics)
        if statistics is not None:
            msg = "statistics are of a network with batch normalisation, and this one has none"
            raise ValueError(msg)
        return Parameters(chosen.side_by_side(theta), self.sizes, chosen)

    @quiet
    def folded(self, params: Any) -> "tuple[Network, Parameters]":
        """The equivalent plain network, with batch normalisation folded into W and b by its running averages.

        Parameters
        ----------
        params : NormalizedParameters
            With their averages of mean and variance.

        Returns
        -------
        (Network, Parameters)
            The same sizes, without batch normalisation, and the same predictions: W ← gamma W / sqrt(variance + eps)
            and b = beta - gamma mean / sqrt(variance + eps), eps 1e-5. A network without batch normalisation is
            returned as it is, with its params.

        Raises
        ------
        ValueError
            For parameters that don't fit, or hold no averages.

        Examples
        --------
        >>> network = Network((2, 3, 1), batch_norm=True)
        >>> plain, params = network.folded(network.init())
        >>> plain
        Network(sizes=(2, 3, 1), hidden=('relu',), output='sigmoid')
        """
        if not self.batch_norm:
            entered = enter_parameters(self, params)
            return self, Parameters.from_layers(params, beside=entered.backend)
        return Network(self.sizes, self.hidden, self.output), folded(enter_normalized(self, params))

    @overload
    def forward(self, params: Any, X: npt.NDArray[Any]) -> list[npt.NDArray[Any]]: ...
    @overload
    def forward(self, params: Any, X: ArrayT) -> list[ArrayT]: ...
    @overload
    def forward(self, params: Any, X: Any) -> list[Any]: ...
    @quiet
    def forward(self, params: Any, X: Any) -> list[Array]:
        """The activations of every layer.

        Parameters
        ----------
        params : Parameters or sequence of (W, b)
            W[l] (n[l], n[l-1]) and b[l] (n[l], 1), whose dtype, float32 or float64, is that of the call.
        X : array, shape (n_x, m)
            The examples, as columns, of the parameters' namespace and device.

        Returns
        -------
        list of array
            [A[0], …, A[L]], A[l] of shape (n[l], m); A[0] is X.

        Raises
        ------
        ValueError
            For shapes that don't fit the network, and values that are not finite.
        TypeError
            For what holds no real numbers, and arrays of two namespaces or devices.
        """
        if self.batch_norm:
            plain, params = self.folded(params)
            return plain.forward(params, X)
        entered = enter_parameters(self, params, X=X)
        X = enter_X(self, X, backend=entered.backend, dtype=entered.dtype)
        with entered.backend.current():
            X = entered.backend.asarray(X, entered.dtype) if entered.backend.is_narrow(X) else X
            X = for_products(X, entered.layers[0].W.dtype, entered.backend)
            require_finite(X, "X", entered.backend)
            return engine.activations(X, entered.layers, self, entered.backend)

    @overload
    def predict(self, params: Any, X: npt.NDArray[Any], *, workers: int | None = None) -> npt.NDArray[Any]: ...
    @overload
    def predict(self, params: Any, X: ArrayT, *, workers: int | None = None) -> ArrayT: ...
    @overload
    def predict(self, params: Any, X: Any, *, workers: int | None = None) -> Any: ...
    def predict(self, params: Any, X: Any, *, workers: int | None = None) -> Array:
        """A[L], the predictions: the probability of class 1 or of each class, the value or the rate of each example.

        Parameters
        ----------
        params, X
            As in `forward`.
        workers : int, optional
            Threads on NumPy, see `gradients`.

        Returns
        -------
        array, shape (n[L], m)
            In the parameters' dtype, where they are.

        Raises
        ------
        ValueError, TypeError
            As `forward` does.
        """
        if workers is None:
            theta = plain_theta(self, params)
            found = engine.native_calls.predict(self, theta, X)
            if found is None and theta is not None:
                found = engine.replayed.predict(self, theta, params.backend, X)
            if found is not None:
                return found
        return self._predict(params, X, workers)

    @quiet
    def _predict(self, params: Any, X: Any, workers: int | None) -> Array:
        if self.batch_norm:
            plain, params = self.folded(params)
            return plain.predict(params, X, workers=workers)
        if is_dask_array(X):
            from nnarray.network import chunked, chunks  # which seldom are needed

            if (beside := chunked.enter_beside(self, params)) is not None:
                return chunks.predict(self, beside, X)
        entered = enter_parameters(self, params, X=X)
        X = enter_X(self, X, backend=entered.backend, dtype=entered.dtype)
        workers = check_optional_count(workers, "workers")
        return engine.predict(X, entered.layers, self, entered.backend, workers=workers)

    @overload
    def cost(self, params: Any, X: npt.NDArray[Any], Y: Any, **options: Unpack[CostOptions]) -> npt.NDArray[Any]: ...
    @overload
    def cost(self, params: Any, X: ArrayT, Y: Any, **options: Unpack[CostOptions]) -> ArrayT: ...
    @overload
    def cost(self, params: Any, X: Any, Y: Any, **options: Unpack[CostOptions]) -> Any: ...
    @explained
    def cost(
        self,
        params: Any,
        X: Any,
        Y: Any,
        *,
        l2: float = 0.0,
        l1: float = 0.0,
        weights: Any = None,
        cost: Cost | None = None,
        workers: int | None = None,
        comm: engine.Communicator | None = None,
    ) -> Array:
        """J, the mean loss over the m columns, plus (l2/2m) Σ ‖W[l]‖² and (l1/m) Σ ‖W[l]‖₁.

        Parameters
        ----------
        params : Parameters or sequence of (W, b)
            W[l] (n[l], n[l-1]) and b[l] (n[l], 1), whose dtype, float32 or float64, is that of the call.
        X : array, shape (n_x, m)
            The examples, as columns, of the parameters' namespace and device.
        Y : array, shape (n[L], m)
            The targets: in [0, 1] for "sigmoid", columns that sum to 1 for "softmax", ≥ 0 for "exp".
        l2 : float, default=0.0
            lambda ≥ 0 of the L2 penalty.
        l1 : float, default=0.0
            lambda ≥ 0 of the L1 penalty; ‖W‖₁ is the sum of the magnitudes, whose derivative is taken as 0 at 0.
        weights : array, shape (1, m) or (m,), optional
            Example weights ≥ 0, which multiply the losses; their sum takes the place of m.
        cost : Cost, optional
            A cost of one's own instead of the output's.
        workers : int, optional
            Threads on NumPy, see `gradients`.
        comm : mpi4py communicator, optional
            Compute over the examples of all ranks, see `gradients`.

        Returns
        -------
        array, shape ()
            In the parameters' dtype.

        Raises
        ------
        ValueError
            For shapes that don't fit the network, and values that are not finite or that the output can't model.
        TypeError
            For what holds no real numbers, and arrays of two namespaces or devices.
        """
        if weights is None and cost is None and workers is None and comm is None:
            theta = plain_theta(self, params)
            found = engine.native_calls.cost(self, theta, X, Y, l2, l1)
            if found is None and theta is not None:
                found = engine.replayed.cost(self, theta, params.backend, X, Y, l2, l1)
            if found is not None:
                return found
        return calls.cost(with_cost(self, cost), params, X, Y, weights, comm, l2=l2, l1=l1, workers=workers)

    @overload
    def gradients(
        self, params: Any, X: npt.NDArray[Any], Y: Any, **options: Unpack[CostOptions]
    ) -> tuple[npt.NDArray[Any], Parameters]: ...
    @overload
    def gradients(
        self, params: Any, X: ArrayT, Y: Any, **options: Unpack[CostOptions]
    ) -> tuple[ArrayT, Parameters]: ...
    @overload
    def gradients(self, params: Any, X: Any, Y: Any, **options: Unpack[CostOptions]) -> tuple[Any, Parameters]: ...
    @explained
    def gradients(
        self,
        params: Any,
        X: Any,
        Y: Any,
        *,
        l2: float = 0.0,
        l1: float = 0.0,
        weights: Any = None,
        cost: Cost | None = None,
        workers: int | None = None,
        comm: engine.Communicator | None = None,
    ) -> tuple[Array, Parameters]:
        """J as in `cost`, and its derivatives with respect to every W[l] and b[l].

        Parameters
        ----------
        params, X, Y, l2, l1, weights, cost
            As in `cost`. A memory-mapped X (`np.memmap`) is read as it is used.
        workers : int, optional
            Thread count on NumPy, where each thread processes tiles of a few thousand columns; by default as many as
            the process may use (see NNARRAY_NUM_THREADS in the README).
        comm : mpi4py communicator, optional
            Take the examples of all its ranks together, each of which makes this call with the same params and l2 and
            with columns of its own; their numbers may differ, and be 0: X (n_x, 0). m is everybody's, with batch
            normalisation mean and variance are, too, and every rank gets the same result.

        Returns
        -------
        J : array, shape ()
        gradients : Parameters
            dW[l] (n[l], n[l-1]) and db[l] (n[l], 1) for l = 1…L, in the parameters' dtype.

        Raises
        ------
        ValueError, TypeError
            As `cost` does.
        RuntimeError
            With `comm`, where another rank fails; the message says which, and how.

        Notes
        -----
        Where X is a dask array (Y and weights may be dask or plain arrays, params are plain), the sums over each chunk
        of columns are computed on the worker that holds it, in one dask thread, and added up in an order that depends
        on the chunks alone, so the bits are the same for any number of workers. Chunks that hold only some of the rows
        are concatenated first. `cost` and `score` work the same way, and `predict` returns a lazy dask array.

        The result has the same bits for any number of workers, whatever other threads do. A batch of one tile uses no
        workers: a small one runs on one thread, and the matrix products of a larger one are split by their sizes into
        blocks that threads share. (Without machine code, BLAS threads share the products of a batch of more than 10⁹
        operations, or of too few columns to be split. Then the last bits depend on the number of BLAS threads, and a
        call waits its turn while other threads compute tiles.) The memory of a pass does not grow with m, except with
        batch normalisation: by Σ n[l] and the largest n[l] of the hidden layers, in numbers per example.

        On CuPy, the values of an array are checked once and not again, so that later calls need not synchronise: what
        is written into it afterwards is the caller's to check.
        """
        if weights is None and cost is None and workers is None and comm is None:
            theta = plain_theta(self, params)
            found = engine.native_calls.gradients(self, theta, X, Y, l2, l1)
            if found is None and theta is not None:
                found = engine.replayed.gradients(self, theta, params.backend, X, Y, l2, l1)
            if found is not None:
                return found[0], params.replace(found[1])
        return calls.gradients(with_cost(self, cost), params, X, Y, weights, comm, l2=l2, l1=l1, workers=workers)

    @overload
    def vjp(
        self, params: Any, X: npt.NDArray[Any], *, workers: int | None = None
    ) -> tuple[npt.NDArray[Any], Callable[[Any], tuple[Parameters, npt.NDArray[Any]]]]: ...
    @overload
    def vjp(
        self, params: Any, X: ArrayT, *, workers: int | None = None
    ) -> tuple[ArrayT, Callable[[Any], tuple[Parameters, ArrayT]]]: ...
    @overload
    def vjp(
        self, params: Any, X: Any, *, workers: int | None = None
    ) -> tuple[Any, Callable[[Any], tuple[Parameters, Any]]]: ...
    @quiet
    def vjp(
        self, params: Any, X: Any, *, workers: int | None = None
    ) -> tuple[Array, Callable[[Any], tuple[Parameters, Array]]]:
        """A[L], and a function that backpropagates any cost from it: the vector-Jacobian product.

        Parameters
        ----------
        params, X
            As in `forward`.
        workers : int, optional
            Threads on NumPy, see `gradients`.

        Returns
        -------
        A : array, shape (n[L], m)
            As `predict` gives it. With batch normalisation it is that of training, by the mean and variance of these
            m ≥ 2 examples, and `pull` goes back through both; `network.folded(params)` gives the network of test time.
        pull : callable
            `pull(dA)`, with dA the derivative of a cost with respect to A[L], shape (n[L], m), returns the cost's
            derivatives with respect to every W[l] and b[l], as Parameters, and to X, shape (n_x, m). They are sums over
            the columns: a factor such as 1/m belongs in dA. It may be called any number of times. It recomputes the
            forward pass tile by tile instead of storing activations, so params and X must not be modified in between.
            It raises ValueError for a dA of another shape or not finite.

        Raises
        ------
        ValueError, TypeError
            As `forward` does.

        Examples
        --------
        >>> import numpy as np
        >>> network = Network((2, 3, 1), hidden="tanh", output="identity")
        >>> params, X = network.init(seed=0, dtype="float64"), np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
        >>> A, pull = network.vjp(params, X)
        >>> gradients, saliency = pull(np.ones_like(A))  # of the sum of all predictions
        >>> gradients[0].W.shape, saliency.shape
        ((3, 2), (2, 3))

        `nnarray.guide.extending` makes a torch.autograd.Function and a jax.custom_vjp of it.
        """
        return calls.vjp(self, params, X, workers=workers)

    @quiet
    def score(self, params: Any, X: Any, Y: Any, *, workers: int | None = None) -> float:
        """The score of the predictions: accuracy for "sigmoid" and "softmax", R² for "identity" and "exp".

        A sigmoid unit predicts 1 above 0.5; an example with several units is right where all of them are.

        Parameters
        ----------
        params, X
            As in `forward`.
        Y : array, shape (n[L], m)
            The targets.
        workers : int, optional
            Threads on NumPy, see `gradients`.

        Returns
        -------
        float
            While a library traces or transforms the call, an array of shape ().

        Raises
        ------
        ValueError, TypeError
            As `cost` does.
        """
        if self.batch_norm:
            plain, params = self.folded(params)
            return plain.score(params, X, Y, workers=workers)
        if is_dask_array(X):
            from nnarray.network import chunked, chunks  # which seldom are needed

            if (beside := chunked.enter_beside(self, params)) is not None:
                return chunks.score(self, beside, chunked.Chunked(self.sizes, X, Y))
        entered, batch = enter_batch(self, params, X, Y)
        workers = check_optional_count(workers, "workers")
        A = engine.predict(batch.X, entered.layers, self, entered.backend, workers=workers)
        with entered.backend.current():
            score: float = scoring.score(A, batch.Y, self.output, entered.backend)
            return score

    def summary(self) -> str:
        """A table of the layers, their shapes and how many parameters each has.

        Returns
        -------
        str
            Lines for the terminal; as the last expression of a notebook's cell, it is shown as a table.

        Examples
        --------
        >>> print(Network((2, 1)).summary())
        layer  units  activation  W       b       parameters
        ----------------------------------------------------
        input      2
        1          1  sigmoid     (1, 2)  (1, 1)           3
        ----------------------------------------------------
        total                                              3
        """
        return summarize(self.sizes, self.hidden, self.output, batch_norm=self.batch_norm)

    def _repr_html_(self) -> str:
        return summarize(self.sizes, self.hidden, self.output, batch_norm=self.batch_norm)._repr_html_()


def require_network(network: Any) -> None:
    """Raise TypeError for what is no Network, such as its sizes alone."""
    if not isinstance(network, Network):
        msg = f"network must be a Network, got {type(network).__name__}"
        raise TypeError(msg)
