"""Batch normalisation over batches of several tiles: core's equations of the whole batch and torch as oracles."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from test_batch_norm import core_gradients, examples, normalized_layers, torch_module

import nnarray as nn
from nnarray import engine
from nnarray.backends import NUMPY
from nnarray.core import batch_norm, propagation
from nnarray.core.primitives import bind
from nnarray.core.vector import join

torch = pytest.importorskip("torch")

SIZES, HIDDEN = (4, 6, 5, 3), ("gelu", "relu")


def network_of(sizes=SIZES, hidden=HIDDEN, output="softmax"):
    return nn.Network(sizes, hidden, output, batch_norm=True)


def in_tiles(function, batch, layers, network, backend, width, **options):
    return function(batch, layers, network, backend, width=width, **({"l2": 0.0} | options))


class TestTiles:
    @pytest.mark.parametrize("width", [5, 11])
    @pytest.mark.parametrize("kind", ["plain", "weights and masks"])
    def test_they_give_the_whole_batchs_gradients_on_every_namespace(self, space, width, kind):
        m, layers, backend = 23, normalized_layers(SIZES), space.backend
        X, Y = examples(SIZES, "softmax", m)
        generator = np.random.default_rng(4)
        weights = generator.uniform(0.5, 2, (1, m)) if kind != "plain" else None
        masks = [generator.integers(0, 2, (n, m)) * 2.0 for n in SIZES[1:-1]] if kind != "plain" else []
        total = float(m if weights is None else weights.sum())
        primitives = bind(np)
        passed, normalized = batch_norm.forward(X, layers, HIDDEN, "softmax", primitives=primitives, masks=masks)
        dZ = primitives.output_backward(passed.A[-1], Y) * (1 if weights is None else weights)
        J = propagation.cost(passed.Z, Y, "softmax", m=total, primitives=primitives, weights=weights)
        wanted, _ = batch_norm.backward(
            dZ, passed, normalized, layers, HIDDEN, m=total, primitives=primitives, masks=masks
        )
        for W, *_ in layers:
            J = J + 0.3 / (2 * total) * (W * W).sum() + 0.1 / total * abs(W).sum()
        wanted = [
            (dW + (0.3 * W + 0.1 * np.sign(W)) / total, *rest)
            for (dW, *rest), (W, *_) in zip(wanted, layers, strict=True)
        ]
        on_device = [tuple(map(space.asarray, layer)) for layer in layers]
        batch = engine.Batch(*map(space.asarray, (X, Y)), total, None if weights is None else space.asarray(weights))
        batch = batch._replace(draw_masks=[lambda i, j, D=D: space.asarray(D[:, i:j].copy()) for D in masks])
        given = batch, on_device, network_of(), backend, width
        found, g, statistics = in_tiles(engine.batch_norm.cost_and_gradients, *given, l2=0.3, l1=0.1)
        alone = in_tiles(engine.batch_norm.cost, *given, l2=0.3, l1=0.1)
        assert abs(float(space.to_numpy(found)) - J) < 1e-10
        assert abs(float(space.to_numpy(alone)) - J) < 1e-10
        space.assert_same_place(g, "float64")
        np.testing.assert_allclose(space.to_numpy(g), join(wanted, xp=np), rtol=0, atol=1e-10)
        seen = np.concatenate([V for norm in normalized for V in (norm.mean, norm.variance * m / (m - 1))])[:, 0]
        np.testing.assert_allclose(space.to_numpy(statistics), seen, rtol=0, atol=1e-10)

    @pytest.mark.parametrize(
        ("sizes", "hidden", "output"),
        [((3, 2), (), "softmax"), ((3, 7, 1), ("tanh",), "sigmoid"), ((5, 4, 6, 8, 2), ("silu",) * 3, "identity")],
    )
    def test_networks_of_any_depth(self, sizes, hidden, output):
        layers, (X, Y) = normalized_layers(sizes), examples(sizes, output, 50)
        J, wanted, *_ = core_gradients(layers, X, Y, output, 50, hidden=hidden)
        given = engine.Batch(X, Y, 50), layers, network_of(sizes, hidden, output), NUMPY
        for width in (1, 16, 49):
            found, g, _ = in_tiles(engine.batch_norm.cost_and_gradients, *given, width)
            assert abs(found - J) < 1e-10
            np.testing.assert_allclose(g, join(wanted, xp=np), rtol=0, atol=1e-10)

    def test_units_far_from_zero_lose_no_digits_to_the_tiles(self):
        """Σ Z² - m mean² would have none left."""
        generator = np.random.default_rng(0)
        Z = generator.normal(1e6, 1, (3, 5000))
        parts = [Z[:, i : i + 700] for i in range(0, 5000, 700)]
        whole = parts[0].shape[1], *batch_norm.mean_and_variance(parts[0], xp=np)
        for part in parts[1:]:
            whole = batch_norm.united(whole, (part.shape[1], *batch_norm.mean_and_variance(part, xp=np)))
        assert whole[0] == 5000
        np.testing.assert_allclose(whole[1][:, 0], Z.mean(axis=1), rtol=1e-14)
        np.testing.assert_allclose(whole[2][:, 0], Z.var(axis=1), rtol=1e-9)

    def test_an_x_that_is_not_finite_is_named_with_its_column(self):
        X, Y = examples(SIZES, "softmax", 9000)
        X[2, 8765] = np.nan
        params = network_of().init(dtype="float64")
        for call in (network_of().cost, network_of().gradients):
            with pytest.raises(ValueError, match=r"X.*8765"):
                call(params, X, Y)


class TestBits:
    """Batches of so many examples are several tiles; a third worker has to wait for its turn on two cores."""

    def test_they_are_the_same_for_any_workers(self):
        sizes = (20, 64, 32, 3)
        X, Y = examples(sizes, "softmax", 20_000)
        X, Y = X.astype("f4"), Y.astype("f4")
        params = network_of(sizes).init()
        found = [network_of(sizes).gradients(params, X, Y, l2=0.1, workers=workers) for workers in (1, 2, 3)]
        costs = [network_of(sizes).cost(params, X, Y, l2=0.1, workers=workers) for workers in (1, 3)]
        assert costs[0] == costs[1]
        for J, g in found[1:]:
            assert found[0][0] == J
            np.testing.assert_array_equal(found[0][1].vector, g.vector)
            np.testing.assert_array_equal(found[0][1].statistics, g.statistics)
        J, wanted = network_of(sizes).gradients(params.to(NUMPY, "float64"), X.astype("f8"), Y.astype("f8"), l2=0.1)
        assert abs(found[0][0] - J) < 1e-5
        np.testing.assert_allclose(found[0][1].vector, wanted.vector, rtol=0, atol=1e-5)

    def test_so_is_training_with_dropout_in_batches_of_several_tiles(self):
        X, Y = examples(SIZES, "softmax", 18_000)
        options = {"epochs": 2, "batch_size": 9000, "dropout": (0.2, 0.4), "input_dropout": 0.1, "progress": False}
        one, three = (nn.train(network_of(), X, Y, workers=workers, **options).params for workers in (1, 3))
        np.testing.assert_array_equal(one.vector, three.vector)
        np.testing.assert_array_equal(one.statistics, three.statistics)

    def test_predictions_go_in_tiles(self):
        X, _ = examples(SIZES, "softmax", 30_000)
        params = network_of().init(dtype="float64")
        wanted = np.concatenate([network_of().predict(params, X[:, i : i + 50]) for i in range(0, 30_000, 50)], axis=1)
        for workers in (1, 3):
            np.testing.assert_allclose(network_of().predict(params, X, workers=workers), wanted, rtol=0, atol=1e-13)


def run_of_torch(network, first, X, Y, batches):
    """The network in torch after a step of gradient descent on each batch of columns."""
    model = torch_module(network, first)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for columns in batches:
        optimizer.zero_grad()
        A = model(torch.tensor(X[:, columns].T.copy()))
        torch.nn.functional.cross_entropy(A, torch.tensor(Y[:, columns].T.copy())).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(
    ("m", "size"),
    [(9000, None), (40, None), (40, 16)],
    ids=["several tiles", "several steps of the whole at once", "mini-batches"],
)
def test_runs_are_torchs(m, size, space):
    network, (X, Y) = network_of(hidden="tanh"), examples(SIZES, "softmax", m)
    assert (engine.tile_width(network, m, 8) < m) == (m == 9000)
    first = network.init(seed=1, dtype="float64")
    options = {"params": first, "optimizer": nn.GradientDescent(0.3), "dtype": "float64", "progress": False}
    given = [space.asarray(V) for V in (X, Y)]
    result = nn.train(
        network, *given, epochs=4, batch_size=size, seed=7, **options | {"params": first.to(space.backend)}
    )
    drawn = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(1,)))
    orders = [np.arange(m) if size is None else drawn.permutation(m) for _ in range(4)]
    model = run_of_torch(
        network, first, X, Y, [order[i : i + (size or m)] for order in orders for i in range(0, m, size or m)]
    )
    for l, module in enumerate((model[1], model[4])):
        layer, seen = result.params[l], result.params.averages[l]
        for ours, theirs in (
            (layer.gamma, module.weight),
            (layer.b, module.bias),
            (seen.mean, module.running_mean),
            (seen.variance, module.running_var),
        ):
            np.testing.assert_allclose(space.to_numpy(ours)[:, 0], theirs.detach(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(space.to_numpy(result.params[0].W), model[0].weight.detach(), rtol=0, atol=1e-10)


class TestSources:
    def test_sparse_and_mapped_examples(self, tmp_path):
        import scipy.sparse

        X, Y = examples(SIZES, "softmax", 9000)
        X[np.random.default_rng(0).uniform(size=X.shape) < 0.8] = 0
        params = network_of().init(dtype="float64")
        J, wanted = network_of().gradients(params, X, Y)
        mapped = np.memmap(tmp_path / "X", "f8", "w+", shape=(9000, 4))
        mapped[:] = X.T
        for given in (scipy.sparse.csr_array(X.T).T, mapped.T):
            batch = engine.Batch(given, Y, 9000)
            found, g, _ = engine.batch_norm.cost_and_gradients(batch, params.layers, network_of(), NUMPY, l2=0.0)
            assert abs(found - J) < 1e-10
            np.testing.assert_allclose(g, wanted.vector, rtol=0, atol=1e-10)
        assert network_of().gradients(params, mapped.T, Y)[0] == found

    def test_costs_that_no_program_can_trace(self):
        X, Y = examples(SIZES, "identity", 9000)
        network, params = network_of(output="identity"), network_of(output="identity").init(dtype="float64")

        def loss(A, Y, xp):
            return 0.5 * (A - Y) ** 2 if float(xp.sum(A)) < 1e300 else A

        own = nn.Cost(loss, dA=lambda A, Y, xp: A - Y)
        J, wanted = network.gradients(params, X, Y)
        found, g = network.gradients(params, X, Y, cost=own)
        assert abs(found - J) < 1e-10 * J
        np.testing.assert_allclose(g.vector, wanted.vector, rtol=0, atol=1e-10 * abs(wanted.vector).max())


class TestMemory:
    @pytest.mark.parametrize(("name", "kept"), [("gradients", 64 + 32 + 64), ("cost", 64)])
    def test_it_grows_by_what_is_kept_of_an_example_and_no_more(self, name, kept):
        network = network_of((20, 64, 32, 3))
        params = network.init()

        def peak(m):
            X, Y = examples(network.sizes, "softmax", m)
            X, Y = X.astype("f4"), Y.astype("f4")
            call = partial(getattr(network, name), params, X, Y, workers=1)
            call()
            tracemalloc.start()
            try:
                call()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        assert peak(81_920) - peak(40_960) < 1.05 * 40_960 * 4 * kept

    @pytest.mark.parametrize("call", [engine.batch_norm.cost, engine.batch_norm.cost_and_gradients])
    def test_no_room_for_what_is_kept_is_said_before_anything_is_computed(self, call):
        m = 2**50
        X, Y = (np.broadcast_to(V[:, :1], (V.shape[0], m)) for V in examples(SIZES, "softmax", 2))
        with pytest.raises(MemoryError, match=rf"m = {m} .*keeps 17 numbers.*batch_size = {m // 8}"):
            call(engine.Batch(X, Y, m), normalized_layers(SIZES), network_of(), NUMPY, l2=0.0)
