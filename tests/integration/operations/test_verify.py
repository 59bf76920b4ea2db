"""`balance verify` and the nightly reconciliation before an embedded server."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from balance.database.firestore import Firestore, Retried, Transaction, TransientError
from balance.database.retry import ONCE
from balance.documents.balances import VERSION
from balance.functions import nightly
from balance.operations import orphans
from balance.operations.reconcile import State, check
from balance.protocol import faults
from emulator.faults import Fault
from scripts import verify
from scripts.cli import main
from tests.integration.deployment import Deployment, deployment, expense


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


def fleet(app: Deployment, count: int) -> list[str]:
    """Groups with balances that are true."""
    ids = [app.group(f"g{index:02}") for index in range(count)]
    for group_id in ids:
        app.deliver(app.expense(group_id, "a", "USD", b=2, c=3))
    return ids


def corrupt(app: Deployment, group_id: str) -> None:
    """A zero-sum shift between two debtors."""
    document = app.balance(group_id)
    rows = document["balancesByCurrency"]["USD"]
    for uid, shift in (("b", 1), ("c", -1)):
        rows[uid]["owes"]["a"] += shift
        rows["a"]["owedBy"][uid] += shift
        rows[uid]["netBalance"] -= shift
    app.set_balance(group_id, document)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Exit code, summary and findings."""
    capsys.readouterr()
    code = main(["verify", *arguments, "--json"])
    *findings, summary = map(json.loads, capsys.readouterr().out.splitlines())
    return code, summary, findings


def test_a_true_fleet_is_told_so(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 5)
    code, summary, findings = run(capsys)
    assert (code, summary["states"], findings) == (0, {"true": 5}, [])


