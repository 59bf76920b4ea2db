"""Every row of the decision table, through the official library, on whatever Firestore there is."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from balance.core.money import Unit
from balance.database.firestore import (
    DELETE,
    SERVER_TIME,
    Create,
    Delete,
    Query,
    Retried,
    Set,
    Transaction,
    TransientError,
    Update,
    transaction,
)
from balance.documents import rules
from balance.documents.balances import STALE, VERSION
from balance.documents.changes import NewerVersion, Overtaken, Result
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.documents.sources import Kind
from balance.protocol import rebuild
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.events import SourceEvent, Version, effect
from balance.protocol.faults import Suspect, settle
from tests.integration.conftest import AnyFirestore


class Group:
    """A group of its own on a shared database, and a bookkeeper for it."""

    def __init__(self, firestore: AnyFirestore) -> None:
        self.client = client = firestore.client()
        self.id = f"g-{uuid4().hex[:12]}"
        self.reference = client.document(f"groups/{self.id}")
        self.reference.set({"members": ["A", "B"]})
        self.balance = client.document(f"groups/{self.id}/metadata/balance")
        self.database = firestore.database()
        self.updates_on = True
        self.keeper = self.bookkeeper()

    def bookkeeper(self, settings: Settings | None = None) -> Bookkeeper:
        return Bookkeeper(self.database, settings or Settings(), updates_on=lambda: self.updates_on)

    def expense(self, amount: object, **more: object) -> dict[str, Any]:
        splits = [{"uid": "B", "amount": amount}]
        return {"groupId": self.id, "paidBy": "A", "amount": amount, "currency": "USD", "splits": splits, **more}

    def write(self, path: str, fields: dict[str, Any] | None) -> SourceEvent:
        reference = self.client.document(path)
        was = reference.get()
        before = Version(was.to_dict() or {}, was.update_time) if was.exists else None
        if fields is None:
            reference.delete()
            after = None
        else:
            after = Version(fields, reference.set(fields).update_time)
        now = datetime.now(UTC)
        return SourceEvent(event_id=uuid4().hex, time=now, source=path, kind=Kind.EXPENSE, before=before, after=after)

    def new(self, amount: object) -> SourceEvent:
        return self.write(f"expenses/{uuid4().hex}", self.expense(amount))

    def process(self, event: SourceEvent, keeper: Bookkeeper | None = None) -> list[Outcome]:
        keeper = keeper or self.keeper
        return [result.outcome for result in keeper.process(event, effect(event, keeper.settings))]

    def owes(self) -> object:
        """What B owes A in USD."""
        stored = self.balance.get().to_dict() or {}
        return stored["balancesByCurrency"].get("USD", {}).get("B", {}).get("owes", {}).get("A", 0)

    def records(self) -> list[dict[str, Any]]:
        return [record.to_dict() or {} for record in self.reference.collection("balanceEvents").stream()]


@pytest.fixture
def group(any_firestore: AnyFirestore) -> Group:
    return Group(any_firestore)


def test_the_first_event_of_a_group_rebuilds_and_the_next_is_applied(group: Group) -> None:
    assert group.process(group.new(5)) == [Outcome.REBUILT]
    assert group.process(group.new(7)) == [Outcome.APPLIED]
    assert group.owes() == 12


def test_a_redelivered_event_changes_nothing_under_any_event_id(group: Group) -> None:
    group.process(group.new(5))
    event = group.new(7)
    group.process(event)
    before = group.balance.get().update_time
    assert group.process(event) == [Outcome.DUPLICATE]
    assert group.process(replace(event, event_id="another")) == [Outcome.DUPLICATE]
    assert group.balance.get().update_time == before


def test_a_write_in_the_snapshot_of_the_rebuild_is_already_included(group: Group) -> None:
    first, second = group.new(5), group.new(7)
    assert group.process(second) == [Outcome.REBUILT]
    assert group.process(first) == [Outcome.ALREADY_INCLUDED]
    assert group.owes() == 12


def test_an_edit_that_moves_no_money_writes_nothing(group: Group) -> None:
    path = f"expenses/{uuid4().hex}"
    group.process(group.write(path, group.expense(5)))
    assert group.process(group.write(path, group.expense(5, title="tea"))) == [Outcome.NO_CHANGE]
    assert len(group.records()) == 1


def test_events_while_updates_are_off_leave_gaps_and_heal_afterwards(group: Group) -> None:
    group.process(group.new(5))
    group.updates_on = False
    event = group.new(7)
    assert group.process(event) == [Outcome.DISABLED]
    assert group.balance.get().get("version") == 0
    group.updates_on = True
    assert group.process(group.new(1)) == [Outcome.REBUILT]
    assert group.owes() == 13
    assert group.process(event) == [Outcome.DUPLICATE]


def test_a_gap_without_a_balance_creates_none(group: Group) -> None:
    group.updates_on = False
    group.process(group.new(5))
    assert not group.balance.get().exists
    assert [record["outcome"] for record in group.records()] == ["DISABLED"]


def test_a_newer_balance_is_left_to_newer_code_unless_forced(group: Group) -> None:
    group.process(group.new(5))
    group.balance.update({"version": 99, "balancesByCurrency": "of another shape"})
    with pytest.raises(NewerVersion):
        group.process(group.new(7))
    with pytest.raises(NewerVersion):
        group.keeper.rebuild(group.id)
    assert group.keeper.rebuild(group.id, force=True).outcome is Outcome.REBUILT
    assert group.owes() == 12


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"version": 0}, id="stale"),
        pytest.param({"version": "1"}, id="a version of another type"),
        pytest.param({"asOf": None}, id="no asOf"),
        pytest.param({"asOf": datetime(2999, 1, 1, tzinfo=UTC)}, id="an asOf to come"),
        pytest.param({"balancesByCurrency": {}}, id="emptied"),
        pytest.param({"detail": "all"}, id="an unknown detail"),
    ],
)
def test_a_balance_that_does_not_hold_together_is_rebuilt(group: Group, damage: dict[str, object]) -> None:
    group.process(group.new(5))
    group.balance.update(damage)
    assert group.process(group.new(7)) == [Outcome.REBUILT]
    assert group.owes() == 12


def test_a_write_older_than_half_the_records_life_is_rebuilt(group: Group) -> None:
    keeper = group.bookkeeper(Settings(record_ttl=timedelta(seconds=0.2)))
    group.process(group.new(5), keeper)
    event = group.new(7)
    time.sleep(0.15)
    assert group.process(event, keeper) == [Outcome.REBUILT]
    assert group.owes() == 12


def test_a_hard_delete_near_the_snapshot_is_judged_by_the_snapshot_itself(group: Group) -> None:
    kept, deleted = f"expenses/{uuid4().hex}", f"expenses/{uuid4().hex}"
    for path in (kept, deleted):
        group.process(group.write(path, group.expense(5)))
    early = group.write(deleted, None)
    group.keeper.rebuild(group.id)
    assert group.process(early) == [Outcome.ALREADY_INCLUDED]
    assert group.process(group.write(kept, None)) == [Outcome.APPLIED]
    assert group.owes() == 0


def test_an_event_that_lacks_its_time_is_put_right_by_a_rebuild_however_often_it_comes(group: Group) -> None:
    path = f"expenses/{uuid4().hex}"
    group.process(group.new(1))
    group.process(group.write(path, group.expense(5)))
    deleted = replace(group.write(path, None), time=None)
    edited = group.new(7)
    assert edited.after is not None
    edited = replace(edited, after=replace(edited.after, update_time=None))
    for event in (deleted, edited, deleted, edited):
        assert group.process(event) == [Outcome.REBUILT]
        assert group.owes() == 8


def test_an_event_that_lacks_its_time_leaves_a_gap_while_updates_are_off(group: Group) -> None:
    group.process(group.new(1))
    event = group.new(7)
    assert event.after is not None
    event = replace(event, after=replace(event.after, update_time=None))

    def while_off() -> None:
        group.updates_on = False
        assert group.process(event) == [Outcome.DISABLED]
        group.updates_on = True

    with pytest.raises(Overtaken):
        rebuild.rebuild(Interrupted(group, while_off), Settings(), group.id)
    assert group.balance.get().get("version") == STALE
    assert group.keeper.rebuild(group.id).outcome is Outcome.REBUILT
    assert group.owes() == 8


def test_a_balance_of_a_deleted_group_is_never_resurrected(group: Group) -> None:
    event = group.new(5)
    group.reference.delete()
    assert group.process(event) == [Outcome.GROUP_GONE]
    assert group.keeper.rebuild(group.id).outcome is Outcome.GROUP_GONE
    assert not group.balance.get().exists
    assert group.records() == []


def test_moving_between_groups_counts_in_both_once(group: Group, any_firestore: AnyFirestore) -> None:
    other = Group(any_firestore)
    path = f"expenses/{uuid4().hex}"
    group.process(group.write(path, group.expense(5)))
    other.process(other.new(1))
    move = group.write(path, group.expense(5, groupId=other.id))
    assert sorted(group.process(move)) == [Outcome.APPLIED, Outcome.APPLIED]
    assert group.process(move) == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert (group.owes(), other.owes()) == (0, 6)


def test_a_fault_is_set_and_removed_by_the_present_state_in_whatever_order(group: Group) -> None:
    path = f"expenses/{uuid4().hex}"
    broken = group.write(path, {**group.expense(5), "amount": True})
    healed = group.write(path, group.expense(5))
    # The fault is settled first, and a group without a balance is rebuilt for it.
    assert group.process(healed) == [Outcome.FAULT, Outcome.ALREADY_INCLUDED]
    assert group.process(broken) == [Outcome.FAULT]
    assert list(group.reference.collection("balanceFaults").stream()) == []
    group.process(group.write(path, {**group.expense(6), "amount": True}))
    (fault,) = group.reference.collection("balanceFaults").stream()
    assert (fault.get("source"), fault.get("field"), fault.get("reason")) == (path, "amount", "is a boolean, not a number")


def test_many_threads_lose_and_double_nothing(group: Group) -> None:
    events = [group.new(1) for _ in range(60)]
    keepers = [group.bookkeeper() for _ in range(2)]
    with ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(group.process, event, keeper) for event in events for keeper in keepers]
    outcomes = [outcome for job in jobs for outcome in job.result()]
    assert group.owes() == 60
    assert len(outcomes) == 120


class Interrupted(Retried):
    """A database at which something happens before its next transaction begins: after a rebuild has read its snapshot."""

    def __init__(self, group: Group, happening: Callable[[], object]) -> None:
        super().__init__(group.database)
        self._happenings = [happening]

    def begin(self, *, retry_of: bytes = b"") -> Transaction:
        while self._happenings:
            self._happenings.pop()()
        return super().begin(retry_of=retry_of)


def test_a_rebuild_adds_what_was_applied_after_its_snapshot(group: Group) -> None:
    path = f"expenses/{uuid4().hex}"
    group.process(group.write(path, group.expense(5)))

    def meanwhile() -> None:
        assert group.process(group.new(7)) == [Outcome.APPLIED]
        assert group.process(group.write(path, None)) == [Outcome.APPLIED]

    rebuild.rebuild(Interrupted(group, meanwhile), Settings(), group.id)
    assert group.owes() == 7


def test_a_rebuild_overtaken_by_a_gap_or_a_later_rebuild_starts_over(group: Group) -> None:
    group.process(group.new(5))

    def gap() -> None:
        group.updates_on = False
        group.process(group.new(7))
        group.updates_on = True

    for meanwhile in (gap, lambda: group.keeper.rebuild(group.id)):
        with pytest.raises(Overtaken):
            rebuild.rebuild(Interrupted(group, meanwhile), Settings(), group.id)
    group.keeper.rebuild(group.id)
    assert group.owes() == 12


# ------------------------------------------------------------------------------------------- groups that come and go


def wipe(group: Group) -> None:
    """Delete a group as the Admin SDKs' recursiveDelete does: what lies below first, the document itself last."""
    for collection in ("metadata", "balanceEvents", "balanceFaults"):
        for document in group.reference.collection(collection).stream():
            document.reference.delete()
    group.reference.delete()


