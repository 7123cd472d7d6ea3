"""Backends by name, which choice wins, what is said where one cannot run, and the way to and from the host."""

import asyncio
import importlib
import os
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn
from nnarray import backends
from nnarray.backends import availability, names
from nnarray.backends.cupy import backend as cupy_backend
from nnarray.backends.cupy.backend import CupyBackend
from nnarray.engine import compiling, rules, updates

VARIABLE = names.ENVIRONMENT_VARIABLE
LISTS = [([[1.0, 2.0]], [[0.5]])]


def other_than_numpy() -> str:
    """A second backend that runs here."""
    found = next((name for name in ("torch", "jax") if backends.unavailable_reason(name) is None), None)
    if found is None:
        pytest.skip("neither torch nor jax is installed")
    return found


@pytest.fixture
def no_cache() -> Iterator[None]:
    """What is known of the backends is found out anew, before and after."""
    checks = (availability.why_not, cupy_backend._why_no_gpu)
    for check in checks:
        check.cache_clear()
    yield
    for check in checks:
        check.cache_clear()


# ------------------------------------------------------------------------------------------------- by name


def test_the_names() -> None:
    assert nn.backend("numpy").name == "numpy"
    assert nn.backend("numpy").xp is np
    assert nn.backend("auto").name == ("numpy" if backends.unavailable_reason("cupy") else "cupy")
    assert backends.unavailable_reason("numpy") is None
    one = nn.backend("numpy")
    assert nn.backend(one) is one
    assert one == nn.backend("numpy")


@pytest.mark.parametrize("name", ["bogus", "Numpy", "", " numpy", "cuda", "gpu", 3, b"numpy", np, ["numpy"]])
def test_a_name_that_is_none(name: Any) -> None:
    calls = [
        lambda: nn.backend(name),
        lambda: nn.use_backend(name),
        lambda: nn.Network((2, 1)).init(backend=name),
        lambda: nn.train(nn.Network((2, 1)), [[1.0], [2.0]], [[1.0]], epochs=1, backend=name),
    ]
    for do in calls:
        with pytest.raises(ValueError, match='the backends are "numpy", "cupy", "torch", "jax" and "auto"') as caught:
            do()
        assert repr(name) in str(caught.value)
    assert nn.backend().name == "numpy"


DEVICES = [
    ("numpy", "cuda", ValueError),
    ("numpy", 0, ValueError),
    ("torch", "cuda:97", nn.BackendUnavailableError),
    ("torch", "no such device", nn.BackendUnavailableError),
    ("jax", "tpu", nn.BackendUnavailableError),
    ("jax", "cpu:97", nn.BackendUnavailableError),
    ("jax", 97, nn.BackendUnavailableError),
]


@pytest.mark.parametrize(("name", "device", "exception"), DEVICES)
def test_a_device_that_is_not_there(name: str, device: Any, exception: type[Exception]) -> None:
    if backends.unavailable_reason(name):
        pytest.skip(f"{name} cannot run here")
    with pytest.raises(exception) as caught:
        nn.backend(name, device=device)
    assert type(caught.value) is exception
    assert name in str(caught.value).lower()
    assert repr(device) in str(caught.value)


def test_a_device_by_its_name() -> None:
    for name, device in [("numpy", "cpu"), ("torch", "cpu"), ("jax", "cpu"), ("jax", "cpu:0")]:
        if backends.unavailable_reason(name):
            continue
        place = nn.backend(name, device=device)
        assert str(place.device).startswith("cpu")
        assert place.to_numpy(place.asarray([1.0, 2.0])).tolist() == [1.0, 2.0]
        assert backends.backend_of(place.asarray([1.0])).device == place.device


def test_a_device_is_never_ignored() -> None:
    name = other_than_numpy()
    with nn.use_backend(name), pytest.raises(nn.BackendUnavailableError, match="no such device"):
        nn.backend(device="no such device")
    with pytest.raises(nn.BackendUnavailableError, match="no such device"):
        nn.backend(nn.backend(name), device="no such device")


# -------------------------------------------------------------------------------------------- which one wins


