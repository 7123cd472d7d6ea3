"""PyTorch as a good user writes it: eager, compiled, and captured in a CUDA graph."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.agreement import Result, checked_columns, flatten
from bench.contestants.base import Contestant, Prepared, nothing
from bench.contestants.settings import no_gpu, set_precision, torch_device
from bench.problems import Problem


class Torch(Contestant):
    """Eager PyTorch: nn.Linear on the (m, n_x) table, the losses of torch.nn.functional, torch.optim."""

    name = "torch"
    library = "torch"
    precisions = ("float32", "float64", "tf32", "bfloat16")
    devices = ("cpu", "gpu")

    def missing(self, device: str) -> str | None:
        """PyTorch, and a GPU if one is asked for."""
        from nnarray.backends import unavailable_reason

        return unavailable_reason("torch") or (no_gpu("torch") if device == "gpu" else None)

    def compiled(self, function: Callable) -> Callable:
        """The function as it is."""
        return function

    def step(self, problem: Problem) -> Prepared:
        """zero_grad, backward, SGD."""
        import torch

        placed = Placed(problem)
        loss = self.compiled(placed.loss)
        optimizer = torch.optim.SGD(placed.module.parameters(), lr=problem.learning_rate)

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss(placed.X, placed.y).backward()
            optimizer.step()

        return Prepared(run, placed.gradient(loss), placed.synchronize)

    def predict(self, problem: Problem) -> Prepared:
        """The probabilities, in inference mode."""
        import torch

        placed = Placed(problem)
        mean = self.compiled(placed.mean)

        def run() -> Any:
            with torch.inference_mode():
                placed.last = None
                placed.last = mean(placed.X)

        def result() -> Result:
            with torch.inference_mode():
                return Result(None, mean(placed.X).T.cpu().numpy().astype(np.float64).ravel())

        return Prepared(run, result, placed.synchronize)

    def epoch(self, problem: Problem) -> Prepared:
        """Fused Adam over shuffled batches, gathered by index."""
        import torch

        placed, work = Placed(problem), problem.workload
        loss = self.compiled(placed.loss)
        optimizer = torch.optim.Adam(placed.module.parameters(), lr=problem.learning_rate, fused=True)

        def run() -> float:
            total = torch.zeros((), device=placed.X.device)
            for rows in torch.randperm(work.m, device=placed.X.device).split(work.batch_size):
                optimizer.zero_grad(set_to_none=True)
                J = loss(placed.X[rows], placed.y[rows])
                J.backward()
                optimizer.step()
                total += J.detach() * len(rows)
            return float(total) / work.m

        return Prepared(run, placed.gradient(loss), placed.synchronize)


class TorchCompile(Torch):
    """The same with forward, loss and backward through torch.compile."""

    name = "torch-compile"
    compiles = True

    def compiled(self, function: Callable) -> Callable:
        """torch.compile for the one shape that there is."""
        import torch

        torch._dynamo.reset()
        return torch.compile(function, dynamic=False)


class TorchGraph(Torch):
    """Forward, backward and update captured in one CUDA graph."""

    name = "torch-graph"
    devices = ("gpu",)
    compiles = True

    def step(self, problem: Problem) -> Prepared:
        """One replay."""
        import torch

        placed = Placed(problem)
        optimizer = torch.optim.SGD(placed.module.parameters(), lr=problem.learning_rate)
        replay, J = placed.captured(lambda: placed.loss(placed.X, placed.y), optimizer)
        return Prepared(replay, placed.captured_gradient(replay, J), placed.synchronize)

    def predict(self, problem: Problem) -> Prepared:
        """One replay of the forward pass."""
        import torch

        placed = Placed(problem)
        with torch.no_grad():
            graph, A = graph_of(lambda: placed.mean(placed.X))

        def result() -> Result:
            graph.replay()
            return Result(None, A.T.cpu().numpy().astype(np.float64).ravel())

        return Prepared(graph.replay, result, placed.synchronize)

    def epoch(self, problem: Problem) -> Prepared:
        """A replay for each batch; the graph gathers the rows that are written into its index."""
        import torch

        placed, work = Placed(problem), problem.workload
        optimizer = torch.optim.Adam(placed.module.parameters(), lr=problem.learning_rate, fused=True, capturable=True)
        index = torch.arange(work.batch_size, device=placed.X.device)
        replay, J = placed.captured(lambda: placed.loss(placed.X[index], placed.y[index]), optimizer)

        def run() -> float:
            total = torch.zeros((), device=placed.X.device)
            for rows in torch.randperm(work.m, device=placed.X.device).split(work.batch_size):
                index.copy_(rows)
                replay()
                total += J.detach() * len(rows)
            return float(total) / work.m

        return Prepared(run, placed.captured_gradient(replay, J), placed.synchronize)


class Placed:
    """A problem as torch tensors and modules on its device."""

    def __init__(self, problem: Problem) -> None:
        import torch

        set_precision("torch", problem.precision)
        self.work, self.columns = problem.workload, checked_columns(problem)
        self.dtype = getattr(torch, problem.dtype)
        device = torch_device(problem.device)
        self.X = torch.from_numpy(problem.table).to(device)
        narrow = problem.precision == "bfloat16"
        self.autocast = partial(torch.autocast, device, torch.bfloat16, enabled=narrow, cache_enabled=False)
        if narrow:
            self.X = self.X.bfloat16()
        by_class = self.work.output == "softmax"
        self.y = torch.from_numpy(problem.labels if by_class else problem.targets).to(device)
        self.module = make_module(problem).to(device)
        self.last: Any = None
        self.synchronize = torch.cuda.synchronize if device == "cuda" else nothing

    def logits(self, X: Any) -> Any:
        """Z[L], one example per row; in bfloat16, products by autocast and the rest in float32."""
        with self.autocast():
            Z = self.module(X)
        return Z if Z.dtype == self.dtype else Z.float()

    def loss(self, X: Any, y: Any) -> Any:
        """J, from the logits."""
        from torch.nn import functional

        Z, m = self.logits(X), X.shape[0]
        if self.work.output == "softmax":
            return functional.cross_entropy(Z, y)
        if self.work.output == "sigmoid":
            return functional.binary_cross_entropy_with_logits(Z, y, reduction="sum") / m
        if self.work.output == "identity":
            return 0.5 * functional.mse_loss(Z, y, reduction="sum") / m
        return functional.poisson_nll_loss(Z, y, reduction="sum") / m

    def mean(self, X: Any) -> Any:
        """A[L], one example per row."""
        Z = self.logits(X)
        if self.work.output == "softmax":
            return Z.softmax(dim=1)
        return {"sigmoid": Z.sigmoid, "identity": Z.clone, "exp": Z.exp}[self.work.output]()

    def pairs(self) -> list[tuple[Any, Any]]:
        """(dW, db) of each layer, as nnarray's shapes."""
        layers = [layer for layer in self.module if hasattr(layer, "weight")]
        return [(layer.weight.grad.cpu().numpy(), layer.bias.grad.cpu().numpy()) for layer in layers]

    def gradient(self, loss: Callable) -> Callable[[], Result]:
        """The function that computes J and the gradient of the checked columns."""

        def result() -> Result:
            self.module.zero_grad(set_to_none=True)
            J = loss(self.X[self.columns], self.y[self.columns])
            J.backward()
            return Result(J.item(), flatten(self.pairs()))

        return result

    def captured(self, loss: Callable, optimizer: Any) -> tuple[Callable, Any]:
        """The replay of a whole step, and J; the first parameters are put back after the capture's own runs."""
        import torch

        first = [p.detach().clone() for p in self.module.parameters()]
        self.optimizer = optimizer  # the graph writes into its state for as long as it is replayed

        def step() -> Any:
            optimizer.zero_grad(set_to_none=True)
            J = loss()
            J.backward()
            optimizer.step()
            return J

        graph, J = graph_of(step)
        with torch.no_grad():
            for p, start in zip(self.module.parameters(), first, strict=True):
                p.copy_(start)
        return graph.replay, J

    def captured_gradient(self, replay: Callable, J: Any) -> Callable[[], Result]:
        """J and the gradient that one replay leaves behind."""

        def result() -> Result:
            replay()
            return Result(J.item(), flatten(self.pairs()))

        return result


def graph_of(function: Callable) -> tuple[Any, Any]:
    """`function` captured in a CUDA graph, after a few runs on a side stream, and its output."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function()
    return graph, output


def make_module(problem: Problem) -> Any:
    """Linear layers and activations with the problem's first parameters; the logits come out."""
    import torch

    activations = {
        "relu": torch.nn.ReLU,
        "tanh": torch.nn.Tanh,
        "sigmoid": torch.nn.Sigmoid,
        "leaky_relu": torch.nn.LeakyReLU,
        "identity": torch.nn.Identity,
    }
    parts: list[Any] = []
    for W, b in problem.layers:
        layer = torch.nn.Linear(W.shape[1], W.shape[0], dtype=getattr(torch, problem.dtype))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W))
            layer.bias.copy_(torch.from_numpy(b[:, 0]))
        parts += [layer, activations[problem.workload.hidden]()]
    return torch.nn.Sequential(*parts[:-1])
