"""nnarray's functions inside JAX's loops: an optimiser, a solver, a sampler, an ensemble, norms of gradients.

Each part is what a library of JAX's does with a function that it is given (optax, jaxopt, blackjax), in a few lines of
JAX; with those libraries the calls of nnarray are the same. `python tests/jax_loops.py` runs all of them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.optimize import minimize

import nnarray as nn

NETWORK = nn.Network((2, 8, 1), hidden="tanh")


def data() -> tuple[Any, Any]:
    """X (2, 64), and whether each point lies within the circle, (1, 64)."""
    X = jax.random.normal(jax.random.key(0), (2, 64), dtype="float32")
    return X, (jnp.sum(X**2, axis=0, keepdims=True) < 1.5).astype(X.dtype)


def optax_style(steps: int = 500) -> float:
    """Parameters are a tree: updates, clipping and momentum are functions of trees, the loop is one `scan`.

    With optax: `updates, state = optimizer.update(gradients, state); params = optax.apply_updates(params, updates)`.
    """
    X, Y = data()
    params = NETWORK.init(seed=0, backend="jax")

    def step(carry: Any, _: None) -> Any:
        params, velocity = carry
        J, gradients = NETWORK.gradients(params, X, Y, l2=1e-3)  # or jax.value_and_grad(NETWORK.cost)(params, X, Y)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradients)))
        velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.1 * g / jnp.maximum(norm, 1.0), velocity, gradients)
        return (jax.tree.map(jnp.add, params, velocity), velocity), J

    start = params, jax.tree.map(jnp.zeros_like, params)
    (params, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, length=steps))(start)
    return NETWORK.score(params, X, Y)


def jaxopt_style() -> float:
    """A quasi-Newton solver over theta, which JAX differentiates by itself; X and Y are closed over."""
    X, Y = data()
    theta = NETWORK.init(seed=0, backend="jax").vector
    found = minimize(lambda theta: NETWORK.cost(NETWORK.parameters(theta), X, Y, l2=1e-2), theta, method="BFGS")
    return NETWORK.score(NETWORK.parameters(found.x), X, Y)


def blackjax_style(samples: int = 300) -> float:
    """Hamiltonian Monte Carlo over theta: the log density is -m J, l2 its normal prior; the share of proposals taken.

    With blackjax: `blackjax.hmc(log_density, step_size=…, inverse_mass_matrix=…, num_integration_steps=…)`.
    """
    X, Y = data()

    def log_density(theta: Any) -> Any:
        return -X.shape[1] * NETWORK.cost(NETWORK.parameters(theta), X, Y, l2=1.0)

    slope = jax.grad(log_density)

    def leap(state: Any, _: None) -> Any:
        theta, momentum = state
        momentum = momentum + 0.025 * slope(theta)
        theta = theta + 0.05 * momentum
        return (theta, momentum + 0.025 * slope(theta)), None

    def sample(theta: Any, key: Any) -> Any:
        draw, accept = jax.random.split(key)
        momentum = jax.random.normal(draw, theta.shape, theta.dtype)
        (proposed, after), _ = jax.lax.scan(leap, (theta, momentum), length=10)
        gain = log_density(proposed) - log_density(theta) + (jnp.sum(momentum**2) - jnp.sum(after**2)) / 2
        taken = jnp.log(jax.random.uniform(accept)) < gain
        return jnp.where(taken, proposed, theta), taken

    keys = jax.random.split(jax.random.key(1), samples)
    _, taken = jax.jit(lambda theta: jax.lax.scan(sample, theta, keys))(NETWORK.init(backend="jax").vector)
    return float(jnp.mean(taken))


def ensemble() -> Any:
    """Eight networks at once, `vmap` over theta: the mean prediction, shape (1, 64)."""
    X, _ = data()
    thetas = jnp.stack([NETWORK.init(seed=seed, backend="jax").vector for seed in range(8)])
    return jnp.mean(jax.vmap(lambda theta: NETWORK.predict(NETWORK.parameters(theta), X))(thetas), axis=0)


def gradient_norms() -> Any:
    """The norm of each example's gradient, `vmap` over columns, shape (64,), as private training clips them."""
    X, Y = data()
    params = NETWORK.init(seed=0, backend="jax")

    def norm(x: Any, y: Any) -> Any:
        _, gradients = NETWORK.gradients(params, x[:, None], y[:, None])
        return jnp.linalg.norm(gradients.vector)

    return jax.jit(jax.vmap(norm, in_axes=1))(X, Y)


if __name__ == "__main__":
    print(f"optax-style: accuracy {optax_style():.3f}")
    print(f"jaxopt-style: accuracy {jaxopt_style():.3f}")
    print(f"blackjax-style: {blackjax_style():.0%} of the proposals taken")
    print(f"ensemble: mean prediction {float(jnp.mean(ensemble())):.3f}")
    print(f"gradient norms from {float(gradient_norms().min()):.3f} to {float(gradient_norms().max()):.3f}")
