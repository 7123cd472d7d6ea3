"""A graph as a plan: products of matrices, and between them loops, each fused from what can be computed together.

A node is stored where a product or the caller reads it; any other is computed in registers, by each loop that needs it,
from what is stored.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import NamedTuple

from nnarray.programs.graph import Graph, Input, Node, Partial, Rectified, Scalar


class Limits(NamedTuple):
    """What a target can hold."""

    chain: int
    """operations that follow from one another in registers; the last one's node is stored"""
    nodes: int
    """that loops which run together may store"""
    order: str | None = None
    """"F" or "C", in which all is stored; None: as what it is made of"""


class Product(NamedTuple):
    """node = scale A B, where A and B may be transposed; with a bias b, max(A B + b, 0)."""

    node: Node
    A: Node
    B: Node
    scale: Scalar | float = 1.0

    @property
    def bias(self) -> Node | None:
        """The b of a product that rectifies."""
        return self.node.nodes[2] if isinstance(self.node, Rectified) else None


class Loop(NamedTuple):
    """Nodes that are computed and stored together."""

    kind: str
    """"entries", each by itself; "columns", with sums or maxima over the rows of each; "sums", partial ones; or
    "registers", columns of which each is held there, with all that is made of it, also partial sums over columns"""
    shape: tuple[int, int]
    """rows and columns of what is gone over"""
    order: str
    """"F" or "C", in which the entries are gone over"""
    nodes: list[Node]


class Loops(NamedTuple):
    """Independent loops, which may run together."""

    loops: list[Loop]

    @property
    def nodes(self) -> list[Node]:
        """What they store."""
        return [node for loop in self.loops for node in loop.nodes]


Stage = Product | Loops


