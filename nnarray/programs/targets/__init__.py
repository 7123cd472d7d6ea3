"""What runs a program: NumPy's calls, and CUDA."""
