"""Who listens to what in a database, and which answers a stream of changes makes for them. Without any I/O.

Theory of operation. `Listeners` finds the targets that a changed document may concern: by its name, its collection and
its collection's id. So a commit costs nothing for those who listen to something else, however many they are.

A commit does not make answers. It notes, for each target concerned, what the target had of the document until then,
and wakes the listener. `Listener.take` makes the answers when the stream has room for them: it compares what is noted
with the present. Commits in between melt into one snapshot, so that a slow client holds up nobody, and what is kept
for it is bounded by the documents it listens to. Every batch ends with a snapshot that is consistent over all targets
of the stream: the database as it is at the batch's read time.

With a limit or an offset a document may come and go because others do. Such a target keeps the documents that were
sent, and runs its query again when a document changed that matches it but for limit and offset.

**Resuming.** A resume token is an instant, and the database it is an instant of. The target is found as of then and as
of now, and the difference is sent. But a client may know more than its token says: the Python client keeps what it got
of a batch in which the stream broke, and may send a token while it still takes answers that came before the break. So
what the target showed at any time since then is told, too. When that instant can no longer be read, or too much has
happened since, the target is RESET and sent as a whole. An existence filter follows either way: a client whose count
differs starts again.

Source: https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#listenresponse
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc
from google.cloud.firestore_v1.types import firestore
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from emulator.changes import Change
from emulator.engine import Engine
from emulator.errors import RpcError
from emulator.targets import DocumentsTarget, QueryTarget, parse_target

Document = Any
Answer = Any  # google.cloud.firestore_v1.types.ListenResponse.pb()

# How many commits are looked at one by one, to find what a resumed target with a limit or an offset showed meanwhile.
MAX_REPLAYED = 50

_ListenResponse = firestore.ListenResponse.pb()
_Kind = firestore.TargetChange.TargetChangeType
_ADD, _REMOVE, _CURRENT, _RESET, _NO_CHANGE = (
    kind.value for kind in (_Kind.ADD, _Kind.REMOVE, _Kind.CURRENT, _Kind.RESET, _Kind.NO_CHANGE)
)


class _Active:
    """A target on a stream."""

    __slots__ = ("id", "is_stale", "listener", "noted", "once", "target", "window")

    def __init__(self, id_: int, listener: Listener, target: DocumentsTarget | QueryTarget, once: bool) -> None:
        self.id = id_
        self.listener = listener
        self.target = target
        self.once = once
        # Documents that changed since the last batch: what the target had of each until then.
        self.noted: dict[str, Document | None] = {}
        # With a limit or an offset: what the client has, and whether it may have changed.
        self.window: dict[str, Document] = {}
        self.is_stale = False

    def note(self, change: Change) -> None:
        """Take note of a change of a document that this may concern."""
        target = self.target
        if target.is_window:
            self.is_stale = self.is_stale or any(
                document is not None and target.matches(document) for document in (change.before, change.after)
            )
        elif change.name not in self.noted:
            before = change.before
            self.noted[change.name] = before if before is not None and target.matches(before) else None

    def take(self, engine: Engine) -> Iterator[tuple[str, Document | None, Document | None]]:
        """What changed since the last time: a name, what the target had of it, and has."""
        if self.is_stale:
            self.is_stale = False
            then, self.window = self.window, self.target.find(engine)
            yield from _differences(then, self.window)
        elif self.noted:
            noted, self.noted = self.noted, {}
            for name, before in noted.items():
                document = engine.document(name)
                now = document if document is not None and self.target.matches(document) else None
                if before is not now:
                    yield name, before, now

    def find(self, engine: Engine) -> dict[str, Document]:
        """All that matches now. Nothing noted so far counts any more."""
        found = self.target.find(engine)
        self.noted = {}
        self.is_stale = False
        if self.target.is_window:
            self.window = found
        return found


class Listeners:
    """All listeners of one database, found by what they listen to."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._by_name: dict[str, dict[_Active, None]] = {}
        self._by_collection: dict[str, dict[_Active, None]] = {}
        self._by_group: dict[str, dict[_Active, None]] = {}
        self._others: dict[str, dict[_Active, None]] = {}
        self._listeners: dict[Listener, None] = {}
        self.targets = 0
        engine.subscribe(self._publish, self._reset)

    def listener(self, wake: Callable[[], None]) -> Listener:
        """A listener without targets. `wake` is called, within a commit, when there is something to take."""
        made = Listener(self, wake)
        self._listeners[made] = None
        return made

    def _discard(self, listener: Listener) -> None:
        self._listeners.pop(listener, None)

    def _link(self, active: _Active) -> None:
        self.targets += 1
        for index, key in self._places(active):
            index.setdefault(key, {})[active] = None

    def _unlink(self, active: _Active) -> None:
        self.targets -= 1
        for index, key in self._places(active):
            actives = index[key]
            del actives[active]
            if not actives:
                del index[key]

    def _places(self, active: _Active) -> Iterator[tuple[dict[str, dict[_Active, None]], str]]:
        target = active.target
        if isinstance(target, DocumentsTarget):
            for name in target.names:
                yield self._by_name, name
        elif not target.query.collection_id:
            yield self._others, ""
        elif target.query.all_descendants:
            yield self._by_group, target.query.collection_id
        else:
            yield self._by_collection, f"{target.query.parent}/{target.query.collection_id}"

    def _publish(self, changes: Sequence[Change]) -> None:
        if not self.targets:
            return
        to_wake: dict[Listener, None] = {}
        for change in changes:
            for active in self._concerned(change.name):
                active.note(change)
                active.listener.due[active] = None
                to_wake[active.listener] = None
        for listener in to_wake:
            listener.wake()

    def _concerned(self, name: str) -> Iterator[_Active]:
        yield from self._by_name.get(name, ())
        collection = name.rpartition("/")[0]
        yield from self._by_collection.get(collection, ())
        if self._by_group:
            for active in self._by_group.get(collection.rpartition("/")[2], ()):
                if active.target.covers(name):
                    yield active
        for active in self._others.get("", ()):
            if active.target.covers(name):
                yield active

    def _reset(self) -> None:
        for listener in self._listeners:
            listener.reset()


