"""Firestore's CloudEvents as Eventarc delivers them, made with Google's own message classes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.events.cloud.firestore_v1 import DocumentEventData

from balance.database.codec import encode_fields_into, to_timestamp

ROOT = "projects/demo-test/databases/(default)/documents/"

EventDataPb: Any = DocumentEventData.pb()


def body(
    path: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    before_time: datetime | None = None,
    after_time: datetime | None = None,
    root: str = ROOT,
) -> bytes:
    """The bytes of a change of the document at `path`; a side is left out when it is None."""
    data = EventDataPb()
    for document, fields, update_time in ((data.old_value, before, before_time), (data.value, after, after_time)):
        if fields is not None:
            document.name = root + path
            encode_fields_into(document.fields, fields)
            if update_time is not None:
                document.update_time.CopyFrom(to_timestamp(update_time))
                document.create_time.CopyFrom(to_timestamp(update_time))
    serialised: bytes = data.SerializeToString()
    return serialised


def headers(
    path: str = "expenses/e", *, event_id: str = "event-1", time: str | None = "2026-03-01T12:00:00Z"
) -> dict[str, str]:
    """Those of a binary-mode delivery; ids beyond ASCII arrive garbled, as in production."""
    garbled = path.encode().decode("latin-1")
    sent = {
        "content-type": "application/protobuf",
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "//firestore.googleapis.com/projects/demo-test/databases/(default)",
        "ce-type": "google.cloud.firestore.document.v1.written",
        "ce-subject": f"documents/{garbled}",
        "ce-project": "demo-test",
        "ce-database": "(default)",
        "ce-namespace": "(default)",
        "ce-location": "us-central1",
        "ce-document": garbled,
    }
    return sent if time is None else sent | {"ce-time": time}
