"""The command line: `nnarray train digits`, or `python -m nnarray train digits`.

    nnarray train houses.csv --target price --id house --plot curve.png
    nnarray info model.safetensors
    nnarray evaluate model.safetensors houses.csv --json
    nnarray predict model.safetensors new.csv --out prices.csv
    nnarray export model.safetensors model.onnx
    nnarray check

`nnarray COMMAND --help` names every option.

A table is a CSV with any separator, decimal mark and compression, a Parquet file, or standard input (`-`); what cannot
be told from the file is asked for (`--sep`, `--decimal`, `--encoding`, `--no-header`). Numbers are standardised in
float64, so dates, ids and coordinates keep the digits that tell rows apart; texts are categories, dates become days
and seasons, and a missing number is its column's median. The model file keeps all of it: `predict` and `evaluate` take
a table with the same columns, in any order, and others beside them. Labels are kept as the table writes them. The
scores are those of rows held out from training, beside what the most frequent class or the mean alone would score.

In Python, `main` runs a command: `main(["train", "houses.parquet", "--target", "price"])` trains on what
`houses.to_parquet("houses.parquet")` wrote of a data frame. `nn.read_model` gives the model with its preprocessing, and
`nn.load` the network over raw numbers, with the scaling folded into it, where the table holds nothing else.
"""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress

import nnarray as nn
from nnarray import starting
from nnarray.backends import Ended, quiet
from nnarray.cli.arguments import make_parser
from nnarray.cli.errors import CommandError
from nnarray.cli.output import LONGEST, note, one_line, shortened
from nnarray.cli.parser import several
from nnarray.cli.process import OptionsOfSklearn, TerminatedAsInterrupted, WarningsInALine, interruptible
from nnarray.cli.ranks import first_speaks, is_of_the_first, require_one_command
from nnarray.engine.ranks import RankError

EXPECTED = (CommandError, nn.BackendUnavailableError, nn.DivergenceError, ValueError, OSError, MemoryError, RankError)
"""Errors that the user can fix; everything else is a bug of ours and shows its traceback."""

FAILED, INTERRUPTED, PIPE_CLOSED, TERMINATED = 2, 130, 141, 143


@quiet
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 1 if a check failed, 2 for a usage error, 130 after Ctrl-C, 143 after SIGTERM, which saves what Ctrl-C saves.
    """
    words = [str(word) for word in (sys.argv[1:] if argv is None else argv)]
    with first_speaks(words):
        return _main(words, launched=argv is None)


def _main(words: Sequence[str], *, launched: bool) -> int:
    terminated, told, options = TerminatedAsInterrupted(), WarningsInALine(), OptionsOfSklearn()
    try:
        starting.is_ready()
        with Ended(terminated, told, options), terminated, told, options:
            code = interruptible(_run_on_rank if launched else _run, words)
    except SystemExit as leaving:  # --help and --version
        code = int(leaving.code or 0)
    except BrokenPipeError:
        _discard_output()
        code = PIPE_CLOSED
    except KeyboardInterrupt:
        note("nnarray: interrupted")
        code = INTERRUPTED
    except EXPECTED as error:
        note(f"nnarray: error: {_line(error, words)}")
        code = FAILED
    return TERMINATED if terminated.came and code == INTERRUPTED else code


def _run_on_rank(words: Sequence[str]) -> int:
    """Run a command that mpiexec may have started on several ranks."""
    require_one_command(words)
    return 0 if is_of_the_first(words) else _run(words)


def _run(words: Sequence[str]) -> int:
    parser = make_parser()
    if not words:
        parser.print_help(sys.stderr)
        return FAILED
    arguments, unknown = parser.parse_known_args(words)
    if unknown or several(words, "--hidden"):
        arguments.parser.refuse(unknown, words)
    code: int = arguments.run(arguments)
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _line(error: BaseException, words: Sequence[str]) -> str:
    """What the error says; of long words of the command, which would leave no room for what is wrong, both ends."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{one_line(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        text = f"out of memory: {text}"
    if isinstance(error, nn.DivergenceError):
        text = text.replace("learning_rate", "--learning-rate")
    for word in words:
        text = text.replace(one_line(word), shortened(word)) if len(word) > LONGEST else text
    text = re.sub(r"\s*\n\s*", " ", text.strip()) or type(error).__name__
    return text if len(text) <= 12 * LONGEST else text[: 12 * LONGEST] + "…"


def _discard_output() -> None:
    """Redirect stdout to the null device, so that flushing it at exit does not hit the closed pipe again."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
