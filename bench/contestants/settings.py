"""The switches of the libraries that decide where and how precisely they compute."""

from typing import Any


def no_gpu(library: str) -> str | None:
    """Why `library` has no GPU to run on; None where it has one."""
    if library == "torch":
        import torch

        return None if torch.cuda.is_available() else "torch sees no CUDA GPU"
    if library == "jax":
        import jax

        return None if jax.default_backend() == "gpu" else f"JAX sees no GPU, only {jax.default_backend()}"
    return None


def torch_device(device: str) -> str:
    """The device in torch's words."""
    return "cuda" if device == "gpu" else "cpu"


def jax_device(device: str) -> Any:
    """The device in JAX's words."""
    import jax

    return jax.devices(device)[0]


def set_precision(library: str, precision: str) -> None:
    """Products in full float32 unless TF32 was asked for (JAX's default on a recent GPU is TF32); float64 in JAX."""
    if library == "torch":
        import torch

        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    elif library == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if precision == "tf32" else "highest")
        jax.config.update("jax_enable_x64", precision == "float64")
