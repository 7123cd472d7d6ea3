"""NumPy's own BLAS by the addresses of its functions, for machine code that calls it."""

import ctypes
from functools import lru_cache

from nnarray.programs.targets.llvm.products import Blas

NAMES = {"scipy_cblas_{}gemm64_": 64, "cblas_{}gemm64_": 64, "scipy_cblas_{}gemm": 32, "cblas_{}gemm": 32}
"""What builds of OpenBLAS call their products, and the bits of their integers."""


@lru_cache(maxsize=1)
def cblas() -> Blas | None:
    """Where the products of the OpenBLAS in this process that NumPy came with lie; None if none is found."""
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(internal_api="openblas").lib_controllers
    for library in sorted(libraries, key=lambda each: "numpy" not in each.filepath):
        for name, bits in NAMES.items():
            sgemm, dgemm = (_address(library.filepath, name.format(letter)) for letter in "sd")
            if sgemm and dgemm:
                return Blas(sgemm, dgemm, bits)
    return None


def _address(path: str, name: str) -> int:
    """Of a function in a library; 0 where it has none of that name."""
    try:
        return ctypes.cast(getattr(ctypes.CDLL(path), name), ctypes.c_void_p).value or 0
    except (AttributeError, OSError):
        return 0
