"""Tasks of dask, computed by its scheduler: the active `distributed.Client`, whose workers may die, or dask's own."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

TIMEOUT = "nnarray.no-workers-timeout"
"""in dask's configuration, for how long no worker may be there, or the scheduler not answer; without one, 60 s"""

SHORTEST = 0.01
"""Seconds that a question waits at least."""

LARGE = 2**23
"""Bytes of an array from which on a worker is given it before the tasks, of which dask warns where they hold 10 MB."""

SLOWEST = 1e7
"""Bytes a second that such an array is sent with at least; the tasks take along one that is not sent in time."""

NOBODY, SILENT = "no dask worker was left", "dask's scheduler did not answer"


class WorkersLostError(RuntimeError):
    """No dask worker was left, each one that took a chunk died of it, or the scheduler did not answer.

    Attributes
    ----------
    params : Parameters or None
        In training, those after the last update; None elsewhere.
    state : State or None
        The state that belongs to them; `nn.train(…, state=error.state)` resumes from it, with the next epoch.
    history : History or None
        The epochs that were completed.
    """

    params: Any = None
    state: Any = None
    history: Any = None


class DataLostError(WorkersLostError):
    """What tasks read was lost with a worker, and no task computes it again."""


def are_held(collection: Any) -> bool:
    """Whether workers hold parts of a collection for as long as its graph holds on to them.

    The tasks of an optimized graph know such parts by their names alone, and dask lets them go with the collection.
    """
    client = sys.modules.get("distributed")
    return client is not None and bool(client.futures_of(collection))


def is_annotated(collection: Any) -> bool:
    """Whether tasks of a collection are annotated (retries, workers, resources), dropped where dask optimizes them."""
    return any(layer.annotations for layer in collection.__dask_graph__().layers.values())


def relocated(collection: Any, keys: Sequence[Any]) -> dict[Any, str]:
    """Of parts that workers hold, who had better compute with each (an address), so that none has more than its share.

    dask itself leaves where they are parts that take long to send, and now and then moves one that lay well.
    """
    client = _client([collection])
    if client is None or not are_held(collection) or _is_restricted():
        return {}
    threads = _asked(client, client.scheduler.ncores)
    holders = _asked(client, client.scheduler.who_has, keys=list(keys))
    return _shared_out([holders.get(key, ()) for key in keys], keys, threads)


def _is_restricted() -> bool:
    """Whether the caller's own annotations say which workers may compute, of which others may be unable to."""
    import dask

    return not dask.get_annotations().keys().isdisjoint({"workers", "resources"})


