"""A target: machine code for the CPU, printed as LLVM IR."""
