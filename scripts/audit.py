"""Audit the pinned dependencies for known vulnerabilities, with pip-audit.

    python -m scripts.audit [--strict] [FILE ...]

FILEs are requirements with hashes; requirements.txt and requirements-dev.txt by default. What the vulnerability service does
not answer for is told plainly: silence must not look like a clean bill.

Exit codes: 0 nothing was found (perhaps because the service was out of reach, which is said), 1 a dependency has a known
vulnerability, 2 with --strict: not every dependency could be audited.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

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


def main(arguments: list[str] | None = None) -> int:
    """See the module's text."""
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m scripts.audit",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", metavar="FILE", default=["requirements.txt", "requirements-dev.txt"])
    parser.add_argument("--strict", action="store_true", help="fail, too, when a dependency could not be audited")
    options = parser.parse_args(arguments)
    audits = [run(file) for file in options.files]
    for audit in audits:
        print(f"{audit.file}: {audit.audited} dependencies audited, {len(audit.findings)} known vulnerabilities")
        for finding in audit.findings:
            print(f"  {finding}")
        if audit.not_audited:
            names = ", ".join(audit.not_audited[:5]) + (", ..." if len(audit.not_audited) > 5 else "")
            print(f"  NOT AUDITED, the vulnerability service gave no answer: {len(audit.not_audited)} ({names})")
    if any(audit.findings for audit in audits):
        return 1
    if any(audit.not_audited for audit in audits):
        print("This is not a clean bill: run it again where https://pypi.org is in reach.")
        return 2 if options.strict else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