def create(group: Group) -> None:
    group.reference.set({"members": ["A", "B"]})


def test_a_rebuild_of_a_group_that_was_deleted_and_created_again_meanwhile_starts_over(group: Group) -> None:
    """Its records went with it, so that what was applied since the snapshot cannot be told any more."""
    group.process(group.new(6))

    def meanwhile() -> None:
        assert group.process(group.new(7)) == [Outcome.APPLIED]
        wipe(group)
        create(group)

    with pytest.raises(Overtaken):
        rebuild.rebuild(Interrupted(group, meanwhile), Settings(), group.id)
    assert not group.balance.get().exists
    assert group.keeper.group_created(group.id).outcome is Outcome.REBUILT
    assert group.owes() == 13


def test_a_rebuild_of_a_group_that_is_gone_at_its_end_writes_nothing(group: Group) -> None:
    group.process(group.new(6))
    with pytest.raises(Overtaken):
        rebuild.rebuild(Interrupted(group, lambda: wipe(group)), Settings(), group.id)
    assert not group.balance.get().exists
    assert group.keeper.rebuild(group.id).outcome is Outcome.GROUP_GONE


def test_a_rebuild_under_which_the_balance_is_deleted_starts_over(group: Group) -> None:
    group.process(group.new(6))

    def meanwhile() -> None:
        assert group.process(group.new(7)) == [Outcome.APPLIED]
        group.balance.delete()
        for record in group.reference.collection("balanceEvents").stream():
            record.reference.delete()

    with pytest.raises(Overtaken):
        rebuild.rebuild(Interrupted(group, meanwhile), Settings(), group.id)
    group.keeper.rebuild(group.id)
    assert group.owes() == 13


