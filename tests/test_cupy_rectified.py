"""Products that add b and rectify, by the emulated cuBLASLt: numbers, where there are none, what it refuses."""

import ctypes
from collections.abc import Iterator
from typing import Any

import conftest
import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import backends, engine
from nnarray.backends.cupy import cublas, cublaslt, device
from nnarray.backends.cupy.backend import CupyBackend, gpu

REASON = backends.unavailable_reason("cupy")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"cupy: {REASON}")

EVEN, ODD = (40, 64, 48, 20), (39, 33, 35, 21)
"""Networks of which each b begins at a multiple of 16 bytes, and of which one does not."""

BOUNDS = {None: 1e-5, "tf32": 3e-3, "float16": 3e-3, "bfloat16": 3e-2}


@pytest.fixture
def emulator() -> Iterator[Any]:
    if not hasattr(conftest, "EMULATOR"):
        pytest.skip("cupy: needs the emulated GPU")
    forget()
    yield conftest.EMULATOR
    forget()


def forget() -> None:
    """Let no program be one that asked under other conditions."""
    gpu().release()
    engine.compiling.compiled.cache_clear()


def on_card(sizes: tuple[int, ...], precision: str | None, order: Any = "F", m: int = 200) -> tuple[Any, ...]:
    """A network of relu with its parameters, X and Y, and the same in float64 on the host."""
    import cupy

    network, layers, X, Y = problem(sizes, "relu", "softmax", m=m)
    params = nn.Parameters.from_layers(layers).to(nn.backend("cupy", precision=precision), "float32")
    there = cupy.asarray(np.asarray(X, "float32", order=order)), cupy.asarray(Y.astype("float32"))
    return network, params, there, (layers, X, Y)


def relative(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found.get() - expected) / np.linalg.norm(expected))


def bits(arrays: Any) -> list[bytes]:
    return [V.get().tobytes() for V in arrays]


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize("m", [1, 200, 300])
@pytest.mark.parametrize("sizes", [EVEN, ODD], ids=str)
@pytest.mark.parametrize("precision", BOUNDS)
class TestNumbers:
    def test_are_near_those_of_float64(self, precision, sizes, m, order, emulator) -> None:
        """Of an odd network theta has a b that begins anywhere; narrow copies of it do not."""
        network, params, (X, Y), (layers, *given) = on_card(sizes, precision, order, m)
        has_any = sizes is EVEN or precision in ("bfloat16", "float16")
        emulator.reset()
        assert relative(network.predict(params, X), network.predict(layers, given[0])) < BOUNDS[precision]
        assert emulator.count("rectified") == 2 * has_any * 2  # each is asked for before
        emulator.reset()
        J, g = network.gradients(params, X, Y)
        wanted_J, wanted = network.gradients(layers, *given)
        assert emulator.count("rectified") == 2 * has_any * 2
        assert abs(float(J) - float(wanted_J)) < BOUNDS[precision] * abs(float(wanted_J))
        assert relative(g.vector, wanted.vector) < 10 * BOUNDS[precision]

    def test_a_replay_has_the_same_bits(self, precision, sizes, m, order, emulator) -> None:
        network, params, (X, Y), _ = on_card(sizes, precision, order, m)
        found = [network.gradients(params, X, Y)[1].vector for _ in range(3)]
        emulator.reset()
        found.append(network.gradients(params, X, Y)[1].vector)
        assert emulator.count("graphs") == 1
        assert len(set(bits(found))) == 1


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("batch_size", [None, 64])
def test_a_captured_step_has_the_bits_of_one_that_is_not(precision, batch_size, emulator, monkeypatch) -> None:
    network, params, (X, Y), _ = on_card(EVEN, precision)
    options = {"params": params, "epochs": 3, "batch_size": batch_size}
    emulator.reset()
    found = nn.train(network, X, Y, **options)
    assert emulator.count("graphs") >= 3
    assert emulator.count("rectified") > 0
    monkeypatch.setattr(CupyBackend, "new_compiled_steps", lambda *_, **__: None)
    assert bits([found.params.vector]) == bits([nn.train(network, X, Y, **options).params.vector])


