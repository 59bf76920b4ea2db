"""docs/adding-a-kind.md, followed step by step in a copy of the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STEP = re.compile(r"^```(diff|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COPIED = ("balance", "deploy", "main.py", "functions.yaml", "pyproject.toml")

A_LOAN_POSTS = """
from balance.core.money import Unit
from balance.documents.sources import Kind, Malformed, Transaction, parse
from balance.documents.settings import from_environment

loan = {"groupId": "g", "lenderId": "ana", "borrowerId": "bo", "amount": 5, "currency": "USD"}
assert parse(Kind("loan"), loan, Unit.MAJOR) == Transaction("g", (("bo", "ana", "USD", 500),))
assert parse(Kind("loan"), {**loan, "deletedAt": True}, Unit.MAJOR) == Transaction(None)
assert parse(Kind("loan"), {**loan, "amount": "-5"}, Unit.MAJOR) == Malformed("amount", "is negative", "g")
layout = from_environment({"LOANS_COLLECTION": "groups/{groupId}/lent"}).layout
assert layout.kind("groups/g/lent/x") is Kind("loan")
assert layout.sources(Kind("loan"), "g").collection == "groups/g/lent"
"""


def test_the_steps_lead_to_a_kind_that_is_known_everywhere(tmp_path: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    tests = tmp_path / "tests" / "unit" / "documents"
    tests.mkdir(parents=True)
    shutil.copyfile(ROOT / "tests/unit/documents/test_kinds.py", tests / "test_kinds.py")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(tmp_path), "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}

    def run(*command: str, given: str | None = None) -> None:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, input=given, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, f"{given or command}\n{done.stdout}{done.stderr}"

    steps = STEP.findall((ROOT / "docs/adding-a-kind.md").read_text())
    assert {kind for kind, _ in steps} == {"diff", "sh"}
    for kind, step in steps:
        if kind == "diff":
            run("git", "apply", "--recount", "-C1", given=step)
        else:
            run("bash", "-ec", step)  # the last one runs the tests of what every kind needs
    run(sys.executable, "-c", A_LOAN_POSTS)
