"""Envelopes: in what an event comes.

Eventarc sends a CloudEvent whose attributes are HTTP headers (the binary mode). Where an attribute cannot be one (the id of a
document that ends in a space), the event comes as Pub/Sub pushes it: JSON with the attributes and the data, in base64, inside.
Other senders may put all of a CloudEvent into one JSON object (the structured mode).
Sources: https://cloud.google.com/pubsub/docs/push#receive_push,
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#3-http-message-mapping
"""

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cloudevents.abstract import CloudEvent
from cloudevents.conversion import from_http
from cloudevents.exceptions import GenericException

from balance.protocol.events import Body

_REQUIRED = ("ce-id", "ce-source", "ce-type")
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
    if _is_plain(headers):
        return Delivery(headers["ce-id"], _time(headers.get("ce-time")), body)
    try:
        event = from_http(_Event, headers, body, _text_as_json)
    except (GenericException, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise NotAnEvent(f"this is no CloudEvent: {error}") from None
    if not isinstance(event_id := event.get("id"), str):
        raise NotAnEvent(f"this is no CloudEvent: its id is {event_id!r}")
    return Delivery(event_id, _time(event.get("time")), event.get_data() or b"")


def _is_plain(headers: Mapping[str, str]) -> bool:
    """Whether an event is one as Firestore sends them: all that there is to parsing it is taking its id and its body.

    The library takes a sixth of an event's time to say the same. It parses whatever differs, and says what is wrong.
    """
    return (
        headers.get("content-type") == "application/protobuf"
        and headers.get("ce-specversion") == "1.0"
        and all(name in headers for name in _REQUIRED)
        # Two attributes that the library takes for its own.
        and headers.get("ce-datacontenttype", "application/protobuf") == "application/protobuf"
        and "ce-extensions" not in headers
    )


@dataclass(frozen=True, slots=True)
class _Event(CloudEvent):
    """As it came. The library's own class puts now() in the place of a missing time."""

    attributes: dict[str, Any]
    data: Any

    @classmethod
    def create(cls, attributes: Mapping[str, Any], data: Any) -> "_Event":
        """What the library has parsed."""
        return cls(dict(attributes), data)

    def _get_attributes(self) -> dict[str, Any]:
        return self.attributes

    def get_data(self) -> Any:
        """Bytes, or what they hold where the event says that they are JSON."""
        if isinstance(self.data, bytes) and "json" in str(self.attributes.get("datacontenttype")):
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(self.data)
        return self.data


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


def _text_as_json(data: str | bytes) -> Any:
    # The structured mode hands on JSON values as text, and base64 as bytes; the binary mode all as bytes, but "" for none.
    return json.loads(data) if isinstance(data, str) and data else data


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None
