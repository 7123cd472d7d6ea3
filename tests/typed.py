"""A user's file: what type checkers are to accept. The lines that they are to refuse say so."""

from dataclasses import dataclass
from typing import Any, ClassVar, assert_type

import numpy as np
import numpy.typing as npt

import nnarray as nn
from nnarray.sklearn import MLPClassifier, MLPRegressor

network = nn.Network((2, 3, 1), hidden="tanh", output="sigmoid")
deep = nn.Network([2, 3, 3, 1], hidden=["tanh", "relu"], output="identity")
nn.Network((2, 1), hidden="thanh")  # type: ignore[arg-type]
nn.Network((2, 1), output="sigmoidal")  # type: ignore[arg-type]
nn.Network((2, 2), output="softmx")  # type: ignore[arg-type]
network.init(scheme="she")  # type: ignore[arg-type]
network.init(dtype="float16")  # type: ignore[arg-type]

X, Y = np.zeros((2, 5)), np.zeros((1, 5))
params = network.init(seed=1, scheme="xavier", dtype="float64")
result = nn.train(network, X, Y, params=params, epochs=1, optimizer=nn.Adam(nn.schedules.StepDecay(0.1, 0.5, 3)))
assert_type(result.params, nn.Parameters)
assert_type(result, nn.TrainingResult)
more = nn.train(network, [(X, Y)], epochs=2, state=result.state)
assert_type(more.history[0], nn.Epoch)
assert_type(more.history[1:], nn.History)
assert_type(nn.load("model.safetensors"), tuple[nn.Network, nn.Parameters])
text: str = network.summary()
J, gradients = network.gradients(params, X, Y, l2=0.1)
assert_type(gradients, nn.Parameters)
assert_type(J, npt.NDArray[Any])
assert_type(network.cost(params, X, Y, l1=0.1), npt.NDArray[Any])
assert_type(network.predict(params, X), npt.NDArray[Any])
assert_type(network.forward(params, X), list[npt.NDArray[Any]])
assert_type(network.vjp(params, X)[1](Y)[1], npt.NDArray[Any])
assert_type(network.predict(params, [[0.0], [1.0]]), Any)
network.predict(params, X).argmx()  # type: ignore[attr-defined]
network.cost(params, X, Y, l3=0.1)  # type: ignore[call-overload]


class Tensor:
    """An array of another library."""

    shape, dtype, device = (2, 5), "float32", "cpu"


assert_type(network.predict(params, Tensor()), Tensor)
assert_type(network.gradients(params, Tensor(), Tensor())[0], Tensor)
shapes = [(W.shape, layer.b.shape) for layer in gradients for W in layer]
assert_type(nn.Adam().update(params, gradients, nn.Adam().init(params))[0], nn.Parameters)
huber = nn.Cost(lambda A, Y, xp: abs(A - Y), dA=lambda A, Y, xp: A - Y)
assert_type(nn.check_gradients(network, params, X, Y, cost=huber).relative_difference, float)


@dataclass(frozen=True)
class Lion(nn.training.Optimizer):
    learning_rate: float = 0.001
    remembers: ClassVar = ("v",)

    def step(self, theta: Any, v: Any, *, g: Any, t: int, alpha: float, xp: Any) -> tuple[Any, Any]:
        return theta - alpha * xp.sign(0.9 * v + 0.1 * g), 0.99 * v + 0.01 * g


nn.train(network, X, Y, epochs=1, optimizer=Lion(0.01))
runs = {name: nn.train(network, X, Y, epochs=1, optimizer=rule) for name, rule in (("a", nn.Adam()), ("b", nn.Adam()))}
ax = nn.plots.cost_curves(runs)
nn.plots.cost_curves({name: run.history for name, run in runs.items()}, curve="seconds", ax=ax)
nn.plots.cost_curves(result)
nn.plots.decision_boundary(network, result.params, X, Y)
nn.plots.learning_rates({"halved": nn.schedules.StepDecay(0.1, 0.5, 20), "own": lambda t: 1 / (1 + t)}, 60)
nn.plots.weight_images(result.params[0].W, (1, 2), ax=ax)

classifier = MLPClassifier((8,), "logistic", solver="sgd", learning_rate="adaptive", batch_size="auto", dtype="float32")
assert_type(classifier.fit(X.T, Y[0]), MLPClassifier)
assert_type(classifier.partial_fit(X.T, Y[0], classes=[0, 1]), MLPClassifier)
assert_type(classifier.loss_curve_, list[float])
figures = classifier.coefs_, classifier.classes_, classifier.loss_, classifier.n_iter_, classifier.best_loss_
regressor = MLPRegressor("poisson", hidden_layer_sizes=[4, 4], activation=["tanh", "leaky_relu"], backend="auto")
assert_type(regressor.fit(X.T, Y[0]), MLPRegressor)
assert_type(regressor.partial_fit(X.T, Y[0]), MLPRegressor)
MLPClassifier(activation="sigmoid")  # type: ignore[arg-type]
MLPClassifier(solver="rmsprop")  # type: ignore[arg-type]
MLPRegressor(loss="absolute_error")  # type: ignore[arg-type]
MLPRegressor(backend="nunpy")  # type: ignore[arg-type]
MLPRegressor(dtype="float16")  # type: ignore[arg-type]
