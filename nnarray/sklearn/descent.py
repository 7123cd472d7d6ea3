"""A network with its parameters on the backend that computes, and its training by L-BFGS."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from nnarray.backends import Backend
from nnarray.core.typing import Array, Function
from nnarray.engine import Batch
from nnarray.sklearn.losses import REPORTED_LOSSES
from nnarray.sklearn.optimizers import Optimizer
from nnarray.training.averaging import Averaging
from nnarray.training.batch_norm import DescentNormalized
from nnarray.training.descent import Descent

Updates: TypeAlias = Optimizer | Averaging
"""An optimiser, with or without a mean of theta."""


class ReportedNetwork(NamedTuple):
    """An architecture whose cost is the one that scikit-learn reports."""

    sizes: tuple[int, ...]
    hidden: tuple[str, ...]
    output: str
    batch_norm: bool = False

    @property
    def own_cost(self) -> None:
        """None: its gradient is that of the output's cost."""

    @property
    def reported_loss(self) -> Function:
        """The loss of the output, as scikit-learn defines it."""
        return REPORTED_LOSSES[self.output]


class EstimatorDescent(Descent):
    """A network at theta on a backend, for data that are at `home`."""

    def __init__(
        self,
        network: ReportedNetwork,
        theta: Array,
        backend: Backend,
        *,
        home: Backend,
        **options: Any,
    ) -> None:
        super().__init__(network, theta, backend, **options)
        self.home = home
        self.updates: Updates | None = None
        """the optimiser of theta; None for L-BFGS, and before training"""

    @property
    def given(self) -> Array:
        """The vector with which the estimator predicts: the trained one, or its average."""
        updates, variables = self.updates, self.variables
        return updates.average(variables) if isinstance(updates, Averaging) else variables

    def minimize(
        self, batch: Batch, callback: Callable[[float], Any], *, iterations: int, calls: int, tolerance: float
    ) -> Any:
        """Minimise J by SciPy's L-BFGS-B, from theta; `callback` gets J after each iteration."""
        from scipy.optimize import minimize

        J = 0.0

        def cost_and_gradient(x: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            nonlocal J
            self.move_to(self.backend.asarray(x, self.dtype))
            cost, g = self.cost_and_gradient(batch)
            J = float(cost)
            return J, self.backend.to_numpy(g).astype(np.float64, copy=False)

        found = minimize(
            cost_and_gradient,
            self.backend.to_numpy(self.theta).astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=lambda _: callback(J),
            options={"maxfun": calls, "maxiter": iterations, "gtol": tolerance},
        )
        self.move_to(self.backend.asarray(found.x, self.dtype))
        return found


class NormalizedEstimatorDescent(EstimatorDescent, DescentNormalized):
    """The same with batch normalisation."""

    def minimize(self, batch: Batch, callback: Callable[[float], Any], **options: Any) -> Any:
        """L-BFGS with the mean and variance of all examples, of which those at its last theta are kept."""

        def iteration_ends(J: float) -> None:
            self.statistics = self.seen
            callback(J)

        found = super().minimize(batch, iteration_ends, **options)
        self.cost_and_gradient(batch)
        self.statistics = self.seen
        return found