def test_in_a_callers_capture(emulator) -> None:
    """After a call with arrays that lie alike, nothing is to be asked there."""
    import cupy

    network, params, (X, Y), _ = on_card(EVEN, None)
    expected = network.gradients(params, X, Y)[1].vector
    with cupy.cuda.Stream(non_blocking=True) as stream:
        cupy.empty(2**27, np.uint8)  # which the pool keeps for what the capture takes
        emulator.reset()
        stream.begin_capture()
        found = network.gradients(params, X, Y)[1].vector
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
    assert emulator.count("rectified") == 2
    assert bits([found]) == bits([expected])


@pytest.mark.parametrize("precision", BOUNDS)
class TestWithoutSuchProducts:
    """A product and a loop compute what they always did."""

    def plain(self, monkeypatch: Any, compute: Any) -> list[bytes]:
        with monkeypatch.context() as patch:
            patch.setattr(device, "is_there", lambda: False)
            forget()
            found = bits(compute())
        forget()
        return found

    @pytest.mark.parametrize("how", ["nothing found", "loses NaN"])
    def test_that_cublaslt_has(self, how, precision, emulator, monkeypatch) -> None:
        network, params, (X, Y), _ = on_card(EVEN, precision)

        def compute() -> list[Any]:
            trained = nn.train(network, X, Y, params=params, epochs=2, batch_size=64).params.vector
            gradients = [network.gradients(params, X, Y)[1].vector for _ in range(3)]
            return [network.predict(params, X), *gradients, trained]

        expected = self.plain(monkeypatch, compute)
        with emulator.rectifying(how):
            emulator.reset()
            assert bits(compute()) == expected
            asked = emulator.count("rectified")
            assert (asked > 0) == (how == "loses NaN")
            assert bits(compute()) == expected
            assert emulator.count("rectified") == asked


def test_where_b_does_not_lie_dense(emulator) -> None:
    import cupy

    network, params, (X, _), (layers, given, _) = on_card(EVEN, None)
    apart = [(W, cupy.repeat(b, 2, axis=1)[:, :1]) for W, b in params]
    assert apart[0][1].strides[0] == 8
    emulator.reset()
    assert relative(network.predict(apart, X), network.predict(layers, given)) < BOUNDS[None]
    assert emulator.count("rectified") == 0


def test_other_activations_are_left_to_loops(emulator) -> None:
    import cupy

    network, layers, X, _ = problem(EVEN, "leaky_relu", "softmax", m=200)
    params = nn.Parameters.from_layers(layers).to(nn.backend("cupy"), "float32")
    emulator.reset()
    network.predict(params, cupy.asarray(X.astype("float32")))
    assert emulator.count("rectified") == 0


@pytest.mark.parametrize("precision", BOUNDS)
def test_nan_stays_nan(precision, emulator) -> None:
    network, params, (X, _), _ = on_card(EVEN, precision)
    broken = [(W.copy(), b.copy()) for W, b in params]
    network.predict(broken, X)
    broken[0][1][0] = np.nan
    emulator.reset()
    assert np.isnan(network.predict(broken, X).get()).all()
    assert emulator.count("rectified") > 0


def test_a_prediction_is_one_pass_less(emulator) -> None:
    """Of two hidden layers, the last is read by what makes A[L] of it, which adds b and rectifies as it reads."""
    network, params, (X, _), _ = on_card((40, 64, 48, 10), None)
    network.predict(params, X)
    emulator.reset()
    network.predict(params, X)  # which is captured
    assert [emulator.count(what) for what in ("launches", "products", "rectified")] == [1, 2, 1]


class Asked:
    """A product of 8 × 4 and 4 × n that rectifies, asked of the library as `cublaslt` does."""

    def __init__(self, n: int = 300) -> None:
        import cupy

        self.A, self.B, self.b, self.C = (cupy.ones(size, "float32") for size in (32, 4 * n, 12, 8 * n))
        self.how = cublaslt.Gemm(False, (False, False), 8, n, 4, (8, 4, 8))
        self.products = gpu().rectified("float32", "float32")

    def places(self, **moved: int) -> list[int]:
        return [getattr(self, name).data.ptr + moved.get(name, 0) for name in ("A", "B", "b", "C")]


