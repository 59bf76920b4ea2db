"""`python -m scripts`, or `python /path/to/scripts` from any folder, is `balance`; `venv/bin/balance` runs the latter."""

import sys
from pathlib import Path

if not __package__:
    # The repository, rather than this folder or the working directory: an app may have packages of the same names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from scripts.cli import main

if __name__ == "__main__":
    sys.exit(main())
