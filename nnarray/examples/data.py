"""Examples in the plane, X (2, m) and Y (1, m), of two classes."""

import numpy as np
import numpy.typing as npt

Examples = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""X (2, m) and Y (1, m)."""


def flower(m: int = 400, seed: int = 1) -> Examples:
    """The flower of the course's exercise: petals of the two classes by turns, r = 4 sin 4t."""
    rng, X, counts = np.random.default_rng(seed), [], (m - m // 2, m // 2)
    for k, count in enumerate(counts):
        t = np.linspace(k * 3.12, (k + 1) * 3.12, count) + 0.2 * rng.normal(size=count)
        r = 4 * np.sin(4 * t) + 0.2 * rng.normal(size=count)
        X.append([r * np.sin(t), r * np.cos(t)])
    return np.concatenate(X, axis=1), np.repeat([[0.0, 1.0]], counts, axis=1)


def moons(m: int = 200, noise: float = 0.25, seed: int = 0) -> Examples:
    """Two half circles that reach into each other."""
    rng, counts = np.random.default_rng(seed), (m - m // 2, m // 2)
    t, s = (np.linspace(0, np.pi, count) for count in counts)
    X = np.stack([np.concatenate([np.cos(t), 1 - np.cos(s)]), np.concatenate([np.sin(t), 0.5 - np.sin(s)])])
    return X + noise * rng.normal(size=X.shape), np.repeat([[0.0, 1.0]], counts, axis=1)
