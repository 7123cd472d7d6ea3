"""Batch normalisation: the lecture's loops, torch's autograd and BatchNorm1d, and finite differences as oracles."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from conftest import targets

import nnarray as nn
from nnarray.core import batch_norm, propagation
from nnarray.core.primitives import bind
from nnarray.core.vector import join
from nnarray.engine.batch_norm import split, theta_size

torch = pytest.importorskip("torch")

SIZES, HIDDEN = (4, 6, 5, 3), ("gelu", "relu")


def normalized_layers(sizes, seed=0):
    """Host layers (W, beta, gamma), the last (W, b), in float64."""
    generator = np.random.default_rng(seed)
    layers = []
    for l, (n_prev, n) in enumerate(pairwise(sizes), 1):
        W, beta = generator.normal(size=(n, n_prev)), generator.normal(size=(n, 1))
        gamma = generator.uniform(0.5, 1.5, size=(n, 1))
        layers.append((W, beta) if l == len(sizes) - 1 else (W, beta, gamma))
    return layers


def examples(sizes, output, m, seed=1):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(m, sizes[0])).T * 3 + 2, targets(output, sizes[-1], m, generator)


def core_gradients(layers, X, Y, output, m, xp=np, hidden=HIDDEN, masks=()):
    primitives = bind(xp)
    passed, normalized = batch_norm.forward(X, layers, hidden, output, primitives=primitives, masks=masks)
    dZ = primitives.output_backward(passed.A[-1], Y)
    J = propagation.cost(passed.Z, Y, output, m=m, primitives=primitives)
    given = passed, normalized, layers, hidden
    return J, batch_norm.backward(dZ, *given, m=m, primitives=primitives, masks=masks)[0], passed, normalized


def torch_layers(layers, batch_norms):
    """BatchNorm1d modules with these gamma and beta, in training mode."""
    for (_, beta, gamma), module in zip(layers[:-1], batch_norms, strict=True):
        module.weight.data = torch.tensor(gamma[:, 0])
        module.bias.data = torch.tensor(beta[:, 0])


def test_forward_is_the_lectures_loop_over_examples_and_units():
    layers = normalized_layers(SIZES)
    X, _ = examples(SIZES, "softmax", 7)
    passed, _ = batch_norm.forward(X, layers, ("tanh", "tanh"), "identity", primitives=bind(np))
    m, A = X.shape[1], [[X[i, j] for j in range(X.shape[1])] for i in range(X.shape[0])]
    for W, beta, gamma in layers[:-1]:
        rows = []
        for i in range(W.shape[0]):
            z = [sum(W[i, k] * A[k][j] for k in range(W.shape[1])) for j in range(m)]
            mu = sum(z) / m
            sigma_squared = sum((z_j - mu) ** 2 for z_j in z) / m
            z_norm = [(z_j - mu) / (sigma_squared + 1e-5) ** 0.5 for z_j in z]
            rows.append([np.tanh(gamma[i, 0] * z_j + beta[i, 0]) for z_j in z_norm])
        A = rows
    W, b = layers[-1]
    np.testing.assert_allclose(passed.A[-1], W @ np.array(A) + b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("m", [2, 23])
def test_gradients_are_those_of_torchs_batch_norm(output, m):
    layers = normalized_layers(SIZES)
    X, Y = examples(SIZES, output, m)
    J, found, _, normalized = core_gradients(layers, X, Y, output, m)
    V = [torch.tensor(W, requires_grad=True) for W, *_ in layers]
    b = torch.tensor(layers[-1][1], requires_grad=True)
    modules = [torch.nn.BatchNorm1d(n).double() for n in SIZES[1:-1]]
    torch_layers(layers, modules)
    A = torch.tensor(X)
    for W, module, g in zip(V[:-1], modules, [torch.nn.functional.gelu, torch.relu], strict=True):
        A = g(module((W @ A).T).T)
    Z, T = V[-1] @ A + b, torch.tensor(Y)
    F = torch.nn.functional
    loss = {
        "softmax": lambda: F.cross_entropy(Z.T, T.T),
        "sigmoid": lambda: F.binary_cross_entropy_with_logits(Z, T, reduction="sum") / m,
        "identity": lambda: 0.5 * F.mse_loss(Z, T, reduction="sum") / m,
    }[output]()
    loss.backward()
    assert abs(J - loss.item()) < 1e-10
    wanted = [(W.grad, s.bias.grad[:, None], s.weight.grad[:, None]) for W, s in zip(V[:-1], modules, strict=True)]
    for layer, theirs in zip(found, [*wanted, (V[-1].grad, b.grad)], strict=True):
        for ours, their in zip(layer, theirs, strict=True):
            np.testing.assert_allclose(ours, their.numpy(), rtol=0, atol=1e-10)
    for norm, module in zip(normalized, modules, strict=True):  # from 0 and 1
        mean = batch_norm.averaged(np.zeros_like(norm.mean), norm.mean)
        variance = batch_norm.averaged(np.ones_like(norm.mean), batch_norm.unbiased(norm.variance, m))
        np.testing.assert_allclose(mean[:, 0], module.running_mean.numpy(), rtol=0, atol=1e-10)
        np.testing.assert_allclose(variance[:, 0], module.running_var.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_gradients_are_the_limits_of_differences(keep):
    layers, hidden = normalized_layers(SIZES), ("silu", "tanh")
    masks = [np.random.default_rng(n).binomial(1, keep, (n, 9)) / keep for n in SIZES[1:-1]]
    X, Y = examples(SIZES, "exp", 9)
    theta = join(layers, xp=np)
    assert theta.shape == (theta_size(SIZES),)

    def J(theta):
        return core_gradients(split(theta, SIZES, xp=np), X, Y, "exp", 9, hidden=hidden, masks=masks)[0]

    g = join(core_gradients(layers, X, Y, "exp", 9, hidden=hidden, masks=masks)[1], xp=np)
    e = 1e-6 * np.eye(theta.size)
    numerical = np.array([(J(theta + d) - J(theta - d)) / 2e-6 for d in e])
    assert np.linalg.norm(g - numerical) / np.linalg.norm(g + numerical) < 1e-7


def test_a_unit_that_is_dropped_from_every_example_is_as_good_as_absent():
    layers, (X, Y) = normalized_layers(SIZES), examples(SIZES, "softmax", 11)
    masks = [np.ones((n, 11)) for n in SIZES[1:-1]]
    masks[0][2] = 0
    (W, beta, gamma), (W2, *rest), last = layers
    without = [tuple(np.delete(V, 2, axis=0) for V in (W, beta, gamma)), (np.delete(W2, 2, axis=1), *rest), last]
    J, found, *_ = core_gradients(layers, X, Y, "softmax", 11, masks=masks)
    wanted_J, wanted, *_ = core_gradients(without, X, Y, "softmax", 11)
    assert abs(J - wanted_J) < 1e-12
    for ours, theirs in zip(found[0], wanted[0], strict=True):
        assert (ours[2] == 0).all()
        np.testing.assert_allclose(np.delete(ours, 2, axis=0), theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[2][0], wanted[2][0], rtol=0, atol=1e-12)


def test_folding_gives_the_same_network_where_the_averages_are_the_batchs_own():
    layers = normalized_layers(SIZES)
    X, _ = examples(SIZES, "softmax", 11)
    passed, normalized = batch_norm.forward(X, layers, HIDDEN, "softmax", primitives=bind(np))
    pairs = [
        batch_norm.folded(*layer, norm.mean, norm.variance, xp=np)
        for layer, norm in zip(layers[:-1], normalized, strict=True)
    ]
    plain = propagation.forward(X, [*pairs, layers[-1]], HIDDEN, "softmax", primitives=bind(np))
    np.testing.assert_allclose(plain.A[-1], passed.A[-1], rtol=0, atol=1e-12)


def network_of(output="softmax", hidden=HIDDEN, sizes=SIZES):
    return nn.Network(sizes, hidden, output, batch_norm=True)


class TestNetwork:
    @pytest.mark.parametrize("m", [2, 37])
    @pytest.mark.parametrize("options", [{}, {"l2": 0.3, "l1": 0.1}, {"weights": True}])
    def test_cost_and_gradients_on_every_namespace(self, space, m, options):
        layers = normalized_layers(SIZES)
        X, Y = examples(SIZES, "softmax", m)
        network, given = network_of(), [tuple(map(space.asarray, layer)) for layer in layers]
        weights = np.random.default_rng(4).uniform(0.5, 2, (1, m)) if "weights" in options else None
        total = m if weights is None else weights.sum()
        primitives = bind(np)
        passed, normalized = batch_norm.forward(X, layers, HIDDEN, "softmax", primitives=primitives)
        dZ = primitives.output_backward(passed.A[-1], Y) * (1 if weights is None else weights)
        J = propagation.cost(passed.Z, Y, "softmax", m=total, primitives=primitives, weights=weights)
        wanted, _ = batch_norm.backward(dZ, passed, normalized, layers, HIDDEN, m=total, primitives=primitives)
        l2, l1 = options.get("l2", 0.0), options.get("l1", 0.0)
        for W, *_ in layers:
            J = J + l2 / (2 * total) * (W * W).sum() + l1 / total * abs(W).sum()
        wanted = [
            (dW + (l2 * W + l1 * np.sign(W)) / total, *rest)
            for (dW, *rest), (W, *_) in zip(wanted, layers, strict=True)
        ]
        further = {"l2": l2, "l1": l1, "weights": None if weights is None else space.asarray(weights)}
        found, gradients = network.gradients(given, space.asarray(X), space.asarray(Y), **further)
        alone = network.cost(given, space.asarray(X), space.asarray(Y), **further)
        assert abs(float(space.to_numpy(found)) - J) < 1e-10
        assert abs(float(space.to_numpy(alone)) - J) < 1e-10
        space.assert_same_place(gradients.vector, "float64")
        for ours, their in zip(gradients, wanted, strict=True):
            for V, T in zip(ours, their, strict=True):
                np.testing.assert_allclose(space.to_numpy(V), T, rtol=0, atol=1e-10)
        for seen, norm in zip(gradients.averages, normalized, strict=True):
            np.testing.assert_allclose(space.to_numpy(seen.mean), norm.mean, rtol=0, atol=1e-10)
            np.testing.assert_allclose(space.to_numpy(seen.variance), norm.variance * m / (m - 1), rtol=0, atol=1e-10)

    def test_check_gradients(self, space):
        X, Y = examples(SIZES, "softmax", 12)
        params = [tuple(map(space.asarray, layer)) for layer in normalized_layers(SIZES)]
        for hidden in ("tanh", "relu"):
            found = nn.check_gradients(network_of(hidden=hidden), params, space.asarray(X), space.asarray(Y), l2=0.1)
            assert found.relative_difference < 1e-7
            assert found.checked + found.kinks == network_of().size

    def test_predictions_are_the_folded_networks_and_torchs_in_eval(self, space):
        network, X = network_of("identity", hidden="relu"), examples(SIZES, "identity", 9)[0]
        layers = normalized_layers(SIZES)
        theta = space.asarray(join(layers, xp=np))
        statistics = np.random.default_rng(3).uniform(0.5, 2, 2 * sum(SIZES[1:-1]))
        params = network.parameters(theta, statistics=space.asarray(statistics))
        modules = [torch.nn.BatchNorm1d(n).double().eval() for n in SIZES[1:-1]]
        torch_layers(layers, modules)
        A = torch.tensor(X)
        for (W, _, _), module, seen in zip(layers[:-1], modules, params.averages, strict=True):
            module.running_mean = torch.tensor(space.to_numpy(seen.mean)[:, 0])
            module.running_var = torch.tensor(space.to_numpy(seen.variance)[:, 0])
            A = torch.relu(module((torch.tensor(W) @ A).T).T)
        wanted = (torch.tensor(layers[-1][0]) @ A + torch.tensor(layers[-1][1])).detach().numpy()
        plain, folded = network.folded(params)
        assert plain == nn.Network(SIZES, "relu", "identity")
        for found in (
            network.predict(params, space.asarray(X)),
            network.forward(params, space.asarray(X))[-1],
            plain.predict(folded, space.asarray(X)),
        ):
            np.testing.assert_allclose(space.to_numpy(found), wanted, rtol=0, atol=1e-10)
        assert network.score(params, space.asarray(X), space.asarray(wanted)) == 1.0

    def test_custom_loops_move_the_averages(self):
        network = network_of(hidden="relu")
        X, Y = examples(SIZES, "softmax", 30)
        params, optimizer = network.init(dtype="float64"), nn.Adam(0.01)
        module = torch.nn.BatchNorm1d(SIZES[1]).double()
        state = optimizer.init(params)
        for _ in range(5):
            module(torch.tensor((params[0].W @ X).T))
            _, gradients = network.gradients(params, X, Y)
            params, state = optimizer.update(params, gradients, state)
        np.testing.assert_allclose(params.averages[0].mean[:, 0], module.running_mean.numpy(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(params.averages[0].variance[:, 0], module.running_var.numpy(), rtol=0, atol=1e-12)

    def test_averages_stay_behind_no_update(self):
        network, optimizer = network_of(), nn.Adam()
        params = network.init(dtype="float64")
        _, gradients = network.gradients(params, *examples(SIZES, "softmax", 9))
        clipped = np.clip(gradients.vector, -0.01, 0.01)
        state = optimizer.init(params)
        with pytest.raises(ValueError, match="gradients must hold their batch's mean and variance"):
            optimizer.update(params, network.parameters(clipped), state)
        moved, _ = optimizer.update(params, gradients.replace(clipped), state)
        wanted = 0.9 * params.statistics + 0.1 * gradients.statistics
        np.testing.assert_allclose(moved.statistics, wanted, rtol=0, atol=1e-15)
        without = network.parameters(params.vector)
        alone, _ = optimizer.update(without, network.parameters(clipped), state)
        assert alone.statistics is None
        np.testing.assert_array_equal(alone.vector, moved.vector)

    def test_equality_repr_summary_and_pickle(self):
        network = network_of()
        assert network != nn.Network(SIZES, HIDDEN, "softmax")
        assert hash(network) != hash(nn.Network(SIZES, HIDDEN, "softmax"))
        assert eval(repr(network), {"Network": nn.Network}) == network
        assert "gamma (6, 1)" in network.summary()
        assert f"{network.size:,}" in network.summary()
        params = network.init(seed=3)
        again = pickle.loads(pickle.dumps(params))
        np.testing.assert_array_equal(again.vector, params.vector)
        np.testing.assert_array_equal(again.statistics, params.statistics)
        assert [len(layer) for layer in params] == [3, 3, 2]
        np.testing.assert_array_equal(params[1].W, nn.Network(SIZES, HIDDEN, "softmax").init(seed=3)[1].W)
        assert params.to(nn.backend("numpy"), "float64").statistics.dtype == "float64"

    def test_what_is_not_one_batch_or_not_of_this_network_is_refused(self):
        network, plain = network_of(), nn.Network(SIZES, HIDDEN, "softmax")
        X, Y = examples(SIZES, "softmax", 8)
        X, Y, params = X.astype("f4"), Y.astype("f4"), network.init()
        for wrong, given in ((network, plain.init()), (plain, params)):
            for call in (wrong.cost, wrong.gradients, wrong.score):
                with pytest.raises(ValueError, match="batch normalisation"):
                    call(given, X, Y)
            for call in (wrong.predict, wrong.forward):
                with pytest.raises(ValueError, match="batch normalisation"):
                    call(given, X)
        with pytest.raises(ValueError, match="at least 2 examples"):
            network.gradients(params, X[:, :1], Y[:, :1])
        with pytest.raises(ValueError, match="at least 2 examples"):
            network.cost(params, X[:, :1], Y[:, :1])
        with pytest.raises(ValueError, match="at least 2 examples"):
            network.vjp(params, X[:, :1])
        with pytest.raises(ValueError, match="averages"):
            network.predict([tuple(layer) for layer in params], X)
        with pytest.raises(TypeError, match="W, beta, gamma"):
            network.cost([(layer.W, layer.b) for layer in params], X, Y)
        with pytest.raises(TypeError, match="comm"):
            network.cost(params, X, Y, comm=object())
        with pytest.raises(TypeError, match="batch_norm"):
            nn.Network(SIZES, batch_norm="yes")
        with pytest.raises(ValueError, match="X"):
            network.gradients(params, np.where(X > 0, X, np.nan), Y)


def torch_module(network, params):
    """The same network of torch's modules, in training mode, for tanh."""
    modules = []
    for l, (n_prev, n) in enumerate(pairwise(network.sizes)):
        last = l == len(network.sizes) - 2
        linear = torch.nn.Linear(n_prev, n, bias=last, dtype=torch.float64)
        linear.weight.data = torch.tensor(np.array(params[l].W))
        modules.append(linear)
        if last:
            linear.bias.data = torch.tensor(np.array(params[l].b)[:, 0])
        else:
            modules += [torch.nn.BatchNorm1d(n, dtype=torch.float64), torch.nn.Tanh()]
    return torch.nn.Sequential(*modules)


