"""Listening by itself: targets and commits in, answers out, told to a client that believes all it is sent."""

from __future__ import annotations

from random import Random
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import firestore
from google.cloud.firestore_v1.types import query as query_types
from google.cloud.firestore_v1.types import write as write_types

from emulator.engine import SECOND_US, CommitResult, Engine, Settings
from emulator.errors import RpcError
from emulator.indexes import Indexes
from emulator.listeners import MAX_REPLAYED, Listener, Listeners
from emulator.targets import parse_target

DATABASE = "projects/p/databases/(default)"
ROOT = f"{DATABASE}/documents"
Target = firestore.Target.pb()
StructuredQuery = query_types.StructuredQuery.pb()
Write = write_types.Write.pb()
Kind = firestore.TargetChange.TargetChangeType
DESCENDING = query_types.StructuredQuery.Direction.DESCENDING.value
AT_LEAST = query_types.StructuredQuery.FieldFilter.Operator.GREATER_THAN_OR_EQUAL.value


class Clock:
    """Microseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000 * SECOND_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(clock: Clock) -> Engine:
    return Engine(DATABASE, clock)


@pytest.fixture
def listeners(engine: Engine) -> Listeners:
    return Listeners(engine)


def put(engine: Engine, *changes: tuple[str, int | None]) -> int:
    """Commit numbers of documents, below the root, at once; None deletes. Returns the time."""
    writes = []
    for path, number in changes:
        made = Write()
        if number is None:
            made.delete = f"{ROOT}/{path}"
        else:
            made.update.name = f"{ROOT}/{path}"
            made.update.fields["n"].integer_value = number
            made.update.fields["other"].string_value = "x" * (number % 3)
        writes.append(made)
    result = engine.commit(writes)
    assert isinstance(result, CommitResult)
    return result.commit_time_us


def documents(id_: int, *paths: str, **how: Any) -> Any:
    target = Target(target_id=id_, **how)
    target.documents.documents.extend(f"{ROOT}/{path}" for path in paths)
    return target


def query(
    id_: int,
    collection_id: str = "items",
    *,
    parent: str = ROOT,
    group: bool = False,
    at_least: int | None = None,
    order: int | None = None,
    limit: int | None = None,
    offset: int = 0,
    start_at: int | None = None,
    select: bool = False,
    **how: Any,
) -> Any:
    target = Target(target_id=id_, **how)
    target.query.parent = parent
    structured = target.query.structured_query
    structured.from_.add(collection_id=collection_id, all_descendants=group)
    if at_least is not None:
        structured.where.field_filter.field.field_path = "n"
        structured.where.field_filter.op = AT_LEAST
        structured.where.field_filter.value.integer_value = at_least
    if order is not None:
        structured.order_by.add(direction=order).field.field_path = "n"
    if limit is not None:
        structured.limit.value = limit
    if start_at is not None:
        structured.start_at.values.add(integer_value=start_at)
        structured.start_at.before = True
    structured.offset = offset
    if select:
        structured.select.fields.add(field_path="n")
    return target


class Client:
    """Keeps what it is sent, and resumes from it. Knows nothing but the protocol."""

    def __init__(self, listeners: Listeners) -> None:
        self.engine = listeners.engine
        self._listeners = listeners
        self.wakes = 0
        self.targets: dict[int, Any] = {}
        self.documents: dict[int, dict[str, Any]] = {}
        self.current: set[int] = set()
        self.removed: dict[int, Any] = {}
        self.resets = 0
        self.mismatches: set[int] = set()
        self.tokens: dict[int, bytes] = {}
        self.read_time_us = 0
        self.snapshots = 0
        self.listener: Listener = listeners.listener(self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def add(self, target: Any) -> None:
        self.targets[target.target_id] = target
        self.documents.setdefault(target.target_id, {})
        self.listener.add(target)

    def reconnect(self, tokens: dict[int, bytes] | None = None) -> None:
        """On a new stream, listen to the same from where it was, or from before that."""
        self.tokens = self.tokens if tokens is None else tokens
        self.listener.close()
        self.listener = self._listeners.listener(self._wake)
        self.current.clear()
        for target in self.targets.values():
            resumed = Target()
            resumed.CopyFrom(target)
            if target.target_id in self.tokens:
                resumed.resume_token = self.tokens[target.target_id]
            else:
                self.documents[target.target_id].clear()
            self.listener.add(resumed)

    def take(self, share: float = 1.0) -> list[Any]:
        """Receive what is due, or the first part of it only; returns it."""
        answers = self.listener.take()
        for answer in answers[: round(len(answers) * share)]:
            self._receive(answer)
        return answers

    def _receive(self, answer: Any) -> None:
        kind = answer.WhichOneof("response_type")
        if kind == "target_change":
            self._target_change(answer.target_change)
        elif kind == "document_change":
            document = answer.document_change.document
            for id_ in answer.document_change.target_ids:
                self.documents[id_][document.name] = document
            for id_ in answer.document_change.removed_target_ids:
                self.documents[id_].pop(document.name, None)
        elif kind in ("document_delete", "document_remove"):
            gone = getattr(answer, kind)
            assert gone.removed_target_ids
            for id_ in gone.removed_target_ids:
                self.documents[id_].pop(gone.document, None)
        elif answer.filter.count != len(self.documents[answer.filter.target_id]):
            self.mismatches.add(answer.filter.target_id)

    def _target_change(self, change: Any) -> None:
        kind, ids = Kind(change.target_change_type), list(change.target_ids)
        if change.HasField("read_time"):
            read_time_us = change.read_time.ToMicroseconds()
            assert read_time_us >= self.read_time_us, "read times must not go back"
            self.read_time_us = read_time_us
        if kind is Kind.NO_CHANGE:
            assert not ids
            self.tokens.update(dict.fromkeys(self.current, change.resume_token))
            self.snapshots += 1
            if self.current.issuperset(self.targets):
                self.check()
            return
        (id_,) = ids
        if kind is Kind.CURRENT:
            self.current.add(id_)
        elif kind is Kind.RESET:
            self.resets += 1
            self.documents[id_].clear()
            self.current.discard(id_)
        elif kind is Kind.REMOVE:
            self.removed[id_] = change.cause
            self.targets.pop(id_, None)
            self.tokens.pop(id_, None)
            self.current.discard(id_)

    def check(self) -> None:
        """All that it has is what the database held at the time of the snapshot, in all targets at once."""
        for id_, message in self.targets.items():
            target = parse_target(message, ROOT)
            found = target.find(self.engine, self.read_time_us)
            assert self.documents[id_] == {name: target.project(document) for name, document in found.items()}, id_

    def numbers(self, id_: int) -> dict[str, int]:
        """Paths and numbers of a target's documents."""
        return {name[len(ROOT) + 1 :]: each.fields["n"].integer_value for name, each in self.documents[id_].items()}


