"""Parameters as pytrees of JAX and torch: theta is their leaf, and with batch normalisation the statistics another.

A class is registered with a library when one is first created after its import, so nothing is imported.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

_told: set[tuple[str, type]] = set()


def tell_libraries(cls: type, leaves: Sequence[str] = ("vector",)) -> None:
    """Register `cls`, Parameters, as a pytree with JAX and torch, where they are imported and do not know it yet.

    `leaves` are the attributes that are its leaves; `cls(leaf, sizes, None, *further leaves)` rebuilds it.
    """
    for library, tell in TELL.items():
        if (library, cls) not in _told and library in sys.modules:
            _told.add((library, cls))
            tell(cls, leaves)


def _rebuild(cls: Callable[..., Any], sizes: Any, leaves: Sequence[Any]) -> Any:
    return cls(leaves[0], tuple(sizes), None, *leaves[1:])


def _tell_jax(cls: Any, leaves: Sequence[str]) -> None:
    from jax.tree_util import GetAttrKey, register_pytree_with_keys

    def with_keys(params: Any) -> tuple[Any, ...]:
        return tuple((GetAttrKey(name), getattr(params, name)) for name in leaves), params.sizes

    def flat(params: Any) -> tuple[Any, ...]:
        return tuple(getattr(params, name) for name in leaves), params.sizes

    register_pytree_with_keys(cls, with_keys, lambda sizes, given: _rebuild(cls, sizes, given), flatten_func=flat)


def _tell_torch(cls: Any, leaves: Sequence[str]) -> None:
    from torch.utils._pytree import register_pytree_node

    register_pytree_node(
        cls,
        lambda params: ([getattr(params, name) for name in leaves], params.sizes),
        lambda given, sizes: _rebuild(cls, sizes, list(given)),
        serialized_type_name=f"nnarray.{cls.__name__}",
        to_dumpable_context=list,
        from_dumpable_context=tuple,
    )


TELL = {"jax": _tell_jax, "torch": _tell_torch}
