"""Reading one's own writes: whether a group's balance holds them, asked by a client that has just made them.

A write is named as `PATH@TIME` by its commit time, which server SDKs and the REST API tell, or as `PATH@latest`: the one that
made the document what it is now, a delete included; web and mobile SDKs do not tell commit times. The answer is yes only when
it is proved, by the write's record or by the snapshot from which the balance was rebuilt. Once yes it stays yes: a version of
the balance holds whatever an earlier one did.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from threading import BoundedSemaphore

from balance.database.firestore import Firestore, Query, Snapshot, UnreadablePast
from balance.database.retry import Retry
from balance.documents import records
from balance.documents.layout import Layout
from balance.documents.records import CorruptRecord, Record
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, is_document_id
from balance.documents.sources import parse as parse_source
from balance.documents.writes import Held, SourceWrite
from balance.protocol.events import SourceEvent, Version, effect

MAX_WRITES = 10
"""So many may be asked for at once."""

LATEST = "latest"

WAIT_S = 5.0
"""How long an answer may wait for a write."""

_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
"""Between looks; the last one again and again."""

_WAITING = BoundedSemaphore(16)
"""Who waits holds a thread of the instance: so many may, the others are told at once how it stands."""

_INSTANT = timedelta(microseconds=1)
_ISO_8601 = re.compile(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)
_NO_TIME = "includes has behind its last @ neither an updateTime, such as 2026-03-01T18:22:05.123456Z, nor latest"


class InvalidInclude(ValueError):
    """A write that cannot be asked for; the message names the fault."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A write that a client asks for."""

    text: str
    """As the client gave it."""
    kind: Kind
    source: str
    update_time: datetime | None
    """None: the latest."""


def parse(texts: Sequence[str], layout: Layout, group_id: str, now: datetime) -> list[Asked]:
    """The writes that the parameters name, all of them up to `now`, the server's time; raises InvalidInclude."""
    if len(texts) > MAX_WRITES:
        raise InvalidInclude(f"includes is given more than {MAX_WRITES} times")
    return [_parse(text, layout, group_id, now) for text in dict.fromkeys(texts)]


def _parse(text: str, layout: Layout, group_id: str, now: datetime) -> Asked:
    source, at, version = text.rpartition("@")
    if not at:
        raise InvalidInclude("includes does not end in @ and the write's updateTime or @latest, as in expenses/e1@latest")
    collection, _, document_id = source.rpartition("/")
    kinds = {layout.sources(kind, group_id).collection: kind for kind in Kind}
    if collection not in kinds or not is_document_id(document_id):
        places = " or ".join(f"{each}/ID" for each in kinds)
        raise InvalidInclude(f"includes does not name a document of the group: give {places}")
    return Asked(text, kinds[collection], source, None if version == LATEST else _time(version, now))


def _time(text: str, now: datetime) -> datetime:
    if not _ISO_8601.fullmatch(text):
        raise InvalidInclude(_NO_TIME)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInclude(_NO_TIME) from None
    if found > now:
        raise InvalidInclude("includes names a time that is still to come: give the write's updateTime, not a time of your own")
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """How it stands at the end of the wait."""

    stored: Snapshot
    """The balance document, as it was read last."""
    held: frozenset[str]
    """The texts of those writes that this document holds, and every later version of it."""


def wait(firestore: Firestore, settings: Settings, group_id: str, asked: Sequence[Asked], retry: Retry) -> Found:
    """Look until the balance document holds all the writes, or the time is over. May raise TransientError."""
    looks = retry.run(lambda: [_start(firestore, settings, group_id, one) for one in asked])
    patient = _WAITING.acquire(blocking=False)
    try:
        for _ in _pauses(WAIT_S if patient else 0.0):
            found = retry.run(lambda: _look(firestore, settings, group_id, looks))
            if len(found.held) == len(asked):
                break
    finally:
        if patient:
            _WAITING.release()
    return found


def told(asked: Sequence[Asked], held: frozenset[str], as_of: datetime, asked_at: datetime) -> Mapping[str, bool]:
    """By text: whether an answer holds the write; `as_of` is the answer's, `asked_at` an instant after the request came in.

    What was recalculated as of an instant holds all that was committed by then, whatever has been recorded.
    """
    return {one.text: one.text in held or (one.update_time or asked_at) <= as_of for one in asked}


def _pauses(within_s: float) -> Iterator[None]:
    """At once, and after each pause until the time is over."""
    end = time.monotonic() + within_s
    yield
    pauses = iter(_PAUSES_S)
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(left_s, next(pauses, _PAUSES_S[-1])))
        yield


def _look(firestore: Firestore, settings: Settings, group_id: str, looks: Sequence["_Present | _Gone"]) -> Found:
    # What takes a query is asked first: what the balance held then it holds when it is read.
    for look in looks:
        if isinstance(look, _Gone):
            look.ask()
    paths = [look.record for look in looks if isinstance(look, _Present)]
    stored, *recorded = firestore.get([settings.layout.balance(group_id), *paths])
    as_of = (stored.fields or {}).get("asOf")
    snapshot = as_of if isinstance(as_of, datetime) and as_of <= stored.read_time else None
    by_path = {record.path: record for record in recorded}
    held = {
        look.asked.text
        for look in looks
        if (look.is_held(snapshot, by_path[look.record]) if isinstance(look, _Present) else look.is_held(snapshot))
    }
    return Found(stored, frozenset(held))