class Plan:
    """The stages that make the graph's outputs, in their order."""

    def __init__(self, graph: Graph, limits: Limits) -> None:
        self.graph, self.limits = graph, limits
        self._nodes = frozenset(graph.nodes)
        self._orders: dict[Node, str] = {}
        self._ends: set[Node] = set()
        """of chains that were cut; each has a loop to itself"""
        for node in graph.nodes:  # from the first on, so that none is far from one whose order is known
            self.order(node)
        self._in_registers = self._by_whole_columns()
        self.stored = self._stored()
        self.stages = list(self._stages())

    def with_stages(self, stages: Sequence[Stage]) -> "Plan":
        """The same stages in another order."""
        plan = copy(self)
        plan.stages = list(stages)
        return plan

    @property
    def works_in_place(self) -> bool:
        """Whether each output may lie in the memory of the input that the graph would like it written over."""
        return all([self._may_overwrite(name, overwritten) for name, overwritten in self.graph.over.items()])

    def is_loaded(self, node: Node, inside: Sequence[Node]) -> bool:
        """Whether a loop that stores the nodes `inside` loads this one from memory."""
        return node not in self._nodes or (node in self.stored and node not in inside)

    def leaves(self, node: Node, inside: Sequence[Node]) -> list[Node]:
        """What a loop that stores the nodes `inside` loads for this one of them."""
        found, seen = dict[Node, None](), {node}

        def look_below(node: Node) -> None:
            for source in node.reads:
                if self.is_loaded(source, inside):
                    found[source] = None
                elif source not in seen:
                    seen.add(source)
                    look_below(source)

        look_below(node)
        return list(found)

    def reductions(self, node: Node, inside: Sequence[Node]) -> list[Node]:
        """The sums and maxima over rows that such a loop computes for this node, each after those that it needs."""
        found, seen = list[Node](), set[Node]()

        def look_below(node: Node) -> None:
            if node in seen or self.is_loaded(node, inside):
                return
            seen.add(node)
            for source in node.reads:
                look_below(source)
            if node.is_reduction:
                found.append(node)

        look_below(node)
        return found

    def order(self, node: Node) -> str:
        """The memory order of a node: a product's is that of its right operand, any other's that of its sources."""
        if node not in self._orders:
            self._orders[node] = self._found_order(node)
        return self._orders[node]

    def reads(self, stage: Stage) -> list[Node]:
        """The nodes that the stage loads."""
        if isinstance(stage, Product):
            return list(stage.node.reads)
        return [leaf for loop in stage.loops for leaf in self._reads(loop)]

    def computes(self, node: Node, operation: str) -> bool:
        """Whether a loop that stores the node alone computes such an operation for it."""
        return operation in [found.operation for found in self._computed(node)]

    def _computed(self, node: Node) -> list[Node]:
        found = {node: None}
        for below in (todo := [node]):
            new = [s for s in below.reads if s not in found and not self.is_loaded(s, [node])]
            found.update(dict.fromkeys(new))
            todo += new
        return list(found)

    def _reads(self, loop: Loop) -> list[Node]:
        leaves = [leaf for node in loop.nodes for leaf in self.leaves(node, loop.nodes)]
        return list(dict.fromkeys(leaves)) if loop.kind == "registers" else leaves

    def _found_order(self, node: Node) -> str:
        if isinstance(node, Input):
            return node.order
        if self.limits.order and node.operation != "transpose":
            return self.limits.order
        if node.operation in {"ones", "transpose"}:
            return "C" if node.operation == "transpose" and self.order(node.base) == "F" else "F"
        if node.operation in {"matmul", "matvec"}:
            return self._order_beside(node.nodes[1])
        if isinstance(node, Partial) or node.operation == "total":
            return "C"
        alike = [base for base in node.reads if base.shape == node.shape]
        return "C" if "C" in [self.order(base) for base in alike] else "F"

    def _order_beside(self, right: Node) -> str:
        """The order of a product with this right operand; one with narrowed examples is as if these were by columns."""
        base = right.base
        if base in self.graph.narrow and base.operation == "copy" and isinstance(base.nodes[0], Input):
            return "F" if right is base else "C"
        return self.order(right)

    def _stored(self) -> set[Node]:
        """What products and sums make, what they and the caller read, but what a sum can compute as it goes.

        And what would be the end of too long a chain.
        """
        by_columns, stored = self._followers("sum", "max", "matvec"), set(self.graph.outputs.values())
        with_columns = self._followers("matvec")
        for node in self.graph.nodes:
            made = [base for base in node.reads if base in self._nodes]
            if is_in_memory(node):
                stored.add(node)
            if node.operation in {"matmul", "partial_sums"}:
                stored.update(base for base in made if node.operation == "matmul" or base in by_columns)
            if node in self._in_registers or node in with_columns:  # which add up no parts
                stored.update(base for base in made if base in by_columns and base not in self._in_registers)
        depths: dict[Node, int] = {}
        for node in self.graph.nodes:
            if node in self._in_registers:
                continue
            computed = [depths[base] for base in node.reads if base in depths and base not in stored]
            depths[node] = 1 + max(computed, default=0)
            if depths[node] == self.limits.chain:
                self._ends.add(node)
                stored.add(node)
        return stored

    def _followers(self, *operations: str) -> set[Node]:
        """The nodes into which such operations enter as they are computed; asked before it is known what is stored."""
        found: set[Node] = set()
        for node in self.graph.nodes:
            if not is_in_memory(node) and (node.operation in operations or not found.isdisjoint(node.reads)):
                found.add(node)
        return found

    def _by_whole_columns(self) -> set[Node]:
        """What loops over columns in registers make: products and sums there, and what lies before and behind them.

        Between two products of BLAS, that is: what these make is loaded.
        """
        level = dict[Node, int]()
        for node in self.graph.nodes:
            level[node] = max([level.get(s, 0) + ends_a_loop(s) for s in node.reads], default=0)

        def alike(node: Node) -> list[Node]:
            """The sources that such a loop computes, too."""
            columns = node.nodes[0].matrix_shape[1] if isinstance(node, Partial) else node.matrix_shape[1]
            near = [s for s in node.reads if level.get(s) == level[node] and not ends_a_loop(s)]
            return [s for s in near if s.matrix_shape[1] == columns]

        found = {node for node in self.graph.nodes if node.operation == "matvec" or isinstance(node, Partial)}
        for node in reversed(self.graph.nodes):
            if node in found:
                found.update(alike(node))
        for node in self.graph.nodes:
            if not ends_a_loop(node) and not found.isdisjoint(alike(node)):
                found.add(node)
        return found

    def _stages(self) -> Iterator[Stage]:
        """Products in the order in which they were asked for, each after loops that store what it needs."""
        done: set[Node] = set()
        waiting: list[Node] = []
        for node in self.graph.nodes:
            if node.operation == "matmul":
                while any([source in waiting for source in node.reads]):
                    yield self._loops(waiting, done)
                done.add(node)
                A, B = node.nodes[:2]
                scales = [s for s in node.sources if not isinstance(s, Node)]
                yield Product(node, A, B, *scales)
            elif node in self.stored and node not in done:
                waiting.append(node)
                if len(waiting) == self.limits.nodes:
                    yield self._loops(waiting, done)
        while waiting:
            yield self._loops(waiting, done)

    def _loops(self, waiting: list[Node], done: set[Node]) -> Loops:
        """The loops of all that can be computed now, which is pending no longer."""
        loops: dict[object, Loop] = {}
        begun = not self._in_registers.isdisjoint(waiting)
        ahead = [node for node in self.graph.nodes if node in self._in_registers] if begun else []
        for node in dict.fromkeys([*waiting, *[node for node in ahead if node in self.stored and node not in done]]):
            if sum(len(loop.nodes) for loop in loops.values()) == self.limits.nodes:
                break
            key, loop = self._loop_for(node)
            loop = loops.get(key, loop)
            together = [*loop.nodes, node]
            if all([leaf in done or leaf not in self._nodes for leaf in self.leaves(node, together)]):
                loop.nodes.append(node)
                loops[key] = loop
        if not loops:
            msg = "none of the nodes that wait can be computed"
            raise RuntimeError(msg)
        stage = Loops(list(loops.values()))
        done.update(stage.nodes)
        waiting[:] = [node for node in waiting if node not in done]
        return stage

    def _loop_for(self, node: Node) -> tuple[object, Loop]:
        """An empty loop of the node's kind, and the key that nodes fused into it share."""
        shape, order = node.matrix_shape, self.order(node)
        if node.operation == "partial_sums":
            [V] = node.nodes
            return node, Loop("sums", V.matrix_shape, self.order(V), [])
        if node in self._in_registers or self.computes(node, "matvec"):
            columns = node.nodes[0].matrix_shape[1] if isinstance(node, Partial) else shape[1]
            return ("registers", columns), Loop("registers", (1, columns), "F", [])
        alone = node if node in self._ends else None
        if self.reductions(node, [node]):
            return (alone, "columns", shape[1]), Loop("columns", shape, "F", [])
        return (alone, shape, order), Loop("entries", shape, order, [])

    def _may_overwrite(self, name: str, overwritten: Node) -> bool:
        """Whether nothing reads the input after the output is stored, but each entry the one at its own place."""
        node = self.graph.outputs[name]
        at = [node in made_by(stage) for stage in self.stages].index(True)
        stage = self.stages[at]
        if isinstance(stage, Product) or any([overwritten in self.reads(later) for later in self.stages[at + 1 :]]):
            return False
        readers = [loop for loop in stage.loops for n in loop.nodes if overwritten in self.leaves(n, loop.nodes)]
        return all([loop.kind == "entries" and node in loop.nodes for loop in readers]) and (
            node.shape == overwritten.shape
        )


def made_by(stage: Stage) -> list[Node]:
    """What a stage stores."""
    return [stage.node] if isinstance(stage, Product) else stage.nodes


def is_in_memory(node: Node) -> bool:
    """Whether the node is stored whoever reads it: products of BLAS, partial sums, totals of them."""
    return isinstance(node, Partial) or node.operation in {"matmul", "partial_sums", "total"}


def ends_a_loop(node: Node) -> bool:
    """Whether what reads the node is computed in a later loop: it is in memory, or a sum of parts."""
    return is_in_memory(node) or (node.is_reduction and isinstance(node.nodes[0], Partial))
