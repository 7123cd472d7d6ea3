"""Arrays that lie in a mapped file (np.memmap): found, and read ahead of their use."""

import mmap
from typing import Any

import numpy as np

CAN_ADVISE = hasattr(mmap.mmap, "madvise")
"""Whether the operating system takes hints on what will be read next."""


def mapped_file(x: Any) -> mmap.mmap | None:
    """The mapped file that the array `x` lies in, however it was sliced or transposed; None if it lies in memory."""
    while isinstance(x, np.ndarray | memoryview):
        x = x.base if isinstance(x, np.ndarray) else x.obj
    return x if isinstance(x, mmap.mmap) else None


def read_ahead(part: Any, file: mmap.mmap) -> None:
    """Have the operating system read this part of the file in the background, if it is one piece of it."""
    low, high = np.lib.array_utils.byte_bounds(part)
    if not CAN_ADVISE or high - low > 2 * part.nbytes:
        return
    origin = np.frombuffer(file, np.uint8).ctypes.data
    start = (low - origin) // mmap.PAGESIZE * mmap.PAGESIZE
    file.madvise(mmap.MADV_WILLNEED, start, high - origin - start)
