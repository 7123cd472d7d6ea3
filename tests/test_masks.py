"""Masks of dropout drawn on a GPU: the bits that NumPy draws on the host, wherever in the stream, and then no other."""

from typing import Any

import conftest
import numpy as np
import pytest
from conftest import problem
from host_device import HostDevice
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cuda import compiled_by_nvidia, needs_compiler

import nnarray as nn
from nnarray import backends
from nnarray.backends import masks
from nnarray.backends.cupy import masks as cupy_masks
from nnarray.backends.cupy.masks import drawn_on_gpu
from nnarray.engine import tiling
from nnarray.programs.targets.cuda import masks as kernels

REASON = backends.unavailable_reason("cupy")
on_cupy = pytest.mark.skipif(REASON is not None, reason=f"cupy: {REASON}")
DEVICE = HostDevice()


firsts = st.integers(0, 9) | st.integers(0, 2**62)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@needs_compiler
@settings(deadline=None, max_examples=60)
@given(firsts, shapes, st.floats(0, 0.99), st.integers(0, 2**64), st.sampled_from(["float32", "float64"]))
def test_the_kernel_draws_what_numpy_draws(first, shape, rate, seed, dtype) -> None:
    bits = np.random.PCG64(seed)
    expected = masks.drawn_by_numpy(bits, first, shape, rate).astype(dtype)
    found = np.asarray(drawn_on_gpu(DEVICE, 0, bits, first, shape, rate, dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected, strict=True)


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1), (512, 1), (511, 3), (33, 70), (512, 129), (1001, 600)])
def test_by_many_threads_of_several_words_each(shape, monkeypatch) -> None:
    monkeypatch.setattr(cupy_masks, "MOST_BLOCKS", 64)
    bits = np.random.PCG64(3)
    for first in (0, 1):
        found = np.asarray(drawn_on_gpu(DEVICE, 0, bits, first, shape, 0.3, "float32"))
        assert np.array_equal(found, masks.drawn_by_numpy(bits, first, shape, 0.3).astype("float32"))


@needs_compiler
def test_a_number_as_large_as_the_rate_is_kept() -> None:
    """The comparison is one of float32 numbers, as NumPy's."""
    bits, drawn = np.random.PCG64(1), np.random.Generator(np.random.PCG64(1)).random(8, dtype=np.float32)
    for rate in (float(drawn[3]), float(np.nextafter(drawn[3], 1)), float(drawn[3]) + 1e-12):
        found = np.asarray(drawn_on_gpu(DEVICE, 0, bits, 0, (1, 8), rate, "float64"))
        assert np.array_equal(found, masks.drawn_by_numpy(bits, 0, (1, 8), rate))
    assert masks.drawn_by_numpy(bits, 0, (1, 8), float(drawn[3]))[0, 3] > 0


def test_numpy_s_numbers_are_those_of_the_equations() -> None:
    bits = np.random.PCG64(11)
    state = bits.state["state"]
    drawn = np.random.Generator(np.random.PCG64(11)).random(101, dtype=np.float32)
    assert kernels.floats(state["state"], state["inc"], 101) == drawn.tolist()


@pytest.mark.parametrize("T", ["float", "double"])
def test_nvidias_compiler_takes_the_kernel(T) -> None:
    assert compiled_by_nvidia(kernels.source(T))[0]
    assert compiled_by_nvidia(kernels.source(T), "sm_75")[0]


class TestWhoDraws:
    def test_of_pcg64_the_gpu(self) -> None:
        assert masks.is_known(np.random.PCG64(0))

    def test_of_other_generators_the_host(self) -> None:
        assert not masks.is_known(np.random.PCG64DXSM(0))
        assert not masks.is_known(np.random.MT19937(0))

    def test_where_numpy_draws_otherwise_the_host(self, monkeypatch) -> None:
        masks._numpy_draws_so.cache_clear()
        monkeypatch.setattr(masks, "floats", lambda *_: [0.5] * masks.TRIED)
        try:
            assert not masks.is_known(np.random.PCG64(0))
        finally:
            masks._numpy_draws_so.cache_clear()


