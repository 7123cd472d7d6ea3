"""Training steps, each as one call: machine code, a captured CUDA graph, or what JAX compiled."""

from collections.abc import Mapping, Sequence
from typing import Any

from nnarray.backends import NUMPY, Backend, CompiledSteps
from nnarray.core.typing import Array, Layers
from nnarray.engine import batch_norm, compiling, equations, jitted_steps, updates
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.numpy_views import as_numpy
from nnarray.engine.rules import Rule, key_of, kind_of
from nnarray.engine.threads import with_threads
from nnarray.engine.tiling import fits_whole
from nnarray.programs.training_step import StepArrays, StepMasks


def compiled_steps(
    rule: Rule,
    vectors: Sequence[Array],
    layers: Layers,
    whole: Batch,
    network: Architecture,
    backend: Backend,
    *,
    columns: int,
    steps: int,
    l2: float,
    l1: float,
    masks: StepMasks | None = None,
) -> CompiledSteps | None:
    """Steps on batches of `columns` columns of the `whole`, at most so many an epoch; None where they run one by one.

    `layers` are views of `vectors[0]`, theta; after it come the optimiser's means and, with batch normalisation, the
    averages of mean and variance. Where arrays can be written, every step writes over the vectors. A step is given m
    (and lambda of each penalty that there is), its update t and alpha. The `masks` of dropout it draws on the device.

    A batch that has no room as one tile is not captured, which would gain nothing: a tile fills a GPU's memory, which
    an H200 reads once in 33 ms, and its calls take the host 0.7 ms, ahead of the GPU.
    """
    if (own := as_numpy(whole, layers, network, backend)) is not None:
        how = {"columns": columns, "steps": steps, "l2": l2, "l1": l1, "masks": masks}
        return _on_numpy(rule, vectors, own, network, backend, how)
    can = backend.compiles_steps(whole=columns == whole.columns) and not whole.source.stays_on_host
    parts = key_of(rule) if can else None
    count = len(vectors) - network.batch_norm
    kind = kind_of(parts, count, vectors[0].dtype)
    if parts is None or not kind.is_traceable:
        return None
    numbers = equations.numbers_of_cost(1, l2, l1)
    if backend.jits:
        names = tuple(numbers)
        return jitted_steps.JittedSteps(
            parts, vectors, whole, network, backend, columns=columns, steps=steps, names=names
        )
    if not kind.is_by_entry or not fits_whole(network, columns, vectors[0].itemsize, backend):
        return None
    theta, weights = vectors[0], whole.weights
    kinds = compiling.kinds_of(numbers)
    has = True, weights is not None, masks is not None
    given = compiling.Given(*has, kinds, averages=network.batch_norm, narrow=backend.is_narrow(whole.X))
    update = updates.captured_program(parts, count, theta.shape[0], theta.dtype, backend)
    wanted = batch_norm.training_step if network.batch_norm else equations.cost_and_gradients
    gradient = compiling.compiled(wanted, network, columns, theta.dtype, given, backend, captured=True)
    if gradient is None or not (update.works_in_place and gradient.works_in_place):
        return None
    g = backend.xp.empty_like(theta)
    arrays = StepArrays(
        [V for V in (whole.X, whole.Y, weights) if V is not None],
        *_read_and_made(layers, vectors, g, network, backend),
        vectors[:count],
        g,
        masks,
    )
    found = backend.new_compiled_steps(gradient, update, arrays, columns=columns, steps=steps)
    if found is not None:
        found.vectors = vectors
    return found if found is None or not backend.is_host else InTurn(found, network, columns)


def _on_numpy(
    rule: Rule,
    vectors: Sequence[Array],
    own: tuple[Batch, Any],
    network: Architecture,
    backend: Backend,
    how: Mapping[str, Any],
) -> CompiledSteps | None:
    """The same by NumPy, of its `own` views of the whole and the layers, in the vectors' memory."""
    views = backend.shared_with_numpy(vectors)
    found = None if views is None else compiled_steps(rule, views, own[1], own[0], network, NUMPY, **how)
    if found is not None:
        found.vectors, found.costs = vectors, backend.asarray(found.costs)
    return found


def _read_and_made(
    layers: Layers, vectors: Sequence[Array], g: Array, network: Architecture, backend: Backend
) -> tuple[list[Array], list[Array]]:
    """What a gradient is computed from besides the examples, and what it writes; averages are both."""
    if not network.batch_norm:
        gradients = backend.primitives.split(g, network.sizes)
        return [V for pair in layers for V in pair], [V for pair in gradients for V in pair]
    sizes, xp = network.sizes, backend.xp
    read = batch_norm.with_averages(layers, vectors[-1], sizes, xp=xp)
    of_g = [V for layer in batch_norm.split(g, sizes, xp=xp) for V in layer]
    return [V for layer in read for V in layer], of_g + [V for layer in read for V in layer[3:]]


class InTurn:
    """Steps on NumPy, with as many threads as a batch of their size has elsewhere."""

    def __init__(self, steps: CompiledSteps, network: Architecture, columns: int) -> None:
        self._steps, self._network, self._columns = steps, network, columns
        self.costs, self.begin, self.vectors, self.mark = steps.costs, steps.begin, steps.vectors, steps.mark
        self.release = steps.release

    def launch(self, count: int) -> None:
        """Make the next `count` steps."""
        with_threads(self._network, self._columns, lambda: self._steps.launch(count), compiled=True)
