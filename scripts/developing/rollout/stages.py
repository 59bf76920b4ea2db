"""The stages of the rehearsal: old data, backfill, verification, corruption, switches, the end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from balance.database.firestore import Firestore, Set, transaction
from balance.documents.settings import Settings
from balance.operations.reconcile import State
from balance.protocol.rebuild import read_history
from runner.session import call
from scripts.developing.rollout.traffic import App
from scripts.developing.rollout.verdicts import OLDEST, Clients, age_of, essence, essence_of
from scripts.source import ROOT

SWITCHED = (
    "on_expense_written",
    "on_settlement_written",
    "on_group_created",
    "on_group_deleted",
    "balance_api",
    "reconcile_balances",
)
POLLERS = 2

console = Console(highlight=False, soft_wrap=True)


class Failed(Exception):
    """Something was not as it must be; the message says what."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to rehearse with."""

    groups: int
    old: int
    """Documents that each group begins with."""
    gap: float
    """Seconds between two writes to one group."""
    seed: int
    as_json: bool


@dataclass
class Stage:
    """All that a rehearsal has to do with."""

    plan: Plan
    settings: Settings
    project: str
    database: Firestore
    app: App
    clients: Clients
    admin_url: str
    runner_url: str
    figures: dict[str, Any] = field(default_factory=dict)

    def note(self, text: str, **figures: Any) -> None:
        """Tell what was done, and keep its figures."""
        self.figures.update(figures)
        console.print(f"{text}", style="dim" if self.plan.as_json else None, markup=False)

    def phase(self, name: str) -> None:
        """What happens from now on; answers are counted by it."""
        self.clients.phase = name

    def command(self, name: str, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run an operator's command and return its summary."""
        command = [sys.executable, "-m", "scripts", name, "--project", self.project, "--json", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != expect:
            raise Failed(
                f"balance {name} {' '.join(arguments)} ended with {done.returncode}: {done.stdout[-800:]} {done.stderr}"
            )
        summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return summary

    def switch(self, **environment: str | None) -> None:
        """Change variables of the running functions, as `gcloud run services update` does."""
        with ThreadPoolExecutor(len(SWITCHED)) as pool:
            list(pool.map(lambda name: call("PUT", f"{self.runner_url}/functions/{name}/environment", environment), SWITCHED))

    def reconcile(self) -> dict[str, int]:
        """Run the nightly function now."""
        answer = call("POST", f"{self.runner_url}/schedules/reconcile_balances/run")
        counts: dict[str, int] = json.loads(answer["body"])
        return counts

    def balance_path(self, group_id: str) -> str:
        """Where a group's balance is stored."""
        return self.settings.layout.balance(group_id)


@contextmanager
def repeating(action: Callable[[], None], errors: list[BaseException]) -> Iterator[None]:
    """Do something over and over in a thread, until the block ends."""
    ended = threading.Event()

    def loop() -> None:
        try:
            while not ended.is_set():
                action()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            errors.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def rehearse(stage: Stage) -> None:
    """All of it. Raises Failed."""
    plan, app, clients = stage.plan, stage.app, stage.clients
    with without_triggers(stage):
        app.create_old_data(plan.old)
    stage.note(f"{plan.groups} groups with {plan.old} old documents each, no balances", groups=plan.groups)

    errors: list[BaseException] = []
    pause_s = plan.gap / plan.groups

    def write() -> None:
        app.write()
        time.sleep(pause_s)

    with repeating(write, errors):
        pollers = [random.Random(f"{plan.seed}-{index}") for index in range(POLLERS)]
        with repeating(lambda: clients.poll(pollers[0]), errors), repeating(lambda: clients.poll(pollers[1]), errors):
            stage.phase("before the backfill")
            time.sleep(1)
            backfill(stage)
            verify(stage)
            corrupted = corrupt_and_reconcile(stage)
            switch_off_and_on(stage)
            stage.phase("afterwards")
            time.sleep(plan.gap / 4)
    if errors:
        raise Failed(f"the traffic broke: {errors[0]!r}") from errors[0]
    finish(stage)
    judge(stage, corrupted)


@contextmanager
def without_triggers(stage: Stage) -> Iterator[None]:
    """For what is written before the functions are deployed."""
    triggers = call("GET", stage.admin_url + "/triggers")["triggers"]
    call("DELETE", stage.admin_url + "/triggers")
    try:
        yield
    finally:
        for trigger in triggers:
            call("POST", stage.admin_url + "/triggers", {name: value for name, value in trigger.items() if name != "pending"})


def backfill(stage: Stage) -> None:
    """Kill it when a third is done, and start it again."""
    stage.phase("backfill")
    # Readers and events have made some by now.
    missing = [
        group_id for group_id in stage.app.groups if not stage.app.client.document(stage.balance_path(group_id)).get().exists
    ]
    if not missing:
        raise Failed("there is nothing left to fill: give more groups")
    path = stage.balance_path(missing[len(missing) // 3])
    command = [sys.executable, "-m", "scripts", "backfill", "--project", stage.project, "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not stage.app.client.document(path).get().exists and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    if process.returncode == 0:
        raise Failed("the backfill was done before it could be killed: give more groups")
    summary = stage.command("backfill")
    done = summary["skipped"] + summary["rebuilt"]
    if done != len(stage.app.groups):
        raise Failed(f"the backfill did {done} groups of {len(stage.app.groups)}: {summary}")
    stage.note(
        f"backfill, killed and started again: {summary['skipped']} found done, {summary['rebuilt']} rebuilt,"
        f" {summary['groupsPerSecond']} groups/s in all, beside the traffic",
        backfill=summary,
    )


def verify(stage: Stage) -> None:
    """Nothing may differ, traffic or not."""
    stage.phase("verification")
    summary = stage.command("verify")
    if summary["states"] != {State.TRUE: len(stage.app.groups)}:
        raise Failed(f"the verification found {summary['states']}")
    stage.note(f"verification: {summary['groups']} groups true in {summary['seconds']} s", verify=summary)


def corrupt_and_reconcile(stage: Stage) -> dict[str, tuple[datetime, datetime]]:
    """Bend every tenth balance so that all still adds up; returns the bent groups, each with its time of being wrong."""
    stage.phase("corruption")
    bent = {}
    for group_id in stage.app.groups[::10]:
        if bend(stage, group_id):
            bent[group_id] = datetime.now(UTC)
    time.sleep(1)
    counts = stage.reconcile()
    if counts.get("drift") != len(bent) or counts.get("failed"):
        raise Failed(f"{len(bent)} balances were corrupted, and the reconciliation found {counts}")
    after = datetime.now(UTC)
    stage.note(f"{len(bent)} balances corrupted by hand, and reconciled: {counts}", corrupted=len(bent), reconciled=counts)
    return {group_id: (since - OLDEST, after) for group_id, since in bent.items()}


def bend(stage: Stage, group_id: str) -> bool:
    """Shift a debt around in a circle of three: no net changes, everything mirrored. False if there is no such three."""
    with transaction(stage.database) as attempt:
        (stored,) = attempt.get([stage.balance_path(group_id)])
        fields: dict[str, Any] = dict(stored.fields or {})
        for rows in fields["balancesByCurrency"].values():
            three = sorted(rows)[:3]
            if len(three) == 3:
                for debtor, creditor in zip(three, three[1:] + three[:1], strict=True):
                    _shift(rows, debtor, creditor)
                attempt.commit([Set(stored.path, fields)])
                return True
    return False


def _shift(rows: dict[str, Any], debtor: str, creditor: str) -> None:
    owed = rows[debtor]["owes"].pop(creditor, 0) - rows[debtor]["owedBy"].pop(creditor, 0) + 7
    rows[creditor]["owedBy"].pop(debtor, None)
    rows[creditor]["owes"].pop(debtor, None)
    if owed:
        one, other = (debtor, creditor) if owed > 0 else (creditor, debtor)
        rows[one]["owes"][other] = rows[other]["owedBy"][one] = round(abs(owed), 2)


def switch_off_and_on(stage: Stage) -> None:
    """While updates are off balances go stale and are not served; afterwards they heal."""
    stage.phase("updates off")
    stage.switch(BALANCE_UPDATES="off")
    writes = stage.app.writes
    time.sleep(stage.plan.gap / 2)
    if stage.reconcile():
        raise Failed("the reconciliation did something while updates were off")
    missed = stage.app.writes - writes
    stage.switch(BALANCE_UPDATES="on")
    stage.phase("updates on again")
    counts = stage.reconcile()
    stage.note(
        f"updates off for {missed} writes, on again, and reconciled: {counts}", writesWhileOff=missed, reconciledAfter=counts
    )


def finish(stage: Stage) -> None:
    """When all events are delivered, everything agrees: documents, balances, the API."""
    call("POST", stage.admin_url + "/drain", {"timeoutSeconds": 120})
    narrow = stage.database
    wrong = []
    for group_id in stage.app.groups:
        (group,) = narrow.get([stage.settings.layout.group(group_id)])
        ledger = read_history(narrow, stage.settings, group_id, group.read_time).ledger
        stored = stage.app.client.document(stage.balance_path(group_id)).get().to_dict()
        truth = stage.app.timelines[group_id].ledgers[-1]
        if not (ledger == truth and stored and essence(stored) == essence_of(truth) == stage.clients.ask(group_id)):
            wrong.append(group_id)
    if wrong:
        raise Failed(f"at the end {len(wrong)} groups are wrong, such as {wrong[0]}")
    summary = stage.command("verify", "--lag", "0")
    stage.note(
        f"at the end: {summary['groups']} of {summary['groups']} balances, stored and read, are the recalculation", end=summary
    )


def judge(stage: Stage, corrupted: dict[str, tuple[datetime, datetime]]) -> None:
    """Each answer must be the recalculation at some instant no older than OLDEST."""
    ages: list[timedelta] = []
    excused = 0
    for answer in stage.clients.answers:
        age = age_of(answer, stage.app.timelines[answer.group_id])
        if age is not None:
            ages.append(age)
            continue
        since, until = corrupted.get(answer.group_id, (answer.answered, answer.asked))
        if not since <= answer.asked <= until:
            raise Failed(f"{answer.phase}: group {answer.group_id} was answered wrongly at {answer.answered}: {answer.essence}")
        excused += 1
    ages.sort()
    if not ages:
        raise Failed("the clients got no answers")
    stage.note(
        f"{len(ages)} answers, each the recalculation at some instant of the last {OLDEST.seconds} s;"
        f" age p50 {_ms(ages, 0.5)} ms, p95 {_ms(ages, 0.95)} ms, oldest {_ms(ages, 1)} ms;"
        f" {excused} more told of the corruption before it was reconciled",
        answers=len(ages),
        answersWhileCorrupt=excused,
        unavailable=stage.clients.unavailable,
        writes=stage.app.writes,
        ageMs={"p50": _ms(ages, 0.5), "p95": _ms(ages, 0.95), "max": _ms(ages, 1)},
    )


def _ms(ages: list[timedelta], share: float) -> int:
    return round(ages[min(len(ages) - 1, int(share * len(ages)))].total_seconds() * 1000)