@pytest.fixture
def client(listeners: Listeners) -> Client:
    return Client(listeners)


# One target


def test_a_target_is_added_filled_made_current_and_followed_by_a_snapshot(engine: Engine, client: Client) -> None:
    put(engine, ("items/a", 1))
    client.add(query(7))
    answers = client.take()
    changes = [answer.target_change for answer in answers if answer.HasField("target_change")]
    assert [Kind(change.target_change_type) for change in changes] == [Kind.ADD, Kind.CURRENT, Kind.NO_CHANGE]
    assert [list(change.target_ids) for change in changes] == [[7], [7], []]
    assert answers[1].document_change.document.name.endswith("items/a")
    assert changes[-1].resume_token
    assert client.numbers(7) == {"items/a": 1}


def test_a_missing_document_is_told_to_be_missing(client: Client) -> None:
    client.add(documents(1, "items/a"))
    deletes = [answer.document_delete for answer in client.take() if answer.HasField("document_delete")]
    assert [(each.document, list(each.removed_target_ids)) for each in deletes] == [(f"{ROOT}/items/a", [1])]


def test_the_life_of_a_document_is_followed(engine: Engine, client: Client) -> None:
    client.add(documents(1, "items/a"))
    client.take()
    for number in (1, 2, None, 3):
        put(engine, ("items/a", number))
        assert client.wakes
        client.wakes = 0
        client.take()
        assert client.numbers(1) == ({} if number is None else {"items/a": number})


def test_changes_that_meet_melt_into_one_snapshot(engine: Engine, client: Client) -> None:
    client.add(query(1, at_least=5))
    client.take()
    for number in (6, 4, 7, 8):
        put(engine, ("items/a", number))
    put(engine, ("items/passing", 9))
    put(engine, ("items/passing", None))
    answers = client.take()
    assert len(answers) == 2, "one change, one snapshot"
    assert client.numbers(1) == {"items/a": 8}


def test_what_leaves_a_query_by_a_change_of_its_own_comes_with_its_new_value(engine: Engine, client: Client) -> None:
    put(engine, ("items/a", 6))
    client.add(query(1, at_least=5))
    client.take()
    put(engine, ("items/a", 4))
    (change, _) = client.take()
    assert change.document_change.document.fields["n"].integer_value == 4
    assert list(change.document_change.removed_target_ids) == [1]
    assert not change.document_change.target_ids


