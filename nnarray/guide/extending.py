"""A cost, an update rule, an activation, a backend or a target of one's own, and nnarray within another autodiff.

The first two need no change of nnarray, and run compiled where they are written in operators and elementwise
functions of the Array API standard; what the others change is listed below.

## A cost

`nn.Cost(loss, dA=…)` or `nn.Cost(loss, dZ=…)`, given to `nn.train`, `network.cost`, `network.gradients` and
`nn.check_gradients`, which finds a wrong derivative:

>>> import numpy as np
>>> import nnarray as nn
>>> logcosh = nn.Cost(lambda A, Y, xp: xp.log(xp.cosh(A - Y)), dA=lambda A, Y, xp: xp.tanh(A - Y))
>>> network, X, Y = nn.Network((1, 3, 1), "tanh", "identity"), np.linspace(-1, 1, 9)[None, :], np.zeros((1, 9))
>>> nn.check_gradients(network, network.init(), X, Y, cost=logcosh).relative_difference < 1e-7
True

## An update rule

A subclass of `nn.training.Optimizer` with a `step`, which gives theta and the running means it `remembers` (up to
three: v, s and u), from those before, as a tuple (of theta alone: `return (theta - alpha * g,)`). All are vectors of
every W and b, so a rule treats both alike; a decay of W alone is the penalty `l2`. Sign descent with momentum (Lion
without its decay; Chen et al., NeurIPS 2023):

>>> from dataclasses import dataclass
>>> from typing import ClassVar
>>> @dataclass(frozen=True)
... class Lion(nn.training.Optimizer):
...     learning_rate: float = 0.001
...     remembers: ClassVar = ("v",)
...
...     def step(self, theta, v, *, g, t, alpha, xp):
...         return theta - alpha * xp.sign(0.9 * v + 0.1 * g), 0.99 * v + 0.01 * g
>>> history = nn.train(network, X, X**2, optimizer=Lion(0.01), epochs=100).history
>>> history[-1].cost < history[0].cost / 2
True

A learning rate that changes is any function of the number of updates made so far (`nn.schedules`).

## Within another library's autodiff

Under `jax.grad` and with torch's tensors that require gradients, `network.predict` and `cost` are differentiated as
they stand. `network.vjp` gives nnarray's own backward pass instead, which keeps nothing of the forward one but X and
theta. As a function of PyTorch's, with theta and X as its inputs:

>>> import torch
>>> network = nn.Network((3, 8, 2), hidden="tanh", output="identity")
>>> class Dense(torch.autograd.Function):
...     @staticmethod
...     def forward(ctx, theta, X):
...         A, ctx.pull = network.vjp(network.parameters(theta), X)
...         return A
...
...     @staticmethod
...     @torch.autograd.function.once_differentiable
...     def backward(ctx, dA):
...         gradients, dX = ctx.pull(dA)
...         return gradients.vector, dX
>>> theta = network.init(backend="torch", dtype="float64").vector.requires_grad_()
>>> X = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
>>> torch.autograd.gradcheck(Dense.apply, (theta, X))
True
>>> torch.nn.functional.huber_loss(Dense.apply(theta, X), torch.ones(2, 4).double()).backward()
>>> theta.grad.shape, X.grad.shape
(torch.Size([50]), torch.Size([3, 4]))

And of JAX's:

>>> import jax
>>> @jax.custom_vjp
... def dense(theta, X):
...     return network.predict(network.parameters(theta), X)
>>> def backward(kept, dA):
...     theta, X = kept
...     gradients, dX = network.vjp(network.parameters(theta), X)[1](dA)
...     return gradients.vector, dX
>>> dense.defvjp(lambda theta, X: (dense(theta, X), (theta, X)), backward)
>>> theta, X = network.init(backend="jax").vector, jax.numpy.linspace(-1, 1, 12).reshape(3, 4)
>>> jax.jit(jax.grad(lambda theta, X: (dense(theta, X) ** 4).sum()))(theta, X).shape
(50,)

## An activation

To use one, the first step is enough; the others make it available in the faces.

1. `core/activations.py`: g above g', both of arrays and `xp`, and a line in `ACTIVATIONS`, with `in_Z` where g' is
   written in Z and `has_kink` where it has none at 0. g' is written so that it neither overflows nor cancels.
2. `network/names.py`: its name in `HiddenName`, for type checkers; `sklearn/settings.py` for the estimators.
3. `onnx/building.py` and `reading.py`, `bridges.py`: what it is called there.

Most tests take it from `ACTIVATIONS`: central differences, the float's range, and each target. A plain loop and
autodiff are written for it in `tests/test_oracles.py`, and `tests/test_core.py` lists the names. An operation that no
target knows yet is a line in the table of each (`programs/targets`).

## An output

1. `core/outputs.py`: the mean g[L] and the loss of each example, both of Z[L], above a line in `OUTPUTS` with the
   targets that it models. With the canonical link of a family dZ[L] is A[L] - Y for it too; a loss of another kind is
   `nn.Cost`, and needs no output.
2. `network/names.py`: its name in `OutputName`; `network/scoring.py`: its score; `plots.py`: how it is shaded;
   `cli/defaults.py` and `cli/targets.py` for the command line, `sklearn/bridge.py` and `losses.py` for the estimators.
3. `onnx/building.py` and `reading.py`, `bridges.py`: what it is called there.

As for an activation, `tests/test_core.py` lists the names, and holds the loss to a plain one written out.

## A backend

A file in `backends/` with a subclass of `Backend`: `on(device)`, `owns(x)`, `fetched(x)`, `unavailable_reason()`, and
what the library can do (`compiles`, `jits`, `compiles_steps`, …), each said once; a line in `backends/names.py`.
Nothing above that depends on its name. The fixture `space` in `tests/conftest.py` runs it through every test of a
namespace.

## A target

A folder in `programs/targets/` that emits code for a `Plan`: its matrix products and its loops, in order, with the
buffers that `Memory` assigned. It states its `Limits` (how long a fused chain may be) and is called with the inputs
and outputs of a graph. `tests/reference_target.py` is the smallest one, 94 lines of plain Python; every other is tested
against it, over dtypes, shapes and layouts. The backend whose arrays it runs on returns it from `new_program`.
"""
