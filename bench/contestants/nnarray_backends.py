"""nnarray itself, one contestant for each backend, through its public interface."""

from typing import Any

import numpy as np

import nnarray as nn
from bench.agreement import Result, checked_columns, flatten
from bench.contestants.base import Contestant, Prepared
from bench.contestants.settings import jax_device, set_precision, torch_device
from bench.problems import Problem
from nnarray import backends

DEVICES = {"numpy": ("cpu",), "cupy": ("gpu",), "torch": ("cpu", "gpu"), "jax": ("cpu", "gpu")}
PRECISIONS = {
    "cupy": ("float32", "float64", "tf32", "bfloat16"),
    "torch": ("float32", "float64", "tf32"),
    "jax": ("float32", "float64", "tf32"),
}


class NNArray(Contestant):
    """nnarray on the backend `library`."""

    is_peer = False

    def __init__(self, library: str) -> None:
        self.library, self.name = library, f"nnarray-{library}"
        self.devices = DEVICES[library]
        self.precisions = PRECISIONS.get(library, ("float32", "float64"))
        self.compiles = library == "jax"

    def missing(self, device: str) -> str | None:
        """The backend's own reason, or the lack of a GPU in its library."""
        from bench.contestants.settings import no_gpu

        reason = backends.unavailable_reason(self.library)
        return reason or (no_gpu(self.library) if device == "gpu" else None)

    def _place(self, problem: Problem) -> tuple[Any, nn.Network, Any, Any, Any]:
        set_precision(self.library, problem.precision)
        rounded = problem.precision if self.library == "cupy" and problem.precision not in backends.FLOATS else None
        backend = nn.backend(self.library, device=_device(self.library, problem.device), precision=rounded)
        work = problem.workload
        network = nn.Network(work.sizes, hidden=work.hidden, output=work.output)
        params = nn.Parameters.from_layers(problem.layers).to(backend)
        X = backend.asarray(problem.X)
        if rounded == "bfloat16":  # as its peers hold it
            X = backend.for_a_run(X)
        return backend, network, params, X, backend.asarray(problem.Y)

    def step(self, problem: Problem) -> Prepared:
        """`network.gradients` and the update of `GradientDescent`."""
        backend, network, params, X, Y = self._place(problem)
        optimizer = nn.GradientDescent(learning_rate=problem.learning_rate)
        held = Held(backend, params, optimizer.init(params))

        def run() -> None:
            _, gradients = network.gradients(held.params, X, Y)
            held.params, held.state = optimizer.update(held.params, gradients, held.state)

        return Prepared(run, _gradient(backend, network, params, X, Y), held.synchronize)

    def predict(self, problem: Problem) -> Prepared:
        """`network.predict`."""
        backend, network, params, X, _ = self._place(problem)
        held = Held(backend, params, None)

        def run() -> None:
            held.state = None
            held.state = network.predict(params, X)

        def result() -> Result:
            return Result(None, backend.to_numpy(network.predict(params, X)).astype(np.float64).ravel())

        return Prepared(run, result, held.synchronize)

    def epoch(self, problem: Problem) -> Prepared:
        """`nn.train` for one epoch of Adam."""
        backend, network, params, X, Y = self._place(problem)
        optimizer = nn.Adam(learning_rate=problem.learning_rate)
        held, batch = Held(backend, params, None), problem.workload.batch_size

        def run() -> float:
            found = nn.train(
                network, X, Y, params=held.params, optimizer=optimizer, epochs=1, batch_size=batch, progress=False
            )
            held.params = found.params
            return float(found.history[-1].cost)

        columns = checked_columns(problem)
        return Prepared(run, _gradient(backend, network, params, X[:, columns], Y[:, columns]), held.synchronize)


class Held:
    """The parameters and the optimiser's state (or the last prediction) between runs."""

    def __init__(self, backend: Any, params: Any, state: Any) -> None:
        self.backend, self.params, self.state = backend, params, state

    def synchronize(self) -> None:
        """Wait for the device; JAX computes on the CPU in the background, too, so wait for the arrays themselves."""
        if self.backend.name == "jax":
            import jax

            vector = [] if self.params is None else [self.params.vector]
            jax.block_until_ready([*vector, self.state])
        self.backend.synchronize()


def _gradient(backend: Any, network: nn.Network, params: Any, X: Any, Y: Any) -> Any:
    def result() -> Result:
        J, gradients = network.gradients(params, X, Y)
        pairs = [(backend.to_numpy(dW), backend.to_numpy(db)) for dW, db in gradients]
        return Result(float(J), flatten(pairs))

    return result


def _device(library: str, device: str) -> Any:
    if library == "torch":
        return torch_device(device)
    return jax_device(device) if library == "jax" else None
