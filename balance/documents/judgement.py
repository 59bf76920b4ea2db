"""The one judgement of a stored balance: whether a delta may be added to it, a reader may be served it, and if not, why."""

from dataclasses import dataclass
from enum import StrEnum

from balance.database.firestore import Fields, Snapshot
from balance.documents import balances, rules
from balance.documents.balances import STALE, VERSION, CorruptBalance, Stored
from balance.documents.settings import Settings


class Condition(StrEnum):
    """How a stored balance stands to this code, before anything is recalculated."""

    CURRENT = "current"
    MISSING = "missing"
    STALE = "stale"
    """Written by older code, in a lower epoch, by other rules, for an earlier group of this id; or marked to be rebuilt."""
    CORRUPT = "corrupt"
    """Not what this code writes."""
    NEWER = "newer"
    """Written by newer code or in a higher epoch: only force overwrites it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of judging one balance document."""

    condition: Condition
    reason: str
    """Why, in one line; "" when it is current."""
    stored: Stored | None = None
    """What it says; None unless it is current."""


def judge(document: Snapshot, group_id: str, settings: Settings, group: Snapshot | None = None) -> Judgement:
    """Judge a balance document as read; costs no call.

    `group` is the group's document, for those who have read it too: only they can tell a balance of an earlier incarnation,
    one that was rebuilt for a group that has been deleted since, and created again.
    """
    fields = document.fields
    if fields is None:
        return Judgement(Condition.MISSING, "there is none")
    # Of what newer code wrote, nothing but this can be understood.
    version, epoch = balances.stored_version(fields), rules.epoch_of(fields.get("rules"))
    if version > VERSION:
        return Judgement(Condition.NEWER, f"it was written by newer code: of version {version}, this is version {VERSION}")
    if epoch is not None and epoch > settings.epoch:
        return Judgement(Condition.NEWER, f"it was written in epoch {epoch}, this code runs in epoch {settings.epoch}")
    reason = _stale(fields, version, settings)
    if reason:
        return Judgement(Condition.STALE, reason)
    try:
        stored = balances.parse(fields, group_id, settings.unit)
    except CorruptBalance as error:
        return Judgement(Condition.CORRUPT, str(error))
    if stored.as_of > document.read_time:
        return Judgement(Condition.CORRUPT, "asOf is a time to come")
    if group is not None and group.fields is None:
        return Judgement(Condition.STALE, "its group was deleted")
    if group is not None and stored.incarnation != group.create_time:
        return Judgement(Condition.STALE, "it was rebuilt for an earlier group of this id, which was deleted")
    return Judgement(Condition.CURRENT, "", stored)


def _stale(fields: Fields, version: int, settings: Settings) -> str:
    if version == STALE:
        return "it was marked to be rebuilt"
    if version < VERSION:
        return f"it is of version {version}, this code of version {VERSION}"
    mine, theirs = str(rules.current(settings)), fields.get("rules")
    return "" if theirs == mine else f"it was written by the rules {theirs!r}, ours are {mine!r}"
