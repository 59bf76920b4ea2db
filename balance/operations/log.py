"""Structured logs: one JSON object a line, as Cloud Logging reads it from a function's standard output.

The counters that the alerts watch are the values of the field `metric`; the durations are `lagMs` and `ms`.
Source: https://cloud.google.com/logging/docs/structured-logging
"""

import json
import sys
from threading import Lock
from typing import Any, Literal

MAX_ENTRY_CHARACTERS = 64 * 1024
"""Cloud Logging drops an entry of more than 256 KB, and what its counters would have counted with it: this leaves room for
what is added on the way. Source: https://cloud.google.com/logging/quotas"""

_MAX_TEXT = 8 * 1024

_lock = Lock()

Severity = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def log(severity: Severity, message: str, **fields: Any) -> None:
    """Write one entry; a field that is None is left out, one that JSON does not know is written as text.

    Of an entry that would be dropped for its size, long texts lose their middle and what else is long is left out; the
    entry's field `cut` says of which fields, and how many characters of JSON each had.
    """
    entry = {"severity": severity, "message": message, **{name: value for name, value in fields.items() if value is not None}}
    # In ASCII: no text, however broken, may make a log entry fail, and with it the event that it is about.
    line = json.dumps(entry, default=str)
    if len(line) > MAX_ENTRY_CHARACTERS:
        line = json.dumps(_cut(entry), default=str)
    # Without the lock, lines of several threads run into each other, and counters are lost.
    with _lock:
        output = sys.stdout
        output.write(line)
        # Apart from the line: functions-framework, which adds the id of the execution, adds an end of its own, and would
        # make a blank line of another.
        output.write("\n")
        output.flush()


def _cut(entry: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for name, value in entry.items():
        length = len(json.dumps(value, default=str))
        if length <= _MAX_TEXT:
            kept[name] = value
            continue
        lengths[name] = length
        if isinstance(value, str):
            # A character may take six in ASCII.
            part = _MAX_TEXT // 12
            kept[name] = f"{value[:part]} ... {value[-part:]}"
    return {**kept, "cut": lengths}
