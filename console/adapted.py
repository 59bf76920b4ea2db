"""One question to the adapter, in a process of its own: the workbench's other half.

It imports nothing of ours before the app's adapter is loaded: whatever reads documents takes the adapter that is there first.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any


def main() -> None:
    """Answer the question on standard input, in the last line of standard output."""
    question: Mapping[str, Any] = json.loads(sys.stdin.read())
    print(json.dumps(_answer(question)))  # noqa: T201 - it is the answer


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
    from balance.documents.sources import AdapterFailed, Malformed, parse, read
    from console.deployment import Refused
    from console.entries import as_json, document, kind_named
    from scripts.output import minor

    assert adapter is not None, "it was loaded"
    try:
        kind, fields = kind_named(question["kind"]), document(question["document"])
    except Refused as error:
        return {"refused": str(error)}
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
            (debtor, creditor, minor(amount_minor, currency, settings.unit), currency)
            for debtor, creditor, currency, amount_minor in parsed.postings
        ],
        "group_id": parsed.group_id or "",
        "nothing": nothing,
        "warning": "the splits do not add up to the expense's own amount; the splits count" if parsed.split_mismatch else "",
    }


if __name__ == "__main__":
    main()
