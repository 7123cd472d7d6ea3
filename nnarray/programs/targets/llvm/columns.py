"""Stages that compute each column by itself, taken together: some columns go through all of them, then others.

Where several threads share a batch, each takes columns of its own and waits for no other; and where an input is read
for two products, each block of it is in the cache for the second one.
"""

from collections.abc import Iterator, Sequence

from nnarray.programs.graph import Graph, Node, Reduction
from nnarray.programs.memory import Memory
from nnarray.programs.schedule import Loops, Plan, Product, Stage, made_by
from nnarray.programs.targets.llvm.blocked import FEWEST_OPERATIONS
from nnarray.programs.targets.llvm.pieces import (
    Span,
    Strand,
    each_alone,
    operations,
    parts_of,
    pieces_of,
    spans_of,
    whole,
)
from nnarray.programs.targets.llvm.products import is_blocked, is_call, vector_of

BLOCK_BYTES, COLUMNS_AT_ONCE = 2**18, 8
"""Of an input that is read for two products, about so much is in a core's cache for the second one: a multiple of so
many columns, which BLAS multiplies by a vector at once."""

MOST_ROWS = 16
"""Of a product that takes about as long as reading what it multiplies."""

STRAND_COLUMNS = 128
"""How many columns a thread takes at once, about. (Batches of 1024 take 1 % longer with 256 or 512.)"""

MOST_BYTES, MOST_PARAMETERS = 40 * 2**20, 2
"""What strands keep between their stages takes no more than so many bytes and so often the bytes of the parameters: all
that the columns make is there until the sums over them are."""


class ByColumns:
    """The stages of a plan in an order in which those that compute each column by itself come together.

    First run the stages `before`, which need no examples, and last those `after`. Between them, some columns go through
    all stages of `block`: those that compute each column by itself, and products that are sums over the columns of
    `twice`, an input, which accumulate.
    """

    def __init__(self, plan: Plan, columns: set[Node], twice: Node | None = None) -> None:
        self._plan, self._columns, self.twice = plan, columns, twice
        self.before, self.block, self.after = list[Stage](), list[Stage](), list[Stage]()
        made_here, made_late = set[Node](), set[Node]()
        for stage in [one for stages in plan.stages for one in _one_by_one(stages)]:
            read, made = set(plan.reads(stage)), set(made_by(stage))
            adds_up = isinstance(stage, Product) and self._adds_up(stage)
            if not read.isdisjoint(made_late):
                stages, found = self.after, made_late
            elif adds_up and twice in read:
                stages, found = self.block, made_late
            elif all([node in self._columns for node in made]) and not adds_up:
                stages, found = self.block, made_here
            elif read.isdisjoint(made_here):
                stages, found = self.before, set[Node]()
            else:
                stages, found = self.after, made_late
            stages.append(stage)
            found.update(made)

    @property
    def stages(self) -> list[Stage]:
        """All of them in this order."""
        return [*self.before, *self.block, *self.after]

    def _adds_up(self, product: Product) -> bool:
        """Whether the product is a sum over the examples, each a column of A and a row of B."""
        B = product.B
        return product.A in self._columns and B.operation == "transpose" and B.nodes[0] in self._columns


