"""A graph as the kernels and products of a GPU."""

from nnarray.programs.graph import Graph, Node, Reduction
from nnarray.programs.lowering import (
    narrow_biases,
    narrow_inputs_first,
    narrow_operands,
    narrow_products,
    outputs_of_their_own,
    rectified_products,
    sums_over_all_in_parts,
    sums_over_columns_as_products,
)
from nnarray.programs.registers import Registers, columns_in_registers
from nnarray.programs.schedule import Limits, Plan
from nnarray.programs.targets.cuda.loops import THREADS, WARP
from nnarray.programs.targets.cuda.registers import FEW, SHARED, TALLEST

LIMITS = Limits(chain=64, nodes=32)
"""Registers are few, and a kernel's parameters have to fit into the 4096 bytes that every driver takes."""

NARROW = {"bfloat16", "float16"}


def planned(graph: Graph, operands: str | None, *, in_registers: bool = True, rectifies: bool = False) -> Plan:
    """The kernels and products of a program."""
    made = lowered(graph, narrow=operands in NARROW, in_registers=in_registers, rectifies=rectifies)
    return Plan(made, LIMITS)


def lowered(graph: Graph, *, narrow: bool, in_registers: bool = True, rectifies: bool = False) -> Graph:
    """The graph as a GPU computes it; one with cuBLASLt `rectifies` in products.

    Raises ValueError for what no kernel does: see `_is_known`.
    """
    if in_registers:
        graph = by_blocks(graph) or columns_in_registers(graph, room_of(graph.dtype.itemsize), parts_of_columns)
    graph = outputs_of_their_own(sums_over_all_in_parts(sums_over_columns_as_products(graph), few_or_many))
    for node in graph.nodes:
        if not _is_known(node):
            msg = f"{node.operation} of arrays of the shapes {[source.shape for source in node.nodes]} cannot be fused"
            raise ValueError(msg)
    graph = rectified_products(graph) if rectifies else graph
    return narrow_inputs_first(narrow_biases(narrow_products(narrow_operands(graph)))) if narrow else graph


def room_of(itemsize: int) -> Registers:
    """The registers that a lane has for columns and their sums; a float64 takes two.

    So five layers of 16 units are one kernel. Of seven, NVIDIA's compiler spills up to 184 bytes, of nine 632.
    """
    many, sums, products = (n * 4 // itemsize for n in (TALLEST, 96, 80))
    return Registers(few=FEW, many=many, lanes=WARP, sums=sums, products=products, shared=SHARED)


BLOCKS = 256
"""Parts of sums over tall columns, each the work of one block: two for each multiprocessor of an H200."""


def by_blocks(graph: Graph) -> Graph | None:
    """The graph of one layer whose blocks read each tall column of X once, for Z and for dW; None for any other.

    So X is read once, and BLOCKS parts of dW are written and read. With fewer columns than four for each part they
    would be half of what is saved, and of 12 288 rows a cache of 50 MB holds X for its second reading. Of the 128
    registers that a thread has, 48 may be entries of dW of one unit, 40 of several or in float64, beyond which NVIDIA's
    compiler spills. So ten units have no room: of TALLEST rows a thread would hold 5 entries, and 50 of dW.
    """
    tall = [x for x in graph.arrays if x.per_example and x.shape[0] > TALLEST and x.shape[1] >= 4 * BLOCKS]
    if not tall:
        return None
    units = [x.shape[0] for x in graph.arrays if not x.per_example and x.shape[-1] == tall[0].shape[0]]
    most = 48 if (units, graph.dtype.itemsize) == ([1], 4) else 40 * 4 // graph.dtype.itemsize
    room = Registers(few=FEW, many=most * THREADS, lanes=THREADS, sums=2 * most, products=80, shared=2**16)
    found = columns_in_registers(graph, room, lambda columns: min(columns, BLOCKS))
    operations = {node.operation for node in found.nodes}
    columns = [node for node in found.nodes if node.matrix_shape[1] == tall[0].shape[1]]
    is_one_layer = "outer_sums" in operations and "matmul" not in operations
    return found if is_one_layer and all([node.matrix_shape[0] <= FEW for node in columns]) else None


def parts_of_columns(columns: int) -> int:
    """Parts of sums over columns, each the work of one warp, which has several columns where there are many."""
    return min(columns, max(128, min(columns // 4, 2048)))


def few_or_many(entries: int) -> int:
    """Partial sums, each the work of one warp: many for a large array."""
    return 1024 if entries >= 2**15 else 32


def _is_known(node: Node) -> bool:
    """Loops read no transposed array, and reduce nothing but the columns of a matrix."""
    if node.operation in {"matmul", "matvec"}:
        return True
    if isinstance(node, Reduction) and (node.axis != 0 or len(node.nodes[0].shape) != 2):
        return False
    return "transpose" not in [source.operation for source in node.nodes]
