"""nnarray: a compute core for dense neural networks."""
