"""Small runs of every kind of kernel and graph, for NVIDIA's compute-sanitizer.

    compute-sanitizer --tool memcheck python -m bench.gpu.sanitized kernels
    compute-sanitizer --tool memcheck python -m bench.gpu.sanitized graphs

For the kernels each array is an allocation of its own, so that what lies beyond it belongs to nobody.
"""

import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

import nnarray as nn
from bench.gpu.processes import emulate

SHAPES = (((5, 7, 6, 3), 37), ((33, 65, 70), 129), ((70, 1), 131))
"""Columns by a thread each, columns by a warp each, one layer."""

FLOATS = ((None, "float32"), (None, "float64"), ("tf32", "float32"), ("bfloat16", "float32"), ("float16", "float32"))
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")


def examples(sizes: tuple[int, ...], m: int, output: str, backend: Any, dtype: str) -> tuple[Any, Any]:
    """X and Y on the GPU."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(sizes[0], m))
    Y = np.eye(sizes[-1])[:, generator.integers(0, sizes[-1], m)]
    return backend.asarray(X.astype(dtype)), backend.asarray(Y.astype(dtype))


def kernels(floats: Sequence[tuple[str | None, str]]) -> None:
    """Gradients, cost, prediction and updates of every output, every float and every shape."""
    import cupy

    cupy.cuda.set_allocator(None)
    cases = {(output, FLOATS[0]): None for output in OUTPUTS} | {("softmax", each): None for each in floats}
    for (output, (precision, dtype)), (sizes, m) in product(cases, SHAPES):
        if output == "softmax" and sizes[-1] == 1:
            continue
        backend = nn.backend("cupy", precision=precision)
        network = nn.Network(sizes, hidden=("tanh", "relu")[: len(sizes) - 2], output=output)
        params = nn.Parameters(backend.asarray(network.init(0, dtype=dtype).vector), network.sizes, backend)
        X, Y = examples(sizes, m, output, backend, dtype)
        weights = backend.asarray(np.linspace(0.5, 2, m, dtype=dtype)[None])
        optimizer = nn.Adam(0.01)
        state = optimizer.init(params)
        for _ in range(2):
            _, g = network.gradients(params, X, Y, l2=0.1, weights=weights)
            params, state = optimizer.update(params, g, state)
        network.cost(params, X, Y)
        network.predict(params, X)
        assert np.isfinite(params.vector.get()).all()


def graphs(floats: Sequence[tuple[str | None, str]]) -> None:
    """Epochs of batches, the last one short, with and without dropout, by every optimiser, in every float."""
    optimizers = (nn.Adam, nn.GradientDescent, nn.Momentum, nn.Nesterov, nn.RMSprop)
    cases = {(FLOATS[0], optimizer): None for optimizer in optimizers} | {(each, nn.Adam): None for each in floats}
    for ((precision, dtype), optimizer), dropout in product(cases, (0.0, 0.2)):
        backend = nn.backend("cupy", precision=precision)
        X, Y = examples((5, 7, 3), 41, "softmax", backend, dtype)
        settings = {"optimizer": optimizer(0.01), "dropout": dropout, "epochs": 3, "batch_size": 8, "backend": backend}
        found = nn.train(nn.Network((5, 7, 3), output="softmax"), X, Y, dtype=dtype, progress=False, **settings)
        assert np.isfinite(found.history[-1].cost)


if __name__ == "__main__":
    emulated = emulate()
    {"kernels": kernels, "graphs": graphs}[sys.argv[1]](FLOATS[: 1 if "--quick" in sys.argv else None])
    sys.stdout.write(f"{sys.argv[1]} ran\n")
