"""Audit the pinned dependencies for known vulnerabilities, with pip-audit.

FILEs are requirements with hashes, by default all of requirements*.txt. What the vulnerability service does not answer for is
told plainly: silence must not look like a clean bill.

Exit codes: 0 every dependency was audited, and nothing was found; 1 a dependency has a known vulnerability; 2 wrong usage;
3 not every dependency could be audited (0 with --no-answer-is-fine).

Examples:
  balance audit
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import click

from scripts.command import subcommand
from scripts.exits import Exit
from scripts.source import ROOT

FILES = ("requirements.txt", "requirements-dev.txt", "requirements-browser.txt")
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Audit:
    """What became known of the dependencies in one file."""

    file: str
    audited: int = 0
    not_audited: tuple[str, ...] = ()
    """Names, or the reason why there is no answer at all."""
    findings: tuple[str, ...] = field(default=())


def run(file: str) -> Audit:
    """Ask the service about every dependency in a file."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--requirement", file]
    done = subprocess.run(
        [*command, "--progress-spinner", "off", "--format", "json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        return Audit(file, not_audited=(lines[-1][:300],))
    return read(file, answer)


def read(file: str, answer: dict[str, Any]) -> Audit:
    """Pip-audit's answer."""
    dependencies = answer["dependencies"]
    return Audit(
        file,
        audited=sum("vulns" in dependency for dependency in dependencies),
        not_audited=tuple(dependency["name"] for dependency in dependencies if "vulns" not in dependency),
        findings=tuple(
            f"{dependency['name']} {dependency['version']}: {vulnerability['id']}"
            f" (fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'})"
            for dependency in dependencies
            for vulnerability in dependency.get("vulns", ())
        ),
    )


@subcommand("audit", __doc__)
@click.option("--no-answer-is-fine", is_flag=True, help="Exit code 0 when the service is out of reach.")
@click.argument("files", nargs=-1, metavar="[FILE]...")
def audit(files: tuple[str, ...], no_answer_is_fine: bool) -> int:
    audits = [run(file) for file in files or [str(ROOT / name) for name in FILES]]
    for found in audits:
        print(f"{found.file}: {found.audited} dependencies audited, {len(found.findings)} known vulnerabilities")
        for finding in found.findings:
            print(f"  {finding}")
        if found.not_audited:
            names = ", ".join(found.not_audited[:5]) + (", ..." if len(found.not_audited) > 5 else "")
            print(f"  NOT AUDITED, the vulnerability service gave no answer: {len(found.not_audited)} ({names})")
    if any(found.findings for found in audits):
        return Exit.WRONG
    if any(found.not_audited for found in audits):
        print("This is not a clean bill: run it again where https://pypi.org is in reach.")
        return Exit.DONE if no_answer_is_fine else Exit.LEFT_OUT
    return Exit.DONE
