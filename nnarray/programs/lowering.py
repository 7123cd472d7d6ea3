"""Rewrites of a graph into what targets compute fast. Values stay the same, up to rounding where a rewrite says so."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from nnarray.programs.graph import ELEMENTWISE, Graph, Input, Node, Rectified, Reduction, Scalar, copy, ones, transpose


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
    readers = _readers(graph)

    def rewrite(was: Node, node: Node) -> Node:
        if node.operation != "multiply" or not isinstance(c := node.sources[1], Scalar | float):
            return node
        product, V = was.sources[0], node.sources[0]
        if not isinstance(product, Node) or product.operation != "matmul" or readers[product] > 1:
            return node
        assert isinstance(V, Node)
        return replace(V, sources=(*V.sources, c))

    return graph.rewritten(rewrite).needed()


def rectified_products(graph: Graph) -> Graph:
    """max(A B + b, 0), where it is stored and nothing else reads what it is made of, as one product.

    It is stored if the caller or a product reads it.
    """
    readers = _readers(graph)
    stored = {node.base for node in graph.outputs.values()}
    stored.update(base for node in graph.nodes if node.operation == "matmul" for base in node.reads)

    def rewrite(was: Node, node: Node) -> Node:
        if was not in stored or was.operation != "maximum" or 0.0 not in was.sources or len(was.nodes) != 1:
            return node
        [sum_], [made] = was.nodes, node.nodes
        if not _is_product_and_column(sum_) or readers[sum_] > 1 or readers[sum_.nodes[0]] > 1:
            return node
        product, b = made.nodes
        return Rectified("matmul", (*product.sources, b), was.shape, was.dtype)

    return graph.rewritten(rewrite).needed()


def _is_product_and_column(node: Node) -> bool:
    if node.operation != "add" or len(node.nodes) != 2:
        return False
    product, b = node.nodes
    return product.operation == "matmul" and b.base is b and b.matrix_shape == (product.matrix_shape[0], 1)


def _readers(graph: Graph) -> Counter[Node]:
    """How often each node is read, by the caller, too."""
    readers = Counter(source for node in graph.nodes for source in node.reads)
    readers.update(node.base for node in graph.outputs.values())
    return readers


def products_without_zero(graph: Graph) -> Graph:
    """A B + 0 as A B, up to the sign of a zero: a normalised layer has no b."""

    def rewrite(_: Node, node: Node) -> Node:
        if node.operation != "add" or isinstance(node.sources[1], Node | Scalar) or node.sources[1] != 0:
            return node
        [V] = node.nodes
        return V if V.operation == "matmul" else node

    return graph.rewritten(rewrite)


def entries_at_once(graph: Graph) -> Graph:
    """What is computed entry by entry, right after what it is made of, whenever it was asked for.

    So the loops of a layer follow its products: they meet no other layer's, and are the same for all of them.
    """
    at = dict[Node, int]()
    for i, node in enumerate(graph.nodes):
        made = [at[base] for base in node.reads if base in at]
        at[node] = max(made, default=-1) if node.operation in ELEMENTWISE else i
    return replace(graph, nodes=tuple(sorted(graph.nodes, key=at.__getitem__)))


def sums_over_all_in_parts(graph: Graph, parts_of: Callable[[int], int]) -> Graph:
    """Sums over all entries in two stages: partial sums, whose number depends on the size, then their sum.

    Where there is one part, it is the sum.
    """

    def rewrite(_: Node, node: Node) -> Node:
        if not (isinstance(node, Reduction) and node.operation == "sum" and node.shape == () and node.axis is None):
            return node
        [V] = node.nodes
        rows, columns = V.matrix_shape
        count = parts_of(rows * columns)
        parts = Node("partial_sums", (V,), (count, 1) if count > 1 else node.shape, V.dtype)
        return parts if count == 1 else Reduction("sum", (parts,), node.shape, node.dtype, 0, True)

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
        is_product = base.operation == "matmul" and not isinstance(base, Rectified)
        is_whole = base.is_view or is_product or was.base in outputs
        if is_whole and base not in graph.narrow:
            base = copies.setdefault(base, copy(base))
        narrow.add(base)
        return base if operand.base is operand else transpose(base)

    def rewrite(was: Node, node: Node) -> Node:
        if node.operation != "matmul":
            return node
        operands = map(narrowed, was.nodes[:2], node.nodes[:2])
        return replace(node, sources=(*operands, *node.sources[2:]))

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


def narrow_biases(graph: Graph) -> Graph:
    """A product that rectifies reads its b in the float in which it stores: narrow b are copies."""
    copies = dict[Node, Node]()

    def rewrite(was: Node, node: Node) -> Node:
        if not isinstance(node, Rectified) or was not in graph.narrow:
            return node
        A, B, b = node.nodes
        return replace(node, sources=(A, B, copies.setdefault(b, copy(b))))

    rewritten = graph.rewritten(rewrite)
    return replace(rewritten, narrow=rewritten.narrow.union(copies.values()))


def narrow_inputs_first(graph: Graph) -> Graph:
    """Narrow copies of what the caller gives are made before all else, in one loop's time."""

    def is_later(node: Node) -> bool:
        return node.operation != "copy" or node not in graph.narrow or not isinstance(node.nodes[0], Input)

    return replace(graph, nodes=tuple(sorted(graph.nodes, key=is_later)))