def test_what_is_pushed_out_of_a_limit_is_removed_and_what_moves_up_is_added(engine: Engine, client: Client) -> None:
    put(engine, ("items/a", 1), ("items/b", 2), ("items/c", 3))
    client.add(query(1, order=1, limit=2))
    client.take()
    put(engine, ("items/d", 0))
    removed = [answer.document_remove for answer in client.take() if answer.HasField("document_remove")]
    assert [each.document for each in removed] == [f"{ROOT}/items/b"]
    put(engine, ("items/a", None))
    client.take()
    assert client.numbers(1) == {"items/d": 0, "items/b": 2}


def test_a_query_for_some_fields_is_answered_with_those(engine: Engine, client: Client) -> None:
    client.add(query(1, select=True))
    client.add(query(2))
    client.take()
    put(engine, ("items/a", 5))
    client.take()
    assert set(client.documents[1][f"{ROOT}/items/a"].fields) == {"n"}
    assert set(client.documents[2][f"{ROOT}/items/a"].fields) == {"n", "other"}


def test_a_target_for_once_is_removed_when_it_is_current(engine: Engine, client: Client) -> None:
    put(engine, ("items/a", 5))
    client.add(query(1, once=True))
    last = client.take()[-1].target_change
    assert Kind(last.target_change_type) is Kind.REMOVE
    assert client.numbers(1) == {"items/a": 5}
    put(engine, ("items/a", 6))
    assert client.take() == []


# Several targets


def test_one_commit_is_one_snapshot_over_all_targets(engine: Engine, client: Client) -> None:
    client.add(documents(1, "items/a"))
    client.add(query(2))
    client.add(query(3, "others"))
    client.take()
    at_us = put(engine, ("items/a", 1), ("others/b", 2))
    answers = client.take()
    shared = next(answer.document_change for answer in answers if answer.document_change.document.name.endswith("/a"))
    assert sorted(shared.target_ids) == [1, 2], "a document is sent once for all targets that show it whole"
    assert len(answers) == 3
    assert client.read_time_us >= at_us
    assert client.numbers(3) == {"others/b": 2}


def test_a_removed_target_hears_no_more_and_can_be_added_again(engine: Engine, client: Client) -> None:
    client.add(query(1))
    client.take()
    put(engine, ("items/a", 1))
    client.listener.remove(1)
    answers = client.take()
    assert [Kind(answer.target_change.target_change_type) for answer in answers] == [Kind.REMOVE]
    client.documents.clear()
    client.add(query(1, at_least=0))
    client.take()
    assert client.numbers(1) == {"items/a": 1}


def test_a_fault_of_a_target_ends_the_target_only(engine: Engine, client: Client) -> None:
    client.add(query(1))
    client.add(query(2, "items", limit=-1))
    client.add(documents(3, "not-a-document"))
    client.listener.add(Target(target_id=4))
    client.take()
    for id_ in (2, 3, 4):
        assert client.removed[id_].code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert client.removed[id_].message
    put(engine, ("items/a", 1))
    client.take()
    assert client.numbers(1) == {"items/a": 1}


def test_descendants_cannot_be_listened_to_but_collection_groups_can(client: Client) -> None:
    """As the tests of https://github.com/skunkteam/rust-firestore-emulator have it of the cloud, in its words."""
    client.add(query(1, "items", group=True))
    client.add(query(2, "items", group=True, parent=f"{ROOT}/items/a"))
    client.add(query(3, "", group=True))
    client.take()
    assert client.current == {1}
    assert client.removed[2].message.startswith("'all_descendants' in CollectionSelector with document parent is not supported")
    assert client.removed[3].message == "All-collection queries are not supported by real-time queries."


def test_a_query_without_its_index_ends_its_target(clock: Clock) -> None:
    strict = Listeners(Engine(DATABASE, clock, settings=Settings(indexes=Indexes.parse("{}"))))
    client = Client(strict)
    client.add(query(1, group=True, at_least=1))
    client.add(query(2, at_least=1))
    client.take()
    assert client.removed[1].code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert "COLLECTION_GROUP_ASC index for collection items and field n" in client.removed[1].message
    assert client.current == {2}