def test_numpy_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        if value is not None:
            monkeypatch.setenv(VARIABLE, value)
        assert nn.backend().name == "numpy"
        assert type(nn.Network((2, 1)).predict(LISTS, [[1.0], [2.0]])) is np.ndarray


def _made(**arguments: Any) -> list[str]:
    """The names of the backends that each call without arrays ends up on."""
    network, X, Y = nn.Network((2, 1)), [[1.0, 0.0], [2.0, 1.0]], [[1.0, 0.0]]
    made = [network.init(**arguments).backend, nn.train(network, X, Y, epochs=1, **arguments).params.backend]
    if not arguments:
        arrays = [network.predict(LISTS, X), network.cost(LISTS, X, Y), network.gradients(LISTS, X, Y)[1].vector]
        arrays += [nn.one_hot([0, 1], 2), nn.Parameters.from_layers(LISTS).vector, network.parameters([1.0] * 3).vector]
        made += [backends.backend_of(x) for x in arrays]
    return sorted({place.name for place in made})


def test_each_choice_beats_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    other = other_than_numpy()
    assert _made() == ["numpy"]
    monkeypatch.setenv(VARIABLE, other)
    assert _made() == [other]
    with nn.use_backend("numpy"):
        assert _made() == ["numpy"]
        assert _made(backend=other) == [other]
    assert _made(backend="numpy") == ["numpy"]
    assert _made(backend=nn.backend("numpy")) == ["numpy"]


def test_arrays_beat_the_default_and_lose_to_an_explicit_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    other = other_than_numpy()
    network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", 5)
    monkeypatch.setenv(VARIABLE, other)
    with nn.use_backend(other):
        for x in (network.predict(layers, X), network.gradients(layers, X, Y)[1].vector, nn.one_hot(np.array([0]), 2)):
            assert type(x) is np.ndarray
        assert nn.train(network, X, Y, epochs=1).params.backend.name == "numpy"
        assert nn.Parameters.from_layers(layers).backend.name == "numpy"
        assert network.parameters(np.zeros(network.size)).backend.name == "numpy"
    place = nn.backend(other)
    x, y = place.asarray(X), place.asarray(Y)
    with nn.use_backend("numpy"):
        assert (
            backends.backend_of(network.predict([(place.asarray(W), place.asarray(b)) for W, b in layers], x)) == place
        )
        assert nn.train(network, x, y, epochs=1).params.backend == place
        assert nn.train(network, x, y, epochs=1, backend="numpy").params.backend.name == "numpy"
    assert nn.train(network, X, Y, params=layers, epochs=1, backend=other).params.backend == place


@pytest.mark.parametrize("value", ["bogus", "NUMPY", " numpy"])
def test_the_environment_names_no_backend(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    for do in (nn.backend, nn.Network((2, 1)).init, lambda: nn.one_hot([0], 2)):
        with pytest.raises(ValueError, match=f"no backend {value!r}.*{VARIABLE}"):
            do()
    assert nn.backend("numpy").name == "numpy"


def test_the_environment_names_one_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CupyBackend, "unavailable_reason", lambda: "no GPU")
    monkeypatch.setenv(VARIABLE, "cupy")
    for do in (nn.backend, nn.Network((2, 1)).init, lambda: nn.Network((2, 1)).predict(LISTS, [[1.0], [2.0]])):
        with pytest.raises(nn.BackendUnavailableError, match=f"no GPU.*{VARIABLE}"):
            do()
    assert nn.Network((2, 1)).predict(LISTS, np.ones((2, 3))).shape == (1, 3)  # arrays bring their own
    monkeypatch.setenv(VARIABLE, "auto")
    assert nn.backend().name == "numpy"


# ----------------------------------------------------------------------------------------------- use_backend


@pytest.fixture
def fresh_context() -> Any:
    """Runs a function in a context of its own, so that the default it sets ends with it."""
    return copy_context().run


def test_use_backend_as_a_call(fresh_context: Any) -> None:
    other = other_than_numpy()

    def body() -> None:
        nn.use_backend(other)
        assert nn.backend().name == other
        nn.use_backend("numpy")
        assert nn.backend().name == "numpy"
        nn.use_backend(other)

    fresh_context(body)
    assert nn.backend().name == "numpy"


