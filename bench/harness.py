"""One workload after another: make the data, check every contestant, time them in turn, measure their memory."""

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from os import sched_getaffinity

from bench.agreement import Result, disagreement, epoch_disagreements, errors, reference
from bench.contestants import Contestant, Prepared
from bench.limits import limit_of
from bench.memory import measure
from bench.problems import Problem, make_problem
from bench.rounds import Timing, time_in_turn, warm_up
from bench.workloads import Workload

LIMIT = "limit"


@dataclass(frozen=True)
class Settings:
    """How a run is made; `seconds` is the time for each contestant of each workload, unless `rounds` says how often."""

    precision: str = "float32"
    device: str = "cpu"
    seconds: float = 2.0
    rounds: int | None = None
    memory: bool = True
    seed: int = 0


def run_workload(
    workload: Workload, contestants: list[Contestant], settings: Settings, say: Callable[[str], None]
) -> dict:
    """Everything that was found out about one workload, ready for JSON."""
    say(f"{workload.name}: {workload.describe()}, {settings.precision}, {settings.device}")
    problem = make_problem(workload, precision=settings.precision, device=settings.device, seed=settings.seed)
    results = {
        each.name: {"contestant": each.name, "peer": each.is_peer, "compiles": each.compiles} for each in contestants
    }
    ready = dict(_checked(problem, contestants, results, say))
    record = asdict(workload) | {"precision": settings.precision, "device": settings.device, "flops": workload.flops}
    limit_name, limit = limit_of(problem)
    timings = _timed(ready | {LIMIT: limit}, results, settings, say)
    record["limit"] = {"what": limit_name} | timings[LIMIT].summary()
    del problem, limit, ready
    gc.collect()
    for name, timing in timings.items():
        if name != LIMIT:
            results[name] |= {"status": "timed"} | timing.summary()
    compare(list(results.values()), workload, record["limit"]["median_ms"])
    if settings.memory:
        _measure_memory(results, workload, settings, say)
    record["results"] = list(results.values())
    return record


def _checked(
    problem: Problem, contestants: list[Contestant], results: dict, say: Callable[[str], None]
) -> Iterator[tuple[str, Prepared]]:
    """Those who can do the work and did it right, each ready to run; what is the matter with the others is noted.

    Whatever a contestant raises, the others go on and the reason is told.
    """
    truth = reference(problem)
    for contestant in contestants:
        say(f"  checking {contestant.name}")
        found, prepared = checked(contestant, problem, truth)
        results[contestant.name] |= found
        if prepared is not None:
            yield contestant.name, prepared


def checked(contestant: Contestant, problem: Problem, truth: Result) -> tuple[dict, Prepared | None]:
    """What is found about a contestant before it is timed; ready to run if it can do the work and did it right."""
    reason = contestant.unavailable(problem.device)
    unfit = None if reason else contestant.unfit(problem.workload, problem.precision)
    if reason or unfit:
        return {"status": "unavailable" if reason else "unfit", "reason": reason or unfit}, None
    try:
        prepared = contestant.prepare(problem)
        found = errors(prepared.result(), truth)
    except Exception as failure:
        return failed(failure), None
    wrong = disagreement(found, problem.precision)
    found = {"status": "wrong" if wrong else "right", "reason": wrong} | found
    return found, None if wrong else prepared


def _timed(
    ready: dict[str, Prepared], results: dict, settings: Settings, say: Callable[[str], None]
) -> dict[str, Timing]:
    repeats = _warm(ready, results, say)
    say(f"  timing {len(ready) - 1} in turn")
    return time_in_turn(ready, repeats, seconds=settings.seconds, rounds=settings.rounds)


def _warm(ready: dict[str, Prepared], results: dict, say: Callable[[str], None]) -> dict[str, int]:
    """How often each runs in a sample; those that fail or learn something else in an epoch are taken out of `ready`."""
    costs: dict[str, float] = {}
    repeats: dict[str, int] = {}
    for name, prepared in list(ready.items()):
        say(f"  warming up {name}")
        try:
            cost, repeats[name] = warm_up(prepared, compiles=results.get(name, {}).get("compiles", False))
        except Exception as failure:
            results[name] |= failed(failure)
            del ready[name]
            continue
        if cost is not None:
            costs[name] = cost
    for name, reason in epoch_disagreements(costs).items():
        results[name] |= {"status": "wrong", "reason": reason}
        del ready[name]
    return repeats


def failed(failure: Exception) -> dict:
    """What to write down about a contestant that raised."""
    lines = str(failure).strip().splitlines() or [""]
    return {"status": "failed", "reason": f"{type(failure).__name__}: {lines[0]}"[:300]}


def compare(results: list[dict], workload: Workload, limit_ms: float | None) -> None:
    """Of those that were timed: GFLOP/s, the share of the limit, and how much faster than the best peer."""
    timed = [found for found in results if found.get("status") == "timed"]
    peers = [found["median_ms"] for found in timed if found["peer"]]
    for found in timed:
        ms = found["median_ms"]
        found |= {
            "gflops": workload.flops / ms / 1e6,
            "share_of_limit": limit_ms and limit_ms / ms,
            "ratio": min(peers) / ms if peers else None,
        }


def _measure_memory(results: dict, workload: Workload, settings: Settings, say: Callable[[str], None]) -> None:
    names = [name for name, found in results.items() if found["status"] == "timed"]
    say(f"  measuring the memory of {len(names)}")
    at_once = 1 if settings.device == "gpu" else min(2, len(sched_getaffinity(0)))

    def of(name: str) -> dict:
        return measure(name, workload, precision=settings.precision, device=settings.device, seed=settings.seed)

    with ThreadPoolExecutor(at_once) as pool:
        for name, found in zip(names, pool.map(of, names), strict=True):
            results[name] |= found
