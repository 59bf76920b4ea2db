"""What happened, in words: the change of a document, what it did to debts, why it did nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from balance.database.firestore import Fields, Snapshot
from balance.documents.layout import Layout
from balance.documents.settings import Settings
from balance.documents.sources import NOTHING, AdapterFailed, Kind, Malformed, Parsed, parse, read
from balance.protocol.events import SourceEvent, UnreadableEvent, decode, effect
from scripts.output import Cell, User, change, items

Words = Sequence[str | User]
"""A sentence, in which users are named."""


def words(cell: Cell) -> Words:
    """A cell of a table as a sentence."""
    return cell if isinstance(cell, tuple) else (cell,)


def delta_in_words(delta: Any, settings: Settings, source: str = "") -> list[Words]:
    """What a delta, as records and logs hold it, does: "bo owes ana 4.00 EUR more", once for each pair.

    "Owes less" and "is owed more" are the same. Of a settlement (told by the path `source`) the payer owes less. Of a document
    with several pairs it is those who share it who owe, and the one whom they have in common who is owed.
    """
    if not isinstance(delta, Mapping):
        return []
    is_settlement = source.count("/") % 2 == 1 and settings.layout.kind(source) is Kind.SETTLEMENT
    told: list[Words] = []
    for currency, rows in items(delta):
        for uid, others in items(rows):
            turned = is_settlement or len(items(others)) > 1
            for other, amount_minor in items(others):
                if turned and type(amount_minor) is int:
                    told.append(words(change(other, uid, -amount_minor, currency, settings.unit)))
                else:
                    told.append(words(change(uid, other, amount_minor, currency, settings.unit)))
    return told


def uids_of(delta: Any) -> list[str]:
    """Everybody whom a delta names."""
    return [uid for _, rows in items(delta) for debtor, others in items(rows) for uid in (debtor, *dict(items(others)))]


@dataclass(frozen=True, slots=True)
class Told:
    """What an event says of its document."""

    verb: str
    """added, edited, deleted, ..."""
    nothing_because: str = ""
    """Why it posts nothing; "" when it does."""
    groups: tuple[str, ...] = ()
    """Those that it names."""
    update_time: datetime | None = None
    written_at: datetime | None = None


def tell(path: str, body: bytes, event_time: datetime | None, settings: Settings) -> Told:
    """What the body of an event of a source document says."""
    kind = settings.layout.kind(path)
    if kind is None:
        return Told("written")
    try:
        event = decode(body, kind=kind, event_id="", time=event_time)
    except UnreadableEvent as error:
        return Told("unreadable", str(error))
    before, after = (_parsed(event, side, settings) for side in (event.before, event.after))
    consequences = effect(event, settings)
    posts = any(consequences.deltas.values()) or consequences.malformed_in is not None
    groups = {str(side.group_id) for side in (before, after) if side.group_id is not None}
    if not groups:
        groups = {name for side in (event.before, event.after) if side and (name := _named(path, side.fields, settings))}
    version = event.after or event.before
    return Told(
        _verb(event, before, after, settings),
        "" if posts else _why_nothing(event, before, after, settings),
        tuple(sorted(groups)),
        version.update_time if version else None,
        event.written_at,
    )


def _parsed(event: SourceEvent, side: Any, settings: Settings) -> Parsed:
    group_in_path = settings.layout.group_in_path(event.source)
    return parse(event.kind, side.fields if side else None, settings.unit, group_in_path)


def _named(path: str, fields: Fields, settings: Settings) -> str | None:
    """The group of a document that posts nothing, such as a deleted one."""
    in_path = settings.layout.group_in_path(path)
    if in_path is not None:
        return in_path
    kind = settings.layout.kind(path)
    try:
        named = (read(kind, fields) or {}).get("groupId") if kind else None
    except AdapterFailed:
        return None
    return named if isinstance(named, str) else None


def _is_deleted(event: SourceEvent, side: Any) -> bool:
    try:
        return bool((read(event.kind, side.fields) or {}).get("deletedAt"))
    except AdapterFailed:
        return False


def _verb(event: SourceEvent, before: Parsed, after: Parsed, settings: Settings) -> str:
    if event.before is None:
        return "added"
    if event.after is None:
        return "deleted"
    was, is_ = _is_deleted(event, event.before), _is_deleted(event, event.after)
    if was != is_:
        return "marked as deleted" if is_ else "restored"
    if before.group_id and after.group_id and before.group_id != after.group_id:
        return f"moved from group {before.group_id} to {after.group_id}"
    if isinstance(before, Malformed) and not isinstance(after, Malformed):
        return "corrected"
    return "edited"


def _why_nothing(event: SourceEvent, before: Parsed, after: Parsed, settings: Settings) -> str:
    sides = [side for side in (event.before, event.after) if side is not None]
    if all(_is_not_ours(event, side) for side in sides):
        return "the adapter says that it is none of ours"
    if all(_is_deleted(event, side) for side in sides):
        return "the document was deleted already"
    if before is NOTHING or after is NOTHING or event.before is None or event.after is None:
        return "it moves no money: it has no splits, or only the payer's own share"
    return "nothing that counts has changed: neither payer, shares, currency nor group"


def _is_not_ours(event: SourceEvent, side: Any) -> bool:
    try:
        return read(event.kind, side.fields) is None
    except AdapterFailed:
        return False


def source_in_words(path: str, layout: Layout) -> str:
    """A source document: "expense e1"."""
    return f"{layout.kind(path)} {path.rpartition('/')[2]}"


def record_verb(record: Fields, source: Snapshot | None) -> str:
    """What a record's write did to its document, as far as can be told: the record holds the write's time only."""
    if record.get("deletedAt") is not None:
        return "deleted"
    if source is None or source.create_time is None or source.create_time > record["updateTime"]:
        return "written"
    return "added" if source.create_time == record["updateTime"] else "edited"


def duration(ms: float | None) -> str:
    """So long, in few characters."""
    if ms is None:
        return ""
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1_000:.1f} s"
    if ms < 3_600_000:
        return f"{ms / 60_000:.0f} min"
    return f"{ms / 3_600_000:.1f} h"


def ago(time: Any, now: datetime | None = None) -> str:
    """How long since a time."""
    if not isinstance(time, datetime):
        return "never" if time is None else str(time)
    passed = (now or datetime.now(UTC)) - time
    if passed < timedelta(seconds=2):
        return "now"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if passed.total_seconds() >= size:
            return f"{int(passed.total_seconds() // size)} {unit} ago"
    return f"{int(passed.total_seconds())} s ago"


def parsed_line(text: str) -> Mapping[str, Any] | None:
    """A line of structured log; None for other lines."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
