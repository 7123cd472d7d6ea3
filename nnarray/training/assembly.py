"""What a run is made of, in one process, on the ranks of a communicator, or on the chunks of dask's workers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnarray.backends import quiet
from nnarray.engine import Architecture, Batch, Ranks
from nnarray.network.agreement import agree, checksum
from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.chunked import Chunked, require_no_ranks
from nnarray.network.costs import Cost
from nnarray.network.entry import Entered, make_batch
from nnarray.network.parameters import Parameters
from nnarray.training.arguments import MakeBatch
from nnarray.training.batch_norm import DescentNormalized, DescentNormalizedOnChunks, DescentNormalizedOnRanks
from nnarray.training.batches import Shuffled
from nnarray.training.checkpoint_file import CheckpointFile, check_checkpoint
from nnarray.training.chunks import ChunkedBatches, DescentOnChunks
from nnarray.training.descent import Descent
from nnarray.training.ranks import DescentOnRanks, Portions
from nnarray.training.state import copied
from nnarray.training.streams import Stream

if TYPE_CHECKING:
    from nnarray.training.checkpointing import Checkpoints
    from nnarray.training.loop import Run


def agree_on_run(ranks: Ranks, network: Architecture, first: Parameters, numbers: dict[str, Any], **kinds: Any) -> None:
    """Raise ValueError on all ranks where they would not train the same network in the same way."""
    if isinstance(first, NormalizedParameters):
        numbers["the checksum of the averages"] = checksum(first.statistics, first.backend)
    agree(ranks, network, Entered(first.layers, first.backend, first.dtype), **numbers, **kinds)


@quiet
def descent_of(
    network: Architecture,
    first: Parameters,
    batches: Shuffled | ChunkedBatches | Stream,
    ranks: Ranks | None,
    **options: Any,
) -> Descent:
    """The descent on such batches, which begins at a copy of the first parameters."""
    given: list[Any] = [network, copied(first.vector, first.backend), first.backend]
    kinds: tuple[Any, Any, Any] = Descent, DescentOnRanks, DescentOnChunks
    if isinstance(first, NormalizedParameters):
        kinds = DescentNormalized, DescentNormalizedOnRanks, DescentNormalizedOnChunks
        options["statistics"] = copied(first.statistics, first.backend)
    alone, together, on_chunks = kinds
    if isinstance(batches, ChunkedBatches):
        alone = on_chunks
    descent: Descent = alone(*given, **options) if ranks is None else together(*given, ranks, **options)
    return descent


def making(ranks: Ranks | None) -> MakeBatch:
    """What makes a batch of arrays."""
    if ranks is None:
        return make_batch
    from nnarray.network.portions import make_portion

    return make_portion


def checked_checkpoint(
    checkpoint: Any, every: Any, resume: Any, ranks: Ranks | None
) -> tuple[CheckpointFile | None, str | None]:
    """The checkpoint file to write, if any, and the file to resume from, if any."""
    if ranks is None:
        return check_checkpoint(checkpoint, every, resume)
    from nnarray.training.checkpoints_of_ranks import check_checkpoint_of_all

    return check_checkpoint_of_all(checkpoint, every, resume, ranks)


def checkpoints_of(run: "Run", file: CheckpointFile | None, seed: int | None, cost: Cost | None) -> "Checkpoints":
    """The checkpoints of the run."""
    if run.ranks is None:
        from nnarray.training.checkpointing import Checkpoints

        return Checkpoints(run, file, seed, cost)
    from nnarray.training.checkpoints_of_ranks import CheckpointsOfRanks

    return CheckpointsOfRanks(run, file, seed, cost)


def batches_of(
    examples: Batch | Chunked | Stream,
    batch_size: int | None,
    seed: int | Sequence[int] | None,
    first: Parameters,
    ranks: Ranks | None,
) -> Shuffled | ChunkedBatches | Stream:
    """The batches of a run on a stream, on chunks, on one process or on ranks."""
    if isinstance(examples, Stream):
        return examples
    if isinstance(examples, Chunked):
        require_no_ranks(ranks)
        return ChunkedBatches(examples, batch_size, seed)
    if ranks is None:
        return Shuffled(examples, batch_size, seed, first.backend)
    return Portions(examples, batch_size, seed, first.backend, ranks, first.dtype)
