"""Where the values of a fusion lie: in an output's memory, or in the arena, one piece of memory for a whole run."""

from itertools import accumulate

from nnarray.programs.blocks import Blocks
from nnarray.programs.recording import Value
from nnarray.programs.schedule import Fusion, Launch, Product, matrix_shape

ALIGNMENT = 256
"""Bytes; what the CUDA allocators keep to, and a multiple of every vector that a kernel or cuBLAS loads."""

NARROW_BYTES = 2


class Memory:
    """A place for every stored value: `outputs` has its output's name, or `offsets` its first byte in the arena.

    A value takes over the place of one that is read for the last time to make it, if both are alike.
    """

    def __init__(self, fusion: Fusion) -> None:
        self._fusion = fusion
        self.outputs = {value: name for name, value in fusion.outputs.items()}
        self._borrow_outputs()
        self._blocks, self._block_of = Blocks(), dict[Value, int]()
        self._place()
        ends = list(accumulate((size + -size % ALIGNMENT for size in self._blocks.sizes), initial=0))
        self.size = ends[-1]
        """bytes of the arena"""
        self.offsets = {value: ends[block] for value, block in self._block_of.items()}

    def bytes_of(self, value: Value) -> int:
        """How much memory the value takes."""
        rows, columns = matrix_shape(value)
        return rows * columns * (NARROW_BYTES if value in self._fusion.narrow else value.dtype.itemsize)

    def _borrow_outputs(self) -> None:
        """Let a product that only one output's job reads, and once, be made in that output's memory."""
        reads = [leaf for step in self._fusion.steps for leaf in self._fusion.reads(step)]
        for value, name in list(self.outputs.items()):
            if self._fusion.makers[value].function == "matmul":
                continue
            for leaf in self._fusion.leaves(value, [value]):
                call = self._fusion.makers.get(leaf)
                if call and call.function == "matmul" and reads.count(leaf) == 1 and self._alike(leaf, value):
                    self.outputs.setdefault(leaf, name)
                    break

    def _place(self) -> None:
        """Walk through the steps with the blocks that are free at each."""
        last_read = {leaf: i for i, step in enumerate(self._fusion.steps) for leaf in self._fusion.reads(step)}
        for i, step in enumerate(self._fusion.steps):
            dying = [leaf for leaf in self._block_of if last_read.get(leaf) == i]
            made = [step.value] if isinstance(step, Product) else [value for job in step.jobs for value in job.values]
            for value in made:
                if value not in self.outputs:
                    heir = self._heir(value, step, dying)
                    self._block_of[value] = self._blocks.take(self.bytes_of(value)) if heir is None else heir
            held = {self._block_of[value] for value in made if value in self._block_of}
            for block in {self._block_of[value] for value in dying} - held:
                self._blocks.give_back(block)

    def _heir(self, value: Value, step: Launch | Product, dying: list[Value]) -> int | None:
        """The block of a value that dies in the job that makes this one, and in no other."""
        if isinstance(step, Product):
            return None
        reads = self._fusion.reads(step)
        job = next(job for job in step.jobs if value in job.values)
        mine = self._fusion.leaves(value, job.values)
        for leaf in dying:
            if leaf in mine and reads.count(leaf) == 1 and self._alike(leaf, value) and job.kind != "sums":
                dying.remove(leaf)
                return self._block_of[leaf]
        return None

    def _alike(self, one: Value, other: Value) -> bool:
        same = matrix_shape(one) == matrix_shape(other) and self._fusion.order(one) == self._fusion.order(other)
        return same and (one in self._fusion.narrow) == (other in self._fusion.narrow) and one.dtype == other.dtype
