"""A target: CUDA GPUs, where everything between two products of matrices is fused into one kernel.

Read in this order: `program` (the whole, ready to be queued), `kernel` (loops that run together), `loops` (one of them
as CUDA C), `registers` (one over columns in registers), `parameters` (what a kernel is given), `prelude` (what every
kernel may call) and `training_step` (which gathers the batch and counts steps). None needs a GPU: what runs a program
is a `device`, CuPy's in nnarray/backends/cupy, and the tests compile and run the kernels on the host.
"""
