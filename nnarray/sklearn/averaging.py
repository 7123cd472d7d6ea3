"""What an estimator keeps between calls: the fitted vector, and with weight averaging that which is trained."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.sklearn.optimizers import Optimizer, writable
from nnarray.training.averaging import Averaging, average_of, averaging
from nnarray.training.descent import Descent


class Kept(NamedTuple):
    """The vector theta that `coefs_` and `intercepts_` are views of, as long as they are these arrays."""

    theta: Array
    backend: Backend
    views: Sequence[Array]


class Trained(NamedTuple):
    """The state that training resumes from, where it differs from `coefs_` and `intercepts_`."""

    variables: Array
    """theta, and with batch normalisation the averages of mean and variance after it"""
    mean: Array | None = None
    """the running mean of that, not corrected for its start at zero; None where nothing is averaged"""
    number: int = 0
    """how many updates are in it"""
    beta: float = 0.0
    """that of the mean"""

    @property
    def given(self) -> Array:
        """The average, or the trained vector where there is none."""
        return self.variables if self.mean is None else average_of(self.mean, self.beta, self.number, self.variables)


def averaged(optimizer: Optimizer, beta: float, before: Trained | None, work: Descent) -> Averaging:
    """The optimiser with a mean of everything that `work` trains, continued from `before` or new."""
    found = averaging(optimizer, work.variables, beta, work.backend, normalized=work.network.batch_norm)
    if before is not None and before.mean is not None:
        mean = writable(work.backend.asarray(before.mean, work.dtype))
        found.restore(mean, before.number, before.beta)
    return found


def trained_by(updates: Any, variables: Array, home: Backend) -> Trained:
    """The state that training resumes from, on the backend `home`."""
    trained = Trained(writable(home.asarray(variables)))
    if not isinstance(updates, Averaging) or updates.mean is None:
        return trained
    return trained._replace(mean=writable(home.asarray(updates.mean)), number=updates.count, beta=updates.beta)