def test_a_recursive_delete_that_events_overtake_counts_nothing_twice(group: Group) -> None:
    group.process(group.new(6))
    group.balance.delete()  # recursiveDelete has come so far
    event = group.new(7)
    assert group.process(event) == [Outcome.REBUILT]
    late = group.new(1)
    assert group.process(late) == [Outcome.APPLIED]
    for record in group.reference.collection("balanceEvents").stream():
        record.reference.delete()
    group.reference.delete()
    create(group)
    assert group.keeper.group_deleted(group.id).outcome is Outcome.NO_CHANGE  # late: the group is back
    assert group.keeper.group_created(group.id).outcome is Outcome.REBUILT
    for redelivered in (event, late):
        assert group.process(redelivered) == [Outcome.ALREADY_INCLUDED]
    assert group.owes() == 14


def test_a_balance_bears_the_create_time_of_its_group_and_a_delta_leaves_it_alone(group: Group) -> None:
    group.process(group.new(6))
    born = group.reference.get().create_time
    assert group.balance.get().get("incarnation") == born
    group.process(group.new(7))
    assert group.balance.get().get("incarnation") == born


def test_a_new_group_gets_a_balance_before_its_first_expense(group: Group) -> None:
    assert group.keeper.group_created(group.id).outcome is Outcome.REBUILT
    assert group.keeper.group_created(group.id).outcome is Outcome.NO_CHANGE
    assert group.process(group.new(5)) == [Outcome.APPLIED]
    assert group.owes() == 5