class Listener:
    """The targets of one stream, and the answers that are due for them."""

    def __init__(self, listeners: Listeners, wake: Callable[[], None]) -> None:
        self.wake = wake
        self._listeners = listeners
        self._engine = listeners.engine
        self._targets: dict[int, _Active] = {}
        self._answers: list[Answer] = []
        # Targets of which documents changed since the last batch.
        self.due: dict[_Active, None] = {}
        # Whether ids are the server's to give.
        self._gives_ids = False
        self._last_id = 0

    def add(self, message: Any) -> None:
        """Listen to a `Target`. INVALID_ARGUMENT when its id cannot be; other faults end the target, not the stream."""
        id_ = self._id_for(message)
        if id_ is None:
            return
        try:
            active = _Active(id_, self, parse_target(message, self._engine.root), message.once)
            at_us = self._resumed_at(message)
            known = None if at_us is None else self._known(active, at_us)
            now = active.find(self._engine)
        except RpcError as error:
            self._answers.append(_removed(id_, error))
            return
        self._targets[id_] = active
        self._listeners._link(active)
        self._answers.append(_target_change(_ADD, [id_]))
        is_resumed = message.WhichOneof("resume_type") is not None
        if is_resumed and known is None:
            self._answers.append(_target_change(_RESET, [id_]))
        sure, possible = known or ({}, set())
        for name in sorted(possible.difference(sure, now)):
            self._answers.append(self._gone(name, [id_]))
        self._send_all(active, sure, now, is_resumed)

    def remove(self, id_: int) -> None:
        """Listen to it no longer."""
        active = self._targets.pop(id_, None)
        if active is not None:
            self._listeners._unlink(active)
            self.due.pop(active, None)
        self._answers.append(_target_change(_REMOVE, [id_]))

    def reset(self) -> None:
        """All documents are gone at once: begin anew."""
        for active in self._targets.values():
            self._answers.append(_target_change(_RESET, [active.id]))
            self._send_all(active, {}, active.find(self._engine), False)
        if self._targets:
            self.wake()

    def take(self) -> list[Answer]:
        """The answers that are due, up to and with a consistent snapshot of all targets."""
        engine = self._engine
        answers, self._answers = self._answers, []
        read_time_us = engine.read_time()
        answers.extend(self._changed(read_time_us))
        if self._targets:
            # "read_time with target_ids empty whenever the entire stream reaches a new consistent snapshot"
            answers.append(_target_change(_NO_CHANGE, [], read_time_us, _token(engine, read_time_us)))
        for active in [active for active in self._targets.values() if active.once]:
            self.remove(active.id)
        answers.extend(self._answers)
        self._answers = []
        return answers

    def close(self) -> None:
        """The stream has ended."""
        for active in self._targets.values():
            self._listeners._unlink(active)
        self._targets.clear()
        self.due.clear()
        self._listeners._discard(self)

    def __len__(self) -> int:
        """How many targets there are."""
        return len(self._targets)

    def _id_for(self, message: Any) -> int | None:
        """The id for a new target; None if it may not have the one it wants."""
        id_ = int(message.target_id)
        if id_ < 0:
            raise _invalid(f"target_id: must be positive, not {id_}.")
        if id_ == 0:
            self._gives_ids = True
            self._last_id += 1
            while self._last_id in self._targets:
                self._last_id += 1
            return self._last_id
        if self._gives_ids:
            # "the server will immediately send a response with a TargetChange::Remove event"
            error = _invalid("target_id: after a target with the id 0, all must have it.")
            self._answers.append(_removed(id_, error))
            return None
        if id_ in self._targets:
            raise _invalid(f"target_id: there is a target {id_} on this stream already.")
        return id_

    def _resumed_at(self, message: Any) -> int | None:
        """The instant as of which the client has the target; None if it has nothing, or that can no longer be told."""
        kind = message.WhichOneof("resume_type")
        engine = self._engine
        if kind == "resume_token":
            at_us = _instant(engine, message.resume_token)
        elif kind == "read_time":
            at_us = message.read_time.seconds * 1_000_000 + message.read_time.nanos // 1_000
            if at_us > engine.read_time():
                raise _invalid("read_time: the instant is in the future.")
        else:
            return None
        return at_us if at_us is not None and engine.is_readable(at_us) else None

    def _known(self, active: _Active, at_us: int) -> tuple[dict[str, Document], set[str]] | None:
        """What a client has for sure that may be anywhere between an instant and now, and the names of all that it may have.

        None if that is too much to find out.
        """
        engine, target = self._engine, active.target
        changes = [change for change in engine.changes_since(at_us) if target.covers(change[1])]
        sure = target.find(engine, at_us)
        if not target.is_window:
            return sure, sure.keys() | {name for _, name in changes}
        times_us = {time_us for time_us, _ in changes}
        if len(times_us) > MAX_REPLAYED:
            return None
        possible = set(sure)
        for time_us in times_us:
            found = target.find(engine, time_us)
            possible.update(found)
            sure = {name: document for name, document in sure.items() if found.get(name) is document}
        return sure, possible

    def _gone(self, name: str, ids: Sequence[int]) -> Answer:
        """The answer that removes a document of which the client need not know more."""
        read_time_us = self._engine.read_time()
        if self._engine.document(name) is None:
            return _document_delete(name, ids, read_time_us)
        return _document_remove(name, ids, read_time_us)

    def _send_all(self, active: _Active, then: Mapping[str, Document], now: Mapping[str, Document], is_resumed: bool) -> None:
        """Bring a new target up to date, and say that it is."""
        engine = self._engine
        read_time_us = engine.read_time()
        target = active.target
        if isinstance(target, DocumentsTarget):
            # Missing ones are told, too: "does not exist" is an answer that a client waits for.
            missing = [name for name in target.names if name not in now and name not in then]
            self._answers.extend(_document_delete(name, [active.id], read_time_us) for name in missing)
        changes = {name: {active: (before, document)} for name, before, document in _differences(then, now)}
        self._answers.extend(self._answers_for(changes, read_time_us))
        engine.statistics.document_reads += len(changes) or 1
        if is_resumed:
            filter_ = _ListenResponse()
            filter_.filter.target_id, filter_.filter.count = active.id, len(now)
            self._answers.append(filter_)
        self._answers.append(_target_change(_CURRENT, [active.id], read_time_us, _token(engine, read_time_us)))

    def _changed(self, read_time_us: int) -> Iterator[Answer]:
        """What changed for any target since the last batch, document by document."""
        changes: dict[str, dict[_Active, tuple[Document | None, Document | None]]] = {}
        due, self.due = self.due, {}
        for active in due:
            for name, before, now in active.take(self._engine):
                changes.setdefault(name, {})[active] = (before, now)
        yield from self._answers_for(changes, read_time_us, is_billed=True)

    def _answers_for(
        self,
        changes: Mapping[str, Mapping[_Active, tuple[Document | None, Document | None]]],
        read_time_us: int,
        is_billed: bool = False,
    ) -> Iterator[Answer]:
        """The answers for changes of documents, each with what targets had of it and have."""
        for name, by_target in changes.items():
            document = self._engine.document(name)
            if document is None:
                yield _document_delete(name, [active.id for active in by_target], read_time_us)
                continue
            if is_billed:
                self._engine.statistics.document_reads += len(by_target)
            matching = [active for active, (_, now) in by_target.items() if now is not None]
            # Out of view, by a change of its own or of others.
            left = [active.id for active, (before, now) in by_target.items() if now is None and before is not document]
            pushed_out = [active.id for active, (before, now) in by_target.items() if now is None and before is document]
            whole = [active.id for active in matching if not active.target.is_projected]
            if whole or left:
                yield _document_change(document, whole, left)
            for active in matching:
                if active.target.is_projected:
                    yield _document_change(active.target.project(document), [active.id], [])
            if pushed_out:
                yield _document_remove(name, pushed_out, read_time_us)


