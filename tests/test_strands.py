"""Threads that share a batch: each takes columns of its own through all stages that need no others."""

import ctypes
import sys
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from test_machine_code import program
from test_steps import same, train

import nnarray as nn
from nnarray.programs.memory import Memory
from nnarray.programs.schedule import Plan, Product
from nnarray.programs.targets.llvm import blocked, bound, columns, driver, pieces, team, training_step
from nnarray.programs.targets.llvm.columns import Strands
from nnarray.programs.targets.llvm.compiler import has_long_vectors
from nnarray.programs.targets.llvm.products import is_blocked
from nnarray.programs.targets.llvm.program import LIMITS, Program, lowered
from nnarray.programs.trace import Trace

WIDTHS = 400, 300, 200
"""Of X and of two layers."""


def two_layers(m: int, dtype: str = "float32") -> Any:
    """Z1, A1 = max(Z1, 0), Z2, back to the first layer, where dZ1 = A1 dA1, and sums over columns."""
    trace = Trace(dtype)
    n_x, n_1, n_2 = WIDTHS
    X = trace.input("X", (n_x, m), per_example=True)
    W1, W2 = trace.input("W1", (n_1, n_x)), trace.input("W2", (n_2, n_1))
    A1 = trace.maximum(W1 @ X, 0.0)
    dZ2 = (W2 @ A1) * (1.0 / m)
    dZ1 = (W2.T @ dZ2) * A1
    total = trace.sum(dZ2 * dZ2)
    return trace.graph({"dW1": dZ1 @ X.T, "dW2": dZ2 @ A1.T}, result=total)


def given(m: int, dtype: str) -> list[np.ndarray]:
    generator = np.random.default_rng(m)
    n_x, n_1, n_2 = WIDTHS
    return [generator.normal(size=shape).astype(dtype) for shape in ((n_x, m), (n_1, n_x), (n_2, n_1))]


