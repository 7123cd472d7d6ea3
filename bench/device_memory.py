"""The most GPU memory that a run takes, as the library's allocator counts it."""

from collections.abc import Callable


def device_peak(library: str, run: Callable[[], None]) -> int:
    """Bytes in use at most while `run` runs, above what was in use before."""
    return {"torch": _torch_peak, "jax": _jax_peak, "cupy": _cupy_peak}[library](run)


def _torch_peak(run: Callable[[], None]) -> int:
    import torch

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    level = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - level


def _jax_peak(run: Callable[[], None]) -> int:
    """JAX's peak can't be reset, so this is right only where nothing before took more: in a fresh process."""
    import jax

    device = jax.devices("gpu")[0]
    level = device.memory_stats()["bytes_in_use"]
    run()
    return max(0, device.memory_stats()["peak_bytes_in_use"] - level)


def _cupy_peak(run: Callable[[], None]) -> int:
    import cupy

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    level = pool.used_bytes()
    with _peak_hook(cupy, pool) as hook:
        run()
    return max(0, hook.peak - level)


def _peak_hook(cupy: object, pool: object) -> object:
    class PeakHook(cupy.cuda.MemoryHook):
        """Looks at the pool after each allocation."""

        name = "peak"
        peak = 0

        def malloc_postprocess(self, **_: object) -> None:
            self.peak = max(self.peak, pool.used_bytes())

    return PeakHook()
