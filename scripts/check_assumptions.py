"""Check against a real project what the protocol assumes of Firestore.

The tests run on the embedded Firestore; what only Google's can confirm is checked here: that a read sees exactly the commits up
to its time, that the past can be read, that transactions are protected against phantoms, how errors are told apart, which uids
can be keys of a map, that a balance of the largest size is accepted. With --deployed also, through the deployed functions,
how far the time of a delete's event is off its commit, and whether the event of a document of 700 KiB arrives. With --slow also
that transactions time out, and how that shows, which takes six minutes.

It writes to a collection of its own (balanceAssumptions) and to a group of its own, and removes both. It costs a few hundred
reads and writes. The project must be named, and a real one confirmed.

exit codes:
  0  every assumption that was checked holds
  1  one does not (it says which)
  2  called wrongly, not confirmed, or Firestore could not be reached

examples:
  python -m scripts.check_assumptions --project my-staging
  python -m scripts.check_assumptions --project my-staging --deployed --slow --yes
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

from google.api_core.exceptions import GoogleAPICallError, InvalidArgument
from google.cloud.firestore_v1 import types

from balance.core.ledger import Ledger
from balance.database.firestore import (
    DELETE,
    SERVER_TIME,
    Create,
    Delete,
    Directory,
    Query,
    Set,
    Snapshot,
    TransientError,
    UnreadablePast,
    Update,
    Write,
    transaction,
)
from balance.database.retry import Retry
from balance.database.sdk import SdkFirestore, translated
from balance.documents import balances
from balance.documents.balances import Detail, is_updatable, of_ledger, size_bytes
from balance.documents.settings import Settings
from balance.documents.sources import Kind, uid_fault
from balance.documents.writes import EVENT_TIME_ERROR
from balance.protocol.rebuild import APPLIED_AT_MARGIN
from scripts.command import documented_parser, run
from scripts.connection import UsageError, add_arguments, open_database

COLLECTION = "balanceAssumptions"
COMMITS = 30
PATIENCE_S = 60.0
LARGE_BYTES = 700 * 1024
"""More than an event may have (512 KB), less than a document may (1 MiB)."""
MAX_ID_BYTES = 1_500
ODD_UIDS = (
    *("a.b", "a/b", "a`b", "a\\b", "a\\", "`", ".", "..", "'", '"', "*", "~[]", "1", "0x", " ", "a b", "\n", "-", "$", "%2E"),
    *(
        "_",
        "__",
        "___",
        "__x",
        "x__",
        "é",
        "e\u0301",
        "日本",
        "🦄",
        "\u200b",
        "true",
        "null",
        "x" * MAX_ID_BYTES,
        "é" * (MAX_ID_BYTES // 2),
    ),
)
"""Each may be a key of a map; most must be quoted in the path of a field."""
REFUSED_UIDS = ("", "____", "__x__", "__a.b__", "__é__", "x" * (MAX_ID_BYTES + 1), "é" * (MAX_ID_BYTES // 2 + 1))
IDLE_S = 75.0
"""Longer than a transaction may be idle (60 s)."""
TOTAL_S = 285.0
"""Longer than a transaction may last (270 s)."""


class Refuted(Exception):
    """An assumption does not hold; the message says what was seen instead."""


class Unknown(Exception):
    """It could not be found out; the message says why."""


@dataclass(slots=True)
class Laboratory:
    """A database, and a corner of it where nobody else writes."""

    firestore: SdkFirestore
    settings: Settings
    run: str

    def path(self, name: str) -> str:
        """A document of this run."""
        return f"{COLLECTION}/{self.run}-{name}"

    @property
    def group(self) -> str:
        """The id of a group of this run."""
        return f"{COLLECTION}-{self.run}"

    def write(self, *writes: Write) -> Any:
        """Commit; returns the commit time."""

        def attempt() -> Any:
            with transaction(self.firestore) as attempted:
                attempted.get([write.path for write in writes])
                return attempted.commit(writes)

        return Retry().run(attempt)

    def read(self, path: str, **more: Any) -> Snapshot:
        """One document."""
        (found,) = self.firestore.get([path], **more)
        return found


def a_read_sees_exactly_the_commits_up_to_its_time(laboratory: Laboratory) -> str:
    """Whether a write is in a rebuild's snapshot is decided by comparing these two times."""
    path = laboratory.path("clock")
    commits = [laboratory.write(Set(path, {"n": 0}))]
    reads: list[Snapshot] = []
    over = threading.Event()

    def read_on() -> None:
        while not over.is_set():
            reads.append(laboratory.read(path))

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        commits += [laboratory.write(Set(path, {"n": number})) for number in range(1, COMMITS)]
    finally:
        over.set()
        reader.join()
    for seen in reads:
        latest = max(commit for commit in commits if commit <= seen.read_time)
        if seen.update_time != latest:
            raise Refuted(f"a read at {seen.read_time} saw the version of {seen.update_time}, not that of {latest}")
    if sorted(set(commits)) != commits:
        raise Refuted("commit times do not increase")
    for before, after in pairwise(commits):
        for instant, expected in ((after, after), (after - timedelta(microseconds=1), before)):
            seen = laboratory.read(path, read_time=instant)
            if seen.update_time != expected:
                raise Refuted(f"as of {instant} the version was {seen.update_time}, not {expected}")
    return f"{len(reads)} reads among {COMMITS} commits, and {2 * COMMITS - 2} reads of the past"


