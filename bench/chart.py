"""The chart: for each workload, the speed of every contestant against the best peer."""

from pathlib import Path
from typing import Any

from bench.timed import figure, sorted_results

OURS, PEERS, INK = "#1f6f8b", "#c3c9ce", "#30363b"
COLUMNS = 3


def draw(results: dict, path: Path) -> None:
    """One panel for each workload, the fastest contestant on top, each bar with its time at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = [record for record in results["workloads"] if sorted_results(record)]
    rows = -(-len(records) // COLUMNS)
    longest = max(len(sorted_results(record)) for record in records)
    columns = min(COLUMNS, len(records))
    figure_, axes = plt.subplots(
        rows, columns, figsize=(4.6 * columns, rows * (0.85 + 0.26 * longest)), squeeze=False, layout="constrained"
    )
    for axis, record in zip(axes.flat, records, strict=False):
        _panel(axis, record, longest)
    for axis in axes.flat[len(records) :]:
        axis.set_visible(False)
    figure_.suptitle(
        "Speed against the best peer (1 = as fast, longer is faster): nnarray in blue, peers in grey",
        fontsize=12,
        color=INK,
    )
    figure_.supxlabel(_caption(results), fontsize=8, color=INK)
    figure_.savefig(path, dpi=150, facecolor="white")
    plt.close(figure_)


def _panel(axis: Any, record: dict, longest: int) -> None:
    found = sorted_results(record)
    fastest = found[0]["median_ms"]
    base = min((f["median_ms"] for f in found if f["peer"]), default=fastest)
    speeds = [base / f["median_ms"] for f in found]
    places = range(len(found))
    axis.barh(places, speeds, height=0.72, color=[PEERS if f["peer"] else OURS for f in found])
    for place, speed, f in zip(places, speeds, found, strict=True):
        axis.annotate(
            f"{figure(f['median_ms'])} ms",
            (speed, place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    axis.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axis.set_xlim(0, 1.28 * max(speeds))
    axis.set_ylim(longest - 0.4, -0.6)
    axis.set_yticks(places, [f["contestant"] for f in found], fontsize=8)
    axis.tick_params(axis="x", labelsize=7.5, colors=INK)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_title(_panel_title(record), fontsize=9, loc="left", color=INK)


def _panel_title(record: dict) -> str:
    sizes = ", ".join(str(n) for n in record["sizes"])
    batch = f", batches of {record['batch_size']}" if record["batch_size"] else f", m = {record['m']:,}"
    precision = "" if record["precision"] == "float32" else f", {record['precision']}"
    return f"{record['name']}\n({sizes}){batch}{precision}"


def _caption(results: dict) -> str:
    machine = results["machine"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return f"{machine['cpu']}, {machine['cores']} cores{gpu}; {results['created'][:10]}"
