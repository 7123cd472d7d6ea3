"""One fixture over every array namespace, and the oracles that the tests share."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_ENABLE_X64", "1")  # before JAX is imported, so that its float64 is float64
if "NNARRAY_KEEP_SCIPY" not in os.environ:
    os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before SciPy is imported, for scikit-learn's array_api_dispatch
os.environ.pop("NNARRAY_BACKEND", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background; tests and what they start send it
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

if os.environ.get("NNARRAY_EMULATE_GPU", "0") != "0":  # the tests named "cupy" then run where there is no GPU
    import emulator

    if (reason := emulator.missing()) is not None:
        pytest.exit(f"NNARRAY_EMULATE_GPU is set, but {reason}", returncode=4)
    EMULATOR = emulator.Emulator()

import numpy as np

import nnarray as nn
from nnarray import backends
from nnarray.backends import Backend

NAMESPACES = ("numpy", "numpy-readonly", "strict", "strictest", "strict-device", "torch", "jax", "cupy")


@dataclass(frozen=True)
class Space:
    """A namespace under test: how a host array enters it, and how its arrays come back."""

    name: str
    backend: Backend
    freeze: bool = False

    @property
    def xp(self) -> Any:
        return self.backend.xp

    def asarray(self, host: Any, dtype: str | None = None) -> Any:
        x = self.backend.asarray(np.asarray(host), dtype)
        if self.freeze:
            x = x.copy()
            x.flags.writeable = False
        return x

    def to_numpy(self, x: Any) -> np.ndarray:
        return self.backend.to_numpy(x)

    def pairs(self, layers: Any, dtype: str | None = None) -> list[tuple[Any, Any]]:
        """Host layers as a plain list of this namespace's (W, b)."""
        return [(self.asarray(W, dtype), self.asarray(b, dtype)) for W, b in layers]

    def assert_same_place(self, x: Any, dtype: str) -> None:
        """`x` is an array of this namespace and device, in this dtype."""
        own = backends.backend_of(x)
        assert own is not None
        assert own.xp is self.xp
        assert own.device == self.backend.device
        assert x.dtype == getattr(self.xp, dtype)


def _strict(device: str | None, **flags: Any) -> tuple[Space, Any]:
    strict = pytest.importorskip("array_api_strict")
    name = "strict" if device is None else f"strict on {device}"
    where = strict.Device(device or "CPU_DEVICE")
    return Space(name, Backend("array_api_strict", strict, where)), strict.ArrayAPIStrictFlags(**flags)


def _open(name: str) -> tuple[Space, Any]:
    if name.startswith("strict"):
        if name == "strictest":
            return _strict(None, boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=())
        return _strict("device1" if name == "strict-device" else None, api_version="2024.12")
    library = name.removesuffix("-readonly")
    reason = backends.unavailable_reason(library)
    if reason is not None:
        pytest.skip(f"{library}: {reason}")
    return Space(name, nn.backend(library), freeze=name.endswith("readonly")), nullcontext()


@pytest.fixture(params=NAMESPACES)
def space(request: pytest.FixtureRequest) -> Iterator[Space]:
    """Each namespace in turn."""
    opened, flags = _open(request.param)
    with flags:
        yield opened


@pytest.fixture
def open_space() -> Iterator[Callable[[str], Space]]:
    """Opens one namespace by name, skipping with the reason where it cannot run."""
    contexts = []

    def opener(name: str) -> Space:
        opened, flags = _open(name)
        flags.__enter__()
        contexts.append(flags)
        return opened

    yield opener
    for flags in reversed(contexts):
        flags.__exit__(None, None, None)


def targets(output: str, n_L: int, m: int, generator: np.random.Generator) -> np.ndarray:
    """Random Y (n[L], m) that the output can model."""
    if output == "softmax":
        return np.eye(n_L)[:, generator.integers(0, n_L, m)]
    if output == "sigmoid":
        return generator.integers(0, 2, (n_L, m)).astype(float)
    if output == "exp":
        return generator.poisson(2.0, (n_L, m)).astype(float)
    return generator.normal(size=(n_L, m))


def problem(
    sizes: tuple[int, ...], hidden: Any, output: str, m: int, seed: int = 0
) -> tuple[nn.Network, list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """A network, host layers in float64 with biases that are not zero, X and Y."""
    generator = np.random.default_rng(seed)
    network = nn.Network(sizes, hidden, output)
    layers = [
        (generator.normal(size=(n, n_prev)) / np.sqrt(n_prev), 0.3 * generator.normal(size=(n, 1)))
        for n_prev, n in pairwise(sizes)
    ]
    X = generator.normal(size=(m, sizes[0])).T
    return network, layers, X, targets(output, sizes[-1], m, generator)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder, in which the test runs, on the default backend."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NNARRAY_BACKEND", raising=False)
    return tmp_path


@pytest.fixture
def run(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a command of the command line: its exit code, what it printed and what it printed to stderr."""
    from nnarray.cli import main

    def run_command(*words: Any) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run_command


def trained(run: Callable[..., tuple[int, str, str]], *options: Any, path: Any = "t.csv") -> Any:
    """What two epochs on a table print as JSON."""
    code, out, err = run("train", path, "--force", "--json", "--epochs", 2, *options)
    assert (code, err) == (0, "")
    return json.loads(out)


def columns_of(m: int, output: str = "sigmoid") -> tuple[nn.Network, np.ndarray, np.ndarray]:
    """A network of one hidden layer, and X and Y of m columns for its output."""
    rng = np.random.default_rng(0)
    X, units = rng.normal(size=(5, m)), 1 if output == "sigmoid" else 3
    Z = np.abs(rng.normal(size=(units, 5)) @ np.tanh(X))
    Y = {"sigmoid": Z > 1, "softmax": Z.max(axis=0) == Z, "identity": Z + 50, "exp": Z}[output].astype("float64")
    return nn.Network((5, 6, units), "tanh", output), X, Y
