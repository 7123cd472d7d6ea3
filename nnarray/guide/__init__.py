"""Pages to read: the lecture's equations in code, large batches, machines, GPUs, how it is built, how to add to it.

- `nnarray.guide.lecture`: the equations, where each is in the code, its shapes, and the slip that it avoids
- `nnarray.guide.large_batches`: tiles, threads, files larger than memory, and what is the same to the bit
- `nnarray.guide.machines`: MPI and dask, what a lost worker costs, and what a step takes on N machines
- `nnarray.guide.gpu`: what happens on CuPy's arrays
- `nnarray.guide.house`: the floors, the path of X through them, and the benchmarks
- `nnarray.guide.extending`: a cost, an update rule, an activation, a backend or a target of your own

The examples on these pages are run by the tests.
"""
