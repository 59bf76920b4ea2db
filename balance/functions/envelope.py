"""Envelopes: in what an event comes.

Eventarc sends a CloudEvent whose attributes are HTTP headers. Where an attribute cannot be one (the id of a document that ends
in a space), the event comes as Pub/Sub pushes it: JSON with the attributes and the data, in base64, inside.
Source: https://cloud.google.com/pubsub/docs/push#receive_push
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cloudevents.exceptions import GenericException
from cloudevents.http import from_http

from balance.protocol.events import Body

_KEPT_BYTES = 2_048
_SECRET = ("authorization", "cookie", "x-serverless-authorization")
_NAME = re.compile(rb"projects/[^/]+/databases/[^/]+/documents/([^\x00-\x1f\x22\x5c]+)")


class NotAnEvent(ValueError):
    """A request that is no event in any envelope."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A request as it came."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def as_log(self) -> dict[str, Any]:
        """What helps to find out what was in it: its headers, the beginning of its body, documents that it names."""
        pushed = _pushed(self.body)
        names = {name.decode(errors="replace") for name in _NAME.findall(self.body + (pushed[1] if pushed else b""))}
        return {
            "headers": {name: value for name, value in self.headers.items() if name.lower() not in _SECRET},
            "bodyBase64": base64.b64encode(self.body[:_KEPT_BYTES]).decode(),
            "bodyBytes": len(self.body),
            "documents": sorted(names)[:10] or None,
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event out of its envelope."""

    event_id: str
    time: datetime | None
    data: Body


def opened(raw: Raw) -> Delivery:
    """The event in a request; raises NotAnEvent."""
    headers, body = {name.lower(): value for name, value in raw.headers.items()}, raw.body
    if "ce-id" not in headers and (pushed := _pushed(body)) is not None:
        headers, body = pushed
    # By default bytes of any type that happen to be JSON would come parsed.
    is_json = "json" in headers.get("content-type", "")
    try:
        event = from_http(headers, body, None if is_json else _as_it_is)
    except (GenericException, ValueError, RecursionError) as error:
        raise NotAnEvent(f"this is no CloudEvent: {error}") from None
    return Delivery(event["id"], _time(headers.get("ce-time")), event.data or b"")


def _pushed(body: bytes) -> tuple[dict[str, str], bytes] | None:
    """The headers and the body that a message pushed by Pub/Sub stands for; None for anything else."""
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        message = json.loads(body)["message"]
        attributes = {str(name).lower(): str(value) for name, value in message["attributes"].items()}
        data = base64.b64decode(message.get("data") or "", validate=True)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error):
        return None
    if "ce-id" not in attributes:
        return None
    content_type = attributes.get("content-type") or attributes.get("ce-datacontenttype") or "application/protobuf"
    return {**attributes, "content-type": content_type}, data


def _as_it_is(data: bytes) -> bytes:
    return data


def _time(text: str | None) -> datetime | None:
    # From the header: the cloudevents library puts now() in the place of a missing time.
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else None