class TestTraining:
    network = nn.Network((4, 6, 5, 3), "tanh", "softmax", batch_norm=True)

    def test_runs_are_torchs(self, space):
        X, Y = examples(SIZES, "softmax", 40)
        first = self.network.init(seed=1, dtype="float64", backend=space.backend)
        host = first.to(nn.backend("numpy"))
        model = torch_module(self.network, host)
        result = nn.train(
            self.network,
            space.asarray(X),
            space.asarray(Y),
            params=first,
            optimizer=nn.GradientDescent(0.3),
            epochs=8,
            dtype="float64",
            validation=(space.asarray(X[:, :9]), space.asarray(Y[:, :9])),
        )
        optimizer, T = torch.optim.SGD(model.parameters(), lr=0.3), torch.tensor(X.T.copy())
        for _ in range(8):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(T), torch.tensor(Y.T.copy()))
            loss.backward()
            optimizer.step()
        model.eval()
        wanted = torch.softmax(model(T), 1).detach().numpy().T
        found = space.to_numpy(self.network.predict(result.params, space.asarray(X)))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
        for seen, module in zip(result.params.averages, (model[1], model[4]), strict=True):
            np.testing.assert_allclose(space.to_numpy(seen.mean)[:, 0], module.running_mean, rtol=0, atol=1e-10)
            np.testing.assert_allclose(space.to_numpy(seen.variance)[:, 0], module.running_var, rtol=0, atol=1e-10)
        theirs = -(np.log(wanted[:, :9]) * Y[:, :9]).sum() / 9  # validation is at test time
        assert abs(result.history[-1].validation_cost - theirs) < 1e-10
        assert abs(result.history[-1].cost - loss.item()) < 1e-10

    @pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "input_dropout": 0.1}, {"patience": 2, "l2": 0.1}])
    def test_a_run_that_goes_on_is_one_run_to_the_bit(self, options):
        X, Y = examples(SIZES, "softmax", 50)
        given = {"batch_size": 16, "validation": (X[:, :10], Y[:, :10]), "seed": 5} | options
        one = nn.train(self.network, X, Y, epochs=6, **given)
        two = nn.train(self.network, X, Y, epochs=2, **given)
        two = nn.train(self.network, X, Y, epochs=4, state=two.state, **given)
        np.testing.assert_array_equal(one.params.vector, two.params.vector)
        np.testing.assert_array_equal(one.params.statistics, two.params.statistics)
        assert one.history[-1].validation_cost == two.history[-1].validation_cost

    def test_patience_gives_back_the_averages_of_the_best_epoch(self):
        X, Y = examples(SIZES, "softmax", 30)
        seen = []

        def keep(epoch):
            seen.append((epoch.validation_cost, epoch.params))

        options = {"validation": (X[:, :10], Y[:, :10]), "patience": 3, "callback": keep, "dtype": "float64"}
        result = nn.train(self.network, X, Y, epochs=60, optimizer=nn.Adam(0.3), batch_size=8, **options)
        cost, best = min(seen, key=lambda one: one[0])
        np.testing.assert_array_equal(result.params.vector, best.vector)
        np.testing.assert_array_equal(result.params.statistics, best.statistics)
        plain, folded = self.network.folded(result.params)
        assert abs(plain.cost(folded, X[:, :10], Y[:, :10]) - cost) < 1e-12

    def test_a_stream_of_batches(self):
        X, Y = examples(SIZES, "softmax", 40)
        batches = [(X[:, i : i + 10], Y[:, i : i + 10]) for i in range(0, 40, 10)]
        streamed = nn.train(self.network, lambda: batches, epochs=2, dtype="float64")
        params, optimizer = self.network.init(dtype="float64"), nn.Adam()
        state = optimizer.init(params)
        for part in batches * 2:
            params, state = optimizer.update(params, self.network.gradients(params, *part)[1], state)
        np.testing.assert_allclose(streamed.params.vector, params.vector, rtol=0, atol=1e-12)
        np.testing.assert_allclose(streamed.params.statistics, params.statistics, rtol=0, atol=1e-12)

    def test_divergence_keeps_finite_params_that_predict(self):
        X, Y = examples(SIZES, "identity", 40)
        network = nn.Network(SIZES, "tanh", "identity", batch_norm=True)
        with pytest.raises(nn.DivergenceError) as caught:
            nn.train(network, X, Y * 1e3, epochs=500, optimizer=nn.GradientDescent(1e3))
        assert np.isfinite(network.predict(caught.value.params, X)).all()

    @pytest.mark.parametrize("options", [{}, {"batch_size": 10}, {"average": 0.9}, {"validation": True}], ids=str)
    def test_averages_that_stop_being_finite_are_a_divergence(self, options):
        X, Y = examples(SIZES, "softmax", 20)
        X, Y = (X * 1e25).astype("f4"), Y.astype("f4")  # whose variance is no float32
        options = options | ({"validation": (X, Y)} if "validation" in options else {})
        with pytest.raises(nn.DivergenceError) as caught:
            nn.train(self.network, X, Y, epochs=3, **options)
        assert np.isfinite(caught.value.params.statistics).all()

    def test_what_training_cannot_do_with_it_is_refused(self, tmp_path):
        X, Y = examples(SIZES, "softmax", 21)
        for batch_size in (1, 10):
            with pytest.raises(ValueError, match="single example"):
                nn.train(self.network, X, Y, epochs=1, batch_size=batch_size)
        with pytest.raises(ValueError, match="at least 2 examples"):
            nn.train(self.network, X[:, :1], Y[:, :1], epochs=1)
        plain = nn.Network(SIZES, "tanh", "softmax")
        with pytest.raises(ValueError, match="batch normalisation"):
            nn.train(self.network, X, Y, epochs=1, params=plain.init())
        with pytest.raises(ValueError, match="batch normalisation"):
            nn.train(plain, X, Y, epochs=1, params=self.network.init())


