"""Recorded equations on a CUDA GPU: everything between two products of matrices is one kernel, made of core's calls.

Read in this order: `fusion` (which calls become one launch), `memory` (where values lie), `source` (a launch as CUDA
C), `products` (a product as cuBLAS wants it), `program` (the whole, ready to be run) and `device` (CuPy, which runs
it). Only `device` needs a GPU; the rest is plain Python, and the tests compile and run its kernels on the host.
"""