def test_a_group_that_is_written_after_its_expenses_gets_their_balance(group: Group) -> None:
    group.reference.delete()
    events = [group.new(5), group.new(7)]
    for event in events:
        assert group.process(event) == [Outcome.GROUP_GONE]
    create(group)
    assert group.keeper.group_created(group.id).outcome is Outcome.REBUILT
    assert group.owes() == 12
    for event in events:
        assert group.process(event) == [Outcome.ALREADY_INCLUDED]


def test_a_deleted_group_loses_its_balance_and_its_faults_but_keeps_its_records(group: Group) -> None:
    group.process(group.new(5))
    group.process(group.write(f"expenses/{uuid4().hex}", group.expense(True)))
    assert group.keeper.group_deleted(group.id).outcome is Outcome.NO_CHANGE  # it is not deleted
    group.reference.delete()
    assert group.keeper.group_deleted(group.id).outcome is Outcome.GROUP_GONE
    assert group.keeper.group_deleted(group.id).outcome is Outcome.NO_CHANGE
    assert not group.balance.get().exists
    assert list(group.reference.collection("balanceFaults").stream()) == []
    assert len(group.records()) == 1


def test_while_updates_are_off_groups_come_and_go_unheeded(group: Group) -> None:
    group.updates_on = False
    assert group.keeper.group_created(group.id).outcome is Outcome.DISABLED
    assert not group.balance.get().exists
    group.updates_on = True
    group.keeper.group_created(group.id)
    group.updates_on = False
    group.reference.delete()
    assert group.keeper.group_deleted(group.id).outcome is Outcome.DISABLED
    assert group.balance.get().exists


