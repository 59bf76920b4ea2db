"""Comparing a stored balance with a recalculation, and telling drift from lag.

Theory of operation. A stored balance is at every instant exactly its snapshot plus its records:

    balance(T) = history(asOf) + the deltas of the records at T whose writes are not in history(asOf)

because each delta commits together with its record. So while `asOf` lies within the readable past, all three are read as of
one instant, and any difference is drift: no event in flight can make one, since what it will change has no record yet.

Of an older `asOf` the history can no longer be read. Then it is read as of T - `lag_allowed` instead:

    balance(T) = history(T - lag_allowed) + the deltas of the records at T whose writes are not in that history

which holds as soon as every event of before T - `lag_allowed` has been processed. Hence an event in flight is no drift
until it is late by more than `lag_allowed`; by then the balance *is* wrong for longer than anybody promised, and a rebuild
heals it for good: the event, should it still come, finds its write in the snapshot. Corruption shows at once either way,
however it sums up, for the balance and its records are those of the present.

Documents are compared field by field, with what this code would have written. Faults are compared with the malformed
documents of that same history, those aside that have changed since; and the balance's count of them with those that stand at T,
for both change in one transaction.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from balance.core.ledger import add
from balance.database.firestore import SERVER_TIME, Delete, Fields, Firestore, Query, Snapshot, transaction
from balance.documents import balances
from balance.documents.balances import Balance, CorruptBalance, Detail, Stored
from balance.documents.changes import Result
from balance.documents.judgement import Condition, judge
from balance.documents.records import CorruptRecord
from balance.documents.settings import Settings
from balance.documents.sources import Malformed, parse
from balance.documents.tally import Tally
from balance.protocol import faults
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.rebuild import History, read_history, records_since

LAG_ALLOWED = timedelta(minutes=50)
"""Ten minutes less than the past that Firestore lets one read."""

_CLOCK_ERROR = timedelta(minutes=1)
_COARSENESS = list(Detail)


class State(StrEnum):
    """What the comparison found."""

    TRUE = "true"
    """Stored and recalculated agree."""
    DRIFT = "drift"
    """They differ, or the stored balance is not well-formed."""
    COARSE = "coarse"
    """They agree, at a lower level of detail than would fit by now: a group has shrunk, or somebody has changed it."""
    MISSING = "missing"
    """No balance: every group has one from its creation on."""
    STALE = "stale"
    """Of an older version, other rules, a lower epoch or an earlier group of this id; or marked to be rebuilt. Readers know."""
    NEWER = "newer"
    """Written by newer code or in a higher epoch: only such code can tell."""
    GONE = "gone"
    """The group does not exist."""


FINE = frozenset({State.TRUE, State.GONE})
REPAIRABLE = frozenset({State.DRIFT, State.COARSE, State.MISSING, State.STALE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value that is not stored as recalculated. Amounts are in the app's unit; None stands for nothing, hence zero."""

    what: str
    """owes, owedBy, netBalance, suggestion, detail, "fault of ...", or the path of another field."""
    stored: Any
    recalculated: Any
    currency: str | None = None
    users: tuple[str, ...] = ()
    """Of a pair the debtor and the creditor."""

    def __str__(self) -> str:
        match self.what, self.users:
            case "suggestion", (debtor, creditor):
                about = f"{self.currency}: the suggestion that {debtor} pays {creditor}"
            case "owes", (debtor, creditor):
                about = f"{self.currency}: {debtor} owes {creditor}"
            case "owedBy", (debtor, creditor):
                about = f"{self.currency}: {creditor} is owed by {debtor}"
            case "netBalance", (user,):
                about = f"{self.currency}: net balance of {user}"
            case _:
                about = self.what
        return f"{about}: stored {_shown(self.stored)}, recalculated {_shown(self.recalculated)}"

    def as_json(self) -> dict[str, Any]:
        """The difference for JSON."""
        users = dict(zip(("debtor", "creditor") if len(self.users) == 2 else ("user",), self.users, strict=False))
        about = {"currency": self.currency} if self.currency else {}
        return {"what": self.what, **about, **users, "stored": self.stored, "recalculated": self.recalculated}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one group, as of `read_time`."""

    group_id: str
    state: State
    read_time: datetime
    differences: tuple[Difference, ...] = ()
    tally: Tally | None = None
    """What became of its documents, as of `asOf` or the time allowed for lag, where they were read."""
    written_since: int = 0
    """How many documents only the records tell of: they were written after those that were read."""


def check(firestore: Firestore, settings: Settings, group_id: str, lag_allowed: timedelta = LAG_ALLOWED) -> Report:
    """Compare a group's stored balance with a recalculation, writing nothing.

    `lag_allowed` is how late an event may be before it counts as lost; at most LAG_ALLOWED. May raise TransientError,
    UnreadablePast and CorruptRecord (a record that tells nothing: a rebuild does without it after a minute).
    """
    layout = settings.layout
    group, stored = firestore.get([layout.group(group_id), layout.balance(group_id)])
    now = stored.read_time
    if group.fields is None:
        return Report(group_id, State.GONE, now)
    judgement = judge(stored, group_id, settings, group)
    found = judgement.condition
    if found not in (Condition.CURRENT, Condition.CORRUPT):
        return Report(group_id, State(found), now)
    assert stored.fields is not None, "a missing balance is reported above"
    assert group.create_time is not None, "the group exists"
    as_of = stored.fields.get("asOf")
    if not isinstance(as_of, datetime) or as_of > now:
        # It cannot say what it holds, so there is nothing to allow for.
        as_of = now
    history = read_history(firestore, settings, group_id, max(as_of, now - lag_allowed))
    since = _add_records(firestore, settings, group_id, history, now)
    standing = {it.path: it.fields for it in firestore.query(Query(collection=layout.faults(group_id)), read_time=now)}
    differences = [
        *_of_balance(stored.fields, history, group_id, settings, group.create_time, len(standing)),
        *_of_times(stored.fields, now),
        *_of_faults(firestore, settings, group_id, history, now, standing),
    ]
    if found is Condition.CORRUPT or any(difference.what != "detail" for difference in differences):
        state = State.DRIFT
    else:
        state = State.COARSE if differences else State.TRUE
    return Report(
        group_id, state, now, tuple(differences), _tally(history, standing, group_id), len(since - history.versions.keys())
    )


def _tally(history: History, standing: Mapping[str, Fields | None], group_id: str) -> Tally:
    """That of the history, with the documents that became malformed since: what an operator has just seen must be told."""
    tally = history.tally
    for fields in standing.values():
        source = faults.source_of(fields)
        if source is not None and source not in history.malformed:
            field, reason = (str((fields or {}).get(name)) for name in ("field", "reason"))
            tally.count(source, Malformed(field, reason, group_id))
    return tally


def _add_records(firestore: Firestore, settings: Settings, group_id: str, history: History, now: datetime) -> set[str]:
    """Add to the history's ledger what the records at `now` tell of writes that it does not hold; returns their documents.

    Gaps too: one beside a balance that is not marked stale is in no balance, and must show.
    """
    added = set()
    for record in records_since(lambda query: firestore.query(query, read_time=now), settings, group_id, history.as_of):
        if record.write.held_given(history.as_of, history.versions.get(record.write.source)):
            continue
        if record.delta is None:
            raise CorruptRecord(f"the record of {record.write.source} does not tell what was added")
        add(history.ledger, record.delta)
        added.add(record.write.source)
    return added


def _of_balance(
    stored: Fields, history: History, group_id: str, settings: Settings, incarnation: datetime, faults: int
) -> Iterator[Difference]:
    expected, finer = _expected(stored, history, group_id, settings)
    if finer:
        yield Difference(what="detail", stored=stored["detail"], recalculated=str(finer))
    wanted = balances.document(group_id, Stored(expected, history.as_of, incarnation, faults), settings)
    found = {name: value for name, value in stored.items() if name not in ("asOf", "lastUpdatedAt")}
    wanted = {name: value for name, value in wanted.items() if name != "asOf" and value is not SERVER_TIME}
    yield from compare(found, wanted)


def _expected(stored: Fields, history: History, group_id: str, settings: Settings) -> tuple[Balance, Detail | None]:
    """The recalculated balance at the stored level of detail, and the finer one that would fit, if any.

    Incremental steps never raise the level, so a coarser one than need be is nothing wrong.
    """
    try:
        was = balances.parse(stored, group_id, settings.unit).balance.detail
    except CorruptBalance:
        return balances.of_ledger(history.ledger), None
    expected = balances.of_ledger(history.ledger, was)
    if _COARSENESS.index(expected.detail) >= _COARSENESS.index(was):
        return expected, None
    return balances.coarsened(expected, was), expected.detail


def compare(stored: Fields, wanted: Fields) -> list[Difference]:
    """The differences of two balance documents, whatever the stored one holds; a pair's amount is told once."""
    found, expected = dict(_leaves((), stored)), dict(_leaves((), wanted))
    amounts: list[Difference] = []
    others: list[Difference] = []
    for path in sorted({*found, *expected}, key=repr):
        is_, should_be = found.get(path), expected.get(path)
        if _same(is_, should_be) and (path in found) == (path in expected):
            continue
        users: tuple[str, ...]
        match path:
            case ("balancesByCurrency", currency, debtor, "owes", creditor):
                what, users = "owes", (debtor, creditor)
            case ("balancesByCurrency", currency, creditor, "owedBy", debtor):
                if _same(is_, found.get(("balancesByCurrency", currency, debtor, "owes", creditor))):
                    continue
                what, users = "owedBy", (debtor, creditor)
            case ("balancesByCurrency", currency, user, "netBalance"):
                what, users = "netBalance", (user,)
            case _:
                others.append(Difference(what=".".join(path), stored=is_, recalculated=should_be))
                continue
        amounts.append(Difference(what=what, stored=is_, recalculated=should_be, currency=currency, users=users))
    amounts.sort(key=lambda difference: difference.what == "netBalance")
    amounts += _of_suggestions(stored.get("simplifiedDebts"), wanted["simplifiedDebts"])
    # A row that is there on one side only shows by its amounts.
    return amounts + [other for other in others if not (amounts and _is_row_of_one_side(other))]