def _shared_out(holders: Sequence[Sequence[str]], keys: Sequence[Any], threads: dict[str, int]) -> dict[Any, str]:
    """The worker that computes with each part: its holder, or one of several, as long as that has room."""
    if not threads or not all(holders):
        return {}
    every = sum(threads.values())
    room = {worker: -(-len(keys) * count // every) for worker, count in threads.items()}
    beyond, found = list[Any](), dict[Any, str]()
    for workers, key in sorted(zip(holders, keys, strict=True), key=lambda held: len(held[0])):
        holder = max(workers, key=lambda worker: room.get(worker, 0))
        if room.get(holder, 0) > 0:
            room[holder] -= 1
            found[key] = holder
        else:
            beyond.append(key)
    for key in beyond:
        found[key] = worker = max(room, key=lambda worker: room[worker])
        room[worker] -= 1
    return found


def _asked(client: Any, question: Any, **given: Any) -> Any:
    """What the scheduler answers; nothing where it does not."""
    try:
        return client.sync(question, callback_timeout=max(_timeout(), SHORTEST), **given)
    except OSError:  # and so TimeoutError
        return {}


def at(worker: str | None) -> Any:
    """A context whose tasks this worker had better compute; another one does where it is not there."""
    import dask

    return nullcontext() if worker is None else dask.annotate(workers=[worker], allow_other_workers=True)


def compute(tasks: Sequence[Any]) -> list[Any]:
    """The tasks' results. Raises WorkersLostError where no worker is left to compute them."""
    import dask

    client = _client(tasks)
    return list(dask.compute(*tasks)) if client is None else _computed_by(client, tasks)


def compute_given(V: np.ndarray, tasks_of: Callable[[Any], Sequence[Any]]) -> list[Any]:
    """The results of `tasks_of(V)`, which is called with V itself or with what a worker holds of a large one.

    Where that is lost with its worker, tasks that take V along compute it all again.
    """
    client = _client([]) if V.nbytes >= LARGE else None
    held = None if client is None else _given(client, V)
    if held is not None:
        try:
            return _computed_by(client, tasks_of(held))
        except DataLostError:
            pass
    return compute(tasks_of(V))


def _given(client: Any, V: np.ndarray) -> Any:
    """V as a delayed object that a worker holds; None where none takes it in time."""
    import dask

    scatter = partial(client.scatter, V, hash=False, direct=_is_local(client), asynchronous=True)
    seconds = min(max(_timeout(), SHORTEST), 5 + V.nbytes / SLOWEST)
    try:
        return dask.delayed(client.sync(scatter, callback_timeout=seconds))
    except (OSError, ValueError):  # and so TimeoutError, and CommClosedError
        return None


def _client(tasks: Sequence[Any]) -> Any:
    """The client that would compute these tasks; None for another scheduler, and in a task, where dask secedes."""
    from dask.base import get_scheduler

    client = getattr(get_scheduler(collections=tasks), "__self__", None)
    if not hasattr(client, "scheduler_info"):
        return None
    import distributed

    try:
        distributed.get_worker()
    except ValueError:
        return client
    return None


def _computed_by(client: Any, tasks: Sequence[Any]) -> list[Any]:
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker, NoValidWorkerError

    futures = client.compute(list(tasks))
    try:
        _wait(client, futures)
        return _gathered(client, futures)
    except (KilledWorker, NoValidWorkerError) as error:
        raise WorkersLostError(str(error)) from error
    except CancelledError as error:
        msg = f"dask gave up the tasks: its scheduler is gone, or what they read was lost with a worker ({error})"
        raise DataLostError(msg) from error
    finally:  # a held error would keep this frame's futures alive, and the same tasks would fail again
        for future in futures:
            future.release()


def _is_local(client: Any) -> bool | None:
    """Whether its workers can be reached directly, not through the scheduler; None leaves the choice to dask."""
    import distributed

    return isinstance(client.cluster, distributed.LocalCluster) or None


def _gathered(client: Any, futures: Sequence[Any]) -> list[Any]:
    """What the futures, which are done, hold."""
    gather = partial(client.gather, futures, direct=_is_local(client), asynchronous=True)
    timeout = _timeout()
    try:
        found: list[Any] = client.sync(gather, callback_timeout=max(timeout, SHORTEST))
    except TimeoutError:
        raise _lost(SILENT, timeout) from None
    return found


def _wait(client: Any, futures: Sequence[Any]) -> None:
    import distributed

    timeout = _timeout()
    seen, missed = time.monotonic(), NOBODY
    while True:
        step = min(1.0, max(timeout, SHORTEST))
        try:
            distributed.wait(futures, timeout=step)
        except TimeoutError:
            missed = _missed(client, step)
            seen = seen if missed else time.monotonic()
        else:
            return
        if time.monotonic() - seen >= timeout:
            raise _lost(missed, timeout)


def _missed(client: Any, seconds: float) -> str:
    """What is not there any more, or does not answer within so many seconds; nothing where a worker is."""
    try:
        return "" if client.sync(client.scheduler.ncores, callback_timeout=seconds) else NOBODY
    except OSError:  # and so TimeoutError
        return SILENT


def _lost(what: str, timeout: float) -> WorkersLostError:
    msg = f'{what} for {timeout:g} s; dask.config.set({{"{TIMEOUT}": …}}) waits longer'
    return WorkersLostError(msg)


def _timeout() -> float:
    import dask

    timeout: float = dask.utils.parse_timedelta(dask.config.get(TIMEOUT, "60s"))
    return timeout
