"""Loops that run together as a kernel in CUDA C.

Every kernel goes over entries, columns or partial sums in strides of the grid, so any number of blocks computes it,
also one thread alone. Numbers of rows stand in the text, those of columns are parameters: the text suits every m.
"""

from collections.abc import Container

from nnarray.programs.graph import Node
from nnarray.programs.schedule import Loops, Plan
from nnarray.programs.targets.cuda.loops import LoopText
from nnarray.programs.targets.cuda.parameters import Parameters
from nnarray.programs.targets.cuda.registers import RegistersText

WIDE = 2**31
"""Entries from which on an index takes 64 bits."""


class Kernel:
    """The text of loops, its parameters in their order and their `layout` in a struct, and how many blocks each takes.

    `outside` are the nodes that lie in callers' arrays, `narrow` is the type in C of the narrower float; see
    `Parameters` for `numbers_on_device`.
    """

    def __init__(
        self,
        loops: Loops,
        plan: Plan,
        outside: Container[Node],
        name: str,
        narrow: str = "",
        *,
        numbers_on_device: bool = False,
    ) -> None:
        self.loops, self.name = loops.loops, name
        parameters = Parameters(outside, loops.nodes, plan.graph.narrow, narrow, numbers_on_device=numbers_on_device)
        last = len(self.loops) - 1
        texts = [
            (RegistersText if loop.kind == "registers" else LoopText)(loop, i, plan, parameters, is_last=i == last)
            for i, loop in enumerate(self.loops)
        ]
        self.by_columns = [node for text in texts for node in text.by_columns]
        self.blocks, self.warps = [text.blocks for text in texts], [text.warps for text in texts]
        body = "".join(text.source() for text in texts)
        self.wide = any([rows * columns >= WIDE for text in texts for rows, columns in text.shapes()])
        self.parameters, self.layout = parameters.asked_for, parameters.layout
        self.by_blocks = any([text.by_blocks for text in texts])
        bounds = "__launch_bounds__(BLOCK, 2) " if self.by_blocks else ""  # one block reads while the other adds up
        self.source = (
            f'{parameters.declared(name)}extern "C" __global__ void {bounds}{name}(const {name}_given given) {{\n'
            f"{parameters.unpacked()}    typedef {'long long' if self.wide else 'unsigned'} Index;\n{body}}}\n"
        )
