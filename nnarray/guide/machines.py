"""Several machines: MPI's ranks and dask's workers, what is the same to the bit, what a killed one costs, when it pays.

A gradient is a sum over columns, so a process can compute the part of the columns that it holds. Existing engines
distribute the work; nnarray provides the sums.

## MPI

Every rank runs the same program with columns of its own and gives `comm=` to `network.cost`, `network.gradients` or
`nn.train`:

    # mpiexec -n 4 python train.py
    from mpi4py import MPI
    result = nn.train(network, X_of_this_rank, Y_of_this_rank, epochs=100, batch_size=4096, comm=MPI.COMM_WORLD)

Their numbers of columns may differ, and be 0. The ranks' gradients, divided by everybody's m, are added up by an
Allreduce on theta's vector; then every rank makes the same update, so that theta stays equal to the bit everywhere.
Before a sum, the ranks meet: a few numbers say whether one failed, was interrupted, or wants a checkpoint written, so
that none waits for another that does not come. From the shell, `mpiexec -n 4 nnarray train table.csv` does the same
with a table's rows; `predict` and the others are the first rank's alone. A rank that is killed ends the run, as is
MPI's way; with `checkpoint=` the same call goes on from the file that rank 0 keeps for all.

## Dask

X and Y are dask arrays whose chunks hold columns. theta is sent to the workers, each chunk's sums are computed on the
worker that holds it, and they are added up, neighbours first, in a tree that depends on the chunks alone:

>>> import dask
>>> import dask.array as da
>>> import numpy as np
>>> import nnarray as nn
>>> rng = np.random.default_rng(0)
>>> X, Y = rng.random((3, 100)), rng.random((1, 100)).round()
>>> network = nn.Network((3, 4, 1))
>>> params = network.init(dtype="float64")
>>> J, whole = network.gradients(params, X, Y)
>>> with dask.config.set(scheduler="threads"):
...     J, chunked = network.gradients(params, da.from_array(X, chunks=(3, 30)), da.from_array(Y, chunks=(1, 30)))
>>> np.allclose(whole.vector, chunked.vector, rtol=1e-12)
True

It is computed by the active `distributed.Client`, or by dask's own scheduler. Each task costs dask some milliseconds,
so chunks should be of some thousand columns, a few on each worker; very small neighbours are computed by one task. Of
persisted chunks, each worker computes its share: where one holds more, others fetch the rest from it. dask's
profiler looks at each worker's stack a hundred times a second; where workers and the client share few cores, a step
takes up to 3 % less with `distributed.worker.profile.enabled: false` in dask's configuration.

Batch normalisation couples all chunks: a step makes a pass over them for each layer, forward and back, with a task for
every chunk. For so long the workers hold Z of the hidden layers, and chunks of X that are computed lazily.

With `batch_size`, each update is of columns of one chunk and needs theta after the update before, so one worker
computes at a time: further workers hold more data, and make mini-batches no faster. Under MPI, every rank has a part of
each.

## What is the same to the bit

- On dask: for the same chunks, however many the workers, and wherever chunks move, on machines of one kind.
- Under MPI: theta on all ranks; and a run that was resumed beside one that was not. With another number of ranks, or
  columns given to others, sums are rounded differently: gradients agree to some 1e-12 in float64, and mini-batches are
  others, as every rank shuffles its own columns.

## What a killed worker costs

Dask computes what was lost again, from its recipe: the sums of the present step, and the chunks that lay on the worker.
The step is repeated and the bits are the same. A worker that hangs is given up after dask's own setting,
`distributed.scheduler.worker-ttl`; where none is left, or the scheduler does not answer, for
`nnarray.no-workers-timeout` (60 s), `nn.WorkersLostError` keeps the last parameters and state.

## What a step takes on N machines

Under MPI, t(N) = c m/N + reduce(N) + overhead. The columns are shared; the sum of the gradients is not, it grows with
log N; and each rank checks, divides and updates all of theta, however few columns it has. What bench.scale measured on
one machine gives the constants (`python -m bench.planning`); between machines, latency and transfer are those of their
network, and larger. A simulation, rank by rank, gives the same, and what delays add: a step waits for the last rank,
which with exponential delays is 1 + 1/2 + … + 1/N times their mean.

<!-- bench: bench/results/scale.json -->

| ranks | m = 4,096: ms | m = 60,000: ms | m = 1,000,000: ms | simulated | delays of 1 ms | half as efficient at m = |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| 1 | 61.4 | 892 | 14,855 | 14,855 | 14,856 | 35 |
| 2 | 31.2 | 446 | 7,428 | 7,428 | 7,430 | 106 |
| 8 | 8.60 | 112 | 1,858 | 1,858 | 1,861 | 535 |
| 64 | 2.01 | 15.0 | 233 | 233 | 238 | 4,586 |
| 512 | 1.20 | 2.83 | 30.1 | 30.1 | 36.8 | 37,427 |
| 1,000 | 1.68 | 2.51 | 16.5 | 16.5 | 24.1 | 108,916 |

A column takes 15 µs, a step beside its columns 0.52 ms, a round of the reduction 2.4 µs, theta once 0.26 ms.
Simulated are steps of m = 1,000,000: without delays, and with one on every rank, exponential, of 1 ms in the mean.

<!-- end of bench -->

It stops paying where a step is no longer mostly computing: below the batch of the last column, further ranks hardly
help. As reduce(N) is bounded by twice theta's transfer and some latencies, that batch grows about as N does: what
remains is a fixed number of columns for each rank. To go beyond takes what nnarray does not do: sending the gradient of
the last layers while the first ones are still computed, sending it in fewer bits, or several updates between two sums.
All of them but the first change what is computed.

On dask the scheduler handles each task by itself, some 4/3 of a task for each chunk and step, so its overhead grows
with N and not with log N: dask is for data that lie on its workers, and MPI for a thousand ranks.
"""
