"""Rewrites of a graph into what targets compute fast. Values stay the same, up to rounding where a rewrite says so."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from nnarray.programs.graph import Graph, Node, Reduction, Scalar, copy, ones, transpose


def sums_over_columns_as_products(graph: Graph) -> Graph:
    """Σ_columns V as V times a column of ones: BLAS takes 0.2 to 0.7 of NumPy's time, and adds in another order."""
    columns = dict[object, Node]()

    def rewrite(_: Node, node: Node) -> Node:
        if not (isinstance(node, Reduction) and node.operation == "sum" and node.axis == 1 and node.keepdims):
            return node
        [V] = node.nodes
        column = columns.setdefault((V.shape[1], V.dtype), ones((V.shape[1], 1), V.dtype))
        return Node("matmul", (V, column), node.shape, node.dtype)

    return graph.rewritten(rewrite)


def divisions_by_numbers_as_products(graph: Graph) -> Graph:
    """V / c as V (1/c), which a product can take in (`scaled_products`), and which rounds once more."""

    def rewrite(_: Node, node: Node) -> Node:
        if node.operation != "divide" or isinstance(c := node.sources[1], Node) or c == 0:
            return node
        V = node.sources[0]
        inverse = Scalar("divide", (1.0, c)) if isinstance(c, Scalar) else 1.0 / c
        return replace(node, operation="multiply", sources=(V, inverse))

    return graph.rewritten(rewrite)


def scaled_products(graph: Graph) -> Graph:
    """c (A B), where nothing else reads A B, as one product with c for its third source."""
    readers = Counter(source for node in graph.nodes for source in node.reads)
    readers.update(node.base for node in graph.outputs.values())

    def rewrite(was: Node, node: Node) -> Node:
        if node.operation != "multiply" or not isinstance(c := node.sources[1], Scalar | float):
            return node
        product, V = was.sources[0], node.sources[0]
        if not isinstance(product, Node) or product.operation != "matmul" or readers[product] > 1:
            return node
        assert isinstance(V, Node)
        return replace(V, sources=(*V.sources, c))

    return graph.rewritten(rewrite).needed()


def sums_over_all_in_parts(graph: Graph, parts_of: Callable[[int], int]) -> Graph:
    """Sums over all entries in two stages: partial sums, whose number depends on the size, then their sum."""

    def rewrite(_: Node, node: Node) -> Node:
        if not (isinstance(node, Reduction) and node.operation == "sum" and node.shape == () and node.axis is None):
            return node
        [V] = node.nodes
        rows, columns = V.matrix_shape
        parts = Node("partial_sums", (V,), (parts_of(rows * columns), 1), V.dtype)
        return Reduction("sum", (parts,), node.shape, node.dtype, 0, True)

    return graph.rewritten(rewrite)


def outputs_of_their_own(graph: Graph) -> Graph:
    """Outputs that alias an input, a view or another output become copies."""
    outputs = dict[str, Node]()
    for name, node in graph.outputs.items():
        outputs[name] = copy(node) if node.is_view or node in outputs.values() else node
    copies = [node for node in outputs.values() if node not in graph.outputs.values()]
    return replace(graph, nodes=(*graph.nodes, *copies), outputs=outputs)


def narrow_operands(graph: Graph) -> Graph:
    """What products read is stored in the narrower float.

    What loops make for them is stored so at once; of outputs, other products and inputs that are not narrow themselves
    there are copies.
    """
    narrow, copies, outputs = set(graph.narrow), dict[Node, Node](), set(graph.outputs.values())

    def narrowed(was: Node, operand: Node) -> Node:
        base = operand.base
        is_whole = base.is_view or base.operation == "matmul" or was.base in outputs
        if is_whole and base not in graph.narrow:
            base = copies.setdefault(base, copy(base))
        narrow.add(base)
        return base if operand.base is operand else transpose(base)

    def rewrite(was: Node, node: Node) -> Node:
        if node.operation != "matmul":
            return node
        operands = tuple(map(narrowed, was.nodes, node.nodes))
        return Node("matmul", operands, node.shape, node.dtype)

    rewritten = graph.rewritten(rewrite)
    return replace(rewritten, narrow=frozenset(narrow))


def narrow_products(graph: Graph) -> Graph:
    """Products are stored in the narrower float if all that is computed from them is stored so: Z and dA, but not Z[L].

    A sum over columns of what is stored so, such as db, does not count: it rounds no more than the dW beside it.
    """
    wide = {node.base for node in graph.outputs.values()}
    for node in reversed(graph.nodes):
        if node in wide and node not in graph.narrow:
            wide.update(node.reads)
    products = [node for node in graph.nodes if node.operation == "matmul" and node not in wide]
    return replace(graph, narrow=graph.narrow.union(products))
