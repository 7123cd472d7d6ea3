"""Penalties that are infinite in the network's dtype, and dask arrays where none are taken, are told at the door."""

from typing import Any

import numpy as np
import pytest
from conftest import Space

import nnarray as nn

X = np.random.default_rng(0).normal(size=(3, 12))
Y = (X[:1] > 0) * 1.0


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", ["l2", "l1"])
@pytest.mark.parametrize("strength", [1e39, 1e300, np.float64(1e300), 10**300])
def test_one_that_float32_cannot_hold_is_refused(space: Space, name: str, strength: Any, batch_norm: bool) -> None:
    network = nn.Network((3, 4, 1), batch_norm=batch_norm)
    here = [space.asarray(V, "float32") for V in (X, Y)]
    params = network.init(backend=space.backend)
    for call in (
        lambda: network.cost(params, *here, **{name: strength}),
        lambda: network.gradients(params, *here, **{name: strength}),
        lambda: nn.train(network, *here, epochs=1, **{name: strength}),
    ):
        with pytest.raises(ValueError, match=rf"{name} must be finite in float32, at most 3\.403e\+38, got 1e\+"):
            call()
    wide = network.init(backend=space.backend, dtype="float64")
    J = network.cost(wide, space.asarray(X), space.asarray(Y), **{name: 1e39})
    assert np.isfinite(float(space.to_numpy(J)))


@pytest.mark.parametrize("name", ["alpha", "l1"])
def test_estimators_refuse_it_too(name: str) -> None:
    sklearn = pytest.importorskip("nnarray.sklearn")
    with pytest.raises(ValueError, match=f"{name} must be finite in float32"):
        sklearn.MLPRegressor(**{name: 1e39}).fit(X.T.astype("float32"), Y[0])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_dask_array_where_none_is_taken_is_told_with_the_way_out(batch_norm: bool) -> None:
    da = pytest.importorskip("dask.array")
    network = nn.Network((3, 4, 1), batch_norm=batch_norm)
    params, plain = network.init(dtype="float64"), nn.Network((3, 4, 1))
    theta = plain.init(dtype="float64")
    dask_X, dask_Y = da.from_array(X, chunks=(3, 5)), da.from_array(Y, chunks=(1, 5))
    calls: dict[str, list[Any]] = {
        "X": [
            lambda: network.forward(params, dask_X),
            lambda: nn.check_gradients(network, params, dask_X, Y),
            lambda: plain.vjp(theta, dask_X),
        ],
        "Y": [
            lambda: network.cost(params, X, dask_Y),
            lambda: network.score(params, X, dask_Y),
            lambda: nn.check_gradients(network, params, X, dask_Y),
        ],
        "weights": [lambda: network.gradients(params, X, Y, weights=dask_Y)],
        "dA": [lambda: plain.vjp(theta, X)[1](dask_Y)],
    }
    for name, some in calls.items():
        for call in some:
            with pytest.raises(TypeError, match=rf"dask array is not taken here, give {name}\.compute\(\)"):
                call()
