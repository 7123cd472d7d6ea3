"""The lecture in code: each equation, where it is, its shapes, and the slip that it avoids.

Letters and shapes: `X = A[0]` is (n_x, m), one example per **column**; `W[l]` is (n[l], n[l-1]); `b[l]` is (n[l], 1);
`Z[l]` and `A[l]` are (n[l], m). `dV` is the derivative of the cost J by V, but `dZ` and `dA` leave out the factor
1/m, which enters once, in `dW` and `db`.

## A layer forward

Z = W A_prev + b, `nnarray.core.layers.linear_forward`, and A = g(Z), `activation_forward`.

>>> import numpy as np
>>> from nnarray.core import layers, outputs
>>> from nnarray.core.activations import ACTIVATIONS
>>> X = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])  # n_x = 2, m = 4
>>> W1, b1 = np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([[0.0], [-1.0]])  # n[1] = 2
>>> Z1 = layers.linear_forward(X, W1, b1)
>>> A1 = layers.activation_forward(Z1, ACTIVATIONS["relu"], xp=np)
>>> A1
array([[0., 1., 1., 2.],
       [0., 0., 0., 1.]])

*The slip:* b of shape (1, m), or of rank 1. It is a column, (n[l], 1), and is added to every column of W A_prev; a
rank-1 b would be added along the wrong axis wherever n[l] happens to equal m.

## The output and its loss

`nnarray.core.outputs` has for each output A = g(Z) and the loss, written in Z, so that it never overflows. For the
sigmoid `max(Z, 0) - ZY + log(1 + e^-|Z|)` is the lecture's `-(Y log A + (1-Y) log(1-A))`.

>>> W2, b2 = np.array([[1.0, -2.0]]), np.array([[-0.5]])
>>> Z2, Y = layers.linear_forward(A1, W2, b2), np.array([[0.0, 1.0, 1.0, 0.0]])
>>> A2 = outputs.sigmoid(Z2, xp=np)
>>> loss = outputs.sigmoid_loss(Z2, Y, xp=np)
>>> np.allclose(loss, -(Y * np.log(A2) + (1 - Y) * np.log(1 - A2)))
True
>>> outputs.sigmoid_loss(np.array([[800.0]]), np.array([[0.0]]), xp=np)  # where 1 - A is 0, and its logarithm infinite
array([[800.]])

*The slip:* Y of shape (m, 1) beside A of shape (1, m): NumPy broadcasts A - Y to (m, m) in silence. `nn.Network`
refuses it, and says both shapes.

## The backward pass

dZ[L] = A[L] - Y for each of the four outputs, since each cost is the negative log-likelihood of a family whose mean
is g. For the sigmoid it is the lecture's da = -y/a + (1-y)/(1-a) times g'(z) = a (1-a).

>>> dZ2 = A2 - Y
>>> np.allclose(dZ2, (-Y / A2 + (1 - Y) / (1 - A2)) * A2 * (1 - A2))
True

dW = (1/m) dZ A_prevᵀ and db = (1/m) Σ dZ, `linear_backward`; dA_prev = Wᵀ dZ, `linear_backward_input`; dZ = dA ∗
g'(Z), elementwise, `activation_backward`.

>>> dW2, db2 = layers.linear_backward(dZ2, A1, m=4, xp=np)
>>> dA1 = layers.linear_backward_input(dZ2, W2)
>>> dZ1 = layers.activation_backward(dA1, A1, ACTIVATIONS["relu"], xp=np)
>>> dW1, db1 = layers.linear_backward(dZ1, X, m=4, xp=np)
>>> [V.shape for V in (dW1, db1, dW2, db2)]
[(2, 2), (2, 1), (1, 2), (1, 1)]

*The slips:* db without the sum over the columns, or summed without `keepdims`, which makes it rank 1; dA_prev = W dZ
without the transpose; g[l+1]' where g[l]' belongs; 1/m twice, in dZ and in dW; tanh' = 1 - tan² for 1 - tanh².

## All layers

`nnarray.core.propagation` goes forward through l = 1…L and back through l = L…1, and `nn.Network.gradients` calls it:

>>> import nnarray as nn
>>> network = nn.Network((2, 2, 1), hidden="relu")
>>> J, gradients = network.gradients([(W1, b1), (W2, b2)], X, Y)
>>> np.isclose(J, np.mean(loss)), np.allclose(gradients[0].W, dW1), np.allclose(gradients[1].b, db2)
(np.True_, True, True)

## Is it right?

Central differences need no derivative: (J(theta + eps) - J(theta - eps)) / 2 eps (`nnarray.core.checking`).

>>> smooth = nn.Network((2, 2, 1), hidden="tanh")
>>> nn.check_gradients(smooth, smooth.init(seed=1), X, Y).relative_difference < 1e-7
True

*The slip:* comparing at a kink. Where an example crosses the kink of relu between the two points, the difference is
wrong and not the gradient: `check_gradients` leaves such a comparison out and counts it.

## Where to start, and how to move

`nnarray.core.initial`: W normal with deviation sqrt(2/n[l-1]) (He), sqrt(2/(n[l-1] + n[l])) (Xavier) or 0.01, b zero.
*The slip:* zeros for W, from which all units of a layer stay equal (`nnarray.examples.symmetry`).

`nnarray.core.updates`: gradient descent, momentum, Nesterov, RMSprop and Adam, each on the one vector theta. *The
slips:* momentum without the factor (1-beta), as PyTorch and scikit-learn have it, at the same learning rate; Adam
without its correction for means that start at zero, or with t from 0.

`nnarray.core.regularization`: the penalty (lambda/2m) Σ ‖W[l]‖² adds (lambda/m) W[l] to dW[l]; biases are not
penalised. Inverted dropout divides by the share of units kept. *The slip:* dropping units in prediction, too.

`nnarray.core.batch_norm`: Z of a batch to mean 0 and deviation 1, and gamma Z_norm + beta into g, where beta stands for
b. *The slips:* a dZ that ignores how the batch's mean and variance depend on Z; that mean and variance in prediction,
where their averages belong.

alpha and beta are searched on a logarithmic scale (`nnarray.examples.random_search`). *The slip:* drawing
them uniformly, which puts nine alphas of ten above a tenth of the largest.
"""
