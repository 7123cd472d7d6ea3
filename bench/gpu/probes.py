"""What the GPU and the host's way to it can do, measured on their own: ceilings, launches, products, uploads.

python -m bench.gpu.probes FILE         as JSON, written anew after each probe
python -m bench.gpu.probes --gpu        the GPU's name and libraries, or the reason why there is none
"""

import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.gpu.processes import emulate, write_json

LAUNCH_ARGUMENTS = (2, 13, 26)
PRODUCTS = ((3, 400, 2), (512, 128, 784), (512, 1, 128), (512, 784, 128))
"""m, n, k of products as short steps have them."""

FILLERS = (1, 2, 4, 8, 16)
"""Threads that copy a tile into pinned memory."""

MASK_COLUMNS = (128, 1024, 60_000)

OPERANDS = ("float32", "tf32", "bfloat16")


def gpu() -> dict[str, Any]:
    """The GPU and its libraries, or {"reason": why there is none}."""
    from nnarray.backends import unavailable_reason

    if (reason := unavailable_reason("cupy")) is not None:
        return {"reason": reason}
    import cupy
    from cupy.cuda import runtime

    device = runtime.getDeviceProperties(cupy.cuda.Device().id)
    kept = ("name", "totalGlobalMem", "multiProcessorCount", "l2CacheSize", "major", "minor")
    found = {
        key: device[key].decode() if isinstance(device[key], bytes) else device[key] for key in kept if key in device
    }
    return found | {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()}


