"""Giving every group its balance: each is rebuilt unless it has a current one.

A rebuild is safe while events flow and may be repeated, so a backfill may be stopped anywhere, by any means, and started
again: what is done by then is found current and skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from balance.database.firestore import Firestore
from balance.database.retry import Retry
from balance.documents.judgement import Condition, judge
from balance.documents.outcome import Outcome
from balance.protocol.bookkeeper import Bookkeeper


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
            results.append(Filled(group_id, Step.SKIPPED, was))
        elif group.fields is None:
            results.append(Filled(group_id, Step.GONE, was))
        elif dry_run:
            results.append(Filled(group_id, Step.WOULD_REBUILD, was))
        else:
            results.append(_rebuild(keeper, group_id, was, force=force))
    return results


def _rebuild(keeper: Bookkeeper, group_id: str, was: Condition, *, force: bool) -> Filled:
    try:
        outcome = keeper.rebuild(group_id, force=force).outcome
    except Exception as error:  # noqa: BLE001 - as above
        return Filled(group_id, Step.FAILED, was, reason(error))
    return Filled(group_id, Step.GONE if outcome is Outcome.GROUP_GONE else Step.REBUILT, was)


def reason(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