def queries_read_the_past_too(laboratory: Laboratory) -> str:
    """A rebuild reads the group's history by queries as of one instant."""
    mark = f"{laboratory.run} query"
    laboratory.write(Set(laboratory.path("past"), {"mark": mark}))
    there = laboratory.read(laboratory.path("past")).read_time
    laboratory.write(Delete(laboratory.path("past")))
    query = Query(collection=COLLECTION, where=("mark", "==", mark))
    if len(list(laboratory.firestore.query(query, read_time=there))) != 1 or list(laboratory.firestore.query(query)):
        raise Refuted("a query as of an instant before a delete does not find the document, or one after it does")
    return "a deleted document is found as of an instant before"


def the_past_beyond_the_hour_is_told_from_other_errors(laboratory: Laboratory) -> str:
    """A delete whose snapshot cannot be read any more leads to a rebuild, not to an error for ever."""
    now = laboratory.read(laboratory.path("clock")).read_time
    try:
        laboratory.read(laboratory.path("clock"), read_time=now - timedelta(hours=3))
    except UnreadablePast as error:
        return f"three hours ago: {error}"
    raise Refuted("three hours ago could be read: is point-in-time recovery on? Then this is harmless")


def nothing_slips_into_a_transaction(laboratory: Laboratory, name: str, look: Callable[[Any, str], object]) -> str:
    """Somebody creates a document while a transaction that did not see it is under way: it must come before or fail."""
    path, other = laboratory.path(name), laboratory.path(f"{name}-by-the-way")
    created: list[Any] = []

    def create() -> None:
        created.append(laboratory.write(Create(path, {"mark": f"{laboratory.run} {name}"})))

    rival = threading.Thread(target=create)
    with transaction(laboratory.firestore) as attempt:
        attempt.get([other])
        if look(attempt, path):
            raise Unknown("the document was there before")
        rival.start()
        rival.join(2.0)
        try:
            committed = attempt.commit([Set(other, {"looked": True})])
        except TransientError as error:
            committed = None
            reason = str(error)
    rival.join()
    if committed is None:
        return f"the transaction failed ({reason[:60]})"
    if created[0] < committed:
        raise Refuted(f"it was created at {created[0]}, and who had not seen it could commit at {committed}")
    return "the other had to wait"


def queries_are_protected_against_phantoms(laboratory: Laboratory) -> str:
    """A rebuild adds the records that its query finds; none may come between it and the commit."""

    def look(attempt: Any, path: str) -> object:
        return attempt.query(Query(collection=COLLECTION, where=("mark", "==", f"{laboratory.run} phantom")))

    return nothing_slips_into_a_transaction(laboratory, "phantom", look)


