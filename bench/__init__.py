"""The benchmarks: every nnarray backend and every peer on the same work, in one run, in turn.

    python -m bench --list
    python -m bench --json results.json --plot results.png
    python -m bench.report results.json

Nothing is timed before it has computed the same cost and gradient as the lecture's plain equations in float64. The
terminal's table, the README's table and the chart are all made from the JSON file.
"""
