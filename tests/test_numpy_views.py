"""torch's tensors on the CPU: NumPy computes with them where they lie, to the bit, but for what torch must see."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import nnarray as nn
from nnarray.backends import makes_machine_code, usable_threads
from nnarray.engine import Batch
from nnarray.engine.numpy_views import as_numpy

torch: Any = pytest.importorskip("torch")
FlopCounterMode: Any = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode
if not nn.backend("numpy").compiles:
    pytest.skip("core's functions alone are asked for", allow_module_level=True)

SIZES, M = (6, 9, 7, 3), 300


def problem(dtype: str, *, batch_norm: bool = False) -> tuple[nn.Network, Any, list[Any]]:
    """A network, its parameters, and X, Y and weights as NumPy's arrays."""
    generator = np.random.default_rng(0)
    network = nn.Network(SIZES, batch_norm=batch_norm)
    X, labels = generator.normal(size=(M, SIZES[0])).astype(dtype), generator.integers(0, 3, M)
    weights = generator.integers(0, 3, (1, M)).astype(dtype)
    return network, network.init(0, dtype=dtype), [X.T, np.eye(3, dtype=dtype)[:, labels], weights]


def same(found: Any, expected: Any) -> None:
    """The same bits, in tensors."""
    assert type(found) is torch.Tensor
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestTheSameBits:
    @pytest.mark.parametrize("m", [1, M])
    def test_calls(self, dtype, m) -> None:
        network, params, (X, Y, weights) = problem(dtype)
        X, Y, weights = X[:, :m], Y[:, :m], weights[:, :m] + 1
        own, given = params.to("torch"), [torch.from_numpy(V.copy(order="K")) for V in (X, Y, weights)]
        (J, gradients), (J_own, found) = (
            network.gradients(start, x, y, weights=w, l2=0.3)
            for start, x, y, w in ((params, X, Y, weights), (own, *given))
        )
        same(J_own, J)
        same(found.vector, gradients.vector)
        same(network.cost(own, *given[:2], weights=given[2]), network.cost(params, X, Y, weights=weights))
        same(network.predict(own, given[0]), network.predict(params, X))
        (A, pull), (A_own, pull_own) = network.vjp(params, X), network.vjp(own, given[0])
        same(A_own, A)
        for one, other in zip(pull_own(torch.ones_like(A_own)), pull(np.ones_like(A)), strict=True):
            same(getattr(one, "vector", one), getattr(other, "vector", other))

    @pytest.mark.parametrize(
        ("batch_norm", "options"),
        [
            (False, {"batch_size": 64}),
            (False, {"batch_size": 64, "average": 0.9, "l2": 0.1}),
            (False, {"batch_size": 300}),
            (True, {"batch_size": 64}),  # with an average its passes are torch's, with other roundings
            (True, {"batch_size": 300}),
        ],
        ids=str,
    )
    def test_training(self, dtype, batch_norm, options) -> None:
        network, params, (X, Y, weights) = problem(dtype, batch_norm=batch_norm)
        given = [torch.from_numpy(V.copy(order="K")) for V in (X, Y, weights)]
        runs = [
            nn.train(network, x, y, weights=w, params=start, epochs=3, optimizer=nn.Adam(0.01), **options)
            for start, (x, y, w) in ((params, (X, Y, weights)), (params.to("torch"), given))
        ]
        same(runs[1].params.vector, runs[0].params.vector)
        assert runs[1].history.columns()["cost"] == runs[0].history.columns()["cost"]
        for tensor, array in zip(given, (X, Y, weights), strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)


def test_the_memory_is_the_same() -> None:
    network, params, (X, Y, _) = problem("float32")
    own, x = params.to("torch"), torch.from_numpy(X)
    found = as_numpy(Batch(x, torch.from_numpy(Y), M), own.layers, network, own.backend)
    assert found is not None
    batch, layers = found
    assert np.shares_memory(batch.X, X)
    assert np.shares_memory(batch.Y, Y)
    for pair, tensors in zip(layers, own.layers, strict=True):
        for V, tensor in zip(pair, tensors, strict=True):
            assert V.ctypes.data == tensor.data_ptr()


class Named(torch.Tensor):
    """A class of the caller's own, which sees what torch computes."""


