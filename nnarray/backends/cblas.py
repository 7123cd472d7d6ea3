"""NumPy's own BLAS by the addresses of its functions, for machine code that calls it."""

import ctypes
from functools import lru_cache

from nnarray.programs.products import Blas

NAMES = {"scipy_cblas_{}64_": 64, "cblas_{}64_": 64, "scipy_cblas_{}": 32, "cblas_{}": 32}
"""What builds of OpenBLAS call their products, and the bits of their integers."""


@lru_cache(maxsize=1)
def cblas() -> Blas | None:
    """Where the products of the OpenBLAS in this process that NumPy came with lie; None if none is found."""
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(internal_api="openblas").lib_controllers
    for library in sorted(libraries, key=lambda each: "numpy" not in each.filepath):
        for name, bits in NAMES.items():
            gemm, gemv = (_addresses(library.filepath, name, kind) for kind in ("gemm", "gemv"))
            if all([*gemm.values(), *gemv.values()]):
                return Blas(gemm, gemv, bits)
    return None


def _addresses(path: str, name: str, kind: str) -> dict[str, int]:
    letters = {"float": "s", "double": "d"}
    return {T: _address(path, name.format(letter + kind)) for T, letter in letters.items()}


def _address(path: str, name: str) -> int:
    """Of a function in a library; 0 where it has none of that name."""
    try:
        return ctypes.cast(getattr(ctypes.CDLL(path), name), ctypes.c_void_p).value or 0
    except (AttributeError, OSError):
        return 0
