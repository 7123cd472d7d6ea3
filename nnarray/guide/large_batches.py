"""Large batches: tiles, threads, files larger than memory, and what is the same to the bit.

## A batch is a sum

J, dW[l] and db[l] are sums over examples divided by m. On NumPy a batch is cut into tiles of some thousand columns;
each runs from the first `W X` to the last `dW` while its activations are in the cache, with the whole batch's m, and
the tiles' sums are added up. So the memory of a pass does not grow with m.

>>> import numpy as np
>>> import nnarray as nn
>>> network = nn.Network((3, 4, 1))
>>> params, X, Y = network.init(dtype="float64"), np.ones((3, 10)), np.ones((1, 10))
>>> J, whole = network.gradients(params, X, Y)
>>> halves = [network.gradients(params, X[:, part], Y[:, part])[1] for part in (slice(0, 5), slice(5, 10))]
>>> np.allclose(whole.vector, (halves[0].vector + halves[1].vector) / 2)
True

X may be a mapped file larger than memory: `np.load("large.npy", mmap_mode="r").T`, of float32, float64 or small
integers, is read as it is used, in `network.gradients`, `nn.train` and `nnarray.sklearn`.

With batch normalisation a batch is no such sum: mean and variance couple its columns. A batch of several tiles then
goes layer by layer, each layer in one pass over all tiles, and the tiles' means and variances are combined by the
formula of Chan, Golub and LeVeque. Z of the hidden layers is stored from the forward to the backward pass, so that
memory grows with m: by Σ n[l] and the largest n[l] of the hidden layers, in numbers per example. Predictions, which
use running averages, store nothing. The ranks of a communicator meet after each pass, two small messages for each
hidden layer, and add the gradients up in one.

## Threads

Tiles are computed by all cores with one BLAS thread each. How a batch is cut depends on the sizes alone, and sums are
added in a fixed order: a result has the same bits for any number of threads. The thread count is limited by the CPUs
available to the process, its container's quota and the setting of BLAS (`OMP_NUM_THREADS`, threadpoolctl, joblib's
workers); `NNARRAY_NUM_THREADS`, or `workers=`, overrides it. A batch of a single tile runs on one thread where
it is small; else its products are cut into pieces, by their sizes and the machine's processors, which threads share.

Products that are not small, nor in float32 very large, are machine code of nnarray's own where the processor has
AVX-512: factors are packed less often than by BLAS, and how a product is cut changes no bit. All others are those of
NumPy's BLAS.

A step of `nn.train` and of the estimators (batch, gradient, update) is one native call on NumPy, and where nothing
reads results in between, one call makes many steps.

Where another library has its own BLAS, as SciPy does, its threads and NumPy's wait for each other: `with
threadpoolctl.threadpool_limits(1):` around all of it is then faster.

## What can be switched off

`NNARRAY_MACHINE_CODE=0` leaves LLVM out and runs lists of NumPy's calls; `NNARRAY_PLAIN_STEPS=1` runs core's own
functions, and nothing compiled. The results stay correct, only slower; tests run both ways.
"""
