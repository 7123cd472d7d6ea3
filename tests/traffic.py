"""What a step asks of a GPU, counted from its plans: device calls, and the bytes that each reads and writes.

`python tests/traffic.py` prints them for some networks. A product's operands and a loop's arrays count once per call.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import nnarray as nn
from nnarray.engine import equations
from nnarray.engine.compiling import Given, traced
from nnarray.programs.schedule import Product, Stage
from nnarray.programs.targets.cuda.program import Program


class Idle:
    """A device that runs nothing."""

    def ones(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.ones(1, dtype)

    def place(self, x: Any) -> tuple[int, tuple[int, ...]]:
        return 0, x.strides

    def kernel(self, source: str, name: str, layout: str) -> Any:
        return None

    def product(self, dtype: str, operands: str) -> Any:
        return None

    def rectified(self, dtype: str, operands: str) -> Any:
        return self

    def number(self) -> int:
        return 0


class Call(NamedTuple):
    """One call of the device."""

    what: str
    read: int
    written: int


def step(
    sizes: tuple[int, ...],
    m: int,
    *,
    output: str = "softmax",
    precision: str | None = None,
    narrow: bool = False,
    wanted: Any = equations.cost_and_gradients,
    rectifies: bool = True,
) -> Program:
    """The program of a network's equations, in a precision, to which X may be `narrow` already.

    Its products add b and rectify where `rectifies`, else loops do.
    """
    gradients = wanted is equations.cost_and_gradients
    numbers = (("m", False),) if gradients else ()
    given = Given(labels=gradients, weights=False, masks=False, numbers=numbers, narrow=narrow)
    graph = traced(wanted, nn.Network(sizes, output=output), m, np.dtype("float32"), given)
    return Program(graph, device=Idle(), operands=precision, rectifies=rectifies)


def calls(program: Program) -> Iterator[Call]:
    """The device calls of a program."""
    for stage in program.plan.stages:
        read = dict.fromkeys(program.plan.reads(stage))
        made = [stage.node] if isinstance(stage, Product) else stage.nodes
        yield Call(_name(stage), *(sum(map(program.memory.bytes_of, nodes)) for nodes in (read, made)))


def _name(stage: Stage) -> str:
    if isinstance(stage, Product):
        what = "product" if stage.bias is None else "rectified product"
        return "{} {} x {} x {}".format(what, *stage.A.matrix_shape, stage.B.matrix_shape[1])
    return " + ".join(f"{loop.kind} {loop.shape[0]} x {loop.shape[1]}" for loop in stage.loops)


NETWORKS: dict[str, tuple[tuple[int, ...], int, dict[str, Any]]] = {
    "lecture": ((2, 3, 5, 4, 2, 1), 400, {"output": "sigmoid"}),
    "deep": ((784, 512, 512, 10), 60_000, {}),
    "deep, bfloat16": ((784, 512, 512, 10), 60_000, {"precision": "bfloat16"}),
    "deep, X in bfloat16": ((784, 512, 512, 10), 60_000, {"precision": "bfloat16", "narrow": True}),
    "logistic": ((1200, 1), 10**6, {"output": "sigmoid"}),
    "logistic-wide": ((12288, 1), 100_000, {"output": "sigmoid"}),
    "logistic, X in bfloat16": ((1200, 1), 10**6, {"output": "sigmoid", "precision": "bfloat16", "narrow": True}),
    "wide": ((4096, 4096, 4096, 10), 65_536, {}),
    "predict": ((784, 512, 512, 10), 10**6, {"wanted": equations.prediction}),
}

if __name__ == "__main__":
    for name, (sizes, m, options) in NETWORKS.items():
        found = list(calls(step(sizes, m, **options)))
        total = sum(call.read + call.written for call in found)
        print(f"{name} {sizes}, m = {m}: {len(found)} calls, {total / 1e6:,.1f} MB; an update is one more")
        for call in found:
            print(f"    {call.read / 1e6:10,.2f} MB read {call.written / 1e6:10,.2f} written  {call.what}")