def _start(firestore: Firestore, settings: Settings, group_id: str, asked: Asked) -> "_Present | _Gone":
    update_time = asked.update_time
    if update_time is None:
        (present,) = firestore.get([asked.source])
        update_time = present.update_time
    if update_time is None:
        return _Gone(firestore, settings, group_id, asked)
    return _Present(firestore, settings, group_id, asked, SourceWrite(source=asked.source, update_time=update_time))


class _Awaited(Enum):
    """What is to come of a write."""

    RECORD = "it moves money, or nobody knows"
    FAULT = "it cannot be understood"
    NOTHING = "it moves no money in the group"


class _Present:
    """A create or update that is looked for."""

    def __init__(self, firestore: Firestore, settings: Settings, group_id: str, asked: Asked, write: SourceWrite) -> None:
        self._firestore, self._settings, self._group_id, self._write = firestore, settings, group_id, write
        self._awaited: _Awaited | None = None
        self.asked = asked
        self.record = f"{settings.layout.records(group_id)}/{write.key}"

    def is_held(self, snapshot: datetime | None, record: Snapshot) -> bool:
        """Whether the balance that was rebuilt as of `snapshot`, read together with `record`, holds the write."""
        if snapshot is not None and self._write.held_by(snapshot) is Held.YES:
            return True
        if record.fields is not None:
            try:
                return not records.parse(record.fields).is_gap
            except CorruptRecord:
                return False
        if self._awaited is None:
            self._awaited = self._judged()
        return self._awaited is _Awaited.NOTHING or (self._awaited is _Awaited.FAULT and self._fault_stands())

    def _judged(self) -> _Awaited:
        """By what the trigger will see: the document before and after the write."""
        source, at = self.asked.source, self._write.update_time
        try:
            ((before,), (after,)) = (self._firestore.get([source], read_time=time) for time in (at - _INSTANT, at))
        except UnreadablePast:
            return _Awaited.RECORD
        if after.update_time != at:
            return _Awaited.RECORD
        sides = {"before": _version(before), "after": _version(after)}
        event = SourceEvent(event_id="", time=None, source=source, kind=self.asked.kind, **sides)
        done = effect(event, self._settings)
        if done.deltas.get(self._group_id, True):
            return _Awaited.RECORD
        return _Awaited.FAULT if self._group_id in (done.malformed_in or ()) else _Awaited.NOTHING

    def _fault_stands(self) -> bool:
        (fault,) = self._firestore.get([self._settings.layout.fault(self._group_id, self.asked.source)])
        since = (fault.fields or {}).get("since")
        return isinstance(since, datetime) and since >= self._write.update_time


class _Gone:
    """A document that is gone: its delete is looked for, whose time nobody tells.

    When the document is gone from the snapshot as well and nothing has been recorded of it since, the balance holds nothing
    of it: should it have been made and deleted since, the two cancel out. A recorded delete proves as much, unless the snapshot
    holds a later life of the document. The delete of a document that posted nothing (such as a soft-deleted one) moves nothing
    and leaves no record: the balance holds it as soon as it holds that version.
    """

    def __init__(self, firestore: Firestore, settings: Settings, group_id: str, asked: Asked) -> None:
        self._firestore, self._settings, self._group_id, self.asked = firestore, settings, group_id, asked
        self._records = Query(collection=settings.layout.records(group_id), where=("source", "==", asked.source))
        self._newest: Record | None = None

    def ask(self) -> None:
        """Look for the document's newest record."""
        self._newest = None
        for document in self._firestore.query(self._records):
            try:
                record = records.parse(document.fields or {})
            except CorruptRecord:
                continue
            if self._newest is None or _age(record) > _age(self._newest):
                self._newest = record

    def is_held(self, snapshot: datetime | None) -> bool:
        """Whether the balance that was rebuilt as of `snapshot`, read after the records, holds the delete."""
        if snapshot is None:
            return False
        newest = self._newest
        deleted = newest.write if newest is not None and newest.write.deleted_at is not None and not newest.is_gap else None
        is_later = newest is not None and newest.write.held_by(snapshot) is Held.NO
        if is_later and deleted is not None:
            return True
        if newest is not None and is_later and newest.is_gap:
            return False
        try:
            at = newest.write.update_time if newest is not None and is_later else snapshot
            (then,) = self._firestore.get([self.asked.source], read_time=at)
        except UnreadablePast:
            return False
        if is_later and then.update_time != at:
            return False
        if then.fields is None or (deleted is not None and deleted.update_time == then.update_time):
            return True
        return self._posts_nothing(then, is_recorded=newest is not None and newest.write.update_time == then.update_time)

    def _posts_nothing(self, version: Snapshot, *, is_recorded: bool) -> bool:
        """Whether the group's balance holds nothing of this version, nor a fault of the document.

        Another group's document has nothing to do with this one, unless this one has a record of it: it was moved away.
        """
        path, layout = self.asked.source, self._settings.layout
        parsed = parse_source(self.asked.kind, version.fields, self._settings.unit, layout.group_in_path(path))
        if isinstance(parsed, Malformed):
            (fault,) = self._firestore.get([layout.fault(self._group_id, path)])
            return fault.fields is None
        if parsed.group_id not in (None, self._group_id):
            return is_recorded
        return not parsed.postings


def _age(record: Record) -> tuple[datetime, bool]:
    """By which a document's records are in order: a version comes before its delete."""
    return record.write.update_time, record.write.deleted_at is not None


def _version(document: Snapshot) -> Version | None:
    return None if document.fields is None else Version(document.fields, document.update_time)
