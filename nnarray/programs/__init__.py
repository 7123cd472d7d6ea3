"""Traces core's functions once per shape into graphs, and compiles these. Imports NumPy alone.

The rooms in the order in which an equation passes through them:

- `graph`     frozen nodes: operation, sources, shape, dtype
- `trace`     core's functions called on placeholders → a graph
- `lowering`  rewrites of a graph: a sum over columns as a product with ones, narrow operands, …
- `registers` a rewrite for GPUs: columns in registers, small products and sums over columns made of them there
- `schedule`  a graph → a plan: products of matrices and the loops between them, in order
- `memory`    where the stored nodes of a plan lie, and which reuse another's memory
- `placeholders`  a caller's own functions, traced
- `products`  a product as BLAS wants it
- `training_step`  the arrays of a compiled training step
- `protocols`  what programs are called with, whatever they are made of
- `helpers`   the helper threads that a target may use
- `tasks`     what other threads do, whatever interrupts the caller
- `targets/`  what prints a plan: `llvm` (machine code), `numpy_calls` (NumPy's calls, replayed), `cuda` (kernels and
  cuBLAS) and `namespace` (any namespace's functions)

A target chooses its lowerings and the `Limits` of its loops; adding one touches nothing above it.
"""