def test_use_backend_as_a_block() -> None:
    other = other_than_numpy()
    with nn.use_backend(other) as place:
        assert place.name == nn.backend().name == other
        with nn.use_backend("numpy"):
            assert nn.backend().name == "numpy"
            with nn.use_backend(other):
                assert nn.backend().name == other
            assert nn.backend().name == "numpy"
        assert nn.backend().name == other
    assert nn.backend().name == "numpy"


def test_use_backend_ends_with_its_block_whatever_happens() -> None:
    with pytest.raises(ZeroDivisionError), nn.use_backend(other_than_numpy()):
        _ = 1 / 0
    assert nn.backend().name == "numpy"
    with pytest.raises(ValueError, match="bogus"), nn.use_backend("bogus"):
        pass
    assert nn.backend().name == "numpy"


def test_one_use_backend_serves_several_blocks(fresh_context: Any) -> None:
    other = other_than_numpy()

    def body() -> None:
        default = nn.use_backend(other)
        for _ in range(2):
            with default:
                assert nn.backend().name == other
            assert nn.backend().name == "numpy"

    fresh_context(body)


def test_use_backend_takes_a_backend(open_space: Any) -> None:
    strict = open_space("strict").backend
    with nn.use_backend(strict):
        assert nn.backend() is strict
        assert nn.Network((2, 1)).init().backend is strict


def test_threads_have_a_default_each() -> None:
    other, seen, barrier = other_than_numpy(), {}, threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        before = nn.backend().name
        with nn.use_backend(name):
            barrier.wait()
            seen[name] = before, nn.backend().name
            barrier.wait()

    with nn.use_backend(other):
        threads = [threading.Thread(target=work, args=(name,)) for name in ("numpy", other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {name: now for name, (_, now) in seen.items()} == {"numpy": "numpy", other: other}
    if sys.version_info < (3, 14):  # from 3.14 on, free-threaded builds let threads inherit the context
        assert {before for before, _ in seen.values()} == {"numpy"}


def test_tasks_have_a_default_each() -> None:
    other = other_than_numpy()

    async def work(name: str, turn: asyncio.Event, after: asyncio.Event) -> str:
        with nn.use_backend(name):
            turn.set()
            await after.wait()
            return nn.backend().name

    async def main() -> list[str]:
        first, second = asyncio.Event(), asyncio.Event()
        found = await asyncio.gather(work(other, first, second), work("numpy", second, first))
        return [*found, nn.backend().name]

    assert asyncio.run(main()) == [other, "numpy", "numpy"]


# ------------------------------------------------------------------------------------------- what cannot run


def _every_way_to_ask(name: str) -> list[Any]:
    network, X, Y = nn.Network((2, 1)), np.ones((2, 3)), np.ones((1, 3))
    return [
        lambda: nn.backend(name),
        lambda: nn.use_backend(name),
        lambda: network.init(backend=name),
        lambda: nn.train(network, X, Y, epochs=1, backend=name),
    ]


def _refused(name: str, *parts: str) -> None:
    for do in _every_way_to_ask(name):
        with pytest.raises(nn.BackendUnavailableError) as caught:
            do()
        assert isinstance(caught.value, RuntimeError)
        for part in (f'"{name}" cannot run here', *parts):
            assert part in str(caught.value)
    assert nn.backend().name == "numpy"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("cupy", "pip install cupy-cuda13x"), ("torch", "pip install torch"), ("jax", "pip install jax")],
)
def test_not_installed(monkeypatch: pytest.MonkeyPatch, no_cache: None, name: str, remedy: str) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Missing(name), *sys.meta_path])
    _refused(name, f"{name} is not installed", remedy)