def times_of(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """The seconds of one run, on the GPU and on the host, as the mean of many."""
    import cupy

    run()
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    cupy.cuda.Device().synchronize()
    begin.record()
    start = perf_counter()
    for _ in range(repeats):
        run()
    host = (perf_counter() - start) / repeats
    end.record()
    end.synchronize()
    return cupy.cuda.get_elapsed_time(begin, end) / 1e3 / repeats, host


def copies(quick: bool) -> dict[str, float]:
    """TB/s of a copy on the GPU (bytes read and written), GB/s of a copy from pinned and from other memory."""
    import cupy
    import cupyx

    size = 2**18 if quick else 2**29
    one, other = cupy.zeros(size, np.float32), cupy.empty(size, np.float32)
    pinned = cupyx.empty_pinned((size,), np.float32)
    pinned[...] = 1
    pageable = pinned.copy()
    on_it, _ = times_of(lambda: cupy.copyto(other, one), 10)
    from_pinned, _ = times_of(lambda: other.set(pinned), 3)
    from_pageable, _ = times_of(lambda: other.set(pageable), 2)
    rates = {"copy_TBs": 2e-12 / on_it, "pinned_GBs": 1e-9 / from_pinned, "pageable_GBs": 1e-9 / from_pageable}
    return {name: one.nbytes * rate for name, rate in rates.items()}


def products(quick: bool) -> dict[str, float]:
    """TFLOP/s of a large product, by what its operands are rounded to."""
    import cupy

    from nnarray.backends.cupy.backend import gpu as device
    from nnarray.programs.products import gemm

    n, found = 64 if quick else 8192, {}
    A, C = cupy.asarray(np.random.default_rng(0).normal(size=(n, n)).astype("float32")), cupy.empty((n, n), np.float32)
    how = gemm(((n, n), (n, n)), (1, n), (1, n), (1, n))
    for operands in OPERANDS:
        multiply = device().product("float32", operands)
        taken, _ = times_of(lambda multiply=multiply: multiply(how, A.data.ptr, A.data.ptr, C.data.ptr), 3)
        found[f"{operands}_TFLOPs"] = 2e-12 * n**3 / taken
    return found


def launches(quick: bool) -> dict[str, float]:
    """Microseconds of the host for a launch with so many arguments, a product, an array from the pool."""
    import cupy

    from nnarray.backends.cupy.backend import gpu as device
    from nnarray.programs.products import gemm

    repeats, x, found = 3 if quick else 2000, cupy.zeros(8, np.float32), {}
    for count in LAUNCH_ARGUMENTS:
        listed = "".join(f", long long a{i}" for i in range(count - 1))
        kernel = cupy.RawModule(code=f'extern "C" __global__ void probe{count}(float* p{listed}) {{}}')
        launch, given = kernel.get_function(f"probe{count}"), (x, *range(count - 1))
        _, host = times_of(lambda launch=launch, given=given: launch((4,), (256,), given), repeats)
        found[f"launch_{count}_us"] = host * 1e6
    multiply = device().product("float32", "tf32")
    for m, n, k in PRODUCTS:
        A, B, C = (cupy.ones(shape, np.float32).T for shape in ((k, m), (n, k), (n, m)))
        given = gemm(((m, k), (k, n)), (1, m), (1, k), (1, m)), A.data.ptr, B.data.ptr, C.data.ptr
        on_it, host = times_of(lambda given=given: multiply(*given), repeats)
        found |= {f"product_{m}x{n}x{k}_us": host * 1e6, f"product_{m}x{n}x{k}_gpu_us": on_it * 1e6}
    _, host = times_of(lambda: cupy.empty(1000, np.uint8), repeats)
    return found | {"empty_us": host * 1e6}


def uploads(quick: bool) -> dict[str, float]:
    """GB/s of examples that stay on the host, through steps on their tiles, as they stand and gathered."""
    import nnarray as nn
    from nnarray import engine
    from nnarray.engine import Batch, HostColumns, host
    from nnarray.engine.columns import Order

    m, backend, found = 500 if quick else 500_000, nn.backend("cupy", precision="tf32"), {}
    network = nn.Network((784, 64, 10), output="softmax")
    params, X = network.init(0, backend=backend), np.ones((m, 784), np.float32).T
    Y, order = (
        backend.asarray(np.eye(10, dtype="float32")[:, np.arange(m) % 10]),
        np.random.default_rng(0).permutation(m),
    )
    orders = {"in_order": None, "gathered": Order(backend.on_device(order), order)}
    kept = host.MOST_FILLERS
    try:
        for (name, given), host.MOST_FILLERS in product(orders.items(), FILLERS[: 2 if quick else None]):
            batch, taken = Batch(HostColumns(X), Y, m, order=given), []
            for _ in range(1 if quick else 3):
                start = perf_counter()
                engine.cost_and_gradients(batch, params.layers, network, backend, l2=0.0)
                backend.synchronize()
                taken.append(perf_counter() - start)
            batch.release()
            found[f"{name}_{host.MOST_FILLERS}_threads_GBs"] = X.nbytes / min(taken) / 1e9
    finally:
        host.MOST_FILLERS = kept
    return found


def masks(quick: bool) -> dict[str, float]:
    """Milliseconds of dropout's masks for 2 × 512 units, drawn on the GPU and by NumPy on the host."""
    import nnarray as nn
    from nnarray.backends.masks import drawn_by_numpy

    backend, bits, found = nn.backend("cupy"), np.random.PCG64(0), {}
    for columns in MASK_COLUMNS[: 1 if quick else None]:
        shape = 512, columns
        on_it, of_host = times_of(
            lambda shape=shape: [backend.mask(bits, i * 512 * shape[1], shape, 0.2, "float32") for i in range(2)], 10
        )
        start = perf_counter()
        backend.asarray(drawn_by_numpy(bits, 0, shape, 0.2), "float32")
        backend.synchronize()
        by_numpy = 2 * (perf_counter() - start)
        times = {"gpu": on_it, "host": of_host, "numpy": by_numpy}
        found |= {f"masks_{columns}_{who}_ms": seconds * 1e3 for who, seconds in times.items()}
    return found


def steps(quick: bool) -> dict[str, float]:
    """Microseconds of a step of `gradients` and `update` in a caller's loop, on the GPU and on the host."""
    import nnarray as nn

    found = {}
    works = {"lecture": ((2, 3, 5, 4, 2, 1), "sigmoid", 400), "deep_128": ((784, 512, 512, 10), "softmax", 128)}
    for name, (sizes, output, m) in works.items():
        network, backend, optimizer = nn.Network(sizes, output=output), nn.backend("cupy"), nn.Adam()
        params = network.init(0, backend=backend)
        Y = np.eye(sizes[-1], dtype="float32")[:, np.arange(m) % sizes[-1]]
        X, Y, held = (
            backend.asarray(np.ones((m, sizes[0]), np.float32).T),
            backend.asarray(Y),
            [params, optimizer.init(params)],
        )

        def step(network: Any = network, X: Any = X, Y: Any = Y, held: Any = held, optimizer: Any = optimizer) -> None:
            _, g = network.gradients(held[0], X, Y)
            held[:] = optimizer.update(held[0], g, held[1])

        on_it, host = times_of(step, 3 if quick else 500)
        found |= {f"{name}_us": on_it * 1e6, f"{name}_host_us": host * 1e6}
    return found


PROBES = (launches, steps, copies, masks, uploads, products)


def main(arguments: list[str]) -> int:
    """Run every probe; 1 if one of them failed."""
    found: dict[str, Any] = {}
    for probe in PROBES:
        try:
            found[probe.__name__] = probe("--quick" in arguments)
        except Exception as error:
            found[probe.__name__] = {"reason": f"{type(error).__name__}: {error}"[:300]}
        write_json(Path(arguments[0]), found)
    return int(any("reason" in one for one in found.values()))


if __name__ == "__main__":
    emulated = emulate()
    if sys.argv[1] == "--gpu":
        sys.stdout.write(json.dumps(gpu()) + "\n")
    else:
        sys.exit(main(sys.argv[1:]))
