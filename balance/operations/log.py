"""Structured logs: one JSON object a line, as Cloud Logging reads it from a function's standard output.

The counters that the alerts watch are the values of the field `metric`; the durations are `lagMs` and `ms`.
Source: https://cloud.google.com/logging/docs/structured-logging
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Literal, TextIO

MAX_ENTRY_CHARACTERS = 64 * 1024
"""Cloud Logging drops an entry of more than 256 KB, and what its counters would have counted with it: this leaves room for
what is added on the way. Source: https://cloud.google.com/logging/quotas"""

_MAX_TEXT = 8 * 1024

_as_json = json.JSONEncoder(default=str).encode
"""In ASCII: no text, however broken, may make a log entry fail, and with it the event that it is about."""

_lock = Lock()

_SPAN = re.compile(r"\w+/(\d+);o=[01]")
"""Of the header X-Cloud-Trace-Context: https://cloud.google.com/trace/docs/trace-context#legacy-http-header"""

_execution: ContextVar[dict[str, Any] | None] = ContextVar("execution", default=None)
"""What every entry of the request at hand bears."""

Severity = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


@contextmanager
def of_request(headers: Mapping[str, str]) -> Iterator[None]:
    """Have all entries of this block bear the ids of a request's execution and span, as functions-framework would add them.

    The framework wraps standard output, parses every line and writes it anew: a tenth of the work of an event.
    """
    context: dict[str, Any] = {}
    if execution_id := headers.get("function-execution-id"):
        context["logging.googleapis.com/labels"] = {"execution_id": execution_id}
    if span := _SPAN.fullmatch(headers.get("x-cloud-trace-context", "")):
        context["logging.googleapis.com/spanId"] = span[1]
    token = _execution.set(context)
    try:
        yield
    finally:
        _execution.reset(token)


def log(severity: Severity, message: str, **fields: Any) -> None:
    """Write one entry; a field that is None is left out, one that JSON does not know is written as text.

    Of an entry that would be dropped for its size, long texts lose their middle and what else is long is left out; the
    entry's field `cut` says of which fields, and how many characters of JSON each had.
    """
    entry = {"severity": severity, "message": message, **{name: value for name, value in fields.items() if value is not None}}
    line = _as_json(entry)
    if len(line) > MAX_ENTRY_CHARACTERS:
        line = _as_json(_cut(entry))
    output = sys.stdout
    context = _execution.get()
    if context is not None:
        if context:
            line = f"{line[:-1]}, {json.dumps(context)[1:]}"
        output = _unwrapped(output)
    # Without the lock, lines of several threads run into each other, and counters are lost.
    with _lock:
        if context is None:
            output.write(line)
            # Apart from the line: functions-framework's wrapper adds an end of its own, and would make a blank line of another.
            output.write("\n")
        else:
            output.write(f"{line}\n")
        output.flush()


def _unwrapped(output: TextIO) -> TextIO:
    """What functions-framework's wrapper of standard output writes to."""
    return getattr(output, "stream", output)


def _cut(entry: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for name, value in entry.items():
        length = len(_as_json(value))
        if length <= _MAX_TEXT:
            kept[name] = value
            continue
        lengths[name] = length
        if isinstance(value, str):
            # A character may take six in ASCII.
            part = _MAX_TEXT // 12
            kept[name] = f"{value[:part]} ... {value[-part:]}"
    return {**kept, "cut": lengths}
