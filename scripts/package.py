"""Copy the functions, and nothing else, into a folder: a codebase of its own beside your app's functions.

The folder is made if need be. Run it again for a new version: your .env files and your balance/adapter.py stay as they are, and
files that the new version no longer has are removed. If your adapter lacks something that this version asks it for, it says so.

Exit codes: 0 done; 1 your adapter lags behind; 2 not begun: the folder holds something else.

Examples:
  balance package ../my-app/balance-functions
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

import click

from scripts.command import Refused, subcommand
from scripts.exits import Exit
from scripts.source import ADAPTER, ROOT

DEPLOYED = ("main.py", "functions.yaml", "requirements.txt", "balance/**/*.py")
"""The same as firebase.json's ignore rules leave; a test compares the two."""

IGNORED = "venv/\n__pycache__/\n*.log\n# Made by the emulators; it would shadow .env there.\n.env.local\n"
"""What the app's repository should not keep of the folder."""

FORMER = """
api apply backfill balances bookkeeper changes currencies events explain faults firestore fleet gaps groupcommit identity
instance layout ledger log money nightly orphans outcome reading rebuild reconcile records retry settings simplify sources store
tasks triggers values writes
"""
"""Modules that lay directly in `balance/` before it had packages."""


def deployed_files() -> list[Path]:
    """Relative to the root, in order."""
    return sorted(path.relative_to(ROOT) for pattern in DEPLOYED for path in ROOT.glob(pattern))


@subcommand("package", __doc__)
@click.argument("folder", type=Path)
def package(folder: Path) -> int:
    if folder.resolve() == ROOT:
        raise Refused(f"{folder} is this repository itself: name another folder")
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is no folder: name another one")
    if folder.exists() and any(folder.iterdir()) and not (folder / "functions.yaml").exists():
        raise Refused(f"{folder} is not empty and holds no functions.yaml: name another folder")
    # Before anything is copied: it may not be Python.
    lacking = missing_names(folder / ADAPTER) if (folder / ADAPTER).exists() else []
    files = deployed_files()
    try:
        _copy(files, folder)
    except OSError as error:
        raise Refused(f"{folder} cannot be written: {error}") from None
    gone = outdated(folder, files)
    for file in gone:
        (folder / file).unlink()
        print(f"{folder}: {file} is removed: this version has it no longer")
    print(f"{folder}: {len(files)} files")
    if (folder / ".env.local").exists():
        print(
            f"balance package: {folder}/.env.local stands before .env in the emulators; remove it when you change .env",
            file=sys.stderr,
        )
    if not (folder / ".env").exists():
        print(f"next: write your parameters into {folder / '.env'} (docs/quickstart.md)", file=sys.stderr)
    if lacking:
        print(
            f"balance package: {folder / ADAPTER} lacks {', '.join(lacking)}: copy them from {ROOT / ADAPTER}, and change "
            "them to what your app has; the functions do not start before that",
            file=sys.stderr,
        )
        return Exit.WRONG
    return Exit.DONE


def _copy(files: list[Path], folder: Path) -> None:
    for file in files:
        target = folder / file
        if file == ADAPTER and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target)
    if not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text(IGNORED)


def outdated(folder: Path, files: list[Path]) -> list[Path]:
    """What an earlier version of ours has left there; modules that the app has put beside its adapter are none of it."""
    packages = {file.parent for file in files if len(file.parts) > 2}
    there = sorted(path.relative_to(folder) for path in (folder / "balance").rglob("*.py"))
    return [file for file in there if file not in files and (file.parent in packages or file.stem in FORMER.split())]


def missing_names(adapter: Path) -> list[str]:
    """What our own adapter defines and this one does not. Raises Refused when it is no Python."""
    return sorted(_names(ROOT / ADAPTER) - _names(adapter))


def _names(module: Path) -> set[str]:
    """What a module defines at its top level or imports."""
    found: set[str] = set()
    try:
        tree = ast.parse(module.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise Refused(f"{module} cannot be read as Python: {error}") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            found |= {alias.asname or alias.name for alias in node.names}
    return found - {"Fields"}