def test_what_is_no_plain_tensor_is_torch_s() -> None:
    network, params, (X, Y, _) = problem("float64")
    own, x, y = params.to("torch"), torch.from_numpy(X), torch.from_numpy(Y)
    negative = torch.view_as_complex(torch.stack([-x, -x], -1)).conj().imag  # whose sign is a flag
    for odd in (x.as_subclass(Named), negative, x.half(), x.to("meta"), x.clone().requires_grad_()):
        assert as_numpy(Batch(odd, y, M), own.layers, network, own.backend) is None
    np.testing.assert_allclose(network.predict(own, negative).numpy(), network.predict(params, X), rtol=1e-12)


def test_what_is_differentiated_is_torch_s() -> None:
    network, params, (X, Y, _) = problem("float64")
    theta, x, y = params.to("torch").vector.requires_grad_(), torch.from_numpy(X), torch.from_numpy(Y)
    own = params.to("torch")
    network.cost(own.replace(theta), x, y).backward()
    expected = network.gradients(params, X, Y)[1].vector
    np.testing.assert_allclose(theta.grad.numpy(), expected, rtol=1e-9, atol=1e-12)
    found = torch.func.grad(lambda V: network.cost(own.replace(V), x, y))(theta.detach())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)
    J, gradients = network.gradients(own.replace(theta), x, y)  # values without a graph
    same(gradients.vector, expected)
    assert not J.requires_grad


def test_what_a_dispatch_mode_sees_is_torch_s() -> None:
    network, params, (X, Y, _) = problem("float64")
    own, x, y = params.to("torch"), torch.from_numpy(X), torch.from_numpy(Y)
    product = 2 * M * sum(n * n_prev for n_prev, n in pairwise(SIZES))
    for call in (lambda: network.predict(own, x), lambda: network.cost(own, x, y)):
        with FlopCounterMode(display=False) as counted:
            call()
        assert counted.get_total_flops() == product


@pytest.mark.parametrize("batch_size", [None, 64])
def test_what_is_trained_has_no_history(batch_size) -> None:
    network, params, (X, Y, _) = problem("float64")
    own, x, y = params.to("torch"), torch.from_numpy(X), torch.from_numpy(Y)
    start = own.replace(own.vector.clone().requires_grad_())
    state = nn.Adam().init(own)
    state = state._replace(v=state.v.requires_grad_())
    kept = list[Any]()
    how = {"epochs": 2, "batch_size": batch_size, "optimizer": nn.Adam(), "state": state}
    result = nn.train(network, x, y, params=start, callback=lambda epoch: kept.append(epoch.params.vector), **how)
    alone = nn.train(network, x, y, params=start, **how)
    made = [*kept, result.params.vector, result.state.v, alone.params.vector, alone.state.v]
    assert not any(V.requires_grad for V in made)


def test_a_cost_of_the_caller_s_own_is_given_tensors() -> None:
    seen = list[type]()

    def loss(A: Any, Y: Any, *, xp: Any) -> Any:
        seen.append(type(A))
        return (A - Y) ** 2 / 2

    network, params, (X, Y, _) = problem("float64")
    cost = nn.Cost(loss, dA=lambda A, Y, xp: A - Y)
    network.gradients(params.to("torch"), torch.from_numpy(X), torch.from_numpy(Y), cost=cost)
    assert set(seen) == {torch.Tensor}


@pytest.mark.skipif(not makes_machine_code(), reason="needs llvmlite")
def test_the_one_who_is_not_finite_is_named() -> None:
    network, params, (X, Y, _) = problem("float32")
    x = torch.from_numpy(X.copy(order="K"))
    x[2, 7] = float("nan")
    for call in (network.gradients, network.cost):
        with pytest.raises(ValueError, match=r"X must be finite in float32, got nan at \[2, 7\]"):
            call(params.to("torch"), x, torch.from_numpy(Y))


def test_what_torch_is_told_counts() -> None:
    network, params, (X, Y, _) = problem("float32")
    own, batch = params.to("torch"), Batch(torch.from_numpy(X), torch.from_numpy(Y), M)

    def is_numpy_s() -> bool:
        return as_numpy(batch, own.layers, network, own.backend) is not None

    with torch.autocast("cpu", torch.bfloat16):
        assert not is_numpy_s()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert is_numpy_s() == (usable_threads() == 1)
        torch.set_num_threads(2)
        assert is_numpy_s()
    finally:
        torch.set_num_threads(threads)
