"""`python -m nnarray`."""

import sys

from nnarray.cli import main

if __name__ == "__main__":
    sys.exit(main())
