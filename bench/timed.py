"""The timed contestants of a workload, and their figures as text."""


def figure(x: float) -> str:
    """Three digits or so."""
    if x >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 0.1 else f"{x:.2g}"


def sorted_results(record: dict) -> list[dict]:
    """The timed contestants of a workload, the fastest first."""
    timed = [found for found in record["results"] if found["status"] == "timed"]
    return sorted(timed, key=lambda found: found["median_ms"])
