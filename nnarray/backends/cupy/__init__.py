"""CuPy: the device that runs CUDA programs, captured training steps and uploads."""
