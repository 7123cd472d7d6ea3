"""Tables and the chart from a JSON file of results.

    python -m bench.report results.json                    every contestant, as a Markdown table
    python -m bench.report results.json --into README.md   one line per workload, between the README's marks
    python -m bench.report results.json --plot PATH        the chart

Neither has a figure that is not in the file.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.timed import figure, sorted_results

HEADINGS = ("workload", "contestant", "ms", "quartiles", "GFLOP/s", "of the limit", "memory MB", "against best peer")

OWN = ("nnarray-numpy", "nnarray-cupy")
SUMMARY = ("workload", "nnarray ms", "fastest peer ms", "peer / nnarray", "of the limit", "memory MB")


def cells(found: dict) -> list[str]:
    """The figures of one timed contestant."""
    memory, ratio, share = found.get("memory_mb"), found["ratio"], found["share_of_limit"]
    return [
        figure(found["median_ms"]),
        f"{figure(found['q1_ms'])} to {figure(found['q3_ms'])}",
        figure(found["gflops"]),
        "" if share is None else f"{share:.0%}",
        "" if memory is None else f"{memory:.0f}",
        "" if ratio is None else f"{ratio:.2f}×",
    ]


def untimed(record: dict) -> list[str]:
    """The others, each with the reason."""
    left = [found for found in record["results"] if found["status"] != "timed"]
    return [f"{found['contestant']} {found['status']}: {found['reason']}" for found in left]


def title(record: dict) -> str:
    """The workload in one line."""
    sizes = ", ".join(str(n) for n in record["sizes"])
    batch = f", batches of {record['batch_size']}" if record["batch_size"] else ""
    return f"{record['name']} ({sizes}), m = {record['m']:,}{batch}, {record['precision']}"


def terminal(record: dict) -> str:
    """One workload as an aligned table."""
    rows = [HEADINGS[1:], *([found["contestant"], *cells(found)] for found in sorted_results(record))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    limit = record["limit"]
    if limit.get("median_ms"):
        lines.append(f"limit: {figure(limit['median_ms'])} ms ({limit['what']})")
    return "\n".join([title(record), *("  " + line for line in lines + untimed(record))])


def markdown(results: dict) -> str:
    """All workloads as one Markdown table, with the machine below it."""
    lines = [_row(HEADINGS), _row(["---", "---", *["---:"] * (len(HEADINGS) - 2)])]
    for record in results["workloads"]:
        for i, found in enumerate(sorted_results(record)):
            name = found["contestant"] if found["peer"] else f"**{found['contestant']}**"
            lines.append(_row([title(record) if i == 0 else "", name, *cells(found)]))
    notes = [f"- {record['name']}: {note}" for record in results["workloads"] for note in untimed(record)]
    return "\n".join([*lines, "", about(results), *_lecture(results), *([""] if notes else []), *notes]) + "\n"


def summary(results: dict) -> str:
    """One line per workload as a Markdown table: nnarray on NumPy or CuPy, and the fastest peer."""
    lines = [_row(SUMMARY), _row(["---", *["---:"] * (len(SUMMARY) - 1)])]
    for record in results["workloads"]:
        timed = sorted_results(record)
        own = next((found for found in timed if found["contestant"] in OWN), None)
        peer = next((found for found in timed if found["peer"]), None)
        if own and peer:
            fastest = f"{figure(peer['median_ms'])} ({peer['contestant']})"
            memory, share = own.get("memory_mb"), own["share_of_limit"]
            shares = ["" if share is None else f"{share:.0%}", "" if memory is None else f"{memory:.0f}"]
            lines.append(_row([title(record), figure(own["median_ms"]), fastest, f"{own['ratio']:.2f}×", *shares]))
    return "\n".join([*lines, "", about(results), *_lecture(results)]) + "\n"


def table_of(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Headings and rows as a Markdown table; the first column is text."""
    lines = [_row(list(headings)), _row(["---", *["---:"] * (len(headings) - 1)])]
    return "\n".join([*lines, *(_row(list(row)) for row in rows)])


def put_into(readme: Path, results: Path, table: str) -> None:
    """Replace what stands between the README's marks for this file of results."""
    opening, closing = f"<!-- bench: {results.as_posix()} -->\n", "<!-- end of bench -->"
    before, rest = readme.read_text().split(opening)
    after = rest.split(closing, 1)[1]
    readme.write_text(f"{before}{opening}\n{table}\n{closing}{after}")


def about(results: dict) -> str:
    """The machine and the versions in a sentence."""
    machine, versions = results["machine"], results["versions"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    installed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Measured on {results['created'][:10]}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']:.0f} GB{gpu}, Python {machine['python']}; {installed}."
    )


def lecture_lines(found: dict) -> list[str]:
    """The lecture's loop beside the vectorised form."""
    return [f"{form['form']}: {figure(form['median_ms'])} ms, {form['speed_up']:.0f}×" for form in found["forms"]]


def _lecture(results: dict) -> list[str]:
    found = results.get("lecture_loop")
    if not found:
        return []
    sizes = ", ".join(str(n) for n in found["sizes"])
    return ["", f"Logistic regression ({sizes}), m = {found['m']}: {'; '.join(lecture_lines(found))}."]


def _row(entries: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(entries) + " |"


def main(arguments: list[str] | None = None) -> int:
    """Print the Markdown table, or draw the chart."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="a JSON file that `python -m bench --json` wrote")
    parser.add_argument("--plot", type=Path, help="draw the chart into this file instead")
    parser.add_argument("--into", type=Path, help="put the summary into this README instead")
    options = parser.parse_args(arguments)
    results = json.loads(options.results.read_text())
    if options.into is not None:
        put_into(options.into, options.results, summary(results))
        return 0
    if options.plot is None:
        sys.stdout.write(markdown(results))
        return 0
    from bench.chart import draw

    draw(results, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