def test_the_failure_of_one_group_does_not_keep_the_event_from_the_other(group: Group, any_firestore: AnyFirestore) -> None:
    other = Group(any_firestore)
    path = f"expenses/{uuid4().hex}"
    for each in (group, other):
        each.process(each.new(1))
    group.process(group.write(path, group.expense(5)))
    move = group.write(path, group.expense(5, groupId=other.id))
    group.balance.update({"version": VERSION + 1})
    told: list[Result] = []
    with pytest.raises(NewerVersion):
        group.keeper.process(move, effect(move, Settings()), told.append)
    assert [(result.group_id, result.outcome) for result in told] == [(other.id, Outcome.APPLIED)]
    assert other.owes() == 6


# ------------------------------------------------------------------------------------------------------------- rules


def test_a_balance_by_other_rules_or_of_a_lower_epoch_is_rebuilt(group: Group) -> None:
    group.process(group.new(5))
    minor = group.bookkeeper(Settings(unit=Unit.MINOR))
    assert group.process(group.new(7), minor) == [Outcome.REBUILT]
    assert group.owes() == 12
    later = group.bookkeeper(Settings(epoch=1))
    assert group.process(group.new(1), later) == [Outcome.REBUILT]
    assert group.balance.get().get("rules") == str(rules.current(Settings(epoch=1)))


def test_a_balance_of_a_higher_epoch_is_left_to_code_of_that_epoch_unless_forced(group: Group) -> None:
    later = group.bookkeeper(Settings(epoch=2))
    group.process(group.new(5), later)
    with pytest.raises(NewerVersion, match="epoch 2"):
        group.process(group.new(7))
    with pytest.raises(NewerVersion):
        group.keeper.group_created(group.id)
    with pytest.raises(NewerVersion):
        group.process(group.write(f"expenses/{uuid4().hex}", group.expense(True)))
    assert group.keeper.rebuild(group.id, force=True).outcome is Outcome.REBUILT
    assert (group.owes(), group.balance.get().get("faults")) == (12, 1)


def test_balances_of_a_first_time_are_stale_after_the_functions_were_away(group: Group) -> None:
    """Taken back and deployed again: what was written in between came to nobody's notice."""
    group.process(group.new(5))
    group.new(7)
    again = group.bookkeeper(Settings(epoch=1))
    assert group.process(group.new(1), again) == [Outcome.REBUILT]
    assert group.owes() == 13


def test_a_rebuild_cannot_add_a_record_by_other_rules_and_starts_over(group: Group) -> None:
    group.process(group.new(5))

    def meanwhile() -> None:
        assert group.process(group.new(7)) == [Outcome.APPLIED]
        for record in group.reference.collection("balanceEvents").stream():
            record.reference.update({"rules": "0:another"})

    with pytest.raises(Overtaken):
        rebuild.rebuild(Interrupted(group, meanwhile), Settings(), group.id)
    group.keeper.rebuild(group.id)
    assert group.owes() == 12


# ------------------------------------------------------------------------------------------------------------ faults


def faults(group: Group) -> tuple[object, int]:
    """As the balance counts them, and as they stand."""
    stored = group.balance.get().to_dict() or {}
    return stored.get("faults"), len(list(group.reference.collection("balanceFaults").stream()))


