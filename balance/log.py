"""Structured logs: one JSON object a line, as Cloud Logging reads it from a function's standard output.

The counters that the alerts watch are the values of the field `metric`; the durations are `lagMs` and `ms`.
Source: https://cloud.google.com/logging/docs/structured-logging
"""

import json
import sys
from threading import Lock
from typing import Any, Literal

_lock = Lock()

Severity = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def log(severity: Severity, message: str, **fields: Any) -> None:
    """Write one entry; a field that is None is left out, one that JSON does not know is written as text."""
    entry = {"severity": severity, "message": message, **{name: value for name, value in fields.items() if value is not None}}
    # In ASCII: no text, however broken, may make a log entry fail, and with it the event that it is about.
    line = json.dumps(entry, default=str) + "\n"
    # Without the lock, lines of several threads run into each other, and counters are lost.
    with _lock:
        sys.stdout.write(line)
        sys.stdout.flush()