class _Missing:
    """A finder that says there is no such module."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == self.name:
            msg = f"No module named {name!r}"
            raise ModuleNotFoundError(msg, name=name)


BROKEN = [
    ImportError("libtorch.so: undefined symbol"),
    OSError("libcublas.so.12: cannot open shared object file"),
    RuntimeError("jaxlib version 0.1 is older than jax"),
    ModuleNotFoundError("No module named 'jaxlib'", name="jaxlib"),
]


@pytest.mark.parametrize("error", BROKEN, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_installed_but_broken(monkeypatch: pytest.MonkeyPatch, no_cache: None, name: str, error: Exception) -> None:
    def broken(module: str) -> None:
        raise error

    monkeypatch.setattr(availability.importlib, "import_module", broken)
    _refused(name, f"{name} is installed but does not import", str(error), "reinstall")


def _fake_cupy(count: Any, compute: Any) -> types.ModuleType:
    fake = types.ModuleType("cupy")
    fake.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=count))
    fake.float32, fake.ones = np.float32, compute
    return fake


def _raises(error: Exception) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise error

    return call


CUPY = [
    (
        _raises(RuntimeError("cudaErrorInsufficientDriver")),
        None,
        ("no GPU or driver", "InsufficientDriver", "nvidia-smi"),
    ),
    (_raises(ImportError("libcuda.so.1 not found")), None, ("no GPU or driver", "libcuda.so.1", "nvidia-smi")),
    (lambda: 0, None, ("no GPU is visible", "CUDA_VISIBLE_DEVICES")),
    (lambda: 1, _raises(RuntimeError("libnvrtc.so not found")), ("CUDA libraries", "libnvrtc", "cupy-cuda13x[ctk]")),
    (lambda: 1, _raises(ImportError("libcublas.so.13")), ("CUDA libraries", "libcublas", "cupy-cuda13x[ctk]")),
    (lambda: 1, _raises(OSError("no such file")), ("CUDA libraries", "OSError", "cupy-cuda13x[ctk]")),
]


@pytest.mark.parametrize(("count", "compute", "parts"), CUPY, ids=[parts[1] for _, _, parts in CUPY])
def test_cupy_is_installed_and_cannot_run(
    monkeypatch: pytest.MonkeyPatch, no_cache: None, count: Any, compute: Any, parts: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", _fake_cupy(count, compute))
    _refused("cupy", *parts)
    assert nn.backend("auto").name == "numpy"


def test_cupy_on_this_machine() -> None:
    """Whatever is true here: it computes, or it says why not; importing it proves nothing."""
    reason = backends.unavailable_reason("cupy")
    if reason is None:
        assert nn.backend("auto").name == "cupy"
        assert nn.backend("cupy").to_numpy(nn.backend("cupy").asarray([1.0])).tolist() == [1.0]
        return
    installed = importlib.util.find_spec("cupy") is not None
    _refused("cupy", "CuPy" if installed else "not installed", "nvidia-smi" if installed else "pip install")


def test_importing_nnarray_loads_no_other_array_library() -> None:
    code = "import sys, nnarray; print([m for m in ('torch', 'jax', 'cupy', 'pandas', 'scipy') if m in sys.modules])"
    assert _python(code).strip() == "[]"


def _python(code: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in {"JAX_ENABLE_X64", VARIABLE}}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:nnarray", "-c", code],
        env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


JAX_WITHOUT_X64 = """
import numpy as np, jax.numpy as jnp, nnarray as nn
network = nn.Network((2, 1))
params = network.init(backend="jax")
X, Y = jnp.ones((2, 3)), jnp.ones((1, 3))
calls = [
    lambda: network.init(backend="jax", dtype="float64"),
    lambda: nn.backend("jax").asarray([1.0], "float64"),
    lambda: nn.train(network, X, Y, epochs=1, dtype="float64"),
    lambda: nn.one_hot(jnp.array([0, 1]), 2, dtype="float64"),
    lambda: nn.check_gradients(network, params, X, Y),
]
for call in calls:
    try:
        call()
    except ValueError as error:
        assert "float64" in str(error) and "JAX_ENABLE_X64=1" in str(error), error
    else:
        raise AssertionError(call)