def test_a_target_of_another_kind_is_unimplemented(client: Client) -> None:
    pipeline = b"\x6a\x02\x0a\x00"  # field 13, of which this version of the protocol knows nothing
    client.listener.add(Target.FromString(Target(target_id=1).SerializeToString() + pipeline))
    client.take()
    assert client.removed[1].code == grpc.StatusCode.UNIMPLEMENTED.value[0]


def test_the_server_gives_ids_on_request(client: Client) -> None:
    client.listener.add(documents(0, "items/a"))
    client.listener.add(documents(0, "items/b"))
    added = [answer.target_change for answer in client.listener.take() if answer.target_change.target_change_type == Kind.ADD]
    assert [list(change.target_ids) for change in added] == [[1], [2]]
    client.add(documents(9, "items/a"))
    (first, *_) = client.listener.take()
    assert Kind(first.target_change.target_change_type) is Kind.REMOVE
    assert list(first.target_change.target_ids) == [9]


@pytest.mark.parametrize("id_", [1, -1])
def test_ids_that_cannot_be_end_the_stream(client: Client, id_: int) -> None:
    client.add(documents(1, "items/a"))
    with pytest.raises(RpcError) as caught:
        client.listener.add(documents(id_, "items/a"))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


# Resuming


def test_resuming_sends_what_changed_and_a_filter(engine: Engine, client: Client) -> None:
    put(engine, ("items/a", 1), ("items/b", 2), ("items/c", 3))
    client.add(query(1, at_least=0))
    client.take()
    put(engine, ("items/a", None), ("items/b", -1))
    put(engine, ("items/d", 4))
    client.reconnect()
    answers = client.take()
    assert len([answer for answer in answers if answer.WhichOneof("response_type").startswith("document")]) == 3
    assert [answer.filter.count for answer in answers if answer.HasField("filter")] == [2]
    assert not client.resets
    assert not client.mismatches
    assert client.numbers(1) == {"items/c": 3, "items/d": 4}


def test_a_target_resumes_at_a_read_time(engine: Engine, client: Client, clock: Clock) -> None:
    at_us = put(engine, ("items/a", 1), ("items/b", 1))
    clock.now_us += SECOND_US
    put(engine, ("items/a", 2))
    target = query(1)
    target.read_time.FromMicroseconds(at_us)
    client.listener.add(target)
    sent = [answer.document_change.document.name for answer in client.listener.take() if answer.HasField("document_change")]
    assert sent == [f"{ROOT}/items/a"]
    future = query(2)
    future.read_time.FromMicroseconds(clock.now_us + 60 * SECOND_US)
    client.listener.add(future)
    (first, *_) = client.listener.take()
    assert first.target_change.cause.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_a_token_that_cannot_be_resumed_resets(engine: Engine, client: Client, clock: Clock) -> None:
    put(engine, ("items/a", 1), ("items/b", 1))
    client.add(query(1))
    client.take()
    put(engine, ("items/b", None))
    clock.now_us += 2 * engine.settings.retention_us
    engine.tick()
    client.reconnect()
    client.take()
    assert client.resets == 1
    instant_of_another = (engine.born_us - 1).to_bytes(8, "big") + client.tokens[1][8:]
    for number, token in enumerate((b"of another server", instant_of_another), 2):
        client.tokens[1] = token
        client.reconnect()
        client.take()
        assert client.resets == number
    assert not client.mismatches
    assert client.numbers(1) == {"items/a": 1}


def test_a_client_whose_memory_differs_is_told_by_the_filter(engine: Engine, client: Client) -> None:
    put(engine, ("items/a", 1))
    client.add(query(1))
    client.take()
    client.documents[1][f"{ROOT}/items/phantom"] = client.documents[1][f"{ROOT}/items/a"]
    client.reconnect()
    with pytest.raises(AssertionError):
        client.take()
    assert client.mismatches == {1}


def test_a_client_that_is_ahead_of_its_token_gets_back_what_it_lost(engine: Engine, client: Client) -> None:
    put(engine, ("items/a", 2))
    client.add(query(1, order=1, limit=1))
    client.take()
    tokens = client.tokens.copy()
    put(engine, ("items/b", 1))
    client.take()
    assert client.numbers(1) == {"items/b": 1}
    put(engine, ("items/b", None))
    client.reconnect(tokens)
    client.take()
    assert client.numbers(1) == {"items/a": 2}
    assert not client.mismatches


def test_a_limited_target_with_a_long_history_is_reset(engine: Engine, client: Client) -> None:
    client.add(query(1, order=1, limit=1))
    client.take()
    for number in range(MAX_REPLAYED):
        put(engine, ("items/a", number))
    client.reconnect(client.tokens.copy())
    client.take()
    assert client.resets == 0
    for number in range(MAX_REPLAYED + 1):
        put(engine, ("items/a", number))
    client.reconnect()
    client.take()
    assert client.resets == 1


