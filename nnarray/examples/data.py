"""Examples in the plane, X (2, m) and Y (1, m), of two classes."""

import numpy as np
import numpy.typing as npt

Examples = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""X (2, m) and Y (1, m)."""


def flower(m: int = 400, seed: int = 1) -> Examples:
    """The flower of the course's exercise: petals of the two classes by turns, r = 4 sin 4t."""
    rng, X = np.random.default_rng(seed), []
    for k in (0, 1):
        t = np.linspace(k * 3.12, (k + 1) * 3.12, m // 2) + 0.2 * rng.normal(size=m // 2)
        r = 4 * np.sin(4 * t) + 0.2 * rng.normal(size=m // 2)
        X.append([r * np.sin(t), r * np.cos(t)])
    return np.concatenate(X, axis=1), np.repeat([[0.0, 1.0]], m // 2, axis=1)


def moons(m: int = 200, noise: float = 0.25, seed: int = 0) -> Examples:
    """Two half circles that reach into each other."""
    rng, t = np.random.default_rng(seed), np.linspace(0, np.pi, m // 2)
    X = np.stack([np.concatenate([np.cos(t), 1 - np.cos(t)]), np.concatenate([np.sin(t), 0.5 - np.sin(t)])])
    return X + noise * rng.normal(size=X.shape), np.repeat([[0.0, 1.0]], m // 2, axis=1)
