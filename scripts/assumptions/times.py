"""Of reads, commits and their times: what the rebuild's snapshot rests on."""

from __future__ import annotations

import threading
from datetime import timedelta
from itertools import pairwise

from balance.database.firestore import SERVER_TIME, Delete, Query, Set, Snapshot, UnreadablePast
from balance.protocol.rebuild import APPLIED_AT_MARGIN
from scripts.assumptions.laboratory import COLLECTION, Laboratory, Refuted

COMMITS = 30


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
