"""Why a library cannot be used here: not installed, broken, or without the device that was asked for."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


class BackendUnavailableError(RuntimeError):
    """A backend was named that cannot run here; the message gives the reason and the remedy."""


@contextmanager
def opening(name: str, device: Any) -> Iterator[None]:
    """A block whose errors say that the backend cannot run on the device."""
    try:
        yield
    except Exception as error:  # each library raises others: RuntimeError, AssertionError, IndexError, AttributeError
        reason = str(error).partition("\n")[0]
        msg = f'the backend "{name}" cannot run on the device {device!r} here: {reason}'
        raise BackendUnavailableError(msg) from None


@lru_cache(maxsize=8)
def why_not(module: str, remedy: str) -> str | None:
    """Why a module does not import, with the remedy; None where it does. Found out once."""
    try:
        importlib.import_module(module)
    except Exception as error:  # torch raises OSError, jax RuntimeError where a library of theirs is missing
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return f"{module} is not installed; {remedy}"
        return f"{module} is installed but does not import ({error}); reinstall it: {remedy}"
    return None
