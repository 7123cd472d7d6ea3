"""The command line: `nnarray train digits`, or `python -m nnarray train digits`."""

import os
import sys
from collections.abc import Sequence

import nnarray as nn
from nnarray.backends import quiet
from nnarray.cli.arguments import make_parser
from nnarray.cli.errors import CommandError

EXPECTED = (CommandError, nn.BackendUnavailableError, nn.DivergenceError, ValueError, OSError, MemoryError)
"""What a person can put right; everything else is a defect of ours and shows its traceback."""

FAILED, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


@quiet
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 if a check failed, 2 for a mistake, 130 after Ctrl-C."""
    try:
        parser = make_parser()
        words = sys.argv[1:] if argv is None else argv
        if not words:
            parser.print_help(sys.stderr)
            return FAILED
        arguments, unknown = parser.parse_known_args(words)
        if unknown:
            arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except SystemExit as leaving:  # --help and --version
        return int(leaving.code or 0)
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        print("nnarray: interrupted", file=sys.stderr)
        return INTERRUPTED
    except EXPECTED as error:
        print(f"nnarray: error: {_line(error)}", file=sys.stderr)
        return FAILED
    return code


def _line(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        text = f"out of memory: {text}"
    return " ".join(text.split()) or type(error).__name__


def _discard_output() -> None:
    """Point stdout at nothing, so that flushing it at exit does not meet the closed pipe once more."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
