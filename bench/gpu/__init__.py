"""What a machine with an NVIDIA GPU says of this tree, within the minutes that one may have of it.

    python -m bench.gpu --out FOLDER                    all parts, in order of value
    python -m bench.gpu --out FOLDER --only figures --seconds 300
    python -m bench.gpu --out FOLDER --wheels WHEELS    with packages that the machine lacks, from a folder of wheels
    NNARRAY_EMULATE_GPU=1 python -m bench.gpu --out FOLDER --quick

Each part is a process with a limit, and writes what it found as it finds it: whatever ends the run, the files in the
folder can be read. In the figures each contestant has a process of its own, since an illegal address ends a CUDA
context and with it everything in its process.
"""
