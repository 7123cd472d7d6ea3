"""NumPy: arrays in this process's memory, computed by compiled programs or by NumPy's calls."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nnarray.backends import machine_code
from nnarray.backends.array_api import Backend, is_real_on_host
from nnarray.backends.primitives import plain_primitives, primitives_for
from nnarray.core import primitives as core
from nnarray.core.typing import Array, Layers
from nnarray.programs.protocols import CompiledSteps, PackedProgram, Program

if TYPE_CHECKING:
    from nnarray.programs.graph import Graph
    from nnarray.programs.training_step import StepArrays

ENTRIES_IN_CACHE = 2**16
"""Of each vector that NumPy's calls pass over one after the other."""

LARGE = 2**14
"""Entries from which on a rough sum takes half the time of one that is added in pairs."""


class NumpyBackend(Backend):
    """NumPy on this machine's processor."""

    library, namespace = "numpy", "numpy"
    is_host = True

    @classmethod
    def on(cls, device: Any) -> Backend:
        """The one device is "cpu"."""
        if device not in (None, "cpu"):
            msg = f'NumPy arrays live on the device "cpu", got {device!r}'
            raise ValueError(msg)
        return NUMPY

    @classmethod
    def unavailable_reason(cls) -> str | None:
        """NumPy is always there."""
        return None

    @property
    def device_name(self) -> Any:
        """There is one."""
        return None

    @property
    def primitives(self) -> core.Primitives:
        """Core's, with faster ones between theta and its layers."""
        return _primitives()

    @staticmethod
    def owns(x: Any) -> bool:
        """Arrays, subclasses and scalars."""
        return isinstance(x, (np.ndarray, np.generic))

    def is_real(self, dtype: Any) -> bool:
        """By kind, as its isdtype knows no bfloat16."""
        return is_real_on_host(dtype)

    def sum(self, x: Array) -> float:
        """Without the detour of np.sum."""
        return float(np.add.reduce(x, axis=None))

    def rough_sum(self, x: Array) -> float:
        """One entry after the other where they lie so; NumPy's own sum adds in pairs, to be exact."""
        if x.size < LARGE or x.dtype.char not in "fd" or not x.flags.forc:
            return self.sum(x)
        return float(np.einsum("i->", x.ravel(order="K")))

    def extent(self, x: Array) -> tuple[float, float]:
        """Without the detour of np.min."""
        return float(np.minimum.reduce(x, axis=None)), float(np.maximum.reduce(x, axis=None))

    def new_matrix(self, shape: tuple[int, int], dtype: Any) -> Array:
        """In C order."""
        return np.empty(shape, dtype)

    def for_products(self, x: Array, dtype: Any) -> Array:
        """With contiguous rows or columns, aligned."""
        if x.dtype == dtype and is_blas_matrix(x) and x.flags.aligned:
            return x
        with np.errstate(over="ignore"):
            return x.astype(dtype, order="K")

    @property
    def compiles(self) -> bool:
        """To machine code, or else to NumPy's calls."""
        return not plain_primitives()

    @property
    def entries_at_once(self) -> int | None:
        """For NumPy's calls, as many as fit a cache."""
        return ENTRIES_IN_CACHE if machine_code.unavailable_reason() else None

    def new_program(self, graph: "Graph", *, captured: bool = False, shared: bool = True) -> Program:
        """Machine code where there is a compiler, else NumPy's calls."""
        return machine_code.new_program(graph, shared=shared)

    def packed_program(self, program: Program | None, groups: Sequence[int]) -> PackedProgram | None:
        """Of machine code."""
        return machine_code.packed_program(program, groups)

    def compiles_steps(self, *, whole: bool) -> bool:
        """As machine code."""
        return machine_code.is_made()

    def new_compiled_steps(
        self, gradient: Any, update: Any, arrays: "StepArrays", *, columns: int, steps: int
    ) -> CompiledSteps | None:
        """As machine code."""
        return machine_code.new_compiled_steps(gradient, update, arrays, columns=columns, steps=steps)

    def __hash__(self) -> int:
        return hash(self.library)  # there is one; it is asked for in every step

    def _holds(self, x: Any) -> bool:
        return type(x) is np.ndarray

    def _placed(self, host: np.ndarray) -> Array:
        return host


NUMPY = NumpyBackend("numpy", np, "cpu")


def is_blas_matrix(x: Array) -> bool:
    """Whether rows or columns are contiguous, and the others begin whole entries apart."""
    (rows, columns), (down, across), size = x.shape, x.strides, x.itemsize
    return bool(across == size and down >= columns * size and down % size == 0) or (
        down == size and across >= rows * size and across % size == 0
    )


@lru_cache(maxsize=1)
def _primitives() -> core.Primitives:
    primitives = primitives_for(np)
    return primitives if plain_primitives() else primitives._replace(join=join, split=split)


def join(layers: Layers) -> Array:
    """theta from every W and b, in one copy."""
    return np.concatenate([V.ravel() for layer in layers for V in layer])


def split(theta: Array, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    """Every W and b as views of theta; where they begin is worked out once."""
    return [(theta[i:j].reshape(shape), theta[j:k].reshape(-1, 1)) for i, j, k, shape in _places(tuple(sizes))]


@lru_cache(maxsize=64)
def _places(sizes: tuple[int, ...]) -> list[tuple[int, int, int, tuple[int, int]]]:
    """For each layer, where W begins, where it ends and b begins, where b ends, and W's shape."""
    ends = list(accumulate((n * (n_prev + 1) for n_prev, n in pairwise(sizes)), initial=0))
    shapes = [(n, n_prev) for n_prev, n in pairwise(sizes)]
    return [
        (start, end - n, end, (n, n_prev)) for (start, end), (n, n_prev) in zip(pairwise(ends), shapes, strict=True)
    ]