def test_a_group_of_nothing_but_malformed_documents_has_a_balance_that_says_so(group: Group) -> None:
    assert group.process(group.write(f"expenses/{uuid4().hex}", group.expense(True))) == [Outcome.FAULT]
    assert faults(group) == (1, 1)
    assert group.balance.get().get("balancesByCurrency") == {}


def test_a_fault_that_goes_under_a_balance_of_other_code_marks_it_stale(group: Group) -> None:
    """Else that code, after a roll-back and when the function died before the rebuild, would go on with a wrong count."""
    path = f"expenses/{uuid4().hex}"
    group.process(group.write(path, group.expense(True)))
    assert faults(group) == (1, 1)
    group.balance.update({"version": VERSION - 1})
    group.write(path, group.expense(5))
    assert not settle(group.database, group.keeper.settings, group.id, [Suspect(Kind.EXPENSE, path)])
    assert group.balance.get().get("version") == STALE
    group.process(group.new(1))
    assert (faults(group), group.owes()) == ((0, 0), 6)


def test_the_count_of_faults_goes_up_and_down_with_them(group: Group, any_firestore: AnyFirestore) -> None:
    other = Group(any_firestore)
    paths = [f"expenses/{uuid4().hex}" for _ in range(3)]
    for each in (group, other):
        each.process(each.new(1))
    for number, path in enumerate(paths, 1):
        event = group.write(path, group.expense(True))
        for _ in range(2):
            group.process(event)
            assert faults(group) == (number, number)
    group.process(group.write(paths[0], group.expense(5)))
    assert (faults(group), group.owes()) == ((2, 2), 6)
    group.process(group.write(paths[1], other.expense(True)))
    assert (faults(group), faults(other)) == ((1, 1), (1, 1))
    group.process(group.write(paths[2], None))
    assert faults(group) == (0, 0)


def test_a_rebuild_counts_the_faults_that_stand_when_it_ends(group: Group) -> None:
    paths = [f"expenses/{uuid4().hex}" for _ in range(3)]
    events = [group.write(path, group.expense(True)) for path in paths[:2]]
    for event in events:
        group.process(event)

    def meanwhile() -> None:
        group.process(group.write(paths[0], group.expense(1)))
        group.process(group.write(paths[2], group.expense(True)))
        group.process(group.write(paths[1], group.expense(1)))

    rebuild.rebuild(Interrupted(group, meanwhile), Settings(), group.id)
    assert (faults(group), group.owes()) == ((1, 1), 2)


def test_a_fault_in_a_group_whose_balance_is_not_current_has_it_rebuilt(group: Group) -> None:
    group.process(group.new(1))
    for damage in ({"version": STALE}, {"faults": "none"}, {"rules": "0:other"}):
        group.balance.update(damage)
        group.process(group.write("expenses/" + uuid4().hex, group.expense(True)))
        count, stand = faults(group)
        assert count == stand > 0
    group.balance.update({"faults": 0})
    (first, *_) = group.reference.collection("balanceFaults").stream()
    group.process(group.write(first.get("source"), None))
    assert faults(group) == (2, 2)


def test_a_group_that_is_gone_has_no_faults_until_it_comes_back(group: Group) -> None:
    group.reference.delete()
    group.process(group.write(f"expenses/{uuid4().hex}", group.expense(True)))
    assert faults(group) == (None, 0)
    create(group)
    group.keeper.group_created(group.id)
    assert faults(group) == (1, 1)


# --------------------------------------------------------------------------------------- what must not fail for ever


def test_a_delta_that_fits_no_record_is_rebuilt_in_and_its_record_tells_none(group: Group) -> None:
    """660 uids of 1,500 bytes, all replaced by others."""

    def long(letter: str) -> dict[str, Any]:
        splits = [{"uid": f"{number:04}" + letter * 1_496, "amount": 1} for number in range(660)]
        return group.expense(660, splits=splits)

    path = f"expenses/{uuid4().hex}"
    group.process(group.new(5))
    group.process(group.write(path, long("x")))
    edit = group.write(path, long("y"))
    assert group.process(edit) == [Outcome.REBUILT]
    assert group.process(edit) == [Outcome.DUPLICATE]
    (record,) = [record for record in group.records() if record["delta"] is None]
    assert record["source"] == path
    group.process(group.write(path, group.expense(660)))
    group.keeper.rebuild(group.id)
    assert group.owes() == 665


