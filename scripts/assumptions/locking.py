"""Of transactions: that nothing slips in, how their ends are told apart, when they time out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.firestore_v1 import types

from balance.database.firestore import Conflict, Create, Query, Retried, Set, TransientError, Update, Write, transaction
from balance.database.sdk import translated
from scripts.assumptions.laboratory import COLLECTION, Laboratory, Refuted, Unknown

IDLE_S = 75.0
"""Longer than a transaction may be idle (60 s)."""
TOTAL_S = 285.0
"""Longer than a transaction may last (270 s)."""


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


def a_commit_bears_its_conditions(laboratory: Laboratory) -> str:
    """The first attempt at an event takes no locks: what it rests on is what its commit asks for."""
    firestore, path, other = laboratory.firestore, laboratory.path("conditions"), laboratory.path("conditions-record")
    first = firestore.commit([Create(path, {"x": 1})])
    if laboratory.read(path).update_time != first:
        raise Refuted("the commit time is not the update time of what was written")
    second = firestore.commit([Update(path, {("x",): 2}, first)])
    firestore.commit([Create(other, {})])
    refused: dict[str, Write] = {
        "an update time that is past": Update(path, {("x",): 3}, first),
        "a record that exists": Create(other, {}),
        "an update time of a document that is gone": Update(laboratory.path("conditions-gone"), {("x",): 3}, second),
    }
    for what, write in refused.items():
        try:
            firestore.commit([Set(laboratory.path("conditions-neighbour"), {"x": what}), write])
        except Conflict:
            continue
        raise Refuted(f"a commit went on in spite of {what}")
    if laboratory.read(laboratory.path("conditions-neighbour")).fields is not None:
        raise Refuted("part of a commit took effect whose conditions did not hold")
    return "all or nothing"


def a_transaction_locks_whatever_the_databases_mode(laboratory: Laboratory) -> str:
    """Where the database is optimistic by default, a rebuild would starve beside a busy group."""
    firestore, path = laboratory.firestore, laboratory.path("locked")
    laboratory.write(Set(path, {"by": "nobody"}))
    written: list[Any] = []

    def write() -> None:
        with suppress(TransientError):
            written.append(firestore.commit([Set(path, {"by": "the other"})]))

    other = threading.Thread(target=write)
    with transaction(firestore) as attempt:
        attempt.get([path])
        if not firestore.names_concurrency:
            raise Refuted("the server refuses transactions that name their concurrency mode; they go on in the database's")
        other.start()
        other.join(2.0)
        try:
            committed = attempt.commit([Set(path, {"by": "the transaction"})])
        except TransientError as error:
            raise Refuted(f"somebody else's write went first: {str(error)[:60]}") from None
    other.join()
    if written and written[0] < committed:
        raise Refuted("somebody else's write was not held up, and the transaction did not notice")
    return "the other had to wait"


def a_retry_keeps_its_age(laboratory: Laboratory) -> str:
    """The older transaction goes on, the younger is aborted: a rebuild that is tried again is not overtaken for ever."""
    paths = [laboratory.path("age"), laboratory.path("age-other")]
    laboratory.write(*(Set(path, {}) for path in paths))
    retried = Retried(laboratory.firestore)
    with transaction(retried) as failed:
        failed.get(paths[:1])
    with transaction(laboratory.firestore) as younger:
        younger.get(paths)
        try:
            with transaction(retried) as retry:
                retry.get(paths)
                retry.commit([Set(paths[0], {"by": "the retry"})])
        except TransientError as error:
            raise Refuted(f"a younger transaction was in its way: {str(error)[:60]}") from None
        try:
            younger.commit([Set(paths[0], {"by": "the younger"})])
        except TransientError as error:
            return f"the younger one was aborted ({str(error)[:60]})"
    raise Refuted("the younger one was not aborted")
