"""Backends by name: the flag, which choice wins, and why a backend can't run here."""

import copyreg
import os
from contextvars import ContextVar
from dataclasses import replace
from types import TracebackType
from typing import Any

from nnarray.backends.array_api import PRECISIONS, Backend
from nnarray.backends.availability import BackendUnavailableError
from nnarray.backends.cupy.backend import CupyBackend
from nnarray.backends.jax import JaxBackend
from nnarray.backends.library import LIBRARIES
from nnarray.backends.numpy import NumpyBackend
from nnarray.backends.torch import TorchBackend

LIBRARIES.update({kind.library: kind for kind in (NumpyBackend, CupyBackend, TorchBackend, JaxBackend)})

BACKENDS = tuple(LIBRARIES)
"""The names that `backend` knows, besides "auto"."""

ENVIRONMENT_VARIABLE = "NNARRAY_BACKEND"

_default: ContextVar[Backend | None] = ContextVar("nnarray_backend", default=None)


def backend(name: str | Backend | None = None, *, device: Any = None, precision: str | None = None) -> Backend:
    """A backend by its name: a namespace, one of its devices, and the way to and from the host.

    Parameters
    ----------
    name : {"numpy", "cupy", "torch", "jax", "auto"} or Backend, optional
        "auto" is cupy where it works, else numpy. Left out, the default: what `use_backend` set, else the environment's
        NNARRAY_BACKEND, else numpy.
    device : str, int or device, optional
        In the words of the library: "cuda:1" or a number for torch, a number for cupy, "cpu:0" or a `jax.Device` for
        JAX; left out, the library's own default.
    precision : {"tf32", "bfloat16", "float16"}, optional
        On CuPy, what the products of float32 networks round what they multiply to, for which GPUs have faster units;
        sums, costs, parameters and gradients stay float32. In bfloat16 and float16, what is only computed for products,
        such as Z, A, dA and dZ of hidden layers, is stored so too. X may be given in that float: it is read as it is.
        An X in float32 is rounded in each call, but by `nn.train` and by the estimators' `fit` once, where the GPU has
        room for a copy. (float16 holds nothing beyond 65504. To keep bfloat16, the package ml_dtypes is needed.)

    Returns
    -------
    Backend

    Raises
    ------
    BackendUnavailableError
        Where the backend or the device can't run on this machine, with the reason and the remedy.
    ValueError
        For a name or a precision that is none, or a precision on another backend than CuPy.

    Examples
    --------
    >>> backend("numpy").name
    'numpy'
    """
    if precision is not None:
        _check_precision(precision)
        return _with_precision(backend(name, device=device), precision)
    if name is None:
        name = _default.get() or _from_environment(device)
    if isinstance(name, Backend):
        if device is None or device == name.device:
            return name
        return backend(name.name, device=device, precision=name.precision)
    if name == "auto":
        return backend("numpy" if unavailable_reason("cupy") else "cupy", device=device)
    if name not in BACKENDS:
        known = ", ".join(f'"{known}"' for known in BACKENDS)
        msg = f'there is no backend {name!r}; the backends are {known} and "auto"'
        raise ValueError(msg)
    reason = unavailable_reason(name)
    if reason is not None:
        msg = f'the backend "{name}" cannot run here: {reason}'
        raise BackendUnavailableError(msg)
    return LIBRARIES[name].on(device)


class use_backend:  # noqa: N801 - called like a function
    """Make a backend the default of this context (this thread or task); usable as a `with` block, too.

    It decides for calls that are given neither a backend nor arrays: arrays bring their own.

    Parameters
    ----------
    name, device
        As in `backend`.

    Raises
    ------
    BackendUnavailableError, ValueError
        As `backend` does.

    Examples
    --------
    >>> with use_backend("numpy"):
    ...     backend().name
    'numpy'
    """

    def __init__(self, name: str | Backend, *, device: Any = None) -> None:
        self.backend = backend(name, device=device)
        self._before = _default.get()
        _default.set(self.backend)

    def __enter__(self) -> Backend:
        _default.set(self.backend)
        return self.backend

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _default.set(self._before)


def _reduced(own: Backend) -> tuple[Any, ...]:
    """How a backend is pickled and copied: by its name."""
    return _opened, (own.name, own.device_name, own.precision)


def _opened(name: str, device: Any, precision: str | None = None) -> Backend:
    return backend(name, device=device, precision=precision)


copyreg.pickle(Backend, _reduced)
for _library in LIBRARIES.values():
    copyreg.pickle(_library, _reduced)


def choose(explicit: str | Backend | None, own: Backend | None) -> Backend:
    """The backend that wins: an explicit argument, else the arrays' own, else the default."""
    if explicit is not None:
        return backend(explicit)
    return own or backend()


def unavailable_reason(name: str) -> str | None:
    """Why the backend `name` cannot run on this machine, with the remedy; None where it can."""
    return LIBRARIES[name].unavailable_reason()


def _check_precision(precision: Any) -> None:
    if precision not in tuple(PRECISIONS):
        known = ", ".join(f'"{known}"' for known in PRECISIONS)
        msg = f"precision must be one of {known}, or None for float32 as it is, got {precision!r}"
        raise ValueError(msg)


def _with_precision(found: Backend, precision: str) -> Backend:
    if precision not in found.precisions:
        msg = f'precision="{precision}" is for the backend "cupy", got the backend "{found.name}"'
        raise ValueError(msg)
    return replace(found, precision=precision)


def _from_environment(device: Any) -> Backend:
    try:
        return backend(os.environ.get(ENVIRONMENT_VARIABLE) or "numpy", device=device)
    except (BackendUnavailableError, ValueError) as error:
        if not os.environ.get(ENVIRONMENT_VARIABLE):
            raise
        msg = f"{error} (the environment variable {ENVIRONMENT_VARIABLE} named it)"
        raise type(error)(msg) from None