class Strands(ByColumns):
    """An order in which threads that share a batch wait for each other where sums over its columns begin, and end."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, _with_columns(plan.graph))
        made_late = {node for stage in self.after for node in made_by(stage)}
        products = [stage for stage in self.after if isinstance(stage, Product)]
        self._sums = [stage for stage in products if made_late.isdisjoint(plan.reads(stage))]
        self.after = [*self._sums, *[stage for stage in self.after if stage not in self._sums]]

    @property
    def are_worth_it(self) -> bool:
        """Whether there are large products, and none is slower for a few columns after the others.

        Nor for want of threads: cut by itself, a product may be in more pieces, by its rows, than columns are.
        """
        products = [stage for stage in self.block if isinstance(stage, Product)]
        are_large = len(self.block) > 1 and any(map(is_blocked, products)) and all(map(_suits_few_columns, products))
        return are_large and len(self._spans()) >= max([len(pieces_of(product)) for product in products])

    def fit(self, memory: Memory) -> bool:
        """Whether what is kept between the stages takes no more memory than it may."""
        parameters = sum([memory.bytes_of(x) for x in self._plan.graph.arrays if not x.per_example])
        return memory.size <= MOST_BYTES + MOST_PARAMETERS * parameters

    @property
    def together(self) -> range:
        """Which stages some columns are in while others are not yet, or not any more; and the sums, in any order."""
        return range(len(self.before), len(self.before) + len(self.block) + len(self._sums))

    def strands(self) -> list[list[Strand]]:
        """The strands of each stage in this order; all of `block` are one, and each sum is one, the largest first."""
        block = [part for stage in self.block for part in parts_of(stage)]
        strands: list[Strand] = [[whole(part)._replace(columns=span) for part in block] for span in self._spans()]
        sums = sorted(self._sums, key=operations, reverse=True)
        others = self.after[len(sums) :]
        return [*_alone(self.before), strands, *_alone(sums), *_alone(others)]

    @property
    def waits(self) -> list[int]:
        """Of each of these stages, how many have to be done when it begins: the sums do not wait for each other."""
        first = len(self.before) + 1
        others = range(first + len(self._sums), first + len(self.after))
        return [*range(first), *[first] * len(self._sums), *others]

    def _spans(self) -> list[Span]:
        """The columns of each strand."""
        columns = made_by(self.block[0])[0].matrix_shape[1]
        return spans_of(columns, max(columns // STRAND_COLUMNS, 2))


def _alone(stages: Sequence[Stage]) -> list[list[Strand]]:
    """Stages one after the other."""
    return [each_alone([piece for part in parts_of(stage) for piece in pieces_of(part)]) for stage in stages]


def _suits_few_columns(product: Product) -> bool:
    """Whether it is not a large one of BLAS, which copies an operand each time."""
    is_small = operations(product) < FEWEST_OPERATIONS or not is_call(product)
    return is_small or is_blocked(product) or vector_of(product) is not None


class ColumnBlocks(ByColumns):
    """An order in which an input that is read for two products is read once, in blocks of columns."""

    def __init__(self, plan: Plan) -> None:
        columns = _with_columns(plan.graph)
        super().__init__(plan, columns, _read_twice(plan, columns))
        self.columns = 0 if self.twice is None else self.twice.matrix_shape[1]

    @property
    def are_several(self) -> bool:
        """Whether an input is read twice, and does not stay in the cache meanwhile."""
        return self.twice is not None and self._width() < self.columns

    def suits(self, memory: Memory) -> bool:
        """Whether this order is worth having, and sums that the blocks add to have buffers to themselves."""
        products = [stage for stage in self.block if isinstance(stage, Product)]
        sums = [stage for stage in products if self._adds_up(stage)]
        if not sums or not all([is_call(stage) and stage.node in memory.outputs for stage in sums]):
            return False
        if any([stage.A.base is stage.B.base for stage in products]):  # of which one piece needs two parts
            return False
        dtypes = {node.dtype for stage in self.block for node in made_by(stage)}
        return len(dtypes) == 1 and max([stage.node.matrix_shape[0] for stage in products]) <= MOST_ROWS

    def strands(self) -> list[list[Strand]]:
        """What comes after the other in this order, block by block; each is a stage."""
        width, found = self._width(), [whole(part) for stage in self.before for part in parts_of(stage)]
        for start in range(0, self.columns, width):
            span = Span(start, min(start + width, self.columns))
            for stage in self.block:
                for part in parts_of(stage):
                    if isinstance(part, Product) and self._adds_up(part):
                        found.append(whole(part)._replace(terms=span, adds=start > 0))
                    else:
                        found.append(whole(part)._replace(columns=span))
        found += [whole(part) for stage in self.after for part in parts_of(stage)]
        return [each_alone([piece]) for piece in found]

    def _width(self) -> int:
        assert self.twice is not None
        columns = BLOCK_BYTES // (self.twice.matrix_shape[0] * self.twice.dtype.itemsize)
        return max(columns - columns % COLUMNS_AT_ONCE, COLUMNS_AT_ONCE)


def _read_twice(plan: Plan, columns: set[Node]) -> Node | None:
    """An input with a column for each example that two products read."""
    products = [stage for stage in plan.stages if isinstance(stage, Product)]
    read = [node for product in products for node in plan.reads(product)]
    twice = [x for x in plan.graph.arrays if x in columns and read.count(x) > 1]
    return twice[0] if twice else None


def _with_columns(graph: Graph) -> set[Node]:
    """The nodes that have a column for each example."""
    found: set[Node] = {x for x in graph.arrays if x.per_example}
    for node in graph.nodes:
        if node.operation == "partial_sums" or (isinstance(node, Reduction) and node.axis != 0):
            continue
        sources = list(node.nodes)
        if node.operation == "matmul":
            left, *sources = sources
            if left.base in found:
                continue
        single = [] if node.operation == "matmul" else [V for V in sources if V.matrix_shape[1] == 1]
        along, others = [V for V in sources if V in found], [V for V in sources if V not in found]
        if along and all([V in single and V.operation != "transpose" for V in others]):
            found.add(node)
    return found


def _one_by_one(stage: Stage) -> Iterator[Stage]:
    return iter([stage]) if isinstance(stage, Product) else (Loops([loop]) for loop in stage.loops)