def expected(X: np.ndarray, W1: np.ndarray, W2: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    X, W1, W2 = (V.astype("float64") for V in (X, W1, W2))
    A1 = np.maximum(W1 @ X, 0)
    dZ2 = W2 @ A1 / X.shape[1]
    return (W2.T @ dZ2 * A1) @ X.T, dZ2 @ A1.T, float(np.sum(dZ2 * dZ2))


@pytest.fixture
def products_are_large(monkeypatch) -> None:
    """On a processor without long vectors, too, where all are BLAS's."""
    monkeypatch.setattr(columns, "is_blocked", lambda _: True)


@pytest.mark.usefixtures("products_are_large")
class TestTwoLayers:
    def made(self, m: int, dtype: str = "float32") -> Program:
        return program(two_layers(m, dtype))

    def test_wait_where_sums_over_columns_begin_and_end(self) -> None:
        """The columns' stages are one, after which each dW is, and the sum of squares."""
        made = self.made(1024)
        strands, one, other, *others = made.parts.stages
        assert made.parts.waits == [0, 1, 1, 3]
        assert [len(strand) for strand in strands] == [5] * 8
        assert {strand[0].columns.length for strand in strands} == {128}
        for sums in (one, other):
            assert all(len(strand) == 1 and isinstance(strand[0].part, Product) for strand in sums)
            assert len({id(strand[0].part) for strand in sums}) == 1
        assert len(others) == 1

    def test_do_not_gather_what_is_read_before_them(self) -> None:
        """A sum over all examples that each column needs."""
        trace = Trace("float32")
        X, W, V = (
            trace.input("X", (400, 1024), per_example=True),
            trace.input("W", (300, 400)),
            trace.input("V", (3, 300)),
        )
        A = trace.maximum(W @ X, 0.0)
        assert program(trace.graph({"Z": V @ A, "dW": A @ X.T})).strands is not None
        made = program(trace.graph({"Z": V @ (A - trace.sum(X) * 1e-3), "dW": A @ X.T}))
        assert [len(strand) > 1 for stage in made.parts.stages for strand in stage].count(True) == 8
        assert made.strands is None

    def test_wait_no_more_often_where_something_is_added_to_the_sums(self) -> None:
        """As weight decay is."""
        trace = Trace("float32")
        X, W = trace.input("X", (400, 1024), per_example=True), trace.input("W", (300, 400))
        V = trace.input("V", (200, 300))
        A = trace.maximum(W @ X, 0.0)
        dZ = V @ A
        graph = trace.graph({"dW": (V.T @ dZ * A) @ X.T + W * 0.1, "dV": dZ @ A.T + V * 0.1})
        made = program(graph)
        _, one, other, *others = made.parts.stages
        assert all(isinstance(strand[0].part, Product) for strand in [*one, *other])
        assert made.parts.waits[1:3] == [1, 1]
        assert all(not isinstance(strand[0].part, Product) for stage in others for strand in stage)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("m", [200, 256, 777, 1024, 2500])
    def test_are_those_of_a_wider_float(self, m, dtype) -> None:
        arrays = given(m, dtype)
        out = [np.empty(shape, dtype) for shape in ((300, 400), (200, 300))]
        total = self.made(m, dtype)(*arrays, *out)
        *sums, wide = expected(*arrays)
        tolerance = 2e-5 if dtype == "float32" else 1e-12
        for one, other in zip(out, sums, strict=True):
            assert np.linalg.norm(one - other) < tolerance * np.linalg.norm(other)
        assert abs(total - wide) < tolerance * wide

    def test_have_room_to_pack_whatever_comes_before_them(self, monkeypatch) -> None:
        """The larger sum is BLAS's, in many pieces; those of the other one are in blocks."""
        monkeypatch.setattr(blocked, "suits", lambda stage: stage.A.matrix_shape != (300, 1024))
        for name, value in {"MANY_OPERATIONS": 1, "PIECE_OPERATIONS": 1, "MOST_COPIES": 8}.items():
            monkeypatch.setattr(pieces, name, value)
        made, arrays = self.made(1024), given(1024, "float32")
        out = [np.empty(shape, "float32") for shape in ((300, 400), (200, 300))]
        call = made.call([*arrays, *out, np.empty((), "float32")])
        _, *sums = [stage for stage in made.parts.stages if isinstance(stage[0][0].part, Product)]
        assert [is_blocked(strand[0].part) for stage in sums for strand in stage] == [False] * 8 + [True] * 8
        job = call.bound.job(call.arena.address)
        assert job.most == 16
        ends = job._words[team.ROOMS] + job.most * blocked.ROOM
        assert ends <= call.arena.memory.ctypes.data + call.arena.memory.nbytes

    def test_are_left_out_where_they_take_too_much_memory(self, monkeypatch) -> None:
        assert len(self.made(1024).parts.stages[0][0]) > 1
        monkeypatch.setattr(columns, "MOST_BYTES", 10**6)
        made = self.made(1024)
        assert {len(strand) for stage in made.parts.stages for strand in stage} == {1}
        assert made.memory.size < self.made(2048).memory.size

    @pytest.mark.parametrize(("m", "operations"), [(24, 2**27), (300, 2**20)])
    def test_are_left_out_where_products_are_shared_by_more(self, m, operations, monkeypatch) -> None:
        """By rows, where columns are few."""
        monkeypatch.setattr(pieces, "MANY_OPERATIONS", operations)
        monkeypatch.setattr(pieces, "MOST_COPIES", 8)
        made = self.made(m)
        assert {len(strand) for stage in made.parts.stages for strand in stage} == {1}
        assert max(map(len, made.parts.stages)) >= 2

    def test_find_their_own_job_while_others_make_theirs(self, monkeypatch) -> None:
        """Another thread comes in before the last line, and there is no room for both jobs."""
        monkeypatch.setattr(bound, "MOST_JOBS", 1)
        out = [np.empty(shape, "float32") for shape in ((300, 400), (200, 300))]
        of_arrays = self.made(1024).call([*given(1024, "float32"), *out, np.empty((), "float32")]).bound

        def of_another(frame: Any, *_: Any) -> Any:
            if frame.f_code is bound.Bound.job.__code__ and 4096 in of_arrays._jobs:
                of_arrays.job(8192)
            return of_another

        before = sys.gettrace()
        sys.settrace(of_another)
        try:
            found = of_arrays.job(4096)
        finally:
            sys.settrace(before)
        assert found.most == max(8, sum(map(len, of_arrays._parts.stages[1:3])))

    def test_what_the_columns_make_lies_side_by_side(self) -> None:
        """One thread may be at the last product while another is at the first; only loops work in place."""
        trace = Trace("float32")
        A, W = trace.input("X", (300, 777), per_example=True), trace.input("W", (300, 300))
        for _ in range(5):
            A = trace.maximum(W @ A, 0.0)
        plan = Plan(lowered(trace.graph({"A": A})), LIMITS)
        strands = Strands(plan)
        plan = plan.with_stages(strands.stages)
        memory, stages = Memory(plan, strands.together), [plan.stages[i] for i in strands.together]
        made = [stage.node for stage in stages if isinstance(stage, Product) and stage.node in memory.offsets]
        assert len(made) == 4
        for node, following in pairwise(sorted(made, key=memory.offsets.__getitem__)):
            assert memory.offsets[node] + memory.bytes_of(node) <= memory.offsets[following]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [256, 1000])