def _differences(
    then: Mapping[str, Document], now: Mapping[str, Document]
) -> Iterator[tuple[str, Document | None, Document | None]]:
    """The names that differ, with both versions. A version of a document is one message: they are told by identity."""
    for name, before in then.items():
        if name not in now:
            yield name, before, None
    for name, document in now.items():
        earlier = then.get(name)
        if earlier is not document:
            yield name, earlier, document


def _target_change(kind: int, ids: Sequence[int], read_time_us: int | None = None, token: bytes = b"") -> Answer:
    answer = _ListenResponse()
    change = answer.target_change
    change.target_change_type = kind
    change.target_ids.extend(ids)
    change.resume_token = token
    if read_time_us is not None:
        change.read_time.CopyFrom(_timestamp(read_time_us))
    return answer


def _removed(id_: int, error: RpcError) -> Answer:
    answer = _target_change(_REMOVE, [id_])
    answer.target_change.cause.CopyFrom(Status(code=error.code.value[0], message=error.message))
    return answer


def _document_change(document: Document, ids: Sequence[int], removed_ids: Sequence[int]) -> Answer:
    answer = _ListenResponse()
    answer.document_change.document.CopyFrom(document)
    answer.document_change.target_ids.extend(ids)
    answer.document_change.removed_target_ids.extend(removed_ids)
    return answer


def _document_delete(name: str, ids: Sequence[int], read_time_us: int) -> Answer:
    answer = _ListenResponse()
    answer.document_delete.document = name
    answer.document_delete.removed_target_ids.extend(ids)
    answer.document_delete.read_time.CopyFrom(_timestamp(read_time_us))
    return answer


def _document_remove(name: str, ids: Sequence[int], read_time_us: int) -> Answer:
    answer = _ListenResponse()
    answer.document_remove.document = name
    answer.document_remove.removed_target_ids.extend(ids)
    answer.document_remove.read_time.CopyFrom(_timestamp(read_time_us))
    return answer


def _token(engine: Engine, at_us: int) -> bytes:
    return engine.born_us.to_bytes(8, "big") + at_us.to_bytes(8, "big")


def _instant(engine: Engine, token: bytes) -> int | None:
    """The instant of a token; None if it is of a database that is no more, or of none."""
    if len(token) != 16 or int.from_bytes(token[:8], "big") != engine.born_us:
        return None
    return int.from_bytes(token[8:], "big")


def _timestamp(us: int) -> Timestamp:
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1_000)


def _invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)
