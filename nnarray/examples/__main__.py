"""`python -m nnarray.examples FOLDER`: every picture."""

import sys
from importlib import import_module
from pathlib import Path

from nnarray.examples import NAMES


def draw(name: str, folder: Path) -> Path:
    """Draw an example at its full size, into a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    import_module(f"nnarray.examples.{name}").draw().savefig(path, dpi=100)
    return path


def main(folder: Path) -> None:
    """Draw what can be drawn, and say what was."""
    for name in NAMES:
        try:
            print(draw(name, folder), flush=True)
        except ImportError as error:
            print(f"{name}: left out, for {error}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