def test_gather_their_own_columns_of_a_batch(m, dtype, monkeypatch) -> None:
    """What is trained has the bits of steps that are made piece by piece."""
    network, generator = nn.Network((200, 300, 300, 3), "relu", "softmax"), np.random.default_rng(0)
    count = 2 * m + 100
    X, Y = generator.normal(size=(200, count)), nn.one_hot(np.arange(count) % 3, 3)
    options = {"weights": generator.uniform(0.5, 2, count), "batch_size": m, "epochs": 2, "dtype": dtype}
    found = [train(network, X, Y, piecewise=it, monkeypatch=monkeypatch, **options) for it in (False, True)]
    same(*found)


def in_any_order(steps: training_step.TrainingSteps, random: Any) -> int:
    """The steps, of which each piece runs when it may, the last ones as soon as the first."""
    first, last, at = training_step.FIRST, training_step.LAST, training_step.STEP
    stages, rooms = steps._job.stages, int(steps._job._words[team.ROOMS])
    for step in range(steps._table[first], steps._table[last]):
        steps._table[at], numbers = step, steps._numbers[step]
        for _, call in steps._calls:
            call.numbers[:], numbers = numbers[: call.numbers.size], numbers[call.numbers.size :]
            assert driver.filler().run(call.bound.plan, call.given.tobytes(), call.arena.address) == 0
        left = [list(stage.pieces) for stage in stages]
        while any(left):
            may = [i for i, (_, waits) in enumerate(stages) if left[i] and not any(left[:waits])]
            pieces = left[random.choice([may[-1], random.choice(may)])]
            function, table = pieces.pop(random.randrange(len(pieces)))
            PIECE(int(function))(int(table), rooms)
        steps.costs[step] = steps._kept[-1]
    return 0


PIECE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

PARTS = {
    "": {},
    "a penalty": {"l2": 0.3},
    "weights and both penalties": {"l2": 0.3, "l1": 0.1, "weights": np.linspace(0, 2, 700)},
    "nothing gathered": {"batch_size": None},
}


@pytest.mark.parametrize("optimizer", [nn.Adam(0.01), nn.GradientDescent(0.1)], ids=["adam", "descent"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_steps_have_the_same_bits_in_any_order_that_stages_allow(part, batch_norm, optimizer, monkeypatch) -> None:
    """Parameters are updated while gradients of others are still added up, but read by nothing any more."""

    class Kept(team.Job):
        def __init__(self, stages: Any, *others: Any) -> None:
            super().__init__(stages, *others)
            self.stages = stages
            made.append([waits == i for i, (_, waits) in enumerate(stages)])

    made, generator = list[list[bool]](), np.random.default_rng(0)
    monkeypatch.setattr(team, "Job", Kept)
    network = nn.Network((300, 260, 200, 4), output="softmax", batch_norm=batch_norm)
    X, Y = generator.normal(size=(300, 700)).astype("f"), nn.one_hot(generator.integers(4, size=700), 4).astype("f")
    options = {"batch_size": 256, "epochs": 2, "optimizer": optimizer, "dtype": "float32"} | PARTS[part]
    plain = train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, **options)
    random = Random(0)
    with monkeypatch.context() as patch:
        patch.setattr(training_step.TrainingSteps, "_make", lambda self: in_any_order(self, random))
        same(plain, train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, **options))
    if has_long_vectors() and not batch_norm:
        assert not all(made[0])


@pytest.mark.skipif(not has_long_vectors(), reason="no product is in blocks")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("sizes", "output"), [((784, 512, 512, 10), "softmax"), ((300, 400, 1), "sigmoid")])
def test_have_the_same_bits_for_any_number_of_threads(sizes, output, dtype) -> None:
    network, generator = nn.Network(sizes, "tanh", output), np.random.default_rng(0)
    params = network.init(0, dtype=dtype)
    X = generator.normal(size=(sizes[0], 1000)).astype(dtype)
    Y = nn.one_hot(generator.integers(0, 10, 1000), 10) if sizes[-1] == 10 else generator.integers(0, 2, (1, 1000))
    found = [network.gradients(params, X, Y.astype(dtype), workers=workers) for workers in (1, 2, 8)]
    for J, gradients in found[1:]:
        assert found[0][0] == J
        np.testing.assert_array_equal(gradients.vector, found[0][1].vector)
