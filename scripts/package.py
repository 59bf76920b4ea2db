"""Copy the functions, and nothing else, into a folder: a codebase of its own beside your app's functions.

The folder is made if need be. Run it again for a new version: your .env files and your balance/adapter.py stay as they are.

Exit codes: 0 done; 1 the folder holds something else; 2 wrong usage.

Examples:
  balance package ../my-app/balance-functions
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from scripts.command import subcommand
from scripts.exits import Exit
from scripts.source import ADAPTER, ROOT

DEPLOYED = ("main.py", "functions.yaml", "requirements.txt", "balance/**/*.py")
"""The same as firebase.json's ignore rules leave; a test compares the two."""


def deployed_files() -> list[Path]:
    """Relative to the root, in order."""
    return sorted(path.relative_to(ROOT) for pattern in DEPLOYED for path in ROOT.glob(pattern))


@subcommand("package", __doc__)
@click.argument("folder", type=Path)
def package(folder: Path) -> int:
    if folder.resolve() == ROOT:
        print(f"balance package: {folder} is this repository itself: name another folder", file=sys.stderr)
        return Exit.WRONG
    if folder.exists() and any(folder.iterdir()) and not (folder / "functions.yaml").exists():
        print(f"balance package: {folder} is not empty and holds no functions.yaml: name another folder", file=sys.stderr)
        return Exit.WRONG
    for file in deployed_files():
        target = folder / file
        if file == ADAPTER and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target)
    print(f"{folder}: {len(deployed_files())} files")
    if not (folder / ".env").exists():
        print(f"next: write your parameters into {folder / '.env'} (docs/quickstart.md)", file=sys.stderr)
    return Exit.DONE
