"""Which arrays have values that may be looked at, and which only stand for some: traced, batched, fake or lazy ones."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat
import numpy as np


def is_concrete(x: Any) -> bool:
    """Whether the array `x` has values that may be looked at now.

    JAX's tracers have none; nor have torch's tensors while torch transforms, exports or compiles a function, fake ones
    and those on the device "meta"; nor the arrays of a lazy namespace, which would compute everything to answer.
    """
    if isinstance(x, (np.ndarray, np.generic)) or array_api_compat.is_cupy_array(x):
        return True
    if array_api_compat.is_jax_array(x):
        return not is_traced_by_jax(x)
    if array_api_compat.is_torch_array(x):
        return _torch_has_values(x)
    return not _is_lazy(x)


def is_dask_array(X: Any) -> bool:
    """Whether X is a dask array, whose chunks may be elsewhere."""
    dask = sys.modules.get("dask.array")
    return dask is not None and isinstance(X, dask.Array)


def is_traced_by_jax(x: Any) -> bool:
    """Whether `x` is one of JAX's tracers, which have no device, either."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.core.Tracer)


def require_concrete(task: str, **arrays: Any) -> None:
    """Raise TypeError naming the first of these arguments that is not concrete: the `task` looks at values."""
    for argument, x in arrays.items():
        if not is_concrete(x):
            msg = (
                f"{task} looks at values, and {argument}, a {type(x).__name__}, has none yet: call it outside of what "
                "traces or transforms a function (jax.jit, jax.grad, torch.func, torch.compile, …)"
            )
            raise TypeError(msg)


def at_once(*arrays: Any) -> AbstractContextManager[Any]:
    """A block in which JAX computes with these arrays at once, even while it traces the function that is running.

    Where one of them is traced, or another library's, the block does nothing.
    """
    jax = sys.modules.get("jax")
    if jax is None or not all(map(array_api_compat.is_jax_array, arrays)) or any(map(is_traced_by_jax, arrays)):
        return nullcontext()
    block: AbstractContextManager[Any] = jax.ensure_compile_time_eval()
    return block


def is_constant(x: Any) -> bool:
    """Whether what is computed from `x` now is right later, too: it is concrete, and torch's autograd leaves it out."""
    return is_concrete(x) and not getattr(x, "requires_grad", False)


def torch_transforms() -> bool:
    """Whether one of torch.func's transforms (grad, vmap, jacrev, …) is running the caller's function."""
    torch = sys.modules.get("torch")
    return torch is not None and torch._C._functorch.maybe_current_level() is not None


def is_compiled_by_torch() -> bool:
    """Whether torch is compiling or exporting the caller's function."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.compiler.is_compiling())


def _torch_has_values(x: Any) -> bool:
    torch = sys.modules["torch"]
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch_transforms():
        return False
    kind, key = torch._C._get_dispatch_mode, torch._C._TorchDispatchModeKey
    if any(kind(mode) is not None for mode in (key.FAKE, key.PROXY, key.FUNCTIONAL)):
        return False
    return type(x) in (torch.Tensor, torch.nn.Parameter) and x.device.type != "meta"


_lazy: dict[type, bool] = {}
"""by type of arrays, whether to look at a value would be to compute it"""


def _is_lazy(x: Any) -> bool:
    kind = type(x)
    if kind not in _lazy:
        _lazy[kind] = array_api_compat.is_array_api_obj(x) and array_api_compat.is_lazy_array(x)
    return _lazy[kind]
