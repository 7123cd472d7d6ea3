"""Tasks of dask, computed by its scheduler: the active `distributed.Client`, whose workers may die, or dask's own."""

import time
from collections.abc import Sequence
from typing import Any

TIMEOUT = "nnarray.no-workers-timeout"
"""in dask's configuration, for how long no worker may be there; without one, 60 s"""


class WorkersLostError(RuntimeError):
    """No dask worker was left, or each one that took a chunk died of it.

    Attributes
    ----------
    params : Parameters or None
        In training, those after the last update; None elsewhere.
    state : State or None
        What belongs to them; `nn.train(…, state=error.state)` goes on from there, with the next epoch.
    history : History or None
        The epochs that were completed.
    """

    params: Any = None
    state: Any = None
    history: Any = None


def compute(tasks: Sequence[Any]) -> list[Any]:
    """What the tasks give. Raises WorkersLostError where nobody is left to compute them."""
    import dask

    client = _client(tasks)
    return list(dask.compute(*tasks)) if client is None else _computed_by(client, tasks)


def _client(tasks: Sequence[Any]) -> Any:
    """The client that would compute these tasks; None for another scheduler, and within a task, which makes room."""
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
        found: list[Any] = client.gather(futures, direct=_is_local(client))
    except (KilledWorker, NoValidWorkerError) as error:
        raise WorkersLostError(str(error)) from error
    except CancelledError as error:
        msg = f"dask gave up the tasks: its scheduler is gone, or what they read was lost with a worker ({error})"
        raise WorkersLostError(msg) from error
    finally:  # while somebody holds an error, and with it this frame, the same tasks would fail again
        for future in futures:
            future.release()
    return found


def _is_local(client: Any) -> bool | None:
    """Whether its workers are known to be within reach, without the detour by the scheduler; None leaves it to dask."""
    import distributed

    return isinstance(client.cluster, distributed.LocalCluster) or None


def _wait(client: Any, futures: Sequence[Any]) -> None:
    import dask
    import distributed

    timeout = dask.utils.parse_timedelta(dask.config.get(TIMEOUT, "60s"))
    seen = time.monotonic()
    while True:
        try:
            distributed.wait(futures, timeout=min(1.0, max(timeout, 0.01)))
        except TimeoutError:
            seen = time.monotonic() if _has_workers(client) else seen
        else:
            return
        if time.monotonic() - seen >= timeout:
            msg = f'no dask worker was left for {timeout:g} s; dask.config.set({{"{TIMEOUT}": …}}) waits longer'
            raise WorkersLostError(msg)


def _has_workers(client: Any) -> bool:
    try:
        return bool(client.nthreads())
    except OSError:  # the scheduler does not answer either
        return False
