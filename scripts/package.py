"""Copy what is deployed, and nothing else, into a folder: for use as a second codebase beside an app's own functions.

Usage: python -m scripts.package FOLDER
"""

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOYED = ("main.py", "functions.yaml", "requirements.txt", "balance/**/*.py")
"""The same as firebase.json's ignore rules leave; a test compares the two."""


def deployed_files() -> list[Path]:
    """Relative to the root, in order."""
    return sorted(path.relative_to(ROOT) for pattern in DEPLOYED for path in ROOT.glob(pattern))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.package",
        description="Copy what is deployed, and nothing else, into a folder (made if need be; its .env files and its "
        "balance/adapter.py stay as they are).",
        epilog="exit codes: 0 done; 1 the folder holds something else; 2 wrong usage. "
        "example: python -m scripts.package ../my-app/balance-functions",
    )
    parser.add_argument("folder", type=Path, help="where to")
    folder: Path = parser.parse_args().folder
    if folder.exists() and any(folder.iterdir()) and not (folder / "functions.yaml").exists():
        print(f"package: {folder} is not empty and holds no functions.yaml: name another folder", file=sys.stderr)
        return 1
    for file in deployed_files():
        target = folder / file
        if file == Path("balance/adapter.py") and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target)
    print(f"{folder}: {len(deployed_files())} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
