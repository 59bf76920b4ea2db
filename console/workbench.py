"""The adapter at work on one document: what it returns, and what the document then posts, or why it cannot be understood.

The adapter is loaded anew for each question, in a process of its own: so it is always the one in the file, whatever state that
is in, and one that fails, or never ends, does no harm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.deployment import Deployment, Refused

TIMEOUT_S = 10
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
            [sys.executable, "-m", "console.workbench"],
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


def main() -> None:
    """Answer the question on standard input, in the last line of standard output."""
    question: Mapping[str, Any] = json.loads(sys.stdin.read())
    try:
        answer = _answer(question)
    except Refused as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer))  # noqa: T201 - it is the answer


def _answer(question: Mapping[str, Any]) -> dict[str, Any]:
    from scripts import source
    from scripts.command import Refused as CommandRefused

    try:
        source.load_adapter(["--source", question["folder"]])
        from balance import adapter
    except CommandRefused as error:
        return {"error": str(error)}
    except Exception:  # noqa: BLE001 - the app's code may raise anything
        return {"error": traceback.format_exc(limit=-3)}
    # Later than the adapter.
    from balance.documents.settings import from_environment
    from balance.documents.sources import AdapterFailed, Kind, Malformed, parse, read
    from console.entries import as_json, document
    from scripts.output import minor

    assert adapter is not None, "it was loaded"
    kind, fields = Kind(question["kind"]), document(question["document"])
    settings = from_environment(os.environ)
    path = question["path"] or "x/x"
    try:
        renamed = read(kind, fields)
        adapted = "None: it is none of ours" if renamed is None else as_json(dict(renamed))
    except AdapterFailed as error:
        adapted = f"it raised {error}"
        renamed = {}
    parsed = parse(kind, fields, settings.unit, settings.layout.group_in_path(path))
    if isinstance(parsed, Malformed):
        return {"adapted": adapted, "fault": f"{parsed.field} {parsed.reason}", "group_id": parsed.group_id or ""}
    nothing = ""
    if not parsed.postings:
        nothing = (
            "it is none of ours" if renamed is None else "it is deleted" if parsed.group_id is None else "it moves no money"
        )
    return {
        "adapted": adapted,
        "postings": [
            (debtor, creditor, minor(amount_minor, currency), currency)
            for debtor, creditor, currency, amount_minor in parsed.postings
        ],
        "group_id": parsed.group_id or "",
        "nothing": nothing,
        "warning": "the splits do not add up to the expense's own amount; the splits count" if parsed.split_mismatch else "",
    }


if __name__ == "__main__":
    main()