def missing_documents_are_protected_too(laboratory: Laboratory) -> str:
    """An event is applied because its record is missing; it must still be missing at commit."""

    def look(attempt: Any, path: str) -> object:
        return attempt.get([path])[0].fields

    return nothing_slips_into_a_transaction(laboratory, "missing", look)


def a_commit_has_one_time(laboratory: Laboratory) -> str:
    """The update times of a commit's documents are its commit time, in whole microseconds."""
    paths = [laboratory.path(f"together-{number}") for number in range(3)]
    committed = laboratory.write(*(Set(path, {}) for path in paths))
    times = {document.update_time for document in laboratory.firestore.get(paths)}
    if times != {committed}:
        raise Refuted(f"committed at {committed}, updated at {times}")
    return "that of its documents"


def a_write_that_changes_nothing_keeps_the_update_time(laboratory: Laboratory) -> str:
    """It makes no event, so that no version is without one."""
    path = laboratory.path("same")
    laboratory.write(Set(path, {"n": 1}))
    before = laboratory.read(path).update_time
    laboratory.write(Set(path, {"n": 1}))
    if laboratory.read(path).update_time != before:
        raise Refuted("it changed the update time")
    return "as it was"


def a_record_cannot_be_made_twice(laboratory: Laboratory) -> str:
    """ALREADY_EXISTS at commit is an error after which the transaction is run again."""
    path = laboratory.path("twice")
    laboratory.write(Create(path, {}))
    try:
        with transaction(laboratory.firestore) as attempt:
            attempt.get([laboratory.path("clock")])
            attempt.commit([Create(path, {})])
    except TransientError as error:
        return str(error)[:80]
    raise Refuted("it was made twice")


def an_ended_transaction_is_told_from_other_errors(laboratory: Laboratory) -> str:
    """Who commits too late begins again."""
    firestore = laboratory.firestore
    client, database, metadata = firestore.client, firestore.database, firestore.metadata
    begun = client.begin_transaction(database=database, retry=None, metadata=metadata).transaction
    client.rollback(database=database, transaction=begun, retry=None, metadata=metadata)
    request = types.CommitRequest(database=database, transaction=begun)
    types.CommitRequest.pb(request).writes.append(firestore.write(Set(laboratory.path("late"), {})))
    try:
        with translated(commit=True):
            client.commit(request, retry=None, metadata=metadata)
    except TransientError as error:
        return str(error)[:80]
    raise Refuted("a transaction that was rolled back could commit")


def the_largest_balance_is_accepted(laboratory: Laboratory) -> str:
    """Size limit and index entries: our estimate is never too low, and the two maps are exempt from indexing."""
    users = 40
    balance = larger = of_ledger(_circle(users))
    while larger.detail is Detail.PAIRS:
        users, balance = users + 4, larger
        larger = of_ledger(_circle(users))
    path = laboratory.settings.layout.balance(laboratory.group)
    now = laboratory.read(path).read_time
    fields = balances.document(laboratory.group, balances.Stored(balance, now, now), laboratory.settings)
    laboratory.write(Set(path, fields))
    return f"{size_bytes(balance):,} bytes by our estimate, {len(balance.ledger['USD']):,} pairs"


def a_document_above_1_mib_is_refused_for_good(laboratory: Laboratory) -> str:
    """No retry makes it smaller: such an error must not be taken for one that passes."""
    refused = _refusal(laboratory, Set(laboratory.path("too-large"), {"text": "x" * 1_000_000, "more": "x" * 100_000}))
    if refused is None:
        raise Refuted("it was stored")
    return refused


