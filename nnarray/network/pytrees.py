"""Parameters as pytrees of JAX and torch, with one leaf: theta.

The class is registered with a library when Parameters are first created after its import, so nothing is imported.
"""

import sys
from collections.abc import Callable
from typing import Any

_told: set[str] = set()


def tell_libraries(cls: Callable[..., Any]) -> None:
    """Register `cls`, Parameters, as a pytree with JAX and torch, where they are imported and do not know it yet."""
    for library, tell in TELL.items():
        if library not in _told and library in sys.modules:
            _told.add(library)
            tell(cls)


def _tell_jax(cls: Callable[..., Any]) -> None:
    from jax.tree_util import GetAttrKey, register_pytree_with_keys

    def children(params: Any) -> tuple[Any, ...]:
        return ((GetAttrKey("vector"), params.vector),), params.sizes

    def rebuild(sizes: tuple[int, ...], leaves: Any) -> Any:
        return cls(leaves[0], sizes, None)

    register_pytree_with_keys(cls, children, rebuild, flatten_func=lambda params: ((params.vector,), params.sizes))


def _tell_torch(cls: Callable[..., Any]) -> None:
    from torch.utils._pytree import register_pytree_node

    register_pytree_node(
        cls,
        lambda params: ([params.vector], params.sizes),
        lambda leaves, sizes: cls(leaves[0], tuple(sizes), None),
        serialized_type_name="nnarray.Parameters",
        to_dumpable_context=list,
        from_dumpable_context=tuple,
    )


TELL = {"jax": _tell_jax, "torch": _tell_torch}