def test_clearing_the_database_resets_all_who_listen(engine: Engine, client: Client) -> None:
    put(engine, ("items/a", 1))
    client.add(query(1))
    client.add(documents(2, "items/a"))
    client.take()
    old = client.tokens.copy()
    engine.clear()
    assert client.wakes
    client.take()
    assert client.numbers(1) == client.numbers(2) == {}
    client.tokens = old
    client.reconnect()
    client.take()
    assert client.resets == 4, "a token of a database that is no more"


# What it costs


def test_a_commit_touches_only_those_who_listen_to_the_document(engine: Engine, listeners: Listeners) -> None:
    idle = [Client(listeners) for _ in range(50)]
    for number, each in enumerate(idle):
        each.add(documents(1, f"groups/g{number}"))
        each.add(query(2, "items", parent=f"{ROOT}/groups/g{number}"))
        each.add(query(3, f"kind{number}", group=True))
        each.take()
    assert listeners.targets == 150
    put(engine, ("groups/g7", 1))
    put(engine, ("groups/g8/items/a", 1))
    put(engine, ("groups/g9/kind3/a", 1), ("elsewhere/a", 1))
    assert [number for number, each in enumerate(idle) if each.wakes] == [3, 7, 8]
    for each in idle:
        each.listener.close()
    assert listeners.targets == 0
    put(engine, ("groups/g7", 2))
    assert sum(each.wakes for each in idle) == 3


def test_reads_are_billed_for_what_is_sent(engine: Engine, client: Client) -> None:
    """https://firebase.google.com/docs/firestore/pricing#listens"""
    put(engine, ("items/a", 1), ("items/b", 2))
    client.add(query(1, at_least=0))
    client.take()
    assert engine.statistics.document_reads == 2
    put(engine, ("items/a", 3), ("items/b", -1))
    client.take()
    assert engine.statistics.document_reads == 4, "one was changed, the other left because it was changed"
    put(engine, ("items/a", None))
    client.take()
    assert engine.statistics.document_reads == 4, "deletes are free"


# Everything at once

TARGETS = [
    documents(1, "items/a", "items/b", "groups/a/items/c"),
    query(2),
    query(3, at_least=5),
    query(4, order=1, limit=2),
    query(5, order=DESCENDING, limit=3, offset=1),
    query(6, group=True, at_least=3),
    query(7, parent=f"{ROOT}/groups/a"),
    query(8, group=True, order=1, limit=3),
    query(9, at_least=2, order=1, start_at=4),
    query(10, "", group=True),
    query(11, "", parent=f"{ROOT}/groups/a"),
    query(12, select=True, order=DESCENDING, limit=2),
    query(13, parent=f"{ROOT}/groups/a", group=True, limit=1, order=1),
]


@pytest.mark.parametrize("seed", range(60))
def test_every_snapshot_is_the_database_at_its_read_time(engine: Engine, client: Client, clock: Clock, seed: int) -> None:
    random = Random(seed)
    paths = [f"{prefix}items/{id_}" for prefix in ("", "groups/a/", "groups/b/") for id_ in "abcd"]
    for target in random.sample(TARGETS, 5):
        client.add(target)
    for _ in range(150):
        match random.randrange(12):
            case 0:
                clock.now_us += random.randrange(3 * SECOND_US)
            case 1 | 2 | 3:
                client.take()
            case 4 if random.random() < 0.5:
                client.take(random.choice((0.0, 0.3, 0.7, 1.0)))  # the stream breaks amidst a batch
                client.reconnect()
            case 5 if random.random() < 0.5:
                tokens = client.tokens.copy()  # and is opened before all that came is read
                for _ in range(3):
                    put(engine, (random.choice(paths), random.randrange(10)))
                    client.take()
                client.reconnect({id_: token for id_, token in tokens.items() if id_ in client.targets})
            case 6 if random.random() < 0.1:
                engine.clear()
            case 7 if random.random() < 0.3:
                id_ = random.choice(list(client.targets))
                target = client.targets[id_]
                client.listener.remove(id_)
                client.take()
                client.documents[id_].clear()
                client.add(target)
            case _:
                names = random.sample(paths, random.choice((1, 1, 1, 3)))
                put(engine, *((name, None if random.random() < 0.25 else random.randrange(10)) for name in names))
    client.take()
    assert client.snapshots > 10
    assert not client.mismatches
    client.check()
