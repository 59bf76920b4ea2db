"""Giving every group its balance: each is rebuilt unless it has a current one.

A rebuild is safe while events flow and may be repeated, so a backfill may be stopped anywhere, by any means, and started
again: what is done by then is found current and skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from balance.database.firestore import Firestore, Query, Snapshot
from balance.database.retry import Retry
from balance.documents.judgement import Condition, judge
from balance.documents.outcome import Outcome
from balance.documents.sources import Malformed
from balance.documents.tally import Tally
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.rebuild import read_history


class Step(StrEnum):
    """What the backfill did with a group."""

    SKIPPED = "skipped"
    """It has a current balance."""
    REBUILT = "rebuilt"
    WOULD_REBUILD = "would rebuild"
    """A dry run."""
    ENQUEUED = "enqueued"
    """A task will do it."""
    GONE = "gone"
    """The group was deleted meanwhile, or never was."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of one group."""

    group_id: str
    step: Step
    was: Condition | None
    """None when even that could not be read."""
    error: str | None = None
    tally: Tally | None = None
    """What became of its documents, as far as they were read: with a current balance, only those that are in none."""


def fill(
    firestore: Firestore, keeper: Bookkeeper, group_ids: Sequence[str], *, force: bool = False, dry_run: bool = False
) -> list[Filled]:
    """Bring some groups to a current balance; `force` rebuilds all of them, over newer versions too.

    Raises nothing that concerns a single group: it is told in the result, for one group must not stop a fleet.
    """
    settings = keeper.settings
    layout = settings.layout
    paths = [layout.group(group_id) for group_id in group_ids] + [layout.balance(group_id) for group_id in group_ids]
    try:
        read = Retry().run(lambda: firestore.get(paths))
    except Exception as error:  # noqa: BLE001 - whatever it is, the operator gets its name and the other groups go on
        return [Filled(group_id, Step.FAILED, None, reason(error)) for group_id in group_ids]
    results = []
    for group_id, group, stored in zip(group_ids, read[: len(group_ids)], read[len(group_ids) :], strict=True):
        was = judge(stored, group_id, settings, group).condition
        if was is Condition.CURRENT and not force:
            results.append(_skip(firestore, keeper, group_id, stored, was))
        elif group.fields is None:
            results.append(Filled(group_id, Step.GONE, was))
        elif dry_run:
            results.append(_look(firestore, keeper, group_id, was))
        else:
            results.append(_rebuild(keeper, group_id, was, force=force))
    return results


def _skip(firestore: Firestore, keeper: Bookkeeper, group_id: str, stored: Snapshot, was: Condition) -> Filled:
    """Its balance knows how many documents it lacks; which ones, only their faults know."""
    tally = Tally()
    if (stored.fields or {}).get("faults"):
        query = Query(collection=keeper.settings.layout.faults(group_id))
        try:
            faults = Retry().run(lambda: list(firestore.query(query)))
        except Exception as error:  # noqa: BLE001 - as below
            return Filled(group_id, Step.FAILED, was, reason(error))
        for fault in faults:
            told = {name: str((fault.fields or {}).get(name)) for name in ("source", "field", "reason")}
            tally.count(told["source"], Malformed(told["field"], told["reason"], group_id))
    return Filled(group_id, Step.SKIPPED, was, tally=tally)


def _look(firestore: Firestore, keeper: Bookkeeper, group_id: str, was: Condition) -> Filled:
    """What a rebuild would read."""

    def look() -> Tally:
        (group,) = firestore.get([keeper.settings.layout.group(group_id)])
        return read_history(firestore, keeper.settings, group_id, group.read_time).tally

    try:
        return Filled(group_id, Step.WOULD_REBUILD, was, tally=Retry().run(look))
    except Exception as error:  # noqa: BLE001 - one group must not stop the others: it is named and counted
        return Filled(group_id, Step.FAILED, was, reason(error))


def _rebuild(keeper: Bookkeeper, group_id: str, was: Condition, *, force: bool) -> Filled:
    try:
        result = keeper.rebuild(group_id, force=force)
    except Exception as error:  # noqa: BLE001 - as above
        return Filled(group_id, Step.FAILED, was, reason(error))
    return Filled(group_id, Step.GONE if result.outcome is Outcome.GROUP_GONE else Step.REBUILT, was, tally=result.tally)


def reason(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
