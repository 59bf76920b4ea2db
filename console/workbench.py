"""The adapter at work on one document: what it returns, and what the document then posts, or why it cannot be understood.

The adapter is loaded anew for each question, in a process of its own: so it is always the one in the file, whatever state that
is in, and one that fails, or never ends, does no harm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from console.deployment import Deployment, Refused

TIMEOUT_S = 30
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of a document."""

    adapted: str = ""
    """The adapter's output, as text."""
    postings: tuple[tuple[str, str, str, str], ...] = ()
    """(debtor, creditor, amount, currency)"""
    group_id: str = ""
    nothing: str = ""
    """Why it posts nothing."""
    fault: str = ""
    """The field and what is wrong with it; "" when it is understood."""
    warning: str = ""
    error: str = ""
    """Of the adapter's file itself."""


def look(deployment: Deployment, kind: str, path: str, document: str) -> Reading:
    """Read a document (JSON, as the form has it) by the adapter as it is now. Raises Refused."""
    question = {"kind": kind, "path": path, "document": document, "folder": str(deployment.folder)}
    environment = {**os.environ, **deployment.parameters}
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "console.adapted"],
            input=json.dumps(question),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Reading(error=f"The adapter did not come to an end within {TIMEOUT_S} s.")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return Reading(error=done.stderr[-2_000:] or f"it ended with exit code {done.returncode}")
    if "refused" in answer:
        raise Refused(answer["refused"])
    postings = tuple((a, b, c, d) for a, b, c, d in answer.pop("postings", ()))
    return Reading(**answer, postings=postings)
