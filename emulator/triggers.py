"""Triggers: which changes they match, and the CloudEvents that tell of them.

Path patterns: https://cloud.google.com/eventarc/docs/path-patterns and
https://cloud.google.com/firestore/docs/extend-with-functions-2nd-gen. The events are those of production: binary mode,
the document's change as protobuf in the body, ids beyond ASCII as raw UTF-8 in the headers (where HTTP servers take
them for Latin-1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from google.events.cloud.firestore_v1 import DocumentEventData

from emulator.changes import Change
from emulator.settable import Fields, InvalidField

NAMESPACE = "(default)"
DATA_SCHEMA = "https://github.com/googleapis/google-cloudevents/blob/main/proto/google/events/cloud/firestore/v1/data.proto"
_EventData = DocumentEventData.pb()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CAPTURE = re.compile(r"\{[^{}=/]*(?:=(\*\*?))?\}")
_SIMPLE_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# The first "=" before a URL: the pattern itself may hold one ({path=**}).
_PATTERN_AND_URL = re.compile(r"(.+?)=(https?://.+)", re.DOTALL)


class EventType(StrEnum):
    """What happened to a document."""

    WRITTEN = "google.cloud.firestore.document.v1.written"
    CREATED = "google.cloud.firestore.document.v1.created"
    UPDATED = "google.cloud.firestore.document.v1.updated"
    DELETED = "google.cloud.firestore.document.v1.deleted"

    def matches(self, change: Change) -> bool:
        """Whether such an event tells of this change."""
        match self:
            case EventType.CREATED:
                return change.before is None
            case EventType.UPDATED:
                return change.before is not None and change.after is not None
            case EventType.DELETED:
                return change.after is None
            case _:
                return True


@dataclass(frozen=True, slots=True)
class PathPattern:
    """Documents' paths below the database: `expenses/{expenseId}`, `groups/{path=**}`, `users/*/bills/b-*`.

    `*`, `{name}` and `{name=*}` match within one segment, `**` and `{name=**}` any number of segments.
    """

    text: str
    regex: re.Pattern[str] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Raises ValueError that says what is wrong."""
        segments = text.strip("/").split("/")
        if "" in segments:
            raise ValueError(f"{text!r} has an empty segment")
        plain = [_CAPTURE.sub(lambda capture: capture[1] or "*", segment) for segment in segments]
        for segment, written in zip(plain, segments, strict=True):
            if "{" in segment or "}" in segment:
                raise ValueError(f"the segment {written!r} is not understood: write {{name}}, {{name=**}}, * or **")
            if "**" in segment and segment != "**":
                raise ValueError(f"the segment {written!r} mixes ** with something else; it must stand alone")
        if "**" not in plain and len(plain) % 2:
            raise ValueError(f"{text!r} names a collection, not documents: its number of segments is odd")
        expression = "".join("(?:/[^/]+)*" if segment == "**" else "/" + _segment(segment) for segment in plain)
        return cls(text, re.compile(expression, re.DOTALL))

    def matches(self, path: str) -> bool:
        """Whether the document at this path below the database is meant."""
        return self.regex.fullmatch("/" + path) is not None


