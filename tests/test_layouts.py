"""Where the bytes of an array lie changes nothing but speed: memory order, strides, alignment, read-only and mapped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnarray as nn

SIZES, M = (3, 4, 2), 6
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def contiguous(V: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(V)


def fortran(V: np.ndarray) -> np.ndarray:
    return np.asfortranarray(V)


def negative_rows(V: np.ndarray) -> np.ndarray:
    return contiguous(V[::-1])[::-1]


def negative_columns(V: np.ndarray) -> np.ndarray:
    return contiguous(V[:, ::-1])[:, ::-1]


def negative_both(V: np.ndarray) -> np.ndarray:
    return fortran(V[::-1, ::-1])[::-1, ::-1]


def every_second(V: np.ndarray) -> np.ndarray:
    wide = np.full((2 * V.shape[0], 3 * V.shape[1]), np.nan, V.dtype)
    wide[::2, 1::3] = V
    return wide[::2, 1::3]


def inside_a_table(V: np.ndarray) -> np.ndarray:
    table = np.full((V.shape[0] + 2, V.shape[1] + 3), np.inf, V.dtype)
    table[1:-1, 2:-1] = V
    return table[1:-1, 2:-1]


def misaligned(V: np.ndarray) -> np.ndarray:
    buffer = np.zeros(V.nbytes + 1, np.uint8)
    view = buffer[1:].view(V.dtype).reshape(V.shape)
    view[...] = V
    return view


def misaligned_transpose(V: np.ndarray) -> np.ndarray:
    return misaligned(contiguous(V.T)).T


def field_of_a_record(V: np.ndarray) -> np.ndarray:
    records = np.zeros(V.shape, [("label", "i1"), ("value", V.dtype)])
    records["value"] = V
    return records["value"]


def big_endian(V: np.ndarray) -> np.ndarray:
    return V.astype(V.dtype.newbyteorder(">"))


def read_only(V: np.ndarray) -> np.ndarray:
    frozen = V.copy()
    frozen.flags.writeable = False
    return frozen


def read_only_reversed(V: np.ndarray) -> np.ndarray:
    return read_only(V[::-1])[::-1]


LAYOUTS = [
    contiguous, fortran, negative_rows, negative_columns, negative_both, every_second, inside_a_table, misaligned,
    misaligned_transpose, field_of_a_record, big_endian, read_only, read_only_reversed,
]  # fmt: skip
LAYOUT, DTYPE = st.sampled_from(LAYOUTS), st.sampled_from(["float32", "float64"])


def close(found: Any, expected: Any, dtype: str) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_the_layouts_are_what_they_say() -> None:
    V = np.arange(6.0).reshape(2, 3)
    for layout in LAYOUTS:
        np.testing.assert_array_equal(layout(V), V)
    assert not misaligned(V).flags.aligned
    assert not field_of_a_record(V).flags.aligned
    assert field_of_a_record(V).strides[1] % 8
    assert negative_both(V).strides[0] < 0 > negative_both(V).strides[1]
    assert not read_only_reversed(V).flags.writeable


@settings(max_examples=60, deadline=None)
@given(layouts=st.lists(LAYOUT, min_size=7, max_size=7), dtype=DTYPE, params_dtype=DTYPE)
def test_any_layouts_give_what_contiguous_arrays_give(layouts: list[Any], dtype: str, params_dtype: str) -> None:
    network, host_layers, X, Y = problem(SIZES, "tanh", "softmax", M)
    weights = np.linspace(0.5, 2.0, M)[None, :]
    plain = [V.astype(dtype) for V in (X, Y, weights)]
    theta = [V.astype(params_dtype) for pair in host_layers for V in pair]
    x, y, w, *laid = (layout(contiguous(V)) for layout, V in zip(layouts, [*plain, *theta], strict=True))
    layers, reference_layers = (
        list(zip(laid[::2], laid[1::2], strict=True)),
        list(zip(theta[::2], theta[1::2], strict=True)),
    )
    given_arrays = (x, y, w, *laid)
    before = [V.tobytes() for V in given_arrays]

    J, gradients = network.gradients(layers, x, y, l2=0.1, weights=w)
    expected_J, expected = network.gradients(reference_layers, *plain[:2], l2=0.1, weights=plain[2])
    close(J, expected_J, params_dtype)
    close(gradients.vector, expected.vector, params_dtype)
    close(network.predict(layers, x), network.predict(reference_layers, plain[0]), params_dtype)
    assert network.score(layers, x, y) == network.score(reference_layers, *plain[:2])
    trained = nn.train(network, x, y, params=layers, epochs=2, batch_size=4, weights=w, validation=(x, y))
    reference = nn.train(network, *plain[:2], params=reference_layers, epochs=2, batch_size=4, weights=plain[2])
    close(trained.params.vector, reference.params.vector, params_dtype)
    assert J.dtype == gradients.vector.dtype == trained.params.vector.dtype == np.dtype(params_dtype)

    assert [V.tobytes() for V in given_arrays] == before


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layouts=st.lists(LAYOUT, min_size=2, max_size=2), dtype=DTYPE)
def test_any_layout_enters_any_namespace(space: Space, layouts: list[Any], dtype: str) -> None:
    network, host_layers, X, Y = problem(SIZES, "relu", "softmax", M)
    plain = X.astype(dtype), Y.astype(dtype)
    x, y = (layout(contiguous(V)) for layout, V in zip(layouts, plain, strict=True))
    before = x.tobytes(), y.tobytes()
    space.assert_same_place(space.backend.asarray(x, dtype), dtype)
    for there in (space.backend.asarray(x), space.backend.asarray(x, dtype)):
        np.testing.assert_array_equal(space.to_numpy(there), plain[0])
    result = nn.train(network, x, y, params=host_layers, epochs=1, backend=space.backend)
    reference = nn.train(network, *plain, params=host_layers, epochs=1)
    space.assert_same_place(result.params.vector, "float64")
    close(space.to_numpy(result.params.vector), reference.params.vector, "float64")
    assert (x.tobytes(), y.tobytes()) == before


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_mapped_files(tmp_path: Path, mode: Any) -> None:
    network, layers, X, Y = problem(SIZES, "tanh", "softmax", M)
    table = contiguous(X.T).astype(np.float32)
    path = tmp_path / "X.bin"
    table.tofile(path)
    layers = [(W.astype("f4"), b.astype("f4")) for W, b in layers]
    mapped = np.memmap(path, np.float32, mode, shape=table.shape).T
    J, gradients = network.gradients(layers, mapped, Y)
    expected_J, expected = network.gradients(layers, table.T, Y)
    assert type(gradients.vector) is np.ndarray
    assert expected_J == J
    np.testing.assert_array_equal(gradients.vector, expected.vector)
    nn.train(network, mapped, Y, params=layers, epochs=2, batch_size=4, validation=(mapped, Y))
    mapped.base.flush() if mode == "r+" else None
    assert path.read_bytes() == table.tobytes()


@pytest.mark.parametrize("value", [1e39, -np.inf, np.nan])
def test_a_mapped_file_with_what_float32_does_not_hold(tmp_path: Path, value: float) -> None:
    table = np.memmap(tmp_path / "X", "float64", "w+", shape=(9000, 3))
    table[...] = 1.0
    table[5000, 2] = value
    with pytest.raises(
        ValueError, match=r"validation X must be finite in float(32|64), got (-?inf|nan) at \[2, 5000\]"
    ):
        nn.train(
            nn.Network((3, 1)), np.ones((3, 4)), np.ones((1, 4)), epochs=1, validation=(table.T, np.ones((1, 9000)))
        )
    network = nn.Network((3, 2, 1))
    for call in (network.gradients, network.cost):
        with pytest.raises(ValueError, match=r"X must be finite in float.., got (-?inf|nan) at \[2, 5000\]"):
            call(network.init(), table.T, np.ones((1, 9000)))


def test_parameters_in_a_read_only_map(tmp_path: Path) -> None:
    network = nn.Network(SIZES)
    theta = network.init(seed=1).vector
    theta.tofile(tmp_path / "theta.bin")
    mapped = np.memmap(tmp_path / "theta.bin", np.float32, "r")
    params = network.parameters(mapped)
    X = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(network.predict(params, X), network.predict(network.parameters(theta), X))
    result = nn.train(network, X, [[1.0, 0.0], [1.0, 0.0]], params=params, epochs=2)
    assert not np.array_equal(result.params.vector, theta)
    assert (tmp_path / "theta.bin").read_bytes() == theta.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_strides(space: Space, dtype: str) -> None:
    """One column that stands for all of them, as broadcasting makes it."""
    network, layers, X, Y = problem(SIZES, "tanh", "softmax", M)
    column, target = X[:, :1].astype(dtype), Y[:, :1].astype(dtype)
    x, y = np.broadcast_to(column, (3, M)), np.broadcast_to(target, (2, M))
    assert 0 in x.strides
    params = space.pairs(layers, dtype)
    J, gradients = network.gradients(params, space.asarray(x), space.asarray(y))
    alone, expected = network.gradients(layers, column, target)
    close(space.to_numpy(J), alone, dtype)
    close(space.to_numpy(gradients.vector), expected.vector, dtype)


def test_both_orders_of_the_table_are_used_where_they_lie() -> None:
    """Neither a table (m, n_x) in C order nor its transpose is copied whole on the way in."""
    network = nn.Network((3, 2))
    table = np.ones((5, 3), np.float32)
    params = network.init()
    for X in (table.T, np.ascontiguousarray(table.T)):
        assert np.shares_memory(network.forward(params, X)[0], X)


def test_tensors_of_any_strides() -> None:
    torch = pytest.importorskip("torch")
    network, layers, X, Y = problem(SIZES, "tanh", "softmax", M)
    params = [(torch.tensor(W), torch.tensor(b)) for W, b in layers]
    reference = network.gradients(layers, X, Y)[1].vector
    wide = torch.full((3, 2 * M), torch.nan, dtype=torch.float64)
    wide[:, ::2] = torch.tensor(X)
    for x in (torch.tensor(X.T.copy()).T, wide[:, ::2], torch.tensor(X)[:, :1].expand(3, M)):
        before = x.clone()
        found = network.gradients(params, x, torch.tensor(Y))[1].vector
        expected = reference if x.stride(1) else network.gradients(layers, before.numpy(), Y)[1].vector
        close(found, expected, "float64")
        assert torch.equal(x, before)


def test_tensors_that_record_their_history() -> None:
    """Parameters of a torch module come with requires_grad: numbers come out all the same, without a warning."""
    torch = pytest.importorskip("torch")
    network, layers, X, Y = problem(SIZES, "tanh", "softmax", M)
    params = [(torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True)) for W, b in layers]
    x, y = torch.tensor(X, requires_grad=True), torch.tensor(Y)
    close(network.predict(params, x).detach(), network.predict(layers, X), "float64")
    _, gradients = network.gradients(params, x, y)
    close(gradients.vector.detach(), network.gradients(layers, X, Y)[1].vector, "float64")
    assert network.score(params, x, y) == network.score(layers, X, Y)
    assert nn.check_gradients(network, params, x, y).relative_difference < 1e-7
    result = nn.train(network, x, y, params=params, epochs=3)
    close(result.params.vector.detach(), nn.train(network, X, Y, params=layers, epochs=3).params.vector, "float64")
    assert not result.params.vector.requires_grad  # or the graph of every step would be kept
