"""Where the equations run: backends by name, their devices and dtypes, and the way in for a caller's arrays."""

from nnarray.backends.array_api import FLOATS, PRECISIONS, Backend, number, require_numbers
from nnarray.backends.arrays import (
    all_finite,
    backend_of,
    convert,
    convert_examples,
    for_products,
    host_array,
    is_sparse,
    require_finite,
    require_finite_in,
    same_backend,
)
from nnarray.backends.availability import BackendUnavailableError
from nnarray.backends.blas import BLAS_THREADS, Block, Ended, allowed_one_thread, usable_threads
from nnarray.backends.concrete import at_once, is_concrete, is_constant, is_dask_array, require_concrete
from nnarray.backends.disk import mapped_file, read_ahead
from nnarray.backends.library import to_numpy
from nnarray.backends.machine_code import is_made as makes_machine_code
from nnarray.backends.machine_code import unavailable_reason as why_no_machine_code
from nnarray.backends.names import BACKENDS, backend, choose, unavailable_reason, use_backend
from nnarray.backends.numpy import NUMPY
from nnarray.backends.primitives import plain_primitives, primitives_for
from nnarray.backends.quiet import filter_again, quiet
from nnarray.programs.protocols import CompiledSteps, PackedProgram, Program

__all__ = [
    "BACKENDS",
    "BLAS_THREADS",
    "FLOATS",
    "NUMPY",
    "PRECISIONS",
    "Backend",
    "BackendUnavailableError",
    "Block",
    "CompiledSteps",
    "Ended",
    "PackedProgram",
    "Program",
    "all_finite",
    "allowed_one_thread",
    "at_once",
    "backend",
    "backend_of",
    "choose",
    "convert",
    "convert_examples",
    "filter_again",
    "for_products",
    "host_array",
    "is_concrete",
    "is_constant",
    "is_dask_array",
    "is_sparse",
    "makes_machine_code",
    "mapped_file",
    "number",
    "plain_primitives",
    "primitives_for",
    "quiet",
    "read_ahead",
    "require_concrete",
    "require_finite",
    "require_finite_in",
    "require_numbers",
    "same_backend",
    "to_numpy",
    "unavailable_reason",
    "usable_threads",
    "use_backend",
    "why_no_machine_code",
]
