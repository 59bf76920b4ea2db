"""Firestore events: from the bytes of a CloudEvent to what changed, in which groups, and when."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from google.events.cloud.firestore_v1 import DocumentEventData
from google.protobuf.message import DecodeError

from balance.core.ledger import Ledger, Posting, delta
from balance.database.codec import decode_fields, to_datetime
from balance.database.firestore import Fields
from balance.documents.layout import Layout
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, Parsed, Transaction, parse
from balance.documents.writes import SourceWrite

_EventDataPb = DocumentEventData.pb()
_DOCUMENT_NAME = re.compile(r"projects/[^/]+/databases/[^/]+/documents/((?:[^/]+/[^/]+/)*[^/]+/[^/]+)")


Body = bytes | Mapping[str, Any]
"""An event's data: protobuf, or its JSON as the functions framework hands it on, for triggers that were made to send that."""


class UnreadableEvent(ValueError):
    """The event's bytes are no document change; no redelivery can cure that."""


class MissingTime(ValueError):
    """The event lacks a time without which its write cannot be told from others."""


@dataclass(frozen=True, slots=True)
class Version:
    """A document on one side of a change."""

    fields: Fields
    update_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class SourceEvent:
    """One change of a source document, as delivered."""

    event_id: str
    time: datetime | None
    source: str
    """The document's path below the database: "expenses/e1"."""
    kind: Kind
    before: Version | None
    after: Version | None

    @property
    def written_at(self) -> datetime | None:
        """When the write was committed, about when for a delete; None when the event does not tell."""
        try:
            return self.write.time
        except MissingTime:
            return None

    @cached_property
    def write(self) -> SourceWrite:
        """The write that this event tells of; raises MissingTime."""
        version = self.after or self.before
        assert version is not None, "decode() refuses an event with neither side"
        if version.update_time is None:
            raise MissingTime(f"{self.source}: the event's document has no updateTime")
        if self.after is not None:
            return SourceWrite(source=self.source, update_time=version.update_time)
        if self.time is None:
            raise MissingTime(f"{self.source}: the event of a delete has no time")
        return SourceWrite(source=self.source, update_time=version.update_time, deleted_at=self.time)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does: to each group that it touches, and whether a side of it could not be understood."""

    deltas: dict[str, Ledger]
    """By group; empty where the change moves no money."""
    malformed_in: frozenset[str | None] | None
    """None when both sides are understood; else the groups (None: no usable one) that the malformed sides name."""
    warnings: tuple[str, ...] = ()


def decode(body: Body, *, kind: Kind, event_id: str, time: datetime | None) -> SourceEvent:
    """The event in the data of a CloudEvent (`google.events.cloud.firestore.v1.DocumentEventData`).

    The document's path is taken from the body: the headers garble ids beyond ASCII. Raises UnreadableEvent.
    """
    source, sides = _sides(body)
    try:
        versions = {side: _version(document) for side, document in sides.items()}
    except OverflowError as error:
        raise UnreadableEvent(f"a time in the event's body is in no calendar: {error}") from None
    return SourceEvent(
        event_id=event_id,
        time=time,
        source=source,
        kind=kind,
        before=versions.get("old_value"),
        after=versions.get("value"),
    )


def decode_group(body: Body, layout: Layout) -> str:
    """The id of the group whose document an event tells of, from the same body; raises UnreadableEvent."""
    path, _ = _sides(body)
    collection, _, group_id = path.rpartition("/")
    if collection != layout.groups:
        raise UnreadableEvent(f"the event tells of {path}, which is no document of {layout.groups}")
    return group_id


def _sides(body: Body) -> tuple[str, dict[str, Any]]:
    """The path of the document in an event's body, and its states: `value` and `old_value`, as far as they are there."""
    try:
        data = _EventDataPb.FromString(body) if isinstance(body, bytes) else _from_json(body)
    except (DecodeError, TypeError) as error:
        raise UnreadableEvent(f"the event's body is not DocumentEventData: {error}") from None
    sides = {side: getattr(data, side) for side in ("value", "old_value") if data.HasField(side)}
    names = {side.name for side in sides.values()}
    named = _DOCUMENT_NAME.fullmatch(names.pop()) if len(names) == 1 else None
    if named is None:
        raise UnreadableEvent("the event's body does not name one document")
    return named[1], sides


def _from_json(body: Mapping[str, Any]) -> Any:
    from google.protobuf import json_format  # hardly ever needed, and a trigger's start waits for every import

    try:
        return json_format.ParseDict(body, _EventDataPb(), ignore_unknown_fields=True)
    except (json_format.ParseError, AttributeError, ValueError, RecursionError, OverflowError, SystemError) as error:
        # The last is what protobuf's C code makes of a lone surrogate.
        raise TypeError(str(error)) from None


def _version(document: Any) -> Version:
    update_time = to_datetime(document.update_time) if document.HasField("update_time") else None
    return Version(decode_fields(document.fields), update_time)


def effect(event: SourceEvent, settings: Settings) -> Effect:
    """postings(after) - postings(before), group by group."""
    group_in_path = settings.layout.group_in_path(event.source)
    before, after = (
        parse(event.kind, version.fields if version else None, settings.unit, group_in_path)
        for version in (event.before, event.after)
    )
    groups = {group_id for side in (before, after) if (group_id := side.group_id) is not None}
    malformed_in = frozenset(side.group_id for side in (before, after) if isinstance(side, Malformed))
    mismatch = isinstance(after, Transaction) and after.split_mismatch
    return Effect(
        deltas={group_id: delta(_postings(before, group_id), _postings(after, group_id)) for group_id in sorted(groups)},
        malformed_in=malformed_in or None,
        warnings=("the splits do not add up to the expense's amount",) if mismatch else (),
    )


def _postings(side: Parsed, group_id: str) -> tuple[Posting, ...]:
    return side.postings if isinstance(side, Transaction) and side.group_id == group_id else ()
