"""PyTorch: tensors on its devices, without the history that its autograd keeps."""

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import array_api_compat
import numpy as np

from nnarray.backends.array_api import Backend, native
from nnarray.backends.availability import opening, why_not
from nnarray.backends.steps import steps_for
from nnarray.backends.tracing import is_compiled_by_torch, torch_transforms
from nnarray.core.steps import Steps, bind
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
    def steps(self) -> Steps:
        """Core's; while torch compiles, in a form that it can read."""
        return _compiled_steps(self.xp) if is_compiled_by_torch() else steps_for(self.xp)

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
    """array-api-compat's namespace of torch for functions that torch compiles or exports.

    The compiler reads Python, array-api-compat's functions too, and stops where one asks `torch.result_type` for the
    dtype of an array and a number together, as those of two arguments do. Here they are torch's own, and the number
    takes the array's dtype, which is what the answer would be.
    """

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def maximum(self, x1: Array | float, x2: Array | float) -> Array:
        """The larger of both."""
        return sys.modules["torch"].maximum(*_tensors(x1, x2))

    def minimum(self, x1: Array | float, x2: Array | float) -> Array:
        """The smaller of both."""
        return sys.modules["torch"].minimum(*_tensors(x1, x2))


def _tensors(x1: Array | float, x2: Array | float) -> tuple[Array, Array]:
    return _like(x1, x2), _like(x2, x1)


def _like(x: Array | float, other: Array) -> Array:
    return sys.modules["torch"].full_like(other, x) if isinstance(x, (int, float)) else x


@lru_cache(maxsize=1)
def _compiled_steps(xp: Namespace) -> Steps:
    """The steps that torch can compile."""
    return bind(CompiledNamespace(xp))
