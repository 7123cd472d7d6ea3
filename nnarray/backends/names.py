"""Backends by name: the flag, which choice wins, and why a backend can't run here."""

import copyreg
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from types import TracebackType
from typing import Any

import numpy as np

from nnarray.backends.backend import PRECISIONS, Backend
from nnarray.backends.tracing import at_once

BACKENDS = ("numpy", "cupy", "torch", "jax")
"""The names that `backend` knows, besides "auto"."""

ENVIRONMENT_VARIABLE = "NNARRAY_BACKEND"

_default: ContextVar[Backend | None] = ContextVar("nnarray_backend", default=None)


class BackendUnavailableError(RuntimeError):
    """A backend was named that cannot run here; the message gives the reason and the remedy."""


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
        sums, parameters and everything else stay float32. (float16 holds nothing beyond 65504.)

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
    return _LOADERS[name](device)


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


def _reduced(place: Backend) -> tuple[Any, ...]:
    """How a backend is pickled and copied: by its name."""
    device = {"numpy": None, "cupy": getattr(place.device, "id", None)}.get(place.name, str(place.device))
    if place.name == "jax":
        device = f"{place.device.platform}:{place.device.id}"
    return _opened, (place.name, device, place.precision)


def _opened(name: str, device: Any, precision: str | None = None) -> Backend:
    return backend(name, device=device, precision=precision)


copyreg.pickle(Backend, _reduced)


def choose(explicit: str | Backend | None, own: Backend | None) -> Backend:
    """The backend that wins: an explicit argument, else the arrays' own, else the default."""
    if explicit is not None:
        return backend(explicit)
    return own or backend()


def unavailable_reason(name: str) -> str | None:
    """Why the backend `name` cannot run on this machine, with the remedy; None where it can."""
    return _CHECKS[name]()


def _check_precision(precision: Any) -> None:
    if precision not in tuple(PRECISIONS):
        known = ", ".join(f'"{known}"' for known in PRECISIONS)
        msg = f"precision must be one of {known}, or None for float32 as it is, got {precision!r}"
        raise ValueError(msg)


def _with_precision(found: Backend, precision: str) -> Backend:
    if found.name != "cupy":
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


def _load_numpy(device: Any) -> Backend:
    if device not in (None, "cpu"):
        msg = f'NumPy arrays live on the device "cpu", got {device!r}'
        raise ValueError(msg)
    return Backend("numpy", np, "cpu")


def _load_cupy(device: Any) -> Backend:
    import array_api_compat.cupy as xp

    with _on_device("cupy", device):
        chosen = device if isinstance(device, xp.cuda.Device) else xp.cuda.Device(device)
        count = xp.cuda.runtime.getDeviceCount()
        if not 0 <= chosen.id < count:
            msg = f"there are {count} of them, numbered from 0"
            raise ValueError(msg)
        return Backend("cupy", xp, chosen)


def _load_torch(device: Any) -> Backend:
    import array_api_compat.torch as xp

    with _on_device("torch", device):
        chosen = xp.get_default_device() if device is None else xp.device(device)
        return Backend("torch", xp, xp.empty(0, device=chosen).device)


def _load_jax(device: Any) -> Backend:
    import jax

    with _on_device("jax", device), at_once():
        if isinstance(device, str):
            platform, _, index = device.partition(":")
            device = jax.devices(platform)[int(index or 0)]
        return Backend("jax", jax.numpy, jax.numpy.zeros(0, device=device).device)


@contextmanager
def _on_device(name: str, device: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each library raises others: RuntimeError, AssertionError, IndexError, AttributeError
        reason = str(error).partition("\n")[0]
        msg = f'the backend "{name}" cannot run on the device {device!r} here: {reason}'
        raise BackendUnavailableError(msg) from None


@lru_cache(maxsize=1)
def _why_not_cupy() -> str | None:
    try:
        import cupy
    except Exception as error:
        return _not_installed(
            error,
            "cupy",
            'pip install cupy-cuda13x (cupy-cuda12x for a CUDA 12 driver), the extra "cuda13" ("cuda12")',
        )
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"CuPy is installed, but no GPU or driver answers ({error}); install the NVIDIA driver, see `nvidia-smi`"
    if count == 0:
        return "CuPy is installed, but no GPU is visible; look at `nvidia-smi` and CUDA_VISIBLE_DEVICES"
    try:
        ones = cupy.ones((2, 2), dtype=cupy.float32)
        (ones @ ones + ones).get()
    except Exception as error:
        return (
            f"CuPy sees a GPU, but its CUDA libraries don't work ({type(error).__name__}: {error}); "
            'pip install "cupy-cuda13x[ctk]" (or "cupy-cuda12x[ctk]") brings them'
        )
    return None


def _why_not(module: str, remedy: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # torch raises OSError, jax RuntimeError where a library of theirs is missing
        return _not_installed(error, module, remedy)
    return None


def _not_installed(error: Exception, module: str, remedy: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return f"{module} is not installed; {remedy}"
    return f"{module} is installed but does not import ({error}); reinstall it: {remedy}"


_LOADERS: dict[str, Callable[[Any], Backend]] = {
    "numpy": _load_numpy,
    "cupy": _load_cupy,
    "torch": _load_torch,
    "jax": _load_jax,
}

_CHECKS: dict[str, Callable[[], str | None]] = {
    "numpy": lambda: None,
    "cupy": _why_not_cupy,
    "torch": lru_cache(lambda: _why_not("torch", "pip install torch")),
    "jax": lru_cache(lambda: _why_not("jax", "pip install jax")),
}
