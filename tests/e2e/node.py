"""Node, with an official client installed for a test; the test is skipped where that cannot be."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

NODE_CLIENT = Path(__file__).parent / "node_client"
WEB_CLIENT = Path(__file__).parent / "web_client"


def node_with(folder: Path) -> str:
    """The path of Node, with the folder's packages installed at the versions of its lock file."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node and npm are not installed")
    with (folder / ".installing").open("w") as lock:
        # Tests in several processes want it at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(npm, folder)
    return node


def _install(npm: str, folder: Path) -> None:
    installed = folder / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=0"]
        try:
            subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"npm cannot install the packages of {folder.name}: {error.stderr.strip()[-300:]}")
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm does not install the packages of {folder.name} within two minutes")
