"""What JAX and torch make of our functions: traced, differentiated, vectorised, exported, with anything closed over."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray.core.activations import ACTIVATIONS

jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")

M = 6
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")
L2, L1 = 0.3, 0.2


def example(output: str) -> tuple[nn.Network, dict[str, np.ndarray]]:
    """A network and, on the host, theta, X, Y, weights, l2, l1 of a call."""
    network, layers, X, Y = problem((3, 4, 2), "tanh", output, m=M, seed=4)
    theta = nn.Parameters.from_layers(layers).vector
    weights = np.linspace(0.5, 2.0, M)[None, :]
    return network, {"theta": theta, "X": X, "Y": Y, "weights": weights, "l2": np.asarray(L2), "l1": np.asarray(L1)}


def call(function: str, network: nn.Network, xp: Any, V: dict[str, Any]) -> Any:
    """One of the network's functions as one array of `xp`, of theta or, closed over, of Parameters."""
    theta, options = V["theta"], {"weights": V["weights"], "l2": V["l2"], "l1": V["l1"]}
    params = theta if isinstance(theta, nn.Parameters) else network.parameters(theta)
    if function == "cost":
        return network.cost(params, V["X"], V["Y"], **options)
    if function == "gradients":
        J, gradients = network.gradients(params, V["X"], V["Y"], **options)
        return xp.concatenate([xp.reshape(J, (1,)), gradients.vector])
    if function == "forward":
        return xp.concatenate([xp.reshape(A, (-1,)) for A in network.forward(params, V["X"])])
    if function == "predict":
        return network.predict(params, V["X"])
    return network.score(params, V["X"], V["Y"])


def on_host(function: str, network: nn.Network, V: dict[str, Any]) -> np.ndarray:
    return np.asarray(call(function, network, np, V | {"l2": float(V["l2"]), "l1": float(V["l1"])}))