def odd_uids_are_keys_like_others(laboratory: Laboratory) -> str:
    """A balance is set with uids as keys, and updated and thinned out at paths in which they are quoted."""
    path = laboratory.settings.layout.balance(laboratory.group)
    wrong = [uid for uid in ODD_UIDS if uid_fault(uid)]
    assert not wrong, f"by our own rules {wrong} are no uids"

    def stored() -> Any:
        return (laboratory.read(path).fields or {}).get("balancesByCurrency")

    rows = {uid: {"uid": uid, "owes": {uid: 1}} for uid in ODD_UIDS}
    _accept(laboratory, "all of them as keys", Set(path, {"balancesByCurrency": {"USD": rows}}))
    if stored() != {"USD": rows}:
        raise Refuted("a document was not read as it was set")
    in_paths = [uid for uid in ODD_UIDS if is_updatable({"USD": {(uid, "x"): 1}})]
    for uid in in_paths:
        rows[uid] = {"uid": uid, "owes": {uid: 2}}
        _accept(laboratory, f"{uid[:20]!r} in a path", Update(path, {("balancesByCurrency", "USD", uid): rows[uid]}))
        if stored() != {"USD": rows}:
            raise Refuted(f"the update at {uid[:20]!r} went elsewhere")
    _accept(laboratory, "deletes", Update(path, {("balancesByCurrency", "USD", uid): DELETE for uid in in_paths[1:]}))
    if set(stored()["USD"]) != {uid for uid in ODD_UIDS if uid not in in_paths[1:]}:
        raise Refuted("deletes at quoted paths removed others, or not all")
    return f"{len(ODD_UIDS)} of them, {len(in_paths)} in paths"


def the_longest_uids_may_lie_within_each_other(laboratory: Laboratory) -> str:
    """A row of a balance holds uids below a uid: the limit of a path must not apply to what is set as a whole."""
    path = laboratory.settings.layout.balance(laboratory.group)
    debtor, creditor = "d" * MAX_ID_BYTES, "c" * MAX_ID_BYTES
    fields = {"balancesByCurrency": {"USD": {debtor: {"owes": {creditor: 1}}, creditor: {"owedBy": {debtor: 1}}}}}
    _accept(laboratory, "two uids of 1,500 bytes below each other", Set(path, fields))
    if laboratory.read(path).fields != fields:
        raise Refuted("they were not read as they were set")
    longest = max(range(1, MAX_ID_BYTES + 1), key=lambda length: (is_updatable({"USD": {("." * length, "x"): 1}}), length))
    for letter in "x.`":
        uid = letter * longest
        _accept(
            laboratory,
            f"a uid of {longest} times {letter!r} in a path",
            Update(path, {("balancesByCurrency", "USD", uid): {"owes": {creditor: 1}}}),
        )
        found: Any = laboratory.read(path).fields
        if found["balancesByCurrency"]["USD"].get(uid) != {"owes": {creditor: 1}}:
            raise Refuted(f"the update at {longest} times {letter!r} went elsewhere")
    return f"twice 1,500 bytes in a document; {longest:,} bytes in the path of an update"


def what_we_call_no_uid_firestore_refuses(laboratory: Laboratory) -> str:
    """Such a uid makes a fault of its document; were it accepted, the fault would be needless, but nothing would break."""
    for uid in REFUSED_UIDS:
        assert uid_fault(uid), f"by our own rules {uid!r} is a uid"
        if _refusal(laboratory, Set(laboratory.path("refused"), {"USD": {uid: 1}})) is None:
            raise Refuted(f"{uid[:20]!r} ({len(uid.encode())} bytes) is accepted as a key")
    return f"{len(REFUSED_UIDS)} of them"


def the_servers_time_in_a_document_is_near_its_commit(laboratory: Laboratory) -> str:
    """A rebuild finds newer records by `appliedAt`, with a margin."""
    errors = []
    for number in range(10):
        path = laboratory.path(f"time-{number}")
        committed = laboratory.write(Set(path, {"appliedAt": SERVER_TIME}))
        errors.append(abs((laboratory.read(path).fields or {})["appliedAt"] - committed))
    if max(errors) > APPLIED_AT_MARGIN / 2:
        raise Refuted(f"it was off by {max(errors)}")
    return f"off by {max(errors).total_seconds() * 1000:.3f} ms at most, in {len(errors)} commits"