class TestFiles:
    network = nn.Network((4, 6, 5, 3), "tanh", "softmax", batch_norm=True)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_files_keep_the_averages(self, tmp_path, dtype):
        X, Y = examples(SIZES, "softmax", 40)
        params = nn.train(self.network, X, Y, epochs=3, dtype=dtype).params
        path = tmp_path / "model.safetensors"
        nn.save(path, self.network, params)
        network, again = nn.load(path)
        assert network == self.network
        np.testing.assert_array_equal(again.vector, params.vector)
        np.testing.assert_array_equal(again.statistics, params.statistics)
        np.testing.assert_array_equal(network.predict(again, X), self.network.predict(params, X))

    def test_files_that_are_not_whole_are_refused(self, tmp_path):
        from safetensors import safe_open
        from safetensors.numpy import save_file

        path = tmp_path / "model.safetensors"
        params = self.network.init()
        nn.save(path, self.network, params)
        with safe_open(path, "numpy") as file:
            entries, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert len(tensors) == 2 * 3 + 2 * 3
        for name, wrong in {"gamma1": None, "mean2": None, "variance1": -np.ones((6, 1), "f4")}.items():
            broken = {k: V for k, V in (tensors | {name: wrong}).items() if V is not None}
            save_file(broken, path, entries)
            with pytest.raises(nn.ModelFileError, match=name[:4] if wrong is None else name):
                nn.load(path)
        with pytest.raises(ValueError, match="averages"):
            nn.save(path, self.network, [tuple(layer) for layer in params])
        with pytest.raises(ValueError, match="batch normalisation"):
            nn.save(path, nn.Network(SIZES, "tanh", "softmax"), params)

    def test_exports_are_of_the_folded_network(self):
        pytest.importorskip("onnx")
        X, Y = examples(SIZES, "softmax", 40)
        params = nn.train(self.network, X, Y, epochs=3, dtype="float64").params
        wanted = self.network.predict(params, X)
        module = nn.to_torch(self.network, params)
        np.testing.assert_allclose(module(torch.tensor(X.T.copy())).detach().numpy().T, wanted, rtol=0, atol=1e-12)
        model = nn.to_onnx(self.network, params)
        assert model == nn.to_onnx(*self.network.folded(params))