J, gradients = network.gradients(params, X, Y)
result = nn.train(network, np.ones((2, 3)), np.ones((1, 3)), epochs=1, backend="jax")
assert J.dtype == gradients.vector.dtype == result.params.vector.dtype == jnp.float32
print("done")
"""


def test_float64_on_jax_that_has_it_switched_off() -> None:
    if backends.unavailable_reason("jax"):
        pytest.skip("jax cannot run here")
    assert _python(JAX_WITHOUT_X64).strip() == "done"


# ----------------------------------------------------------------------------------- to the host and back

VALUES: dict[str, Any] = {
    "matrix": [[1.0, 2.0], [3.0, 4.0]],
    "0-d": 3.5,
    "0-d array": np.array(3.5),
    "NumPy scalar": np.float32(3.5),
    "bool": [True, False],
    "one bool": True,
    "int": [[1, -2]],
    "one int": 7,
    "uint8": np.array([0, 255], np.uint8),
    "int32": np.array([-(2**31)], np.int32),
    "big-endian int": np.array([1, 2], ">i4"),
    "big-endian float": np.array([1.5, 2.5], ">f8"),
    "float32": np.array([[0.1]], np.float32),
    "no columns": np.zeros((3, 0)),
    "NaN and infinity": [np.nan, np.inf, -np.inf],
}


@pytest.mark.parametrize("kind", VALUES)
def test_there_and_back(space: Space, kind: str) -> None:
    host = np.asarray(VALUES[kind])
    place = space.backend
    there = place.asarray(VALUES[kind])
    place.synchronize()
    back = place.to_numpy(there)
    assert type(back) is np.ndarray
    assert (back.shape, back.dtype.newbyteorder("=")) == (host.shape, host.dtype.newbyteorder("="))
    np.testing.assert_array_equal(back, host)
    assert place.asarray(there) is there or isinstance(there, np.ndarray)
    for dtype in ("float32", "float64"):
        converted = place.asarray(VALUES[kind], dtype)
        space.assert_same_place(converted, dtype)
        np.testing.assert_array_equal(place.to_numpy(converted), host.astype(dtype))
        assert place.asarray(converted, dtype) is converted
        np.testing.assert_array_equal(place.to_numpy(place.asarray(there, dtype)), host.astype(dtype))


def test_from_every_namespace_to_every_other(open_space: Any) -> None:
    spaces = [open_space(name) for name in ("numpy", "strict", "torch", "jax")]
    host = np.array([[1.0, 2.0, 3.0]])
    for source in spaces:
        for target in spaces:
            x = target.backend.asarray(source.asarray(host), "float32")
            target.assert_same_place(x, "float32")
            assert target.to_numpy(x).tolist() == host.tolist()


def test_what_is_kept_of_one_namespace_is_never_asked_about_another_s_dtypes(open_space: Any) -> None:
    """Theirs have the hashes of NumPy's, and some warn where they are compared with those."""
    names = ("numpy", "strict", "jax", "strict-device", "torch", "strict", "numpy")
    network = nn.Network((3, 2, 1))
    X = np.arange(12.0).reshape(3, 4)
    for forget in (rules._kind_of, updates._program, compiling.compiled):
        forget.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for space in map(open_space, names):
            for dtype in ("float32", "float64"):
                x, y = space.asarray(X, dtype), space.asarray(X[:1] > 2, dtype)
                nn.train(network, x, y, epochs=2, batch_size=2, l2=0.1, optimizer=nn.Adam(), validation=(x, y))
                nn.train(network, x, y, epochs=2)


def test_between_devices_of_one_namespace(open_space: Any) -> None:
    here, there = open_space("strict"), open_space("strict-device")
    x = here.asarray([[1.0, 2.0]])
    moved = there.backend.asarray(x)
    there.assert_same_place(moved, "float64")
    assert here.to_numpy(moved).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_numpy_memory_is_shared_with_torch_where_it_can_be(dtype: str) -> None:
    pytest.importorskip("torch")
    place, host = nn.backend("torch"), np.ones((3, 4), dtype)
    shared = [host, host.T, host[:, ::2], host[1:]]
    for x in shared:
        assert place.asarray(x).data_ptr() == x.__array_interface__["data"][0]
    frozen = host.copy()
    frozen.flags.writeable = False
    record = np.zeros((3, 4), [("label", "i1"), ("value", dtype)])["value"]  # strides that are no multiple of the item
    for x in (host[::-1], host[:, ::-1], frozen, np.broadcast_to(host[:1], (3, 4)), host.astype(f">{dtype}"), record):
        tensor = place.asarray(x)
        np.testing.assert_array_equal(place.to_numpy(tensor), x)
        tensor.zero_()
    assert (frozen == 1).all()
    assert (host == 1).all()