def _refusal(laboratory: Laboratory, write: Write) -> str | None:
    """What Firestore says when it refuses a write for good; None when it accepts it. Raises Refuted for another error."""
    try:
        with transaction(laboratory.firestore) as attempt:
            attempt.get([write.path])
            attempt.commit([write])
    except InvalidArgument as error:
        return str(error)[:80]
    except (TransientError, GoogleAPICallError) as error:
        raise Refuted(f"it was refused, but with an error that means something else: {error}") from None
    return None


def _accept(laboratory: Laboratory, what: str, write: Write) -> None:
    """Raises Refuted when Firestore refuses a write for good."""
    try:
        laboratory.write(write)
    except GoogleAPICallError as error:
        raise Refuted(f"{what}: {error}") from None


def _timed_out(laboratory: Laboratory, name: str, wait: Callable[[Callable[[], object]], object]) -> str:
    """How the end of a transaction shows that read a document, then waited, perhaps reading again, and then commits."""
    path = laboratory.path(name)
    laboratory.write(Set(path, {}))
    try:
        with transaction(laboratory.firestore) as attempt:
            attempt.get([path])
            wait(lambda: attempt.get([path]))
            attempt.commit([Set(path, {"late": True})])
    except TransientError as error:
        laboratory.write(Set(path, {"free": True}))
        return str(error)[:80]
    except GoogleAPICallError as error:
        raise Refuted(f"it failed with an error that means something else: {error}") from None
    raise Refuted("it could still commit: locks of a process that was killed may last as long")


def an_idle_transaction_times_out(laboratory: Laboratory) -> str:
    """It is run again; and the locks of a process that was killed go."""
    return _timed_out(laboratory, "idle", lambda _: time.sleep(IDLE_S))


def a_long_transaction_times_out(laboratory: Laboratory) -> str:
    """It is run again, however busy it was."""

    def keep_busy(read: Callable[[], object]) -> None:
        until = time.monotonic() + TOTAL_S
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, IDLE_S / 4))
            read()

    return _timed_out(laboratory, "long", keep_busy)


def _circle(users: int) -> Ledger:
    """Everybody owes the next 19: nobody is owed more than they owe, so that there is nothing to suggest."""
    names = [f"user-{number:06}-with-a-uid-as-long-as-firebases" for number in range(users)]
    pairs = {}
    for index, debtor in enumerate(names):
        for step in range(1, 20):
            creditor = names[(index + step) % users]
            pairs[min(debtor, creditor), max(debtor, creditor)] = 1 if debtor < creditor else -1
    return {"USD": pairs}


def the_time_of_a_deletes_event_is_near_its_commit(laboratory: Laboratory) -> str:
    """Further from the snapshot than this a delete is judged by its event's time."""
    errors = []
    for _ in range(5):
        path = _expense(laboratory, {})
        _record(laboratory, path, deleted=False)
        committed = laboratory.write(Delete(path))
        errors.append(abs(_record(laboratory, path, deleted=True)["deletedAt"] - committed))
    if max(errors) > EVENT_TIME_ERROR / 2:
        raise Refuted(f"it was off by {max(errors)}")
    return f"off by {max(errors).total_seconds() * 1000:.3f} ms at most, in {len(errors)} deletes"


def the_event_of_a_large_document_arrives(laboratory: Laboratory) -> str:
    """Else the balance misses it until the nightly reconciliation."""
    path = _expense(laboratory, {"note": "x" * LARGE_BYTES})
    _record(laboratory, path, deleted=False)
    return f"a document of {LARGE_BYTES // 1024} KiB was processed"


def _expense(laboratory: Laboratory, more: dict[str, Any]) -> str:
    layout = laboratory.settings.layout
    laboratory.write(Set(layout.group(laboratory.group), {"members": ["ana", "bo"]}))
    path = f"{layout.sources(Kind.EXPENSE, laboratory.group).collection}/{laboratory.run}-{uuid4().hex[:8]}"
    splits = [{"uid": "bo", "amount": 1}]
    fields = {"groupId": laboratory.group, "paidBy": "ana", "amount": 1, "currency": "USD", "splits": splits}
    laboratory.write(Set(path, {**fields, **more}))
    return path