class TestFurtherKinds:
    def test_costs_of_ones_own(self):
        X, Y = examples(SIZES, "identity", 12)
        network = network_of("identity", hidden="tanh")
        own = nn.Cost(lambda A, Y, xp: 0.5 * (A - Y) ** 2, dA=lambda A, Y, xp: A - Y)
        params = network.init(dtype="float64")
        wanted, g = network.gradients(params, X, Y)
        found, own_g = network.gradients(params, X, Y, cost=own)
        assert abs(found - wanted) < 1e-12
        np.testing.assert_allclose(own_g.vector, g.vector, rtol=0, atol=1e-12)
        assert nn.check_gradients(network, params, X, Y, cost=own).relative_difference < 1e-7
        trained = [
            nn.train(network, X, Y, epochs=3, cost=cost, dtype="float64", validation=(X, Y)) for cost in (None, own)
        ]
        np.testing.assert_allclose(trained[0].params.vector, trained[1].params.vector, rtol=0, atol=1e-10)
        assert abs(trained[0].history[-1].validation_cost - trained[1].history[-1].validation_cost) < 1e-10

    def test_without_hidden_layers_it_is_the_plain_network(self):
        X, Y = examples((4, 3), "softmax", 9)
        network, plain = nn.Network((4, 3), output="softmax", batch_norm=True), nn.Network((4, 3), output="softmax")
        one, other = (nn.train(net, X, Y, epochs=4, dtype="float64") for net in (network, plain))
        np.testing.assert_allclose(one.params.vector, other.params.vector, rtol=0, atol=1e-12)
        np.testing.assert_allclose(network.predict(one.params, X), plain.predict(other.params, X), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("m", [3, 5000, 40000])
    def test_large_batches_are_one_batch_for_any_number_of_workers(self, m):
        X, Y = examples(SIZES, "softmax", m)
        layers = normalized_layers(SIZES)
        J, wanted, *_ = core_gradients(layers, X, Y, "softmax", m)
        found = [network_of().gradients(layers, X, Y, workers=workers) for workers in (1, 2)]
        assert abs(found[0][0] - J) < 1e-10
        np.testing.assert_allclose(found[0][1].vector, join(wanted, xp=np), rtol=0, atol=1e-10)
        assert found[0][0] == found[1][0]
        np.testing.assert_array_equal(found[0][1].vector, found[1][1].vector)

    def test_gradients_are_jaxs_own(self):
        jax = pytest.importorskip("jax")
        network, (X, Y) = network_of(hidden="tanh"), examples(SIZES, "softmax", 11)
        params = network.init(dtype="float64", backend="jax")
        X, Y = (params.backend.asarray(V, "float64") for V in (X, Y))

        def J(theta):
            return network.cost(network.parameters(theta), X, Y)

        wanted = jax.jit(jax.grad(J))(params.vector)
        np.testing.assert_allclose(network.gradients(params, X, Y)[1].vector, wanted, rtol=0, atol=1e-10)

    def test_float32_is_close_to_float64(self):
        X, Y = examples(SIZES, "softmax", 200)
        network = network_of()
        params = network.init(dtype="float64")
        J, g = network.gradients(params, X, Y)
        J32, g32 = network.gradients(params.to(params.backend, "float32"), X.astype("f4"), Y.astype("f4"))
        assert abs(J32 - J) < 1e-5
        np.testing.assert_allclose(g32.vector, g.vector, rtol=0, atol=1e-5)

    def test_ten_layers_train_with_it_and_hardly_without(self):
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        X, Y = images.T / 16, nn.one_hot(labels, 10)
        scores = []
        for is_normalized in (False, True):
            network = nn.Network((64,) + (64,) * 9 + (10,), "sigmoid", "softmax", batch_norm=is_normalized)
            options = {"optimizer": nn.Adam(0.003), "scheme": "xavier", "batch_size": 64, "epochs": 8}
            params = nn.train(network, X[:, :1408], Y[:, :1408], **options).params
            scores.append(network.score(params, X[:, 1408:], Y[:, 1408:]))
        assert scores[0] < 0.4
        assert scores[1] > 0.8

    def test_networks_with_their_normalisation(self, tmp_path):
        X, Y = examples(SIZES, "softmax", 60)
        network, scaled = network_of(hidden="tanh"), nn.Normalization.fit(X)
        params = nn.train(network, scaled(X, "float64"), Y, epochs=5, dtype="float64").params
        model = scaled.model(network, params)
        path = tmp_path / "model.safetensors"
        nn.save(path, *model[:2], metadata=model.metadata)
        wanted = network.predict(params, scaled(X, "float64"))
        np.testing.assert_allclose(nn.read_model(path).predict(X), wanted, rtol=0, atol=1e-12)
        plain, folded = nn.load(path)
        assert not plain.batch_norm
        np.testing.assert_allclose(plain.predict(folded, X), wanted, rtol=0, atol=1e-10)


class TestCommandLine:
    def table(self, folder, rows=61):
        generator = np.random.default_rng(0)
        X = generator.normal(size=(rows, 2))
        lines = [f"{a},{b},{'yes' if a + b > 0 else 'no'}" for a, b in X]
        (folder / "table.csv").write_text("\n".join(["a,b,kind", *lines]), encoding="utf-8")
        return folder / "table.csv"

    def test_a_model_is_trained_kept_and_used(self, here, run):
        table = self.table(here)
        code, out, err = run("train", table, "--batch-norm", "--hidden", "8,8", "--epochs", 30, "--force")
        assert code == 0, err
        assert "batch norm, relu" in out
        model = nn.read_model("model.safetensors")
        assert model.network.batch_norm
        code, out, err = run("predict", "model.safetensors", table)
        assert code == 0, err


class TestPlainAnswers:
    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
    def test_averages_that_are_none_are_refused(self, wrong):
        network = network_of()
        with pytest.raises(ValueError, match="statistics"):
            network.parameters(np.ones(network.size), statistics=np.full(22, wrong))
        with pytest.raises(ValueError, match="statistics"):
            network.parameters(np.ones(network.size), statistics=np.ones(21))
        with pytest.raises(ValueError, match="batch normalisation"):
            nn.Network(SIZES).parameters(np.ones(nn.Network(SIZES).size), statistics=np.ones(22))

    def test_a_batch_without_room_says_what_to_do(self, monkeypatch):
        from nnarray.engine import compute

        def full(*_):
            msg = "full"
            raise MemoryError(msg)

        monkeypatch.setattr(compute, "as_one_tile", full)
        with pytest.raises(MemoryError, match=r"m = 80 .*batch_size = 10"):
            network_of().gradients(network_of().init(), *(V.astype("f4") for V in examples(SIZES, "softmax", 80)))

    def test_notebooks_show_gamma(self):
        assert "gamma" in network_of().init()._repr_html_()
        assert "batch norm" in network_of()._repr_html_()


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_parameters_with_statistics_are_a_tree_of_two_leaves(library) -> None:
    module = pytest.importorskip(library)
    params = nn.Network((2, 3, 1), batch_norm=True).init(backend=library)
    if library == "jax":
        leaves, definition = module.tree.flatten(params)
        again = module.tree.unflatten(definition, leaves)
        doubled = module.jit(lambda params: module.tree.map(lambda V: 2 * V, params))(params)
    else:
        from torch.utils import _pytree

        leaves, definition = _pytree.tree_flatten(params)
        again = _pytree.tree_unflatten(leaves, definition)
        doubled = _pytree.tree_map(lambda V: 2 * V, params)
    assert [tuple(leaf.shape) for leaf in leaves] == [(16,), (6,)]
    for found, factor in ((again, 1), (doubled, 2)):
        assert type(found) is nn.NormalizedParameters
        assert found.sizes == (2, 3, 1)
        np.testing.assert_array_equal(nn.backend("numpy").asarray(found.statistics), [0, 0, 0] + [factor] * 3)
        np.testing.assert_array_equal(
            nn.backend("numpy").asarray(found.vector), factor * nn.backend("numpy").asarray(params.vector)
        )
