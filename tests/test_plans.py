"""Plans over drawn graphs: every target computes what the graph says, whatever is fused and wherever it is stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import reference_target
from conftest import problem
from host_device import COMPILER, HostDevice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnarray.backends.cblas import cblas
from nnarray.core import batch_norm
from nnarray.core.primitives import bind
from nnarray.engine import equations
from nnarray.engine.batch import Tile
from nnarray.engine.compiling import Given, inputs_of, traced
from nnarray.programs import lowering
from nnarray.programs.graph import Graph, Node, Rectified, Reduction
from nnarray.programs.memory import Memory
from nnarray.programs.schedule import Limits, Plan, Product
from nnarray.programs.targets import numpy_calls
from nnarray.programs.targets.cuda import planning
from nnarray.programs.targets.cuda import program as cuda
from nnarray.programs.targets.llvm import columns, pieces, products
from nnarray.programs.targets.llvm import program as llvm
from nnarray.programs.trace import Trace

LIMITS = [Limits(1, 1), Limits(2, 3), Limits(64, 32)]
UNARY = ("abs", "exp_", "tanh", "negative", "sqrt_")
BINARY = ("add", "subtract", "multiply", "maximum", "greater")


def evaluate(graph: Graph, given: dict[str, Any]) -> dict[str, Any]:
    """The outputs, node by node in NumPy: nothing is lowered, fused or stored over anything else."""
    known: dict[Any, Any] = {x: given[x.name] for x in graph.arrays}

    def value(source: Any) -> Any:
        if not isinstance(source, Node):
            return source
        if source.operation == "transpose":
            return value(source.nodes[0]).T
        if source.operation == "ones":
            return np.ones(source.shape, source.dtype)
        if source not in known:
            known[source] = compute(source)
        return known[source]

    def compute(node: Node) -> Any:
        sources = [value(source) for source in node.sources]
        if isinstance(node, Reduction):
            return getattr(np, node.operation)(*sources, axis=node.axis, keepdims=node.keepdims)
        if node.operation == "copy":
            return sources[0].astype(node.dtype)
        return getattr(np, node.operation)(*sources).astype(node.dtype)

    return {name: value(node) for name, node in graph.outputs.items()}


@st.composite
def graphs(draw: Any, *, examples: int = 0) -> tuple[Graph, list[np.ndarray]]:
    """A graph of up to 14 operations on up to three matrices, with up to four outputs, and its inputs.

    If it has `examples`, the first matrix has a column for each, and among the operations are layers of a network.
    """
    trace, sides = Trace("float64"), st.integers(1, 4)
    n = draw(st.integers(1, 3))
    shapes = [(draw(sides), draw(sides)) for _ in range(n)]
    if examples:
        shapes = [(rows, examples if columns < 3 else columns) for rows, columns in [(shapes[0][0], 1), *shapes[1:]]]
    count = shapes[0][1]
    values = [
        trace.input(f"V{i}", shape, per_example=shape[1] == count and (i < bool(examples) or draw(st.booleans())))
        for i, shape in enumerate(shapes)
    ]
    for _ in range(draw(st.integers(1, 14))):
        V, kind = draw(st.sampled_from(values)), draw(st.integers(0, 8 if examples else 5))
        alike = [W for W in values if W.shape == V.shape or (1 in W.shape and _broadcast(W.shape, V.shape) == V.shape)]
        if kind == 0:
            name = draw(st.sampled_from(UNARY))
            x = trace.abs(V) * -1.0 if name == "exp_" else trace.abs(V) if name == "sqrt_" else V
            values.append(getattr(trace, name.rstrip("_"))(x))
        elif kind == 1:
            made = trace.elementwise(draw(st.sampled_from(BINARY)), V, draw(st.sampled_from(alike)))
            values.append(trace.astype(made, "float64") if made.dtype == bool else made)
        elif kind == 2:
            values.append(V * draw(st.sampled_from([0.5, 2.0, -1.5])) + 0.25)
        elif kind == 3:
            W = draw(st.sampled_from(values))
            if V.shape[1] == W.shape[0]:
                values.append(V @ W * 0.25)
            elif V.shape == W.shape:
                values.append((V @ W.T if draw(st.booleans()) else V.T @ W) * 0.25)
        elif kind == 4:
            axis = draw(st.sampled_from([0, 1]))
            reduce = trace.sum if axis == 1 or draw(st.booleans()) else trace.max
            values.append(reduce(V, axis=axis, keepdims=True))
        elif kind == 5:
            values.append(V * 0.1 + trace.sum(V) * 0.01)
        else:
            shapes.append((draw(sides), values[-1].shape[0]))
            values.append(trace.input(f"V{len(shapes) - 1}", shapes[-1]) @ values[-1] * 0.25)
    chosen = [values[-1], *(draw(st.sampled_from(values)) for _ in range(draw(st.integers(0, 3))))]
    result = trace.sum(draw(st.sampled_from(values)))
    graph = trace.graph({f"out{i}": V for i, V in enumerate(chosen)}, result=result)
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    return graph, [generator.normal(size=shape) for shape in shapes]


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(one, other)
    except ValueError:
        return None


def check(program: Any, graph: Graph, inputs: list[np.ndarray]) -> None:
    expected = evaluate(graph, {x.name: V for x, V in zip(graph.arrays, inputs, strict=True)})
    before = [V.copy() for V in inputs]
    made = {name: np.full(V.shape, np.nan) for name, V in expected.items() if name != graph.result}
    result = program(*inputs, *made.values())
    for name, V in made.items():
        np.testing.assert_allclose(V, expected[name], rtol=1e-11, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(result, expected[graph.result], rtol=1e-11, atol=1e-11)
    for V, was in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(V, was)


drawn = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@drawn
@given(graphs())
def test_the_reference_target(limits, case) -> None:
    graph, inputs = case
    check(reference_target.Program(planning.lowered(graph, narrow=False), limits), graph, inputs)


@drawn
@given(graphs())
def test_numpy_calls(case) -> None:
    graph, inputs = case
    check(numpy_calls.Program(graph), graph, inputs)


@drawn
@given(graphs())
def test_machine_code(case) -> None:
    graph, inputs = case
    check(llvm.Program(graph, cblas()), graph, inputs)


@contextmanager
def cut_finely(block_bytes: int, *, in_strands: bool = False) -> Iterator[None]:
    """Programs are cut as finely as can be, and BLAS is called for small products, too.

    In strands, too, although none of the products is large.
    """
    fine = {
        "MOST_PIECES": 4,
        "MOST_COPIES": 4,
        "MULTIPLE": 1,
        "PIECE_OPERATIONS": 1,
        "PIECE_ENTRIES": 1,
        "WORTH_SHARING": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fine.items():
            patch.setattr(pieces, name, value)
        for name, value in {"BLOCK_BYTES": block_bytes, "COLUMNS_AT_ONCE": 1, "STRAND_COLUMNS": 1}.items():
            patch.setattr(columns, name, value)
        if in_strands:
            patch.setattr(columns, "is_blocked", lambda _: True)
        for name in ("FEW", "SMALL"):
            patch.setattr(products, name, 0)
        yield


@pytest.mark.parametrize("block_bytes", [8, 2**20], ids=["blocks", "pieces"])
@drawn
@given(graphs())
def test_machine_code_that_is_cut_as_finely_as_can_be(block_bytes, case) -> None:
    graph, inputs = case
    with cut_finely(block_bytes):
        check(llvm.Program(graph, cblas()), graph, inputs)


@settings(drawn, suppress_health_check=list(HealthCheck))
@given(graphs(examples=9), st.randoms(use_true_random=False))
def test_strands_may_be_at_any_of_their_pieces(case, random) -> None:
    """One after the other, or in turn, as threads of any speed would be."""
    graph, inputs = case
    with cut_finely(2**20, in_strands=True):
        program = llvm.Program(graph, cblas())
        check(program, graph, inputs)
        in_turn = llvm.Program(graph, cblas())
        in_turn.parts = in_turn.parts._replace(stages=list(_interleaved(in_turn.parts.stages, random)))
        check(in_turn, graph, inputs)


def _interleaved(stages: Any, random: Any) -> Iterator[Any]:
    """Stages of one piece each."""
    for strands in stages:
        left = [list(strand) for strand in strands]
        while left := [strand for strand in left if strand]:
            yield [[random.choice(left).pop(0)]]


def test_a_product_of_examples_with_each_other_waits_for_all_blocks() -> None:
    trace = Trace("float64")
    X = trace.input("X", (1, 3), per_example=True)
    V = X + X
    total = trace.sum(V.T @ X * 0.5)
    with cut_finely(8):
        graph = trace.graph({"moment": X @ (X * 0.5 + 0.25).T, "V": V}, result=total)
        program = llvm.Program(graph, cblas())
        assert len(program.parts.stages) > len(program.plan.stages)
        check(program, graph, [np.asarray([[1.0, 2.0, 4.0]])])


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_cuda(case) -> None:
    graph, inputs = case
    check(cuda.Program(graph, device=HostDevice()), graph, inputs)


@drawn
@given(graphs(), st.sampled_from(LIMITS))
def test_nothing_is_stored_over_what_is_still_read(case, limits) -> None:
    """The places of the nodes that live at the same time do not overlap, but for a loop that works in place."""
    plan = Plan(planning.lowered(case[0], narrow=False), limits)
    memory = Memory(plan)
    written = {node: i for i, stage in enumerate(plan.stages) for node in _made(stage)}
    last_read = {node: i for i, stage in enumerate(plan.stages) for node in plan.reads(stage)}
    placed = [node for node in written if node in memory.offsets]
    for i, one in enumerate(placed):
        for other in placed[i + 1 :]:
            begin, end = max(written[one], written[other]), min(last_read.get(one, 0), last_read.get(other, 0))
            if begin < end:
                apart = memory.offsets[one] + memory.bytes_of(one) <= memory.offsets[other]
                assert apart or memory.offsets[other] + memory.bytes_of(other) <= memory.offsets[one]


def test_a_node_that_two_loops_read_is_not_written_over_by_one_of_them() -> None:
    trace = Trace("float64")
    V, W = trace.input("V", (3, 4)), trace.input("W", (4, 5))
    P = V @ W
    graph = trace.graph({"out": (P * 2.0) @ trace.max(P, axis=0, keepdims=True).T})
    generator = np.random.default_rng(0)
    v, w = generator.normal(size=(3, 4)), generator.normal(size=(4, 5))
    found = np.empty((3, 1))
    reference_target.Program(graph)(v, w, found)
    np.testing.assert_allclose(found, (v @ w * 2) @ (v @ w).max(axis=0)[:, None], rtol=1e-12)


def test_a_node_is_not_stored_over_one_that_it_reads_transposed() -> None:
    trace = Trace("float64")
    V = trace.input("V", (3, 3))
    P = V @ V
    made = P + P.T
    memory = Memory(Plan(trace.graph({"out": made @ V}), Limits(1, 1)))
    assert memory.offsets[P.node] != memory.offsets[made.node]


def _made(stage: Any) -> list[Node]:
    return [stage.node] if isinstance(stage, Product) else stage.nodes


def sums_over_all(graph: Graph) -> Graph:
    return lowering.sums_over_all_in_parts(graph, lambda entries: 32)


@pytest.mark.parametrize("lower", [lowering.sums_over_columns_as_products, sums_over_all])
def test_lowering_leaves_no_sum_of_its_kind(lower) -> None:
    trace = Trace("float64")
    V = trace.input("V", (3, 4))
    graph = lower(
        trace.graph({"out": trace.exp(V) + trace.sum(trace.exp(V), axis=1, keepdims=True)}, result=trace.sum(V))
    )
    left = {(node.axis, node.nodes[0].shape) for node in graph.nodes if isinstance(node, Reduction)}
    assert ((1, (3, 4)) in left) == (lower is sums_over_all)
    assert ((None, (3, 4)) in left) == (lower is lowering.sums_over_columns_as_products)


def test_a_product_plus_zero_is_the_product() -> None:
    trace = Trace("float64")
    V = trace.input("V", (3, 3))
    P = V @ V
    graph = lowering.products_without_zero(
        trace.graph({"A": trace.exp(P + 0.0), "B": P + 1.0, "C": trace.exp(V) + 0.0})
    )
    assert [node.operation for node in graph.nodes] == ["matmul", "exp", "add", "exp", "add"]
    assert graph.outputs["A"].nodes[0].operation == "matmul"


def test_one_partial_sum_is_the_sum() -> None:
    trace = Trace("float64")
    V = trace.input("V", (3, 4))
    graph = lowering.sums_over_all_in_parts(trace.graph({"out": trace.exp(V)}, result=trace.sum(V)), lambda _: 1)
    assert sorted(node.operation for node in graph.nodes) == ["exp", "partial_sums"]
    assert graph.outputs[graph.result].shape == ()


def test_what_is_asked_for_late_is_computed_with_its_product() -> None:
    trace = Trace("float64")
    V, average = trace.input("V", (3, 3)), trace.input("average", (3, 3))
    P = V @ V
    Q = trace.exp(P) @ V
    graph = trace.graph({"Q": Q, "average": 0.9 * average + 0.1 * P})
    plans = [Plan(lowered, Limits(64, 32)) for lowered in (graph, lowering.entries_at_once(graph))]
    assert [[len(_made(stage)) for stage in plan.stages] for plan in plans] == [[1, 1, 1, 1], [1, 2, 1]]


def test_a_normalised_layer_s_backward_pass_stores_both_factors_of_its_sums_in_one_loop() -> None:
    trace = Trace("float64")
    dZ, Z = trace.input("dZ", (3, 5)), trace.input("Z", (3, 5))
    of_beta, of_gamma = batch_norm.scale_and_shift_backward(trace.exp(dZ), Z, xp=trace)
    plan = Plan(llvm.lowered(trace.graph({"of_beta": of_beta, "of_gamma": of_gamma})), llvm.LIMITS)
    assert [len(_made(stage)) for stage in plan.stages] == [2, 1, 1]


RECTIFIED = {
    "0 first": (1, lambda xp, Z, b: {"A": xp.maximum(0.0, Z + b)}),
    "0 last": (1, lambda xp, Z, b: {"A": xp.maximum(Z + b, 0.0)}),
    "a factor": (1, lambda xp, Z, b: {"out": xp.maximum(Z + b, 0.0).T @ b}),
    "another number": (0, lambda xp, Z, b: {"A": xp.maximum(1.0, Z + b)}),
    "Z is wanted": (0, lambda xp, Z, b: {"A": xp.maximum(0.0, Z + b), "Z": Z}),
    "Z is read": (0, lambda xp, Z, b: {"A": xp.maximum(0.0, Z + b), "out": xp.exp(Z)}),
    "Z + b is read": (0, lambda xp, Z, b: {"A": xp.maximum(0.0, Z + b), "out": xp.exp(Z + b)}),
    "a row": (0, lambda xp, Z, b: {"A": xp.maximum(0.0, Z + b.T @ Z)}),
    "a matrix": (0, lambda xp, Z, b: {"A": xp.maximum(0.0, Z + Z * b)}),
    "not stored": (0, lambda xp, Z, b: {"out": xp.exp(xp.maximum(0.0, Z + b))}),
    "a difference": (0, lambda xp, Z, b: {"A": xp.maximum(0.0, Z - b)}),
}


@pytest.mark.parametrize(("count", "make"), RECTIFIED.values(), ids=RECTIFIED)
def test_what_one_product_rectifies(count, make) -> None:
    """max(A B + b, 0) where it is stored, and nothing else is made of its parts."""
    trace = Trace("float64")
    W, X, b = trace.input("W", (3, 4)), trace.input("X", (4, 5)), trace.input("b", (3, 1))
    graph = trace.graph(make(trace, W @ X, b))
    lowered = lowering.rectified_products(graph)
    assert sum(isinstance(node, Rectified) for node in lowered.nodes) == count
    generator = np.random.default_rng(0)
    w, x, column = (generator.normal(size=shape) for shape in ((3, 4), (4, 5), (3, 1)))
    expected = make(np, w @ x, column)
    made = {name: np.full_like(V, np.nan) for name, V in expected.items()}
    reference_target.Program(lowered)(w, x, column, *made.values())
    for name, V in made.items():
        np.testing.assert_allclose(V, expected[name], rtol=1e-12, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("lowered", [{}, {"in_registers": False, "rectifies": True}], ids=str)
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
def test_the_lecture_s_network_on_a_target_of_plain_loops(output, lowered) -> None:
    network, layers, X, Y = problem((2, 3, 4, 2), ("relu", "tanh"), output, m=5)
    tile, numbers = Tile(X, Y, np.linspace(0.5, 2, 5)[None], ()), {"m": 6.5, "l2": 0.3}
    J, expected = equations.cost_and_gradients(tile, layers, network, bind(np), **numbers)
    shape = Given(labels=True, weights=True, masks=False, numbers=(("m", False), ("l2", False)))
    graph = traced(equations.cost_and_gradients, network, 5, "float64", shape)
    made = [np.full_like(V, np.nan) for V in expected]
    program = reference_target.Program(planning.lowered(graph, narrow=False, **lowered))
    assert len([s for s in program.plan.stages if isinstance(s, Product) and s.bias]) == bool(lowered)
    found = program(*inputs_of(tile, layers, numbers), *made)
    np.testing.assert_allclose(found, J, rtol=1e-12)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