def test_drift_is_reported_pair_by_pair_and_nothing_is_written(
    app: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(app, 3)
    corrupt(app, "g01")
    bent = app.balance("g01")
    code, summary, findings = run(capsys)
    assert (code, summary["states"], summary["unrepaired"]) == (1, {"true": 2, "drift": 1}, 1)
    (finding,) = findings
    assert (finding["group"], finding["state"], finding["repaired"]) == ("g01", "drift", False)
    assert finding["differences"] == [
        {"what": "owes", "currency": "USD", "debtor": "b", "creditor": "a", "stored": 3, "recalculated": 2},
        {"what": "owes", "currency": "USD", "debtor": "c", "creditor": "a", "stored": 2, "recalculated": 3},
        {"what": "netBalance", "currency": "USD", "user": "b", "stored": -3, "recalculated": -2},
        {"what": "netBalance", "currency": "USD", "user": "c", "stored": -2, "recalculated": -3},
    ]
    assert app.balance("g01") == bent
    assert main(["verify"]) == 1
    told = capsys.readouterr()
    assert "finding\tg01\tdrift\t\tb owes a: stored 3.00 USD, recalculated 2.00 USD" in told.out.splitlines()
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    app.client.document("users/b").set({"name": "Bo"})
    assert main(["verify", "--names", "users"]) == 1
    told = capsys.readouterr()
    assert "group g01: drift" in told.err
    assert "  Bo owes a: stored 3.00 USD, recalculated 2.00 USD" in told.err


def test_repair_makes_it_true(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 3)
    corrupt(app, "g01")
    app.set_balance("g02", {**app.balance("g02"), "version": 0})
    code, summary, findings = run(capsys, "--repair")
    assert (code, summary["repaired"], summary["unrepaired"]) == (0, 2, 0)
    assert [(finding["group"], finding["state"], finding["repaired"]) for finding in findings] == [
        ("g01", "drift", True),
        ("g02", "stale", True),
    ]
    assert run(capsys)[:1] == (0,)


def test_what_cannot_be_repaired_is_told(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 2)
    app.set_balance("g01", {"version": VERSION + 1})
    code, summary, _ = run(capsys, "--repair")
    assert (code, summary["states"], summary["unrepaired"]) == (1, {"true": 1, "newer": 1}, 1)


def test_a_group_that_cannot_be_checked_is_named_and_stops_nobody(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 3)
    app.deliver(app.expense("g01", "a", "USD", b=1))
    for record in app.client.collection("groups/g01/balanceEvents").list_documents():
        record.update({"delta": "lost"})
    code, summary, findings = run(capsys)
    assert (code, summary["states"]) == (1, {"true": 2, "failed": 1})
    assert "CorruptRecord" in findings[0]["error"]


def test_after_the_last_group_nothing_is_left_to_verify(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 2)
    code, summary, findings = run(capsys, "--after", "g01")
    assert (code, summary["groups"], summary["repaired"], findings) == (0, 0, 0, [])


def test_lag_can_be_allowed_less(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 1)
    app.expense("g00", "a", "USD", b=1)
    assert run(capsys)[0] == 0
    assert run(capsys, "--lag", "0")[0] == 1
    assert main(["verify", "--lag", "4000"]) == 2


def test_a_sample_is_of_that_size_and_random(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [app.group(f"g{index:02}") for index in range(20)]
    assert run(capsys, "--sample", "7")[1]["groups"] == 7
    assert run(capsys, "--sample", "50")[1]["groups"] == 20
    # Each group in some of 200 samples: it fails by chance once in 10^13 runs.
    assert {group_id for _ in range(200) for group_id in verify.sample_of(ids, 3)} == set(ids)


def leftovers(app: Deployment) -> None:
    """A deleted group of which a balance, a record and a fault are left, beside a document of the app's own."""
    fleet(app, 2)
    app.deliver(app.expense("g01", "a", "USD", b=1))
    app.client.document("groups/g01/balanceFaults/f").set({"source": "expenses/x"})
    app.client.document("groups/g01/metadata/settings").set({"theme": "dark"})
    app.client.document("groups/g01").delete()
    app.client.document("groups/other/comments/c").set({"text": "an app's own orphan"})


def test_orphans_are_found_and_left(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    leftovers(app)
    code, summary, findings = run(capsys, "--orphans")
    assert (code, summary["orphans"]) == (1, {"removed": 0, "left": 4})
    assert findings == [{"orphan": "g01", "documents": 4, "done": "left"}]
    assert app.balance("g01")


def test_orphans_are_removed_and_nothing_else(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    leftovers(app)
    app.clock.advance(hours=1)
    code, summary, _ = run(capsys, "--orphans", "--repair")
    assert (code, summary["orphans"]) == (0, {"removed": 4, "left": 0})
    left = sorted(snapshot.reference.path for snapshot in app.client.collection_group("metadata").get())
    assert left == ["groups/g00/metadata/balance", "groups/g01/metadata/settings"]
    assert len(app.client.collection_group("balanceEvents").get()) == 1
    assert app.client.document("groups/other/comments/c").get().exists
    assert run(capsys, "--orphans")[0] == 0


def test_an_orphan_of_which_a_rebuild_may_be_under_way_stays(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    leftovers(app)
    app.clock.advance(minutes=59)
    code, summary, findings = run(capsys, "--orphans", "--repair")
    assert (code, summary["orphans"]) == (1, {"removed": 0, "left": 4})
    assert [finding["done"] for finding in findings] == ["left"]


def test_a_group_that_came_back_keeps_what_it_has(app: Deployment) -> None:
    leftovers(app)
    app.clock.advance(hours=1)
    (orphan,) = orphans.find(app.database, app.settings)
    app.group("g01")
    assert not orphans.remove(app.database, app.settings, orphan)
    assert app.balance("g01")


class Ended(Retried):
    """A database whose process ends after so many transactions."""

    def __init__(self, database: Firestore, transactions: int) -> None:
        super().__init__(database)
        self._left = transactions

    def begin(self, *, retry_of: bytes = b"") -> Transaction:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return super().begin(retry_of=retry_of)


def test_what_is_removed_half_way_has_lost_its_balance_before_its_records(app: Deployment) -> None:
    # A balance without its records would count a redelivered event twice, should the group come back.
    (group,) = fleet(app, 1)
    batch = app.client.batch()
    for number in range(301):
        batch.set(app.client.document(f"groups/{group}/balanceEvents/{number}"), {"source": "expenses/x"})
    batch.commit()
    app.client.document(f"groups/{group}").delete()
    app.clock.advance(hours=1)
    (orphan,) = orphans.find(app.database, app.settings)
    with pytest.raises(KeyboardInterrupt):
        orphans.remove(Ended(app.database, 1), app.settings, orphan)
    assert 0 < len(app.client.collection(f"groups/{group}/balanceEvents").get()) < 302
    assert not app.client.document(f"groups/{group}/metadata/balance").get().exists


def test_help_names_every_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--help"]) == 0
    text = capsys.readouterr().out
    for state in State:
        assert f"  {state}" in text


def test_a_group_that_was_named_must_exist(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 1)
    code, summary, findings = run(capsys, "--group", "nobody")
    assert (code, summary["states"]) == (1, {"gone": 1})
    assert [(finding["group"], finding["state"]) for finding in findings] == [("nobody", "gone")]


# The nightly run.


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_night_finds_and_repairs_and_counts_drift(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    ids = fleet(app, 4)
    corrupt(app, "g01")
    corrupt(app, "g03")
    app.set_balance("g02", {**app.balance("g02"), "version": 0})
    capsys.readouterr()
    night = nightly.run(app.database, app.keeper)
    assert night.came_round
    assert night.counts == {"true": 1, "drift": 2, "stale": 1, "repaired": 3}
    entries = logged(capsys)
    drift = [entry for entry in entries if entry.get("metric") == "drift"]
    assert sorted((entry["groupId"], entry["severity"], entry["differenceCount"]) for entry in drift) == [
        ("g01", "ERROR", 4),
        ("g03", "ERROR", 4),
    ]
    assert entries[-1]["counts"] == {"true": 1, "drift": 2, "stale": 1, "repaired": 3}
    assert all(check(app.database, app.settings, group_id).state is State.TRUE for group_id in ids)


def test_nights_go_on_where_the_last_one_stopped_until_all_have_had_their_turn(
    app: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fleet(app, 60)
    clock = Time()
    checked: list[str] = []
    really = check

    def counted(*arguments: Any) -> Any:
        checked.append(arguments[2])
        clock.now += 1.0
        return really(*arguments)

    monkeypatch.setattr("balance.operations.reconcile.check", counted)
    nights: list[nightly.Night] = []
    while len(nights) < 20:
        nights.append(nightly.run(app.database, app.keeper, budget_s=9.0, clock=clock))
        if set(checked) == set(ids):
            break
    assert len(nights) > 1, "one night was enough: the budget means nothing"
    assert set(checked) == set(ids)
    assert not any(night.came_round for night in nights)
    # Nobody waits for a second turn longer than for the first of all others.
    first_turns = [group_id for index, group_id in enumerate(checked) if group_id not in checked[:index]]
    assert first_turns == sorted(ids, key=first_turns.index)
    assert len(checked) <= len(ids) + 20


def test_a_night_with_time_goes_round_from_where_the_last_one_stopped(app: Deployment) -> None:
    fleet(app, 5)
    app.client.document(nightly.CURSOR).set({"afterId": "g02"})
    corrupt(app, "g01")
    corrupt(app, "g04")
    night = nightly.run(app.database, app.keeper)
    assert night.came_round
    assert night.counts == {"true": 3, "drift": 2, "repaired": 2}
    assert app.client.document(nightly.CURSOR).get().get("afterId") is None


def test_a_night_without_time_keeps_its_place(app: Deployment) -> None:
    fleet(app, 3)
    app.client.document(nightly.CURSOR).set({"afterId": "g01"})
    night = nightly.run(app.database, app.keeper, budget_s=0.0)
    assert not night.came_round
    assert app.client.document(nightly.CURSOR).get().get("afterId") == "g01"


def test_a_night_does_nothing_while_updates_are_off(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 2)
    corrupt(app, "g01")
    bent = app.balance("g01")
    night = nightly.run(app.database, app.keeper, updates_on=lambda: False)
    assert night.counts == {}
    assert app.balance("g01") == bent
    assert logged(capsys)[-1]["severity"] == "WARNING"


def test_a_group_that_fails_is_logged_and_stops_nobody(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 3)
    app.deliver(app.expense("g01", "a", "USD", b=1))
    for record in app.client.collection("groups/g01/balanceEvents").get():
        if record.get("outcome") == "APPLIED":
            record.reference.update({"delta": "lost"})
    corrupt(app, "g02")
    night = nightly.run(app.database, app.keeper)
    assert night.counts == {"true": 1, "failed": 1, "drift": 1, "repaired": 1}
    failure = next(entry for entry in logged(capsys) if entry.get("metric") == "updateFailures")
    assert failure["groupId"] == "g01"
    assert "CorruptRecord" in failure["stack"]


@pytest.mark.parametrize("bent", ["", "a/b", "..", "__all__", 7, ["g01"]])
def test_a_night_begins_at_the_beginning_when_its_place_makes_no_sense(
    app: Deployment, capsys: pytest.CaptureFixture[str], bent: Any
) -> None:
    fleet(app, 2)
    corrupt(app, "g00")
    app.client.document(nightly.CURSOR).set({"afterId": bent, "afterFault": bent})
    capsys.readouterr()
    night = nightly.run(app.database, app.keeper)
    assert (night.came_round, night.counts["repaired"], night.counts["failed"]) == (True, 1, 0)
    assert sum("begins at the beginning" in entry["message"] for entry in logged(capsys)) == 2
    assert app.client.document(nightly.CURSOR).get().get("afterId") is None


def test_a_failure_to_list_the_groups_is_counted_and_the_place_kept(
    app: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet(app, 5)

    def broken(*arguments: Any) -> Iterator[str]:
        yield from ["g00", "g01"]
        raise TransientError("the list broke off")

    monkeypatch.setattr(nightly, "group_ids", broken)
    capsys.readouterr()
    night = nightly.run(app.database, app.keeper)
    assert not night.came_round
    assert night.counts == {"true": 2, "failed": 1}
    assert app.client.document(nightly.CURSOR).get().get("afterId") == "g01"
    (failure,) = [entry for entry in logged(capsys) if entry.get("metric") == "updateFailures"]
    assert "the groups cannot be listed" in failure["message"]
    assert night.coverage == 0.4


def test_a_night_in_which_nothing_can_be_read_is_told_and_ends(
    app: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet(app, 1)
    monkeypatch.setattr(nightly, "Retry", lambda: ONCE)
    app.server.faults.replace(
        [Fault(rpc=rpc, code=grpc.StatusCode.PERMISSION_DENIED) for rpc in ("BatchGetDocuments", "RunQuery", "Commit")]
    )
    capsys.readouterr()
    night = nightly.run(app.database, app.keeper)
    app.server.faults.replace([])
    assert (night.came_round, night.counts["failed"] >= 3) == (False, True)
    failures = [entry for entry in logged(capsys) if entry.get("metric") == "updateFailures"]
    assert len(failures) == night.counts["failed"]


@pytest.mark.parametrize(("groups", "expected"), [(0, 1.0), (3, 1.0)])
def test_a_whole_round_covers_everything(app: Deployment, groups: int, expected: float) -> None:
    fleet(app, groups)
    assert nightly.run(app.database, app.keeper).coverage == expected


def test_a_night_that_covers_too_little_is_told(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fleet(app, 3)
    capsys.readouterr()
    assert nightly.run(app.database, app.keeper, budget_s=0.0).coverage == 0.0
    entries = logged(capsys)
    assert [entry["metric"] for entry in entries if "metric" in entry] == ["nightlyRuns", "nightlyShortfalls"]
    assert entries[-1]["coveragePercent"] == 0.0


# Faults of documents that name no usable group, when their events are lost.


def groupless(app: Deployment, *names: str) -> None:
    """Expenses of no usable group, with their faults."""
    for name in names:
        app.deliver(app.write(f"expenses/{name}", {**expense("g", b=1), "groupId": ""}))
    assert set(names) <= {source.removeprefix("expenses/") for source in groupless_faults(app)}


def groupless_faults(app: Deployment) -> list[str]:
    """The documents for which such a fault is stored."""
    return sorted(fault.get("source") for fault in app.client.collection("balanceFaults").get())


def test_a_night_settles_the_faults_of_no_usable_group_whose_events_were_lost(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    app.group("g")
    groupless(app, "stays", "healed", "deleted", "changed", "elsewhere")
    stays = app.database.get([app.settings.layout.fault(None, "expenses/stays")])[0]
    app.write("expenses/healed", expense("g", b=1))
    app.write("expenses/deleted", None)
    app.write("expenses/changed", {**expense("g", b=1), "groupId": "a/b"})
    app.write("expenses/elsewhere", {**expense("g", b=1), "amount": "lost"})
    app.client.document("balanceFaults/stray").set({"note": "left by a hand"})
    capsys.readouterr()
    night = nightly.run(app.database, app.keeper)
    assert night.counts["faults"] == 5
    assert night.counts["failed"] == 0
    assert groupless_faults(app) == ["expenses/changed", "expenses/stays"]
    changed = app.client.document("expenses/changed").get()
    fault = app.client.document(app.settings.layout.fault(None, "expenses/changed")).get()
    assert fault.get("since") == changed.update_time
    assert [fault.get("field") for fault in app.client.collection("groups/g/balanceFaults").get()] == ["amount"]
    assert app.database.get([stays.path])[0].update_time == stays.update_time, "what was true was written again"
    entries = logged(capsys)
    named = {entry["source"] for entry in entries if "true no longer" in entry["message"] and "source" in entry}
    assert named == {"expenses/healed", "expenses/deleted", "expenses/changed", "expenses/elsewhere"}
    assert entries[-1]["counts"]["faults"] == 5
    assert nightly.run(app.database, app.keeper).counts["faults"] == 0


def test_faults_of_no_usable_group_have_their_turn_however_many_there_are(
    app: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightly, "FAULTS_A_NIGHT", 2)
    names = [f"e{number}" for number in range(5)]
    groupless(app, *names)
    for name in names:
        app.write(f"expenses/{name}", None)
    left = []
    for _ in range(3):
        nightly.run(app.database, app.keeper)
        left.append(len(groupless_faults(app)))
    assert left == [3, 1, 0]
    groupless(app, *names)
    for name in names:
        app.write(f"expenses/{name}", None)
    nightly.run(app.database, app.keeper)
    assert len(groupless_faults(app)) == 3, "it began again"


def test_a_night_without_time_leaves_faults_and_keeps_its_place_among_them(app: Deployment) -> None:
    groupless(app, "deleted")
    app.write("expenses/deleted", None)
    app.client.document(nightly.CURSOR).set({"afterId": "g01", "afterFault": "0"})
    nightly.run(app.database, app.keeper, budget_s=0.0)
    assert app.client.document(nightly.CURSOR).get().get("afterFault") == "0"
    assert groupless_faults(app) == ["expenses/deleted"]


def test_a_fault_that_cannot_be_settled_is_logged_and_stops_nobody(
    app: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet(app, 2)
    groupless(app, "one", "other")
    for name in ("one", "other"):
        app.write(f"expenses/{name}", None)
    really = faults.settle

    def settle(*arguments: Any) -> Any:
        if arguments[3][0].source == "expenses/one":
            raise RuntimeError("out of order")
        return really(*arguments)

    monkeypatch.setattr("balance.protocol.faults.settle", settle)
    capsys.readouterr()
    night = nightly.run(app.database, app.keeper)
    assert night.counts == {"true": 2, "failed": 1, "faults": 1}
    assert groupless_faults(app) == ["expenses/one"]
    failure = next(entry for entry in logged(capsys) if entry.get("metric") == "updateFailures")
    assert failure["source"] == "expenses/one"
    assert "out of order" in failure["stack"]