def test_tensors_of_every_kind_come_back() -> None:
    torch = pytest.importorskip("torch")
    to_numpy = nn.backend("torch").to_numpy
    assert to_numpy(torch.ones(2, requires_grad=True)).tolist() == [1.0, 1.0]
    assert to_numpy(torch.tensor([1.5, 2.0]).bfloat16()).tolist() == [1.5, 2.0]
    assert to_numpy(torch.tensor([1 + 2j]).conj()).tolist() == [1 - 2j]
    assert to_numpy(torch.tensor([1 + 2j]).conj().imag).tolist() == [-2.0]
    assert nn.backend("numpy").asarray(torch.ones(2).bfloat16(), "float64").dtype == np.float64


def test_float64_too_large_for_float32_is_infinite_without_a_warning(space: Space) -> None:
    for x in ([1e300, -1e300], space.asarray([1e300, -1e300])):
        assert space.to_numpy(space.backend.asarray(x, "float32")).tolist() == [np.inf, -np.inf]


NO_NUMBERS = [1j, [1 + 2j], "1.0", ["a"], None, [None], object(), np.array([0], "M8[s]"), np.zeros(2, [("v", "f4")])]


@pytest.mark.parametrize("x", NO_NUMBERS, ids=lambda x: type(x).__name__)
def test_asarray_makes_floats_of_real_numbers_alone(space: Space, x: Any) -> None:
    with pytest.raises(TypeError, match="real numbers"):
        space.backend.asarray(x, "float32")


def test_asarray_drops_no_mask_and_wraps_no_sparse_matrix(space: Space) -> None:
    for dtype in (None, "float32"):
        with pytest.raises(TypeError, match="must not be masked"):
            space.backend.asarray(np.ma.masked_array([1.0, 2.0], [True, False]), dtype)
        sparse = pytest.importorskip("scipy.sparse")
        with pytest.raises(TypeError, match="dense"):
            space.backend.asarray(sparse.eye_array(2), dtype)


@pytest.mark.parametrize("dtype", ["float16", "int64", "double", np.float32, 4])
def test_asarray_in_another_dtype(space: Space, dtype: Any) -> None:
    with pytest.raises(ValueError, match='"float32" or "float64"') as caught:
        space.backend.asarray([1.0], dtype)
    assert repr(dtype) in str(caught.value)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_parameters_go_to_a_backend_by_its_name(batch_norm) -> None:
    params = nn.Network((2, 3, 1), batch_norm=batch_norm).init(0)
    other = other_than_numpy()
    there = params.to(other)
    assert there.backend.name == other
    np.testing.assert_array_equal(there.to("numpy", "float32").vector, params.vector)
    assert params.to("numpy") is params
    with pytest.raises(ValueError, match="there is no backend 'nump'"):
        params.to("nump")


@pytest.mark.parametrize("rows", [7, 300])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_value_that_is_not_finite_is_found_wherever_it_lies(rows: int, dtype: str) -> None:
    host, generator = backends.NUMPY, np.random.default_rng(0)
    table = generator.standard_normal((rows, 2 * rows)).astype(dtype)
    layouts = table, table.T, table[::2], table[:, 1:], np.asfortranarray(table), np.array(table)[::-1]
    largest = np.finfo(dtype).max
    for x in layouts:
        assert backends.all_finite(x, host)
        assert backends.all_finite(np.full_like(x, largest), host)  # whose sum is not
        for value in (np.nan, np.inf, -np.inf):
            corners = [(0, 0), (x.shape[0] - 1, x.shape[1] - 1)]
            for at in [*corners, *map(tuple, generator.integers(0, x.shape, (5, 2)))]:
                before, x[at] = x[at], value
                assert not backends.all_finite(x, host)
                x[at] = before
