"""What runs a plan: machine code (`llvm`), NumPy's calls (`numpy_calls`), CUDA (`cuda`), any namespace (`namespace`).

Beside them: `scalars` (a graph's scalars as Python) and `idle` (what programs keep between two runs).
"""
