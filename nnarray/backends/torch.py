"""PyTorch: tensors on its devices, without the history that its autograd keeps."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import array_api_compat
import numpy as np

from nnarray.backends.array_api import Backend, native
from nnarray.backends.availability import opening, why_not
from nnarray.backends.blas import usable_threads
from nnarray.backends.concrete import is_compiled_by_torch, is_concrete, torch_transforms
from nnarray.backends.primitives import plain_primitives
from nnarray.core.primitives import Primitives, bind
from nnarray.core.typing import Array, Namespace


class TorchBackend(Backend):
    """PyTorch on one of its devices."""

    library, namespace = "torch", "array_api_compat.torch"

    @classmethod
    def on(cls, device: Any) -> Backend:
        """The device by its name, such as "cuda:1", or a `torch.device`."""
        import array_api_compat.torch as xp

        with opening(cls.library, device):
            chosen = xp.get_default_device() if device is None else xp.device(device)
            return cls(cls.library, xp, xp.empty(0, device=chosen).device)

    @classmethod
    def unavailable_reason(cls) -> str | None:
        """Why torch does not import."""
        return why_not("torch", "pip install torch")

    @property
    def primitives(self) -> Primitives:
        """Core's; while torch compiles, in a form that it can read."""
        return _compiled_primitives(self.xp) if is_compiled_by_torch() else _eager_primitives(self.xp)

    @staticmethod
    def owns(x: Any) -> bool:
        """Tensors."""
        return bool(array_api_compat.is_torch_array(x))

    @staticmethod
    def fetched(x: Any) -> np.ndarray:
        """Without history; NumPy has no bfloat16, which becomes float32."""
        x = x.detach().cpu().resolve_conj().resolve_neg()
        return np.asarray((x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy())

    @staticmethod
    def is_dense(x: Any) -> bool:
        """By its layout."""
        return str(x.layout) == "torch.strided"

    def copied(self, x: Array) -> Array:
        """Without history."""
        return x.detach().clone()

    @property
    def overwrites(self) -> bool:
        """Where NumPy's programs make the updates."""
        return self._is_host and not plain_primitives()

    @property
    def _is_host(self) -> bool:
        return str(self.device) == "cpu"

    def shared_with_numpy(self, arrays: Sequence[Array]) -> list[np.ndarray] | None:
        """On the CPU, in float32 or float64, unless autograd, a mode or autocast takes part in what is computed.

        Nor where torch is allowed one thread of several, as in the workers of a DataLoader.
        """
        if not self._is_host or not all(map(is_concrete, arrays[:1])) or _may_be_differentiated(*arrays):
            return None
        torch = sys.modules["torch"]
        if torch._C._len_torch_dispatch_stack() or torch.is_autocast_enabled("cpu"):
            return None
        if torch.get_num_threads() == 1 < usable_threads():
            return None
        classes, dtypes = (torch.Tensor, torch.nn.Parameter), (torch.float32, torch.float64)
        for x in arrays:
            is_plain = type(x) in classes and x.layout is torch.strided and not x.is_neg()
            if not is_plain or x.dtype not in dtypes or not x.is_cpu:
                return None
        return [x.detach().numpy() for x in arrays]

    def synchronize(self) -> None:
        """On CUDA."""
        if getattr(self.device, "type", "cpu") == "cuda":
            self.xp.cuda.synchronize(self.device)

    def untracked(self) -> AbstractContextManager[Any]:
        """`torch.no_grad`, but under torch.func."""
        block: AbstractContextManager[Any] = nullcontext() if torch_transforms() else self.xp.no_grad()
        return block

    def _placed(self, host: np.ndarray) -> Array:
        return self.xp.asarray(_shareable(native(host)), device=self.device)


def _shareable(host: np.ndarray) -> np.ndarray:
    """`host` as torch can share it: writable, strides of whole items, none negative; a copy only where it isn't so."""
    if host.flags.writeable and all(stride >= 0 and stride % host.itemsize == 0 for stride in host.strides):
        return host
    return host.copy(order="K") if all(stride >= 0 for stride in host.strides) else np.ascontiguousarray(host)


class CompiledNamespace:
    """array-api-compat's namespace of torch, for the compiler, and with the derivatives that core is written for.

    The compiler reads Python, array-api-compat's functions too, and stops where one asks `torch.result_type` for the
    dtype of an array and a number together, as those of two arguments do. Here they are torch's own, and the number
    takes the array's dtype, which is what the answer would be. Where both arguments are the same, the derivative is
    that of the first one, of |x| at 0 it is 1; torch's are halves of both, and 0.
    """

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def maximum(self, x1: Array | float, x2: Array | float) -> Array:
        """The larger of both."""
        x1, x2 = _tensors(x1, x2)
        torch = sys.modules["torch"]
        return torch.where((x1 >= x2) | torch.isnan(x1), x1, x2)  # NaN if either is

    def minimum(self, x1: Array | float, x2: Array | float) -> Array:
        """The smaller of both."""
        x1, x2 = _tensors(x1, x2)
        torch = sys.modules["torch"]
        return torch.where((x1 <= x2) | torch.isnan(x1), x1, x2)

    def abs(self, x: Array) -> Array:
        """|x|."""
        return sys.modules["torch"].where(x >= 0, x, -x)


class EagerNamespace(CompiledNamespace):
    """The same, which calls torch's faster functions where nothing is differentiated."""

    def maximum(self, x1: Array | float, x2: Array | float) -> Array:
        """The larger of both."""
        if _may_be_differentiated(x1, x2):
            return super().maximum(x1, x2)
        return sys.modules["torch"].maximum(_without_axes(x1, x2), _without_axes(x2, x1))

    def minimum(self, x1: Array | float, x2: Array | float) -> Array:
        """The smaller of both."""
        if _may_be_differentiated(x1, x2):
            return super().minimum(x1, x2)
        return sys.modules["torch"].minimum(_without_axes(x1, x2), _without_axes(x2, x1))

    def abs(self, x: Array) -> Array:
        """|x|."""
        return super().abs(x) if _may_be_differentiated(x) else self.xp.abs(x)


def _may_be_differentiated(*arrays: Any) -> bool:
    """Whether autograd records what is computed of these, a transform of torch.func runs, or forward-mode does."""
    torch = sys.modules["torch"]
    recorded = torch.is_grad_enabled() and any(getattr(x, "requires_grad", False) for x in arrays)
    return recorded or torch_transforms() or torch.autograd.forward_ad._current_level >= 0


def _tensors(x1: Array | float, x2: Array | float) -> tuple[Array, Array]:
    return _like(x1, x2), _like(x2, x1)


def _like(x: Array | float, other: Array) -> Array:
    return sys.modules["torch"].full_like(other, x) if isinstance(x, (int, float)) else x


def _without_axes(x: Array | float, other: Array) -> Array:
    """A number as an array of the other's dtype, without `torch.result_type`, which takes longest."""
    return other.new_full((), x) if isinstance(x, (int, float)) else x


@lru_cache(maxsize=1)
def _compiled_primitives(xp: Namespace) -> Primitives:
    """The primitives that torch can compile."""
    return bind(CompiledNamespace(xp))


@lru_cache(maxsize=1)
def _eager_primitives(xp: Namespace) -> Primitives:
    """The primitives where torch computes at once."""
    return bind(EagerNamespace(xp))
