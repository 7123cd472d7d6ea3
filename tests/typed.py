"""A user's file: what type checkers are to accept. The lines that they are to refuse say so."""

from typing import assert_type

import numpy as np

import nnarray as nn
from nnarray.sklearn import MLPClassifier, MLPRegressor

network = nn.Network((2, 3, 1), hidden="tanh", output="sigmoid")
deep = nn.Network([2, 3, 3, 1], hidden=["tanh", "relu"], output="identity")
nn.Network((2, 1), hidden="thanh")  # type: ignore[arg-type]
nn.Network((2, 1), output="sigmoidal")  # type: ignore[arg-type]
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

classifier = MLPClassifier((8,), "logistic", solver="sgd", learning_rate="adaptive", batch_size="auto", dtype="float32")
assert_type(classifier.fit(X.T, Y[0]), MLPClassifier)
assert_type(classifier.partial_fit(X.T, Y[0], classes=[0, 1]), MLPClassifier)
regressor = MLPRegressor("poisson", hidden_layer_sizes=[4, 4], activation=["tanh", "leaky_relu"], backend="auto")
assert_type(regressor.fit(X.T, Y[0]), MLPRegressor)
assert_type(regressor.partial_fit(X.T, Y[0]), MLPRegressor)
MLPClassifier(activation="sigmoid")  # type: ignore[arg-type]
MLPClassifier(solver="rmsprop")  # type: ignore[arg-type]
MLPRegressor(loss="absolute_error")  # type: ignore[arg-type]
MLPRegressor(backend="nunpy")  # type: ignore[arg-type]
MLPRegressor(dtype="float16")  # type: ignore[arg-type]
