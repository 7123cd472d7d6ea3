"""Where the equations run: backends by name, their devices and dtypes, and the way in for a caller's arrays."""

from nnarray.backends.arrays import (
    NUMPY,
    all_finite,
    backend_of,
    convert,
    extent,
    for_products,
    host_array,
    is_concrete,
    is_known,
    is_sparse,
    know,
    new_matrix,
    number,
    require_finite,
    same_backend,
)
from nnarray.backends.backend import FLOATS, PRECISIONS, Backend, require_numbers, to_numpy
from nnarray.backends.blas import ONE_THREAD, allowed_one_thread, usable_threads
from nnarray.backends.disk import mapped_file, read_ahead
from nnarray.backends.names import (
    BACKENDS,
    BackendUnavailableError,
    backend,
    choose,
    unavailable_reason,
    use_backend,
)
from nnarray.backends.programs import Program, fits, has_programs, new_program, new_uploads
from nnarray.backends.steps import plain_steps, recorded_steps, steps_for

__all__ = [
    "BACKENDS",
    "FLOATS",
    "NUMPY",
    "ONE_THREAD",
    "PRECISIONS",
    "Backend",
    "BackendUnavailableError",
    "Program",
    "all_finite",
    "allowed_one_thread",
    "backend",
    "backend_of",
    "choose",
    "convert",
    "extent",
    "fits",
    "for_products",
    "has_programs",
    "host_array",
    "is_concrete",
    "is_known",
    "is_sparse",
    "know",
    "mapped_file",
    "new_matrix",
    "new_program",
    "new_uploads",
    "number",
    "plain_steps",
    "read_ahead",
    "recorded_steps",
    "require_finite",
    "require_numbers",
    "same_backend",
    "steps_for",
    "to_numpy",
    "unavailable_reason",
    "usable_threads",
    "use_backend",
]
