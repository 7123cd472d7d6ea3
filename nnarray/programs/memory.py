"""Where the stored nodes of a plan lie: in an output's memory, or in the arena, one piece of memory for a whole run."""

from itertools import accumulate

from nnarray.programs.graph import Node, Partial
from nnarray.programs.schedule import Loops, Plan, Stage, made_by

ALIGNMENT = 256
"""Bytes; what CUDA's allocators keep to, and a multiple of a cache line and of every vector that is loaded at once."""

NARROW_BYTES = 2


class Memory:
    """A place for every stored node: `outputs` has its output's name, or `offsets` its first byte in the arena.

    A node overwrites one of the same shape and dtype whose last read is in its own loop. Stages `together` may be under
    way at once, each for columns of its own.
    """

    def __init__(self, plan: Plan, together: range = range(0)) -> None:
        self._plan, self._together = plan, together
        self.outputs = {node: name for name, node in plan.graph.outputs.items()}
        self._borrow_outputs()
        self._blocks, self._block_of = Blocks(), dict[Node, int]()
        self._place()
        ends = list(accumulate((size + -size % ALIGNMENT for size in self._blocks.sizes), initial=0))
        self.size = ends[-1]
        """bytes of the arena"""
        self.offsets = {node: ends[block] for node, block in self._block_of.items()}

    def bytes_of(self, node: Node) -> int:
        """How much memory the node takes."""
        rows, columns = node.matrix_shape
        return rows * columns * (NARROW_BYTES if node in self._plan.graph.narrow else node.dtype.itemsize)

    def _borrow_outputs(self) -> None:
        """Let a product that only one output's loop reads, and once, be made in that output's memory."""
        reads = [leaf for stage in self._plan.stages for leaf in self._plan.reads(stage)]
        for node, name in list(self.outputs.items()):
            if node.operation in {"matmul", "where"} or name in self._plan.graph.over:
                continue
            for leaf in self._plan.leaves(node, [node]):
                if leaf.operation == "matmul" and reads.count(leaf) == 1 and self._alike(leaf, node):
                    self.outputs.setdefault(leaf, name)
                    break

    def _place(self) -> None:
        """Walk through the stages with the blocks that are free at each."""
        last_read = {leaf: i for i, stage in enumerate(self._plan.stages) for leaf in self._plan.reads(stage)}
        over = set[int]()
        for i, stage in enumerate(self._plan.stages):
            dying = [leaf for leaf in self._block_of if last_read.get(leaf) == i]
            made = made_by(stage)
            for node in made:
                if node not in self.outputs:
                    heir = self._heir(node, stage, dying)
                    self._block_of[node] = self._blocks.allocate(self.bytes_of(node)) if heir is None else heir
            held = {self._block_of[node] for node in made if node in self._block_of}
            over |= {self._block_of[node] for node in dying} - held
            if i not in self._together[:-1]:
                for block in over:
                    self._blocks.release(block)
                over.clear()

    def _heir(self, node: Node, stage: Stage, dying: list[Node]) -> int | None:
        """The block of a node whose last read is in the loop that stores this one, for this one to overwrite."""
        if not isinstance(stage, Loops) or isinstance(node, Partial):
            return None
        if node.operation == "where":  # which NumPy computes in two steps
            return None
        reads = self._plan.reads(stage)
        [loop] = [loop for loop in stage.loops if node in loop.nodes]
        mine = set(self._plan.leaves(node, loop.nodes)) - {V.base for V in node.nodes if V.base is not V}
        for leaf in dying:
            if leaf in mine and reads.count(leaf) == 1 and self._alike(leaf, node) and loop.kind != "sums":
                dying.remove(leaf)
                return self._block_of[leaf]
        return None

    def _alike(self, one: Node, other: Node) -> bool:
        same = one.shape == other.shape and self._plan.order(one) == self._plan.order(other)
        narrow = self._plan.graph.narrow
        return same and (one in narrow) == (other in narrow) and one.dtype == other.dtype


class Blocks:
    """The blocks of an arena, by number, allocated and released as the plan is walked through."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        """bytes of each block, as large as the largest node that it held"""
        self._free: list[int] = []

    def allocate(self, size: int) -> int:
        """A free block, the smallest that is large enough, else the largest, which grows; a new one if none is free."""
        if not self._free:
            self.sizes.append(size)
            return len(self.sizes) - 1
        block = min(self._free, key=lambda b: (self.sizes[b] < size, abs(self.sizes[b] - size)))
        self._free.remove(block)
        self.sizes[block] = max(self.sizes[block], size)
        return block

    def release(self, block: int) -> None:
        """Release the block for a later node."""
        self._free.append(block)
