"""Products of large matrices in blocks; where the processor has no long vectors, the same of BLAS."""

import mmap
import os
from typing import Any

import numpy as np
import pytest
from interrupting import run
from test_machine_code import TOLERANCE, program

import nnarray as nn
from nnarray.programs.schedule import Product
from nnarray.programs.targets.llvm import blocked, compiler, pieces
from nnarray.programs.targets.llvm.products import is_blocked
from nnarray.programs.trace import Trace

LAYOUTS = ["CCC", "CFC", "FCC", "FFC", "CCF", "CFF", "FCF", "FFF"]
"""Of A, B and their product."""

SIZES = [
    (12, 1500, 120),
    (64, 300, 113),
    (131, 64, 257),
    (257, 33, 260),
    (25, 2100, 45),
    (512, 513, 17),
    (13, 70, 2500),
    (2, 1100, 2000),
    (10, 512, 613),
    (128, 90, 300),
    (600, 4, 1111),
    (1500, 1, 1401),
]
"""Rows, terms and columns: around the sizes of tiles, panels and blocks, and parts of them; few of each."""


def within(V: np.ndarray, order: str) -> np.ndarray:
    """The same matrix inside of a larger one of NaN."""
    rows, columns = V.shape
    outer = np.full((rows + 6, columns + 6), np.nan, V.dtype, order=order)
    outer[3:-3, 3:-3] = V
    return outer[3:-3, 3:-3]


def matrices(rows: int, terms: int, columns: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(rows * terms + columns)
    return generator.normal(size=(rows, terms)).astype(dtype), generator.normal(size=(terms, columns)).astype(dtype)


def product(A: np.ndarray, B: np.ndarray, out: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """A B scale, made by a program; where vectors are long, in blocks."""
    trace = Trace(A.dtype.name)
    graph = trace.graph({"out": (trace.input("A", A.shape) @ trace.input("B", B.shape)) * scale})
    made = program(graph)
    parts = [piece.part for stage in made.parts.stages for strand in stage for piece in strand]
    assert any(isinstance(part, Product) and is_blocked(part) for part in parts) == compiler.has_long_vectors()
    made(A, B, out)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sizes", SIZES)
def test_every_size_and_layout(sizes, layout, dtype) -> None:
    """To the last entry, and nothing beside it; what lies beside A and B is not used."""
    A, B = matrices(*sizes, dtype)
    expected = 0.3 * (A.astype("float64") @ B.astype("float64"))
    out = within(np.zeros(expected.shape, dtype), layout[2])
    product(within(A, layout[0]), within(B, layout[1]), out, 0.3)
    np.testing.assert_allclose(out, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(expected).max())
    assert np.isnan(out.base).sum() == out.base.size - out.size


def test_an_entry_depends_on_its_row_and_column_alone() -> None:
    A, B = matrices(64, 300, 113, "float32")
    plain = product(A, B, np.empty((64, 113), "f"))
    A[5, 7], B[9, 11] = np.nan, np.inf
    found = product(A, B, np.empty((64, 113), "f"))
    is_other = np.zeros(found.shape, bool)
    is_other[5], is_other[:, 11] = True, True
    assert not np.isfinite(found[is_other]).any()
    np.testing.assert_array_equal(found[~is_other], plain[~is_other])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts_change_no_bit(dtype) -> None:
    if not compiler.has_long_vectors():
        return  # BLAS promises nothing
    A, B = matrices(131, 700, 257, dtype)
    made = [
        product(np.asarray(A, order=of_A), np.asarray(B, order=of_B), np.empty((131, 257), dtype, order=of_C))
        for of_A, of_B, of_C in LAYOUTS
    ]
    for other in made[1:]:
        np.testing.assert_array_equal(made[0], other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_how_it_is_cut_changes_no_bit(dtype, monkeypatch) -> None:
    if not compiler.has_long_vectors():
        return
    found, cuts = list[np.ndarray](), set[int]()
    monkeypatch.setattr(pieces, "MANY_OPERATIONS", 2**22)
    for rows, terms, columns in ((400, 700, 610), (610, 700, 80)):
        A, B = matrices(rows, terms, columns, dtype)
        for most in (1, 2, 8):
            monkeypatch.setattr(pieces, "MOST_PIECES", most)
            trace = Trace(dtype)
            made = program(trace.graph({"out": trace.input("A", A.shape) @ trace.input("B", B.shape)}))
            cuts.add(len(made.parts.stages[0]))
            found.append(np.empty((rows, columns), dtype))
            made(A, B, found[-1])
            np.testing.assert_array_equal(found[-1], found[-1 - [1, 2, 8].index(most)])
    assert cuts == {1, 2, 8}


def test_sums_over_the_examples_go_on_from_block_to_block() -> None:
    """A gradient of a few units is added up over blocks of examples, which are read once."""
    network = nn.Network((400, 14), output="softmax")
    X = np.random.default_rng(0).normal(size=(400, 3000))
    Y, params = nn.one_hot(np.arange(3000) % 14, 14), network.init(0, dtype="float64")
    [(W, b)] = params.layers
    Z = W @ X + b
    A = np.exp(Z - Z.max(axis=0))
    dZ = (A / A.sum(axis=0) - Y) / 3000
    _, gradients = network.gradients(params, X, Y)
    np.testing.assert_allclose(gradients.layers[0][0], dZ @ X.T, rtol=1e-10, atol=1e-14)


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from test_blocked import LAYOUTS, SIZES, guarded, matrices, product
for dtype in ("float32", "float64"):
    for sizes in SIZES:
        for layout in LAYOUTS:
            for at_end in (True, False):
                A, B = matrices(*sizes, dtype)
                given = [guarded(V, order, at_end=at_end) for V, order in zip((A, B, A @ B), layout)]
                expected = given[2].copy()
                np.testing.assert_allclose(product(*given), expected, rtol=1e-3, atol=1e-3)
print(True)
"""


def guarded(V: np.ndarray, order: str, *, at_end: bool) -> np.ndarray:
    """A copy between two pages that nobody may touch, right before the one or after the other."""
    import ctypes

    page, size = mmap.PAGESIZE, V.nbytes
    pages = -(-size // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    whole = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None).mprotect
    for start in (0, (pages + 1) * page):
        assert protect(ctypes.c_void_p(whole.ctypes.data + start), ctypes.c_size_t(page), 0) == 0
    first = (pages + 1) * page - size if at_end else page
    copy: Any = whole[first : first + size].view(V.dtype).reshape(V.shape, order=order)
    copy[...] = V
    return copy


@pytest.mark.skipif(os.name != "posix", reason="pages are guarded by POSIX")
def test_nothing_beside_a_matrix_is_touched() -> None:
    done = run(GUARDED)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_processors_with_long_vectors_keep_the_sums_in_registers(dtype) -> None:
    """Compiled only, for processors that need not be here."""
    import llvmlite.binding as llvm

    source = blocked.kernel({"float32": "float", "float64": "double"}[dtype], blocked.WIDE)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for cpu in ("skylake-avx512", "icelake-server", "sapphirerapids", "znver4"):
        machine = llvm.Target.from_triple("x86_64-linux-gnu").create_target_machine(cpu=cpu, opt=3)
        module = llvm.parse_assembly(source)
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        compiler._passes_as_written(llvm).run(
            module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
        )
        lines = machine.emit_assembly(module).splitlines()
        fused = [i for i, line in enumerate(lines) if "vfmadd" in line]
        assert len(fused) == blocked.ROWS * blocked.WIDE
        loop = lines[fused[0] : fused[-1] + 1]
        assert not [line for line in loop if "zmm" in line and "(%rsp)" in line]