@on_cupy
class TestOnCupy:
    OPTIONS = {"epochs": 3, "batch_size": 16, "dropout": (0.3, 0.1), "input_dropout": 0.2, "seed": 4, "progress": False}  # noqa: RUF012

    @pytest.fixture
    def asked(self, monkeypatch) -> list[Any]:
        """The masks that were drawn on the GPU."""
        drawn: list[Any] = []

        def draw(*given: Any) -> Any:
            drawn.append(given)
            return drawn_on_gpu(*given)

        monkeypatch.setattr(cupy_masks, "drawn_on_gpu", draw)
        return drawn

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("width", [None, 5])
    def test_training_has_the_bits_of_masks_from_the_host(self, width, dtype, asked, monkeypatch) -> None:
        if width is not None:  # tiles of an odd number of columns, the last ones narrower
            monkeypatch.setattr(tiling, "_best_width", lambda *_: width)
        network, layers, X, Y = problem((7, 9, 5, 3), "relu", "softmax", m=43)
        options = self.OPTIONS | {"params": layers, "backend": "cupy", "dtype": dtype}
        own = nn.train(network, X, Y, **options)
        count = len(asked)
        assert count >= (27 if width is None else 27 * 3)
        with monkeypatch.context() as patched:
            patched.setattr("nnarray.backends.cupy.backend.is_known", lambda _: False)
            of_host = nn.train(network, X, Y, **options)
        assert len(asked) == count
        assert np.array_equal(own.params.vector.get(), of_host.params.vector.get())
        assert own.history.columns()["cost"] == of_host.history.columns()["cost"]
        assert own.state.position.masks == of_host.state.position.masks

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("batch_size", [16, 43, None])
    @pytest.mark.parametrize("batch_norm", [False, True])
    def test_so_have_captured_steps(self, batch_norm, batch_size, dtype, asked, monkeypatch) -> None:
        """Each replay draws the next masks, also where the last batch of an epoch is a short one."""
        _, _, X, Y = problem((7, 9, 5, 3), "relu", "softmax", m=43)
        network = nn.Network((7, 9, 5, 3), output="softmax", batch_norm=batch_norm)
        options = self.OPTIONS | {"input_dropout": 0.0, "backend": "cupy", "dtype": dtype, "batch_size": batch_size}
        own = nn.train(network, X, Y, **options)
        assert not asked
        with monkeypatch.context() as patched:
            patched.setattr("nnarray.backends.cupy.backend.is_known", lambda _: False)
            of_host = nn.train(network, X, Y, **options)
        assert np.array_equal(own.params.vector.get(), of_host.params.vector.get())
        np.testing.assert_allclose(own.history.columns()["cost"], of_host.history.columns()["cost"], rtol=1e-6)
        assert own.state.position.masks == of_host.state.position.masks

    def test_a_captured_run_goes_on_with_the_next_masks(self) -> None:
        network, layers, X, Y = problem((7, 9, 5, 3), "relu", "softmax", m=48)
        options = self.OPTIONS | {"params": layers, "input_dropout": 0.0, "backend": "cupy", "dtype": "float64"}
        whole = nn.train(network, X, Y, **options | {"epochs": 5})
        part = nn.train(network, X, Y, **options | {"epochs": 2})
        there = nn.train(network, X, Y, **options | {"params": part.params, "state": part.state})
        assert np.array_equal(whole.params.vector.get(), there.params.vector.get())
        assert whole.state.position.masks == there.state.position.masks

    def test_masks_come_from_no_copy(self) -> None:
        if (emulator := getattr(conftest, "EMULATOR", None)) is None:
            pytest.skip("cupy: needs the emulated GPU")
        bits, backend = np.random.PCG64(2), nn.backend("cupy")
        first = backend.mask(bits, 0, (30, 40), 0.2, "float32")
        emulator.reset()
        later = backend.mask(bits, 1200, (30, 40), 0.2, "float32")
        assert [emulator.count(what) for what in ("to device", "to host", "waits")] == [0, 0, 0]
        assert emulator.count("launches") == 1
        expected = masks.drawn_by_numpy(bits, 0, (30, 80), 0.2).astype("float32")
        assert np.array_equal(np.concatenate([first.get(), later.get()], axis=1), expected)

    @pytest.mark.parametrize("input_dropout", [0.0, 0.2])
    def test_a_resumed_run_draws_what_it_would_have_drawn(self, input_dropout, tmp_path) -> None:
        network, layers, X, Y = problem((7, 9, 5, 3), "relu", "softmax", m=43)
        options = self.OPTIONS | {
            "params": layers,
            "backend": "cupy",
            "dtype": "float64",
            "input_dropout": input_dropout,
        }
        whole = nn.train(network, X, Y, **options | {"epochs": 5})
        path = tmp_path / "run.nnarray"
        nn.train(network, X, Y, **options, checkpoint=path)
        there = nn.train(network, X, Y, **options | {"epochs": 5}, resume=path)
        assert np.array_equal(whole.params.vector.get(), there.params.vector.get())
        on_host = nn.train(network, X, Y, **options | {"epochs": 5, "backend": "numpy"})
        assert on_host.state.position.masks == whole.state.position.masks

    def test_without_compiled_steps_the_host_draws(self, asked, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.backends.cupy.backend.plain_primitives", lambda: True)
        nn.backend("cupy").mask(np.random.PCG64(2), 0, (3, 4), 0.2, "float32")
        assert not asked

    def test_another_generator_is_drawn_from_on_the_host(self, asked) -> None:
        bits: Any = np.random.PCG64DXSM(7)
        found = nn.backend("cupy").mask(bits, 3, (4, 5), 0.4, "float32").get()
        drawn = np.random.Generator(np.random.PCG64DXSM(7)).random(23, dtype=np.float32)[3:].reshape(5, 4).T
        assert np.array_equal(found > 0, drawn >= np.float32(0.4))
        assert not asked