class TestRefusals:
    def test_an_algorithm_is_for_memory_aligned_so(self, emulator) -> None:
        """One for other alignments is another, and was not asked for."""
        asked = Asked()
        assert asked.products.suits(asked.how, *asked.places())
        with pytest.raises(cublas.ProductError, match="`suits` is to be asked before"):
            asked.products(asked.how, *asked.places(A=4))
        [chosen] = asked.products._chosen.values()
        with pytest.raises(cublas.ProductError, match="failed with status 7"):
            asked.products._queue(chosen, *asked.places(A=4))

    @pytest.mark.parametrize("moved", [4, 8])
    def test_b_is_aligned(self, moved, emulator) -> None:
        asked = Asked()
        assert not asked.products.suits(asked.how, *asked.places(b=moved))
        assert asked.products.suits(asked.how, *asked.places(b=16))

    def test_the_result_is_nobodys_operand(self, emulator) -> None:
        asked = Asked()
        _, B, b, C = asked.places()
        assert asked.products.suits(asked.how, *asked.places())
        [chosen] = asked.products._chosen.values()
        with pytest.raises(cublas.ProductError, match="failed with status 7"):
            asked.products._queue(chosen, C, B, b, C)
        assert not Asked().products.suits(asked.how, C, B, b, C)

    def test_a_captured_stream_is_asked_nothing(self, emulator) -> None:
        import cupy

        asked, stream = Asked(), cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            answer = asked.products.suits(asked.how, *asked.places())
            stream.end_capture()
        assert answer is None
        assert emulator.count("refused") == 0

    def test_a_captured_product_has_the_workspace_of_the_capture(self, emulator) -> None:
        """It may not allocate, and what it is given belongs to the graph."""
        import cupy

        asked, stream, workspace = Asked(100), cupy.cuda.Stream(non_blocking=True), cupy.zeros(2**20, np.uint8)
        assert asked.products.suits(asked.how, *asked.places())
        asked.C.fill(np.nan)
        cupy.cuda.Device().synchronize()
        with cublas.capturing_products(stream, workspace), stream:
            cupy.get_default_memory_pool().free_all_blocks()
            stream.begin_capture()
            asked.products(asked.how, *asked.places())
            graph = stream.end_capture()
            graph.launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(asked.C.get(), 5.0)
        assert (workspace[: 100 * 8 * 4].view("float32").get() == 2.0).all()  # a part of each sum, as emulated

    @pytest.mark.parametrize(
        ("attribute", "value"),
        [
            (cublaslt.TRANSA, ctypes.c_int64(0)),
            (cublaslt.EPILOGUE, ctypes.c_uint16(6)),
            (cublaslt.BIAS_POINTER, ctypes.c_uint32(0)),
            (99, ctypes.c_int32(0)),
        ],
    )
    def test_attributes_of_another_size(self, attribute, value, emulator) -> None:
        operation = Asked().products._operation(cublaslt.Gemm(False, (False, False), 8, 300, 4, (8, 4, 8)), 512)
        with pytest.raises(cublas.ProductError, match="failed with status 7"):
            cublaslt._set("MatmulDesc", operation, attribute, value)

    @pytest.mark.parametrize(
        ("attribute", "value"), [(cublaslt.EPILOGUE, 152), (cublaslt.BIAS_DATA_TYPE, 14), (cublaslt.BIAS_POINTER, 0)]
    )
    def test_what_does_not_go_together(self, attribute, value, emulator, monkeypatch) -> None:
        asked, kinds = Asked(), {cublaslt.EPILOGUE: ctypes.c_uint32, cublaslt.BIAS_POINTER: ctypes.c_void_p}
        as_it_was = asked.products._operation

        def otherwise(how: Any, b: int) -> Any:
            operation = as_it_was(how, b)
            cublaslt._set("MatmulDesc", operation, attribute, kinds.get(attribute, ctypes.c_int32)(value))
            return operation

        monkeypatch.setattr(asked.products, "_operation", otherwise)
        key = cublaslt._key(asked.how, *asked.places())
        if attribute == cublaslt.EPILOGUE:
            assert asked.products._heuristic(asked.how, asked.b.data.ptr, key) is None
        else:
            with pytest.raises(cublas.ProductError, match="failed with status 7"):
                asked.products._heuristic(asked.how, asked.b.data.ptr, key)
        assert not asked.products.suits(asked.how, *asked.places())
