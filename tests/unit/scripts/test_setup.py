"""Set-up takes every supported Python, and repairs what an interrupted run has left.

The interpreters are stand-ins, which tell any version, make a venv/ in no time and install nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

STAND_IN = """#!/bin/sh
case "$1 $2" in
"-c "*) exec {real} -c "import sys; sys.version_info = ({major}, {minor}, 0); $2" ;;
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pip" ;;
"-m pip") [ -e "$(dirname "$0")/../pip" ] ;;
*) echo "Python {major}.{minor}.0" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The script, with requirements that need no index."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", tmp_path / "scripts")
    for name in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / name).write_text("# nothing\n")
    return tmp_path


def set_up(project: Path, version: str = "3.11") -> subprocess.CompletedProcess[str]:
    python = project / f"python{version}"
    major, minor = version.split(".")
    python.write_text(STAND_IN.format(real=sys.executable, major=major, minor=minor))
    python.chmod(0o755)
    command = [project / "scripts" / "setup.sh"]
    environment = {**os.environ, "PYTHON": str(python)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_every_supported_python_is_taken_and_what_it_has_set_up_is_left_alone(project: Path, version: str) -> None:
    first, second = set_up(project, version), set_up(project, version)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "setup: done" in first.stdout
    assert second.stdout == ""
    assert (project / "venv" / "bin" / "balance").exists()


@pytest.mark.parametrize("version", ["3.10", "3.15"])
def test_other_pythons_are_refused(project: Path, version: str) -> None:
    refused = set_up(project, version)
    assert refused.returncode == 1
    assert "Python 3.11, 3.12, 3.13 or 3.14 is needed" in refused.stderr
    assert not (project / "venv").exists()


@pytest.mark.parametrize("left", ["while pip ran", "while venv ran", "while venv ran, by a version before"])
def test_an_interrupted_set_up_repairs_itself(project: Path, left: str) -> None:
    assert set_up(project).returncode == 0
    venv = project / "venv"
    (venv / ".installed").unlink()
    (venv / "half").touch()
    if "before" not in left:
        (venv / ".unfinished").touch()
    if "venv" in left:
        (venv / "pip").unlink()
    again = set_up(project)
    assert again.returncode == 0, again.stderr
    assert "made anew" in again.stdout
    assert not (venv / "half").exists()
    assert set_up(project).stdout == ""


def test_what_fails_while_it_installs_is_made_anew(project: Path) -> None:
    (project / "requirements-dev.txt").write_text("# nothing yet\n")
    assert set_up(project).returncode == 0
    pip = project / "venv" / "bin" / "python"
    pip.write_text(pip.read_text().replace('"-m pip") ', '"-m pip") [ "$3" = --version ] && '))
    (project / "requirements-dev.txt").write_text("# something else\n")
    failed = set_up(project)
    assert failed.returncode == 1
    assert "pip could not install" in failed.stderr
    again = set_up(project)
    assert again.returncode == 0, again.stderr
    assert "made anew" in again.stdout


def test_a_venv_of_another_python_than_the_one_asked_for_is_not_touched(project: Path) -> None:
    assert set_up(project, "3.11").returncode == 0
    refused = set_up(project, "3.14")
    assert refused.returncode == 1
    assert "remove it (rm -r venv)" in refused.stderr
    assert (project / "venv" / "bin" / "balance").exists()