def _record(laboratory: Laboratory, path: str, *, deleted: bool) -> Any:
    """The record that the deployed functions write of it."""
    until = time.monotonic() + PATIENCE_S
    query = Query(collection=laboratory.settings.layout.records(laboratory.group), where=("source", "==", path))
    while time.monotonic() < until:
        for document in laboratory.firestore.query(query):
            if document.fields is not None and ("deletedAt" in document.fields) == deleted:
                return document.fields
        time.sleep(0.5)
    raise Unknown(f"no record of {path} came within {PATIENCE_S:.0f} s: are the functions deployed, and updates on?")


OF_FIRESTORE: tuple[Callable[[Laboratory], str], ...] = (
    a_read_sees_exactly_the_commits_up_to_its_time,
    queries_read_the_past_too,
    the_past_beyond_the_hour_is_told_from_other_errors,
    queries_are_protected_against_phantoms,
    missing_documents_are_protected_too,
    a_commit_has_one_time,
    a_write_that_changes_nothing_keeps_the_update_time,
    a_record_cannot_be_made_twice,
    an_ended_transaction_is_told_from_other_errors,
    the_largest_balance_is_accepted,
    a_document_above_1_mib_is_refused_for_good,
    odd_uids_are_keys_like_others,
    the_longest_uids_may_lie_within_each_other,
    what_we_call_no_uid_firestore_refuses,
    the_servers_time_in_a_document_is_near_its_commit,
)
OF_TIME: tuple[Callable[[Laboratory], str], ...] = (
    an_idle_transaction_times_out,
    a_long_transaction_times_out,
)
OF_EVENTS: tuple[Callable[[Laboratory], str], ...] = (
    the_time_of_a_deletes_event_is_near_its_commit,
    the_event_of_a_large_document_arrives,
)


@contextmanager
def laboratory_in(firestore: Directory, settings: Settings) -> Iterator[Laboratory]:
    """A corner of the database, removed at the end."""
    assert isinstance(firestore, SdkFirestore), "connect() makes no other"
    laboratory = Laboratory(firestore, settings, uuid4().hex[:12])
    try:
        yield laboratory
    finally:
        layout = settings.layout
        for query in (
            *(layout.sources(kind, laboratory.group) for kind in Kind),
            Query(collection=layout.records(laboratory.group)),
            Query(collection=layout.faults(laboratory.group)),
        ):
            for document in list(firestore.query(query)):
                laboratory.write(Delete(document.path))
        for document in list(firestore.query(Query(collection=COLLECTION))):
            if document.path.startswith(laboratory.path("")):
                laboratory.write(Delete(document.path))
        laboratory.write(Delete(layout.balance(laboratory.group)), Delete(layout.group(laboratory.group)))


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = documented_parser("check_assumptions", __doc__)
    add_arguments(parser, writes=True)
    parser.add_argument("--deployed", action="store_true", help="check the events too, through the functions deployed there")
    parser.add_argument("--slow", action="store_true", help="check too that transactions time out, which takes six minutes")
    given = parser.parse_args(arguments)

    def check() -> int:
        if not given.project:
            raise UsageError("name the project with --project ID")
        checks = (*OF_FIRESTORE, *(OF_EVENTS if given.deployed else ()), *(OF_TIME if given.slow else ()))
        with laboratory_in(*open_database(given, writes=True)) as laboratory:
            return 1 if sum(not _holds(assumption, laboratory) for assumption in checks) else 0

    return run("check_assumptions", check)


def _holds(assumption: Callable[[Laboratory], str], laboratory: Laboratory) -> bool:
    name = assumption.__name__.replace("_", " ")
    try:
        print(f"holds    {name}: {assumption(laboratory)}", flush=True)
        return True
    except Unknown as error:
        print(f"unknown  {name}: {error}", flush=True)
    except Refuted as error:
        print(f"REFUTED  {name}: {error}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