def test_a_rebuild_from_before_a_record_without_its_delta_starts_over(group: Group) -> None:
    group.process(group.new(5))

    def meanwhile() -> None:
        event = group.new(7)
        assert group.process(event) == [Outcome.APPLIED]
        for record in group.reference.collection("balanceEvents").stream():
            record.reference.update({"delta": None})

    with pytest.raises(Overtaken):
        rebuild.rebuild(Interrupted(group, meanwhile), Settings(), group.id)


@pytest.mark.parametrize(
    "bent", [{"version": "x"}, {"updateTime": datetime(2999, 1, 1, tzinfo=UTC)}], ids=["corrupt", "of a write to come"]
)
def test_a_record_of_a_time_to_come_stops_no_rebuild(group: Group, bent: dict[str, object]) -> None:
    group.process(group.new(5))
    (record,) = group.reference.collection("balanceEvents").stream()
    record.reference.update({"appliedAt": datetime(2999, 1, 1, tzinfo=UTC), **bent})
    assert group.keeper.rebuild(group.id).outcome is Outcome.REBUILT
    assert group.owes() == 5


ODD = ("a.b", "a/b", "`tick`", "\\", '"', "é🧾", "0", "a b")


def test_the_store_writes_and_reads_every_kind_of_value_and_key(group: Group) -> None:
    path = f"groups/{group.id}/metadata/values"
    values = {
        "n": None,
        "b": True,
        "i": -5,
        "f": 1.5,
        "s": "é",
        "t": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "l": [1, {}, "x"],
    }
    with transaction(group.database) as attempt:
        attempt.get([path])
        attempt.commit([Create(path, {**values, "at": SERVER_TIME, "m": {name: {"x": 1} for name in ODD}})])
    with transaction(group.database) as attempt:
        (before,) = attempt.get([path])
        attempt.commit(
            [Update(path, {**{("m", name, "x"): 2 for name in ODD[1:]}, ("m", ODD[0]): DELETE, ("new", "y"): SERVER_TIME})]
        )
    (after,) = group.database.get([path])
    assert before.fields is not None
    assert after.fields is not None
    assert {name: before.fields[name] for name in values} == values
    assert after.fields["m"] == {name: {"x": 2} for name in ODD[1:]}
    assert isinstance(after.fields["new"]["y"], datetime)
    (past,) = group.database.get([path], read_time=before.read_time)
    assert past.fields == before.fields


def test_the_store_tells_what_may_be_tried_again(group: Group) -> None:
    path = f"groups/{group.id}/metadata/values"
    with transaction(group.database) as attempt:
        attempt.get([path])
        attempt.commit([Set(path, {"x": 1})])
    with transaction(group.database) as attempt:
        attempt.get([f"{path}-other"])
        with pytest.raises(TransientError):
            attempt.commit([Create(path, {"x": 2})])
    with transaction(group.database) as attempt:
        attempt.get([path])
        attempt.commit([Delete(path), Delete(f"{path}-missing")])
    assert group.database.get([path])[0].fields is None


def test_the_store_pages_a_collection_by_id(group: Group) -> None:
    for number in range(5):
        group.reference.collection("things").document(f"t{number}").set({"number": number, "more": "x"})
    collection = f"groups/{group.id}/things"
    first = list(group.database.query(Query(collection=collection, limit=2, select=())))
    rest = list(group.database.query(Query(collection=collection, after_id="t1", select=("number",))))
    assert [(document.path.split("/")[-1], document.fields) for document in first] == [("t0", {}), ("t1", {})]
    assert [document.fields for document in rest] == [{"number": 2}, {"number": 3}, {"number": 4}]
    found = group.database.query(Query(collection=collection, where=("number", ">=", 3)))
    assert [document.path.split("/")[-1] for document in found] == ["t3", "t4"]