def _is_row_of_one_side(difference: Difference) -> bool:
    one_sided = difference.stored is None or difference.recalculated is None
    return one_sided and difference.what.startswith("balancesByCurrency.")


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value at any depth with its path; of a map itself, that it is one. Suggestions are compared on their own."""
    if isinstance(value, Mapping):
        if path:
            yield path, "a map"
        for name, inner in value.items():
            yield from _leaves((*path, name), inner)
    elif path != ("simplifiedDebts",):
        yield path, value


def _of_suggestions(stored: Any, wanted: list[Any]) -> list[Difference]:
    found, expected = _by_direction(stored), _by_direction(wanted)
    differences = []
    for currency, debtor, creditor in sorted({*found, *expected}):
        key = (currency, debtor, creditor)
        is_, should_be = found.get(key), expected.get(key)
        if not _same(is_, should_be):
            pair = (debtor, creditor)
            differences.append(Difference(what="suggestion", stored=is_, recalculated=should_be, currency=currency, users=pair))
    if not differences and stored != wanted:
        return [Difference(what="simplifiedDebts", stored=stored, recalculated=wanted)]
    return differences


def _by_direction(suggestions: Any) -> dict[tuple[str, str, str], Any]:
    """Amounts by (currency, debtor, creditor), as far as that can be read."""
    found = {}
    for suggestion in suggestions if isinstance(suggestions, list) else []:
        try:
            direction = (str(suggestion["currency"]), str(suggestion["from"]["uid"]), str(suggestion["to"]["uid"]))
            found[direction] = suggestion["amount"]
        except (TypeError, KeyError):
            continue
    return found


def _same(one: Any, other: Any) -> bool:
    # To Python True equals 1; to a client it is no amount.
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _of_times(stored: Fields, now: datetime) -> Iterator[Difference]:
    for name, latest in (("asOf", now), ("lastUpdatedAt", now + _CLOCK_ERROR)):
        time = stored.get(name)
        if not isinstance(time, datetime) or time > latest:
            yield Difference(what=name, stored=time, recalculated=f"a time up to {now.isoformat()}")


def _of_faults(
    firestore: Firestore,
    settings: Settings,
    group_id: str,
    history: History,
    now: datetime,
    stored: Mapping[str, Fields | None],
) -> Iterator[Difference]:
    """Faults are settled by the present state of their document, so those are judged that have not changed since."""
    layout = settings.layout
    suspects = set(history.malformed)
    for path, fields in stored.items():
        source = faults.source_of(fields)
        if source is not None and path == layout.fault(group_id, source):
            suspects.add(source)
        else:
            yield Difference(what=f"fault {path}", stored=fields, recalculated=None)
    for present in firestore.get(sorted(suspects), read_time=now) if suspects else ():
        found = stored.get(layout.fault(group_id, present.path))
        if _changed_since(present, found, history):
            continue
        parsed = parse(layout.kind(present.path), present.fields, settings.unit, layout.group_in_path(present.path))
        wanted = faults.document(present, parsed) if isinstance(parsed, Malformed) and parsed.group_id == group_id else None
        if found != wanted:
            yield Difference(what=f"fault of {present.path}", stored=found, recalculated=wanted)


def _changed_since(present: Snapshot, fault: Fields | None, history: History) -> bool:
    if present.update_time is None and present.path in history.versions:
        return True
    since = (fault or {}).get("since")
    known = [time for time in (present.update_time, since) if isinstance(time, datetime)]
    return any(time > history.as_of for time in known)


def repair(firestore: Firestore, keeper: Bookkeeper, group_id: str) -> Result:
    """Rebuild a group's balance, its faults included. Raises what Bookkeeper.rebuild raises."""
    layout = keeper.settings.layout
    # A rebuild settles the faults of documents; what stands among the faults and is of none, it leaves alone.
    strays = [
        fault.path
        for fault in firestore.query(Query(collection=layout.faults(group_id)))
        if (source := faults.source_of(fault.fields)) is None or fault.path != layout.fault(group_id, source)
    ]
    if strays:
        with transaction(firestore) as attempt:
            attempt.get([layout.group(group_id)])
            attempt.commit([Delete(path) for path in strays])
    return keeper.rebuild(group_id)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
