"""The one judgement of a stored balance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from balance.core.money import Unit
from balance.database.firestore import Snapshot
from balance.documents import balances, rules
from balance.documents.balances import STALE, VERSION, Stored
from balance.documents.judgement import Condition, judge
from balance.documents.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BORN = NOW - timedelta(days=9)
SETTINGS = Settings(epoch=3)
STORED = Stored(balances.of_ledger({"USD": {("a", "b"): 1_250}}), NOW, BORN, 2)
GARBAGE = {"balancesByCurrency": 5, "groupId": None}


def snapshot(**changes: Any) -> Snapshot:
    fields = {**balances.document("g", STORED, SETTINGS), "lastUpdatedAt": NOW, **changes}
    return Snapshot("groups/g/metadata/balance", fields, NOW, NOW, NOW)


def group(created: datetime | None) -> Snapshot:
    return Snapshot("groups/g", None if created is None else {}, created, NOW, created)


def test_a_current_balance_says_what_it_holds() -> None:
    for beside in (None, group(BORN)):
        judgement = judge(snapshot(), "g", SETTINGS, beside)
        assert (judgement.condition, judgement.reason, judgement.stored) == (Condition.CURRENT, "", STORED)


MINE = str(rules.current(SETTINGS))
OTHER = str(rules.current(Settings(epoch=3, unit=Unit.MINOR)))


@pytest.mark.parametrize(
    ("changes", "condition", "reason"),
    [
        ({"version": VERSION + 1, **GARBAGE}, Condition.NEWER, f"version {VERSION + 1}"),
        ({"version": VERSION + 1, "rules": "2:x"}, Condition.NEWER, "newer code"),
        ({"rules": "4:x", **GARBAGE}, Condition.NEWER, "epoch 4"),
        ({"version": VERSION - 1, "rules": "4:x"}, Condition.NEWER, "epoch 4"),
        ({"version": STALE, "rules": "4:x"}, Condition.NEWER, "epoch 4"),
        ({"version": STALE, **GARBAGE}, Condition.STALE, "marked to be rebuilt"),
        ({"version": VERSION - 1, **GARBAGE}, Condition.STALE, f"version {VERSION - 1}"),
        ({"version": None}, Condition.STALE, "marked to be rebuilt"),
        ({"rules": MINE.replace("3:", "2:"), **GARBAGE}, Condition.STALE, "2:"),
        ({"rules": OTHER}, Condition.STALE, OTHER),
        ({"rules": None}, Condition.STALE, "None"),
        (GARBAGE, Condition.CORRUPT, "groupId"),
        ({"asOf": None}, Condition.CORRUPT, "asOf"),
        ({"asOf": NOW + timedelta(microseconds=1)}, Condition.CORRUPT, "a time to come"),
        ({"incarnation": None}, Condition.CORRUPT, "incarnation"),
        ({"faults": None}, Condition.CORRUPT, "faults"),
        ({"faults": -1}, Condition.CORRUPT, "faults"),
        ({"faults": True}, Condition.CORRUPT, "faults"),
        ({"faults": 2.0}, Condition.CORRUPT, "faults"),
    ],
)
def test_any_other_balance_is_judged_by_the_first_that_is_wrong(changes: Any, condition: Condition, reason: str) -> None:
    judgement = judge(snapshot(**changes), "g", SETTINGS, group(NOW))
    assert (judgement.condition, judgement.stored) == (condition, None)
    assert reason in judgement.reason


def test_a_balance_that_is_not_there_is_missing() -> None:
    missing = Snapshot("groups/g/metadata/balance", None, None, NOW)
    assert judge(missing, "g", SETTINGS, group(BORN)).condition is Condition.MISSING


@pytest.mark.parametrize(("created", "reason"), [(BORN + timedelta(microseconds=1), "earlier group"), (None, "was deleted")])
def test_whoever_sees_the_group_too_takes_a_balance_of_another_incarnation_for_stale(
    created: datetime | None, reason: str
) -> None:
    judgement = judge(snapshot(), "g", SETTINGS, group(created))
    assert judgement.condition is Condition.STALE
    assert reason in judgement.reason