def _segment(segment: str) -> str:
    return "[^/]+" if segment == "*" else "[^/]*".join(re.escape(literal) for literal in segment.split("*"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A function's wish to be told of changes. `project` None means any."""

    name: str
    pattern: PathPattern
    url: str
    event_type: EventType = EventType.WRITTEN
    project: str | None = None
    database: str = "(default)"
    retry: bool = True
    concurrency: int = 80
    timeout_s: float = 540.0
    base64_body: bool = False
    """As the functions emulator of the Firebase CLI wants it."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, name: str) -> Trigger:
        """Read a trigger from JSON; `name` is used if it gives none. Raises InvalidField."""
        fields = Fields(data)
        pattern, url = fields.text("pattern"), fields.text("url")
        event_type = fields.choice("eventType", tuple(EventType), EventType.WRITTEN)
        trigger = cls(
            name=fields.text("name", name),
            pattern=_checked_pattern(pattern),
            url=_checked_url(url),
            event_type=EventType(event_type),
            project=fields.text("project", "") or None,
            database=fields.text("database", "(default)"),
            retry=fields.flag("retry", default=True),
            concurrency=fields.integer("concurrency", 1, 10_000, 80),
            timeout_s=fields.number("timeoutSeconds", 0.001, 3_600, 540.0),
            base64_body=fields.flag("base64Body", default=False),
        )
        fields.refuse_others()
        return trigger

    @classmethod
    def from_argument(cls, argument: str) -> Trigger:
        """Read `PATTERN=URL`. Raises InvalidField."""
        found = _PATTERN_AND_URL.fullmatch(argument)
        if found is None:
            raise InvalidField("trigger", f"{argument!r} is not of the form PATTERN=URL, with an http URL")
        return cls(name=found[1], pattern=_checked_pattern(found[1]), url=_checked_url(found[2]))

    def as_dict(self) -> dict[str, Any]:
        """The trigger as JSON, as `from_dict` reads it."""
        return {
            "name": self.name,
            "pattern": self.pattern.text,
            "url": self.url,
            "eventType": str(self.event_type),
            "project": self.project or "",
            "database": self.database,
            "retry": self.retry,
            "concurrency": self.concurrency,
            "timeoutSeconds": self.timeout_s,
            "base64Body": self.base64_body,
        }

    def matches(self, change: Change) -> bool:
        """Whether the change is one that this trigger waits for."""
        _, project, _, database, _, path = change.name.split("/", 5)
        return (
            self.database == database
            and self.project in (None, project)
            and self.event_type.matches(change)
            and self.pattern.matches(path)
        )


def _checked_pattern(text: str) -> PathPattern:
    try:
        return PathPattern.parse(text)
    except ValueError as error:
        raise InvalidField("pattern", str(error)) from None


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidField("url", f"{url!r} is no http URL")
    return url


def encode_body(change: Change) -> bytes:
    """The change as a serialised `google.events.cloud.firestore.v1.DocumentEventData`."""
    data = _EventData()
    # Documents of events are another message type, with the field numbers of Firestore's own.
    if change.after is not None:
        data.value.ParseFromString(change.after.SerializeToString())
    if change.before is not None:
        data.old_value.ParseFromString(change.before.SerializeToString())
    if change.after is not None and change.before is not None:
        data.update_mask.field_paths.extend(changed_paths(change.before.fields, change.after.fields))
    body: bytes = data.SerializeToString()
    return body


def changed_paths(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The paths of the fields that differ, the deepest ones, sorted within each map; odd names in back-ticks."""
    paths: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        path = prefix + _quoted(key)
        if key not in before or key not in after:
            paths.append(path)
            continue
        old, new = before[key], after[key]
        if old.WhichOneof("value_type") == new.WhichOneof("value_type") == "map_value":
            paths += changed_paths(old.map_value.fields, new.map_value.fields, path + ".")
        elif old.SerializeToString(deterministic=True) != new.SerializeToString(deterministic=True):  # NaN != NaN
            paths.append(path)
    return paths


def _quoted(key: str) -> str:
    if _SIMPLE_FIELD_NAME.fullmatch(key):
        return key
    return "`" + key.replace("\\", "\\\\").replace("`", "\\`") + "`"


def encode_headers(change: Change, event_type: EventType, event_id: str, *, location: str, time_us: int) -> dict[str, str]:
    """The headers of the CloudEvent. To be sent as UTF-8, as production does.

    Line breaks and other control characters, which no header can hold, are percent-encoded.
    """
    _, project, _, database, _, path = change.name.split("/", 5)
    path = _CONTROL.sub(lambda control: f"%{ord(control[0]):02X}", path)
    return {
        "content-type": "application/protobuf",
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": f"//firestore.googleapis.com/projects/{project}/databases/{database}",
        "ce-type": str(event_type),
        "ce-subject": f"documents/{path}",
        "ce-time": rfc3339(time_us),
        "ce-dataschema": DATA_SCHEMA,
        "ce-project": project,
        "ce-database": database,
        "ce-namespace": NAMESPACE,
        "ce-location": location,
        "ce-document": path,
    }


def rfc3339(time_us: int) -> str:
    """Microseconds since the epoch as a timestamp in UTC."""
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%dT%H:%M:%S.%fZ}"
