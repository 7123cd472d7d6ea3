"""The masks of inverted dropout, drawn from the seed alone: on the host, or on a GPU with the same bits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from nnarray.backends import Backend, quiet
from nnarray.backends.masks import at
from nnarray.core.typing import Array
from nnarray.engine import Batch
from nnarray.programs.training_step import StepMasks
from nnarray.training.batches import seed_of


class Dropout:
    """The masks D[1], …, D[L-1] of inverted dropout, drawn anew for each batch and tile by tile; D[0] if inputs drop.

    The masks of a run are one stream of random numbers, in which every tile knows its position: how a batch is cut into
    tiles changes none of them.
    """

    def __init__(
        self,
        rates: Sequence[float],
        sizes: Sequence[int],
        seed: int | Sequence[int] | None,
        backend: Backend,
        *,
        input_rate: float = 0.0,
    ) -> None:
        self.units = list(zip(sizes[1:-1], rates, strict=True))
        self.inputs = sizes[0], input_rate
        self._drops_units, self._drops_inputs = any([rate > 0 for rate in rates]), input_rate > 0
        self.backend = backend
        self.seed = seed
        self.position = 0  # in words of 64 bits, of which each gives two float32

    @cached_property
    @quiet
    def bits(self) -> "np.random.PCG64":
        """What the masks of the run are drawn from."""
        return np.random.PCG64(seed_of(self.seed, 2))

    @property
    def drops(self) -> bool:
        """Whether any unit or input is ever dropped."""
        return self._drops_units or self._drops_inputs

    def is_compiled(self, backend: Backend) -> bool:
        """Whether compiled steps draw all masks themselves, if there are any."""
        return not self.drops or (not self._drops_inputs and backend.draws(self.bits))

    def of_a_step(self, columns: int) -> StepMasks | None:
        """The masks of each step on so many columns; None without dropout."""
        if not self.drops:
            return None
        masks = self.masks(columns)
        units = [(position - self.position, n, rate) for position, n, rate in masks.units]
        return StepMasks(units, masks.end - self.position)

    def drawn(self, words: int, steps: int) -> None:
        """Go on after so many compiled steps, of so many words each."""
        self.position += words * steps

    @property
    def state(self) -> Mapping[str, Any]:
        """The state of the generator, from which the later masks follow."""
        return dict((at(self.position, self.bits) if self.position else self.bits).state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Draw the masks that follow from a state."""
        self.bits.state = dict(state)  # type: ignore[assignment]  # NumPy's stub wants its own TypedDict
        self.position = 0

    def ahead(self, batch: Batch, dtype: str) -> tuple[Batch, int]:
        """The batch with the masks that come next, and the position after them; without any dropout, itself."""
        if not self.drops:
            return batch, self.position
        masks = self.masks(batch.columns)
        return masks.on(batch, dtype, self.backend), masks.end

    def masks(self, columns: int) -> "Masks":
        """Those that come next, for a batch of so many columns."""
        position, draws = self.position, []
        for n, rate in [*([self.inputs] if self._drops_inputs else []), *(self.units if self._drops_units else [])]:
            draws.append((position, n, rate))
            position += -(-columns * n // 2)
        inputs, units = (draws[:1], draws[1:]) if self._drops_inputs else ([], draws)
        return Masks(self.bits, inputs, units, position)


@dataclass(frozen=True)
class Masks:
    """The masks of one batch, which can be drawn elsewhere: where in the stream of a run each of them begins."""

    bits: "np.random.PCG64"
    """the stream"""
    inputs: Sequence[tuple[int, int, float]]
    """where D[0] begins, its units and their rate, if inputs drop"""
    units: Sequence[tuple[int, int, float]]
    """the same of D[1], …, D[L-1]"""
    end: int
    """where the masks of the next batch begin"""

    def on(self, batch: Batch, dtype: str, backend: Backend, first: int = 0) -> Batch:
        """The batch with its masks; as a part, its first column is that one of the batch they are for."""

        def draw(of: tuple[int, int, float], start: int, stop: int) -> Array:
            position, n, rate = of
            place = 2 * position + (first + start) * n
            return backend.mask(self.bits, place, (n, stop - start), rate, dtype)

        if self.inputs:
            batch = batch._replace(draw_input_mask=partial(draw, self.inputs[0]))
        if self.units:
            batch = batch._replace(draw_masks=[partial(draw, of) for of in self.units])
        return batch
