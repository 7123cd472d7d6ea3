"""A worker of bench.gpu with contestants that need no GPU: one computes, the others do what must stop no other."""

import itertools
import os
import signal
import sys
import time
from dataclasses import replace

from bench.contestants import CONTESTANTS
from bench.contestants.plain import Plain
from bench.gpu import worker


class Stub(Plain):
    """The plain equations on NumPy, under another name; `misbehave` is called before they are prepared."""

    def __init__(self, name, misbehave):
        super().__init__("numpy")
        self.name, self.misbehave, self.devices = name, misbehave, ("cpu", "gpu")

    def prepare(self, problem):
        self.misbehave()
        return super().prepare(problem)


def fail():
    msg = "an illegal memory access was encountered"
    raise RuntimeError(msg)


def die_at_its_second(asked=itertools.count(1)):  # noqa: B008
    if next(asked) == 2:
        os.kill(os.getpid(), signal.SIGSEGV)


class WrongInAnEpoch(Stub):
    def prepare(self, problem):
        return replace(super().prepare(problem), run=lambda: 100.0)


STUBS = [
    Stub("fine", lambda: None),
    Stub("failing", fail),
    Stub("dying", die_at_its_second),
    Stub("slow", lambda: time.sleep(300)),
    WrongInAnEpoch("learns something else", lambda: None),
]
CONTESTANTS.update({stub.name: stub for stub in STUBS})

if __name__ == "__main__":
    if sys.argv[1] == "limit":
        worker.limit_of = lambda problem: fail()  # torch or CuPy would be asked for a GPU
    worker.main()
