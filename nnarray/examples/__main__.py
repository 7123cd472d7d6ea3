"""`python -m nnarray.examples FOLDER`: every picture."""

import sys
from importlib import import_module
from pathlib import Path

from nnarray.examples import NAMES


def draw_all(folder: Path) -> None:
    """Draw each example at its full size, into a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        import_module(f"nnarray.examples.{name}").draw().savefig(folder / f"{name}.png", dpi=100)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
