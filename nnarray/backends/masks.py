"""Masks of inverted dropout from one stream of random numbers, of which every mask knows its place."""

from functools import lru_cache

import numpy as np

from nnarray.backends.quiet import quiet
from nnarray.programs.targets.cuda.masks import floats

TRIED = 6
"""float32 numbers by which NumPy's draws are known"""


@quiet
def at(position: int, bits: "np.random.PCG64") -> "np.random.PCG64":
    """The generator at a later position, in words of 64 bits, of which each gives two float32 numbers."""
    later = type(bits)(0)
    later.state = bits.state
    later.advance(position)
    return later


def drawn_by_numpy(bits: "np.random.PCG64", first: int, shape: tuple[int, int], rate: float) -> "np.ndarray":
    """The mask (n, columns) whose entries, column by column, are the stream's from number `first` on."""
    n, columns = shape
    words, odd = divmod(first, 2)
    drawn = np.random.Generator(at(words, bits)).random(odd + columns * n, dtype=np.float32)[odd:]
    kept = drawn.reshape(columns, n) >= rate
    return (kept / (1 - rate)).T


def is_known(bits: "np.random.BitGenerator") -> bool:
    """Whether a GPU's kernel draws the same numbers: of PCG64, where NumPy draws them as the kernel does."""
    return type(bits) is np.random.PCG64 and _numpy_draws_so()


@lru_cache(maxsize=1)
@quiet
def _numpy_draws_so() -> bool:
    bits = np.random.PCG64(0)
    state, drawn = bits.state["state"], np.random.Generator(bits).random(TRIED, dtype=np.float32)
    return bool(drawn.tolist() == floats(int(state["state"]), int(state["inc"]), TRIED))