def central_differences(f: Callable[[np.ndarray], Any], x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """The derivatives of all that f gives, by x's last axes."""
    columns = []
    for i in range(x.size):
        e = np.zeros(x.size)
        e[i] = eps
        e = e.reshape(x.shape)
        columns.append((np.asarray(f(x + e)) - np.asarray(f(x - e))) / (2 * eps))
    return np.stack(columns, axis=-1).reshape((*columns[0].shape, *x.shape))


def mirrored(x: Any) -> Any:
    """Two of x along a new first axis, the second with its last axis turned round."""
    return np.stack([x, x[..., ::-1] if np.ndim(x) else x])


JAX_VALUES = {
    "jit": jax.jit,
    "jit of jit": lambda f: jax.jit(jax.jit(f)),
    "checkpoint": jax.checkpoint,
    "cond": lambda f: lambda *x: jax.lax.cond(True, f, f, *x),
}
JAX_STACKED = {
    "vmap": jax.vmap,
    "jit of vmap": lambda f: jax.jit(jax.vmap(f)),
    "vmap of jit": lambda f: jax.vmap(jax.jit(f)),
    "scan": lambda f: lambda *x: jax.lax.scan(lambda c, v: (c, f(*v)), 0.0, x)[1],
    "jit of map": lambda f: jax.jit(lambda *x: jax.lax.map(lambda v: f(*v), x)),
}
JAX_GRADIENTS = {
    "grad": jax.grad,
    "jit of grad": lambda f: jax.jit(jax.grad(f)),
    "grad of jit": lambda f: jax.grad(jax.jit(f)),
    "jacrev": jax.jacrev,
    "jacfwd": jax.jacfwd,
    "grad of checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "vjp": lambda f: lambda x: jax.vjp(f, x)[1](1.0)[0],
}
JAX_HESSIANS = {
    "hessian": jax.hessian,
    "jit of hessian": lambda f: jax.jit(jax.hessian(f)),
    "jacrev of jacrev": lambda f: jax.jacrev(jax.jacrev(f)),
}


def exported(f: Callable[..., Any]) -> Callable[..., Any]:
    class Module(torch.nn.Module):
        def forward(self, *x: Any) -> Any:
            return f(*x)

    return lambda *x: torch.export.export(Module(), x, strict=False).module()(*x)


def exported_strictly(f: Callable[..., Any]) -> Callable[..., Any]:
    class Module(torch.nn.Module):
        def forward(self, *x: Any) -> Any:
            return f(*x)

    def call(*x: Any) -> Any:
        torch._dynamo.reset()
        return torch.export.export(Module(), x, strict=True).module()(*x)

    return call


def compiled_whole(f: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(f, backend="eager", fullgraph=True)


def traced_by_fx(f: Callable[..., Any]) -> Callable[..., Any]:
    from torch.fx.experimental.proxy_tensor import make_fx

    return lambda *x: make_fx(f, tracing_mode="real")(*x)(*x)


def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(f, backend="aot_eager")


TORCH_VALUES = {
    "export": exported,
    "strict export": exported_strictly,
    "compile": compiled,
    "compile fullgraph": compiled_whole,
    "make_fx": traced_by_fx,
    "jit.trace": lambda f: lambda *x: torch.jit.trace(f, x)(*x),
}
TORCH_STACKED = {
    "vmap": torch.func.vmap,
    "vmap in chunks": partial(torch.func.vmap, chunk_size=1),
    "compile of vmap": lambda f: compiled(torch.func.vmap(f)),
}
TORCH_GRADIENTS = {
    "grad": torch.func.grad,
    "jacrev": torch.func.jacrev,
    "jacfwd": torch.func.jacfwd,
    "compile of grad": lambda f: compiled(torch.func.grad(f)),
    "vjp": lambda f: lambda x: torch.func.vjp(f, x)[1](torch.ones((), dtype=x.dtype))[0],
    "autograd": lambda f: lambda x: torch.autograd.grad(f(x.requires_grad_()), x)[0],
}
TORCH_HESSIANS = {
    "hessian": torch.func.hessian,
    "jacrev of jacrev": lambda f: torch.func.jacrev(torch.func.jacrev(f)),
    "jacfwd of grad": lambda f: torch.func.jacfwd(torch.func.grad(f)),
}

TRACED = (("theta",), ("X",), ("theta", "X"), ("theta", "X", "Y", "weights", "l2", "l1"), ("weights",))
"""What a transform traces; the rest is closed over, theta as Parameters."""

USES = {"score": ("theta", "X", "Y"), "predict": ("theta", "X"), "forward": ("theta", "X")}


def patterns(transforms: Any, functions: Any, traced: Any = TRACED) -> list[tuple[str, str, tuple[str, ...], str]]:
    """The first transform of every function of everything, the others of each function; the outputs take turns."""
    rows: list[tuple[str, str, tuple[str, ...], str]] = []
    for t, transform in enumerate(transforms):
        for f, function in enumerate(functions):
            uses = [tuple(name for name in names if name in USES.get(function, names)) for names in traced]
            uses = [names for names in dict.fromkeys(uses) if names]
            for names in uses if t == 0 else [uses[(t + f) % len(uses)]]:
                rows.append((transform, function, names, OUTPUTS[len(rows) % 4]))
    return rows


class Library:
    """JAX or torch: its arrays, and the transforms that are tried on it."""

    def __init__(self, name: str, xp: Any, values: Any, stacked: Any, gradients: Any, hessians: Any) -> None:
        self.name, self.xp = name, xp
        self.values, self.stacked, self.gradients, self.hessians = values, stacked, gradients, hessians

    def asarray(self, x: np.ndarray) -> Any:
        return self.xp.asarray(np.array(x))

    def check(
        self, transform: Any, function: str, traced: tuple[str, ...], output: str, how: Callable[..., Any]
    ) -> None:
        """The transformed function gives what `how` makes of it on the host, and nothing traced outlives it."""
        network, host = example(output)
        here = {name: self.asarray(V) for name, V in host.items()} | {"l2": L2, "l1": L1}
        here["theta"] = params = network.parameters(here["theta"])

        def f(*x: Any) -> Any:
            return call(function, network, self.xp, here | dict(zip(traced, x, strict=True)))

        def f_on_host(*x: np.ndarray) -> np.ndarray:
            return on_host(function, network, host | dict(zip(traced, x, strict=True)))

        given, expected = how(f_on_host, *(host[name] for name in traced))
        found = transform(f)(*map(self.asarray, given))
        found = found.detach() if self.name == "torch" else found
        tolerance = 1e-6 if how is curvature else 1e-8 if how is slope else 1e-12
        np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance)
        again = np.asarray(network.predict(params, here["X"]))
        np.testing.assert_allclose(again, on_host("predict", network, host), rtol=1e-12)


JAX = Library("jax", jax.numpy, JAX_VALUES, JAX_STACKED, JAX_GRADIENTS, JAX_HESSIANS)
TORCH = Library("torch", torch, TORCH_VALUES, TORCH_STACKED, TORCH_GRADIENTS, TORCH_HESSIANS)
FUNCTIONS = ("cost", "gradients", "predict", "forward", "score")


def value(f: Any, *x: np.ndarray) -> Any:
    return x, f(*x)


def of_each(f: Any, *x: np.ndarray) -> Any:
    stacks = [mirrored(V) for V in x]
    return stacks, np.stack([f(*row) for row in zip(*stacks, strict=True)])


def slope(f: Any, x: np.ndarray) -> Any:
    return (x,), central_differences(f, x)


def curvature(f: Any, x: np.ndarray) -> Any:
    return (x,), central_differences(lambda x: central_differences(f, x, 3e-4), x, 3e-4)


def all_patterns(library: Library) -> list[Any]:
    by = (("theta",), ("X",), ("weights",), ("l2",), ("l1",))
    return [
        *((library.values, value, *row) for row in patterns(library.values, FUNCTIONS)),
        *((library.stacked, of_each, *row) for row in patterns(library.stacked, FUNCTIONS)),
        *((library.gradients, slope, *row) for row in patterns(library.gradients, ["cost"], by)),
        *((library.hessians, curvature, *row) for row in patterns(library.hessians, ["cost"], by[:2])),
        *((library.gradients, slope, *row) for row in patterns(("jacrev", "jacfwd"), ("gradients", "predict"), by[:2])),
    ]


def name_of(pattern: Any) -> str:
    return "-".join([*pattern[2:4], "+".join(pattern[4]), pattern[5]]) if isinstance(pattern, tuple) else str(pattern)


@pytest.mark.parametrize("pattern", all_patterns(JAX), ids=name_of)
def test_jax(pattern) -> None:
    transforms, how, transform, function, traced, output = pattern
    with jax.checking_leaks():
        JAX.check(transforms[transform], function, traced, output, how)


@pytest.mark.parametrize("pattern", all_patterns(TORCH), ids=name_of)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_torch(pattern) -> None:
    transforms, how, transform, function, traced, output = pattern
    TORCH.check(transforms[transform], function, traced, output, how)


def test_the_table_is_large() -> None:
    assert min(len(all_patterns(library)) for library in (JAX, TORCH)) >= 60


class TestConcreteValues:
    """What is closed over has values, and these are checked, whatever else is traced."""

    @pytest.mark.parametrize("name", ["cost", "gradients"])
    @pytest.mark.parametrize("transform", [lambda f: lambda t: jax.jit(f)(t[0]), jax.vmap], ids=["jit", "vmap"])
    @pytest.mark.parametrize(
        ("argument", "value", "message"),
        [
            ("X", np.nan, "X must be finite in float64, got nan at"),
            ("Y", 2.0, r"Y must be in \[0, 1\]"),
            ("Y", np.inf, "Y must be finite"),
            ("weights", -1.0, "weights must be ≥ 0"),
            ("l2", -1.0, "l2 must be a finite number ≥ 0"),
        ],
    )
    def test_jax(self, transform, name, argument, value, message) -> None:
        network, host = example("sigmoid")
        broken = np.array(host[argument])
        broken[(0,) * broken.ndim] = value
        here = {k: jax.numpy.asarray(V) for k, V in (host | {argument: broken}).items()}
        with pytest.raises(ValueError, match=message):
            transform(lambda theta: call(name, network, jax.numpy, here | {"theta": theta}))(here["theta"][None])
        network.cost(network.parameters(here["theta"]), jax.numpy.ones((3, 2)), jax.numpy.ones((2, 2)))

    def test_shapes_and_dtypes_are_checked_of_what_is_traced(self) -> None:
        network, host = example("sigmoid")
        params = network.parameters(jax.numpy.asarray(host["theta"]))
        with pytest.raises(ValueError, match=r"X must have shape \(n_x, m\) = \(3, m\)"):
            jax.jit(lambda X: network.predict(params, X))(host["X"].T)
        with pytest.raises(TypeError, match="X must hold real numbers"):
            jax.jit(lambda X: network.predict(params, X))(host["X"] * 1j)

    def test_what_looks_at_values_says_so_or_computes_at_once(self) -> None:
        network, host = example("sigmoid")
        X, Y, theta = (jax.numpy.asarray(host[name]) for name in ("X", "Y", "theta"))
        with pytest.raises(TypeError, match=r"nn\.train looks at values, and params, a .*Tracer, has none yet"):
            jax.jit(lambda t: nn.train(network, X, Y, params=network.parameters(t), epochs=1).params)(theta)
        with pytest.raises(TypeError, match=r"nn\.check_gradients looks at values, and params"):
            jax.jit(lambda t: nn.check_gradients(network, network.parameters(t), X, Y))(theta)
        params = network.parameters(theta)
        trained = nn.train(network, X, Y, params=params, epochs=3).params
        inside = jax.jit(lambda c: c * nn.train(network, X, Y, params=params, epochs=3).params.vector)(1.0)
        np.testing.assert_allclose(inside, trained.vector, rtol=1e-12)

    def test_one_hot_of_traced_labels(self) -> None:
        labels = np.array([2, 0, 1])
        for transform in (jax.jit, lambda f: torch.func.vmap(f, out_dims=1)):
            given = jax.numpy.asarray(labels) if transform is jax.jit else torch.asarray(labels)[None].T
            np.testing.assert_array_equal(
                np.asarray(transform(lambda x: nn.one_hot(x, 3))(given)).reshape(3, 3), np.eye(3)[:, labels]
            )


class TestParametersAsATree:
    def test_jax_takes_and_returns_them(self) -> None:
        network, host = example("softmax")
        X, Y = jax.numpy.asarray(host["X"]), jax.numpy.asarray(host["Y"])
        params = network.parameters(jax.numpy.asarray(host["theta"]))
        g = jax.jit(jax.grad(network.cost))(params, X, Y)
        assert isinstance(g, nn.Parameters)
        np.testing.assert_allclose(g.vector, network.gradients(params, X, Y)[1].vector, atol=1e-14)
        [(path, leaf)] = jax.tree_util.tree_leaves_with_path(params)
        assert (jax.tree_util.keystr(path), leaf is params.vector) == (".vector", True)
        assert jax.tree.structure(params) == jax.tree.structure(network.init())
        assert "(26,)" in repr(jax.tree.map(np.shape, params))

    def test_torch_takes_and_returns_them(self) -> None:
        network, host = example("softmax")
        X, Y, theta = (torch.asarray(np.array(host[name])) for name in ("X", "Y", "theta"))
        params = network.parameters(theta)
        g = torch.func.grad(network.cost)(params, X, Y)
        assert isinstance(g, nn.Parameters)
        np.testing.assert_allclose(g.vector, network.gradients(params, X, Y)[1].vector, atol=1e-14)

    def test_steps_of_ours_are_scanned(self) -> None:
        network, host = example("identity")
        X, Y = jax.numpy.asarray(host["X"]), jax.numpy.asarray(host["Y"])
        params, optimizer = network.parameters(jax.numpy.asarray(host["theta"])), nn.Adam(0.05)

        def step(carry: Any, _: None) -> Any:
            J, g = network.gradients(carry[0], X, Y)
            return optimizer.update(carry[0], g, carry[1]), J

        (found, _), _ = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), None, length=20))(params)
        trained = nn.train(network, X, Y, params=params, optimizer=optimizer, epochs=20).params
        np.testing.assert_allclose(found.vector, trained.vector, rtol=1e-9)

    def test_no_library_is_imported_for_it(self) -> None:
        source = (
            "import sys, nnarray as nn; nn.Network((2, 1)).init(); print('jax' in sys.modules, 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "False"]

    def test_those_made_before_the_import_are_known_after_the_next_are_made(self) -> None:
        source = (
            "import nnarray as nn; params = nn.Network((2, 1)).init(); import jax; nn.Network((2, 1)).init();"
            "print(len(jax.tree.leaves(params)), jax.tree.leaves(params)[0].shape)"
        )
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "1 (3,)"


class TestOpenM:
    """m may be a symbol of JAX's or torch's export, or nothing at all, in a namespace that builds graphs."""

    @pytest.mark.parametrize("function", ["cost", "gradients", "predict", "forward"])
    def test_jax_export(self, function) -> None:
        network, host = example("softmax")
        params = network.parameters(jax.numpy.asarray(host["theta"]))
        (m,) = jax.export.symbolic_shape("m")
        f = jax.jit(
            lambda X, Y, w: call(
                function, network, jax.numpy, {"theta": params, "X": X, "Y": Y, "weights": w, "l2": L2, "l1": L1}
            )
        )
        arguments = [jax.ShapeDtypeStruct((n, m), "float64") for n in (3, 2, 1)]
        found = jax.export.export(f)(*arguments).call(*(host[name][:, :4] for name in ("X", "Y", "weights")))
        few = {k: V[:, :4] if k in {"X", "Y", "weights"} else V for k, V in host.items()}
        np.testing.assert_allclose(found, on_host(function, network, few), rtol=1e-12)

    @pytest.mark.parametrize("function", ["cost", "gradients", "predict"])
    def test_torch_export(self, function) -> None:
        network, host = example("softmax")
        params = network.parameters(torch.asarray(np.array(host["theta"])))

        class Module(torch.nn.Module):
            def forward(self, X: Any, Y: Any, w: Any) -> Any:
                return call(
                    function, network, torch, {"theta": params, "X": X, "Y": Y, "weights": w, "l2": L2, "l1": L1}
                )

        m = torch.export.Dim("m")
        given = [torch.asarray(np.array(host[name])) for name in ("X", "Y", "weights")]
        program = torch.export.export(Module(), tuple(given), dynamic_shapes=({1: m}, {1: m}, {1: m}), strict=False)
        few = {k: V[:, :4] if k in {"X", "Y", "weights"} else V for k, V in host.items()}
        found = program.module()(*(V[:, :4] for V in given))
        np.testing.assert_allclose(found, on_host(function, network, few), rtol=1e-12)

    def test_a_namespace_that_builds_graphs(self) -> None:
        from lazy_arrays import Lazy

        network, host = example("softmax")
        for function in ("predict", "forward", "cost", "gradients"):
            options = {"weights": Lazy(host["weights"])} if function in {"cost", "gradients"} else {}
            data = [Lazy(host["X"]), *([Lazy(host["Y"])] if options else [])]
            asked = getattr(network, function)
            found = asked([(Lazy(V), Lazy(c)) for V, c in network.parameters(host["theta"])], *data, **options)
            wanted = asked(
                network.parameters(host["theta"]),
                *(V.computed for V in data),
                **{k: V.computed for k, V in options.items()},
            )
            if function == "gradients":
                found, wanted = (found[0], found[1].vector), (wanted[0], wanted[1].vector)
            for one, other in zip(
                *((found, wanted) if isinstance(found, list | tuple) else ([found], [wanted])), strict=True
            ):
                np.testing.assert_allclose(one.computed, other, rtol=1e-12)


class TestTorchWithoutValues:
    def test_meta_tensors(self) -> None:
        network, host = example("exp")
        here = {k: torch.asarray(np.array(V)).to("meta") for k, V in host.items()} | {"l2": L2, "l1": L1}
        for function in FUNCTIONS:
            found = call(function, network, torch, here)
            assert (found.device.type, tuple(found.shape)) == ("meta", on_host(function, network, host).shape)

    def test_what_copies_values_says_that_there_are_none(self, tmp_path) -> None:
        network = nn.Network((2, 3, 1))
        params = network.parameters(network.init(0, backend="torch").vector.to("meta"))
        for name, copy in (
            ("save", lambda: nn.save(tmp_path / "model", network, params)),
            ("to_torch", lambda: nn.to_torch(network, params)),
            ("to_onnx", lambda: nn.to_onnx(network, params)),
        ):
            with pytest.raises(TypeError, match=f"nn.{name} looks at values, and params, a Tensor, has none yet"):
                copy()
        assert list(tmp_path.iterdir()) == []

    def test_fake_tensors(self) -> None:
        from torch._subclasses import FakeTensorMode

        network, host = example("softmax")
        with FakeTensorMode() as mode:
            here = {k: mode.from_tensor(torch.asarray(np.array(V))) for k, V in host.items()} | {"l2": L2, "l1": L1}
            for function in FUNCTIONS:
                found = call(function, network, torch, here)
                assert tuple(found.shape) == on_host(function, network, host).shape

    def test_gradients_have_no_graph_and_costs_have_one(self) -> None:
        network, host = example("sigmoid")
        X, Y, theta = (torch.asarray(np.array(host[name])) for name in ("X", "Y", "theta"))
        params = network.parameters(theta.requires_grad_())
        with torch.no_grad():
            network.predict(params, X)  # whose layers must not be kept for what follows
        J, g = network.gradients(params, X, Y)
        assert not J.requires_grad
        assert not g.vector.requires_grad
        network.cost(params, X, Y).backward()
        np.testing.assert_allclose(theta.grad, g.vector, atol=1e-14)

    def test_gradients_of_each_example(self) -> None:
        network, host = example("softmax")
        X, Y, theta = (torch.asarray(np.array(host[name])) for name in ("X", "Y", "theta"))

        def J(theta: Any, x: Any, y: Any) -> Any:
            return network.cost(network.parameters(theta), x[:, None], y[:, None])

        each = torch.func.vmap(torch.func.grad(J), (None, 1, 1))(theta, X, Y)
        for k in range(M):
            one = {name: host[name][:, k : k + 1] for name in ("X", "Y")}
            wanted = network.gradients(network.parameters(host["theta"]), one["X"], one["Y"])[1].vector
            np.testing.assert_allclose(each[k], wanted, atol=1e-14)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
class TestTorchWithoutGraphBreaks:
    """`fullgraph=True` refuses whatever the compiler cannot follow."""

    @pytest.mark.parametrize("hidden", ACTIVATIONS)
    def test_every_activation(self, hidden) -> None:
        output = OUTPUTS[list(ACTIVATIONS).index(hidden) % 4]
        network, layers, X, Y = problem((3, 4, 3, 2), hidden, output, m=M, seed=4)
        params = network.parameters(torch.asarray(nn.Parameters.from_layers(layers).vector))
        X, Y = torch.asarray(X), torch.asarray(Y)

        def everything(X: Any, Y: Any) -> Any:
            J, g = network.gradients(params, X, Y, l2=L2)
            A, pull = network.vjp(params, X)
            return J, g.vector, A, pull(A - Y)[1]

        for found, wanted in zip(compiled_whole(everything)(X, Y), everything(X, Y), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_every_output(self, output) -> None:
        network, host = example(output)
        params = network.parameters(torch.asarray(np.array(host["theta"])))
        X, Y, w = (torch.asarray(np.array(host[name])) for name in ("X", "Y", "weights"))
        cost = exported_strictly(lambda X, Y, w: network.cost(params, X, Y, weights=w, l2=L2))
        np.testing.assert_allclose(cost(X, Y, w), network.cost(params, X, Y, weights=w, l2=L2), rtol=1e-12)

    def test_a_cost_of_one_s_own(self) -> None:
        network, host = example("identity")
        params = network.parameters(torch.asarray(np.array(host["theta"])))
        X, Y = (torch.asarray(np.array(host[name])) for name in ("X", "Y"))
        pinball = nn.Cost(
            lambda A, Y, xp: xp.maximum(0.9 * (Y - A), xp.maximum(0.0, A - Y)),
            dA=lambda A, Y, xp: xp.astype(A > Y, A.dtype) - 0.9 * xp.astype(Y > A, A.dtype),
        )

        def gradients(X: Any, Y: Any) -> Any:
            J, g = network.gradients(params, X, Y, cost=pinball)
            return torch.cat([J[None], g.vector])

        np.testing.assert_allclose(compiled_whole(gradients)(X, Y), gradients(X, Y), rtol=1e-12)

    def test_numbers_keep_the_arrays_dtype(self) -> None:
        from nnarray.backends.torch import CompiledNamespace

        xp, x = CompiledNamespace(torch), torch.tensor([-1.0, 0.0, 2.0, torch.nan], dtype=torch.float32)
        for found, wanted in (
            (xp.maximum(x, 0.0), torch.maximum(x, torch.zeros(4))),
            (xp.minimum(0.0, x), torch.minimum(torch.zeros(4), x)),
            (xp.abs(x), torch.abs(x)),
        ):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
        assert xp.exp is torch.exp


class TestWhereUnitsAreZero:
    """Where Z is 0, as at parameters of zeros, autograd gives our derivatives, not the mean of two sides."""

    def example(self, hidden: str) -> tuple[Any, ...]:
        output = OUTPUTS[list(ACTIVATIONS).index(hidden) % 4]
        network, layers, X, Y = problem((3, 4, 3, 2), hidden, output, m=M, seed=5)
        theta = np.array(nn.Parameters.from_layers(layers).vector)
        theta[:16] = 0  # W[1] and b[1]
        return network, (np.zeros_like(theta), theta), X, Y

    @pytest.mark.parametrize("hidden", ACTIVATIONS)
    def test_jax(self, hidden) -> None:
        network, thetas, X, Y = self.example(hidden)
        here = jax.numpy.asarray(X), jax.numpy.asarray(Y)

        def J(theta: Any) -> Any:
            return network.cost(network.parameters(theta), *here)

        def gradients(theta: Any) -> Any:
            return network.gradients(network.parameters(theta), *here)[1].vector

        def found(theta: Any) -> Any:
            curved = [jax.jvp(f, (theta,), (theta + 1.0,))[1] for f in (jax.grad(J), gradients)]
            return jax.grad(J)(theta), *curved

        found = jax.jit(found)
        for theta in thetas:
            slope, *curved = found(jax.numpy.asarray(theta))
            _, g = network.gradients(network.parameters(theta), X, Y)
            np.testing.assert_allclose(slope, g.vector, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(*curved, rtol=1e-9, atol=1e-12)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("hidden", ACTIVATIONS)
    def test_torch(self, hidden) -> None:
        network, thetas, X, Y = self.example(hidden)
        here = torch.asarray(X), torch.asarray(Y)

        def J(theta: Any) -> Any:
            return network.cost(network.parameters(theta), *here)

        def gradients(theta: Any) -> Any:
            return network.gradients(network.parameters(theta), *here)[1].vector

        for theta in map(torch.asarray, thetas):
            _, g = network.gradients(network.parameters(theta.numpy()), X, Y)
            leaf = theta.clone().requires_grad_()
            J(leaf).backward()
            forward = torch.func.jacfwd(J)(theta)
            for found in (leaf.grad, torch.func.grad(J)(theta), forward):
                np.testing.assert_allclose(found, g.vector, rtol=1e-9, atol=1e-12)
            direction = (theta + 1.0,)
            curved = [torch.func.jvp(f, (theta,), direction)[1] for f in (torch.func.grad(J), gradients)]
            np.testing.assert_allclose(*curved, rtol=1e-9, atol=1e-12)
