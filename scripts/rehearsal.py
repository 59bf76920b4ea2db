"""Rehearse the roll-out: an app with years of data switches to stored balances, under traffic, with everything that goes wrong.

Run it inside the runner, which provides Firestore and the functions:

    python -m scripts.serve --quiet -- python -m scripts.rehearsal [--groups N] [--gap SECONDS] [--seed N] [--json]

An app writes all the time, no group twice within the gap; clients poll the read API all the time. Meanwhile: groups with old
documents and no balances; backfill, killed and started again; verification; balances corrupted by hand and reconciled;
updates switched off, and on again. Each answer that the clients get must be the recalculation at some instant no older than
30 seconds: of all groups but those just corrupted, which answer wrongly until they are reconciled. At the end every balance
must be the recalculation.

exit codes: 0 every answer was right, 1 something was not (it says what), 2 called wrongly or outside of the runner
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud import firestore
from rich.console import Console
from rich.table import Table

from balance.core.ledger import Ledger, post
from balance.core.money import Unit
from balance.database.firestore import Firestore, Set, transaction
from balance.database.sdk import connect
from balance.documents import balances
from balance.documents.settings import Settings, from_environment
from balance.documents.sources import Kind, Transaction, parse
from balance.operations.reconcile import State
from balance.protocol.rebuild import read_history
from runner.session import CallFailed, call
from scripts.unsigned_token import unsigned_token

OLDEST = timedelta(seconds=30)
"""How old an answer may be."""

SWITCHED = ("on_expense_written", "on_settlement_written", "balance_api", "reconcile_balances")
MEMBERS = ("ana", "bo", "chidi", "dara", "elif")
CURRENCIES = ("EUR", "USD", "JPY")
POLLERS = 2

console = Console(highlight=False, soft_wrap=True)


class Failed(Exception):
    """Something was not as it must be; the message says what."""


# ------------------------------------------------------------------------------------------------------ the app's truth


@dataclass
class Timeline:
    """What one group's documents add up to, from each of its writes on."""

    since: list[datetime] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)

    def between(self, first: datetime, last: datetime) -> Iterator[tuple[Ledger, datetime | None]]:
        """The ledgers in force at some instant of an interval, the newest first, each with the end of its time."""
        until: datetime | None = None
        for since, ledger in zip(reversed(self.since), reversed(self.ledgers), strict=True):
            if since <= last and (until is None or until > first):
                yield ledger, until
            until = since
        if until is None or until > first:
            yield {}, until


class App:
    """The app: its documents, written with the official client, and what they add up to at any time."""

    def __init__(self, client: firestore.Client, groups: list[str], chance: random.Random) -> None:
        self.client = client
        self.groups = groups
        self.timelines = {group_id: Timeline() for group_id in groups}
        self.writes = 0
        self._chance = chance
        self._documents: dict[str, dict[str, dict[str, Any]]] = {group_id: {} for group_id in groups}
        self._turn = 0

    def create_old_data(self, per_group: int) -> None:
        """What is there before anybody knows of balances."""
        batch, size = self.client.batch(), 0
        written: list[tuple[str, str, dict[str, Any]]] = []
        for group_id in self.groups:
            batch.set(self.client.document(f"groups/{group_id}"), {"name": group_id, "members": list(MEMBERS)})
            for _ in range(per_group):
                path, fields = self._new(group_id)
                batch.set(self.client.document(path), fields)
                written.append((group_id, path, fields))
            size += 1 + per_group
            if size > 400:
                batch.commit()
                batch, size = self.client.batch(), 0
        batch.commit()
        for group_id, path, fields in written:
            self._documents[group_id][path] = fields
        for group_id in self.groups:
            self._note(group_id, datetime.now(UTC))

    def write(self) -> None:
        """One write to the group whose last one is longest ago."""
        group_id = self.groups[self._turn % len(self.groups)]
        self._turn += 1
        documents = self._documents[group_id]
        action = self._chance.choice("nnneedx")
        if action == "n" or not documents:
            path, fields = self._new(group_id)
            documents[path] = fields
            committed = self.client.document(path).set(fields).update_time
        else:
            path = self._chance.choice(sorted(documents))
            if action == "x":
                del documents[path]
                committed = self.client.document(path).delete()
            else:
                changed = self._new(group_id, path)[1] if action == "e" else {**documents[path], "deletedAt": datetime.now(UTC)}
                documents[path] = changed
                committed = self.client.document(path).set(changed).update_time
        self.writes += 1
        self._note(group_id, committed)

    def _note(self, group_id: str, committed: datetime) -> None:
        ledger: Ledger = {}
        for path, fields in self._documents[group_id].items():
            kind = Kind.EXPENSE if path.startswith("expenses/") else Kind.SETTLEMENT
            parsed = parse(kind, fields, Unit.MAJOR)
            assert isinstance(parsed, Transaction), f"{path} is malformed: {parsed}"
            post(ledger, parsed.postings)
        timeline = self.timelines[group_id]
        timeline.since.append(committed)
        timeline.ledgers.append(ledger)

    def _new(self, group_id: str, path: str | None = None) -> tuple[str, dict[str, Any]]:
        chance = self._chance
        currency = chance.choice(CURRENCIES)
        is_expense = path.startswith("expenses/") if path else chance.random() < 0.8
        common = {"groupId": group_id, "currency": currency, "deletedAt": None}
        name = f"{chance.getrandbits(80):020x}"
        if not is_expense:
            payer, payee = chance.sample(MEMBERS, 2)
            fields = {**common, "payerId": payer, "payeeId": payee, "amount": self._amount(currency)}
            return path or f"settlements/{name}", fields
        users = chance.sample(MEMBERS, chance.randint(1, len(MEMBERS)))
        splits = [{"uid": uid, "amount": self._amount(currency)} for uid in users]
        total = round(sum(float(split["amount"]) for split in splits), 2)
        return path or f"expenses/{name}", {**common, "paidBy": chance.choice(MEMBERS), "amount": total, "splits": splits}

    def _amount(self, currency: str) -> float | int:
        minor = self._chance.randint(1, 50_000)
        return minor if currency == "JPY" else minor / 100


# ---------------------------------------------------------------------------------------------------------- the clients


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told, and when."""

    group_id: str
    asked: datetime
    answered: datetime
    essence: Any
    phase: str


class Clients:
    """Poll the read API as members of the groups."""

    def __init__(self, url: str, project: str, groups: list[str]) -> None:
        self.answers: list[Answer] = []
        self.unavailable = 0
        self.phase = "start"
        self._url = url.rstrip("/")
        self._groups = groups
        self._headers = {"Authorization": f"Bearer {unsigned_token(MEMBERS[0], project)}"}

    def poll(self, chance: random.Random) -> None:
        """Ask once for some group."""
        group_id = chance.choice(self._groups)
        phase, asked = self.phase, datetime.now(UTC)
        try:
            essence = self.ask(group_id)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            # The local runner restarts a function to change its environment; Cloud Run would keep the old one until then.
            self.unavailable += 1
            time.sleep(0.2)
            return
        self.answers.append(Answer(group_id, asked, datetime.now(UTC), essence, phase))
        time.sleep(0.05)

    def ask(self, group_id: str) -> Any:
        """The essence of a group's balance as the API tells it."""
        request = urllib.request.Request(f"{self._url}/groups/{group_id}/balance", headers=self._headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return essence(json.loads(response.read()))


def essence(document: dict[str, Any]) -> Any:
    """What of a balance must be right: who owes whom, the nets, the suggestions; rows of zeros left out."""
    rows = {
        currency: {uid: row for uid, row in rows.items() if row["owes"] or row["owedBy"] or row["netBalance"]}
        for currency, rows in document["balancesByCurrency"].items()
    }
    return {currency: users for currency, users in rows.items() if users}, document["simplifiedDebts"]


def essence_of(ledger: Ledger) -> Any:
    """The same of a recalculation."""
    now = datetime.now(UTC)
    return essence(balances.document("", balances.Stored(balances.of_ledger(ledger), now, now), Settings()))


# -------------------------------------------------------------------------------------------------------- the rehearsal


@dataclass
class Stage:
    """All that a rehearsal has to do with."""

    given: argparse.Namespace
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
        console.print(f"{text}", style="dim" if self.given.json else None, markup=False)

    def phase(self, name: str) -> None:
        """What happens from now on; answers are counted by it."""
        self.clients.phase = name

    def script(self, name: str, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run an operator's script and return its summary."""
        command = [sys.executable, "-m", f"scripts.{name}", "--project", self.project, "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != expect:
            raise Failed(
                f"scripts.{name} {' '.join(arguments)} ended with {done.returncode}: {done.stdout[-800:]} {done.stderr}"
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
    given, app, clients = stage.given, stage.app, stage.clients
    with without_triggers(stage):
        app.create_old_data(given.old)
    stage.note(f"{given.groups} groups with {given.old} old documents each, no balances", groups=given.groups)

    errors: list[BaseException] = []
    pause_s = given.gap / given.groups

    def write() -> None:
        app.write()
        time.sleep(pause_s)

    with repeating(write, errors):
        pollers = [random.Random(f"{given.seed}-{index}") for index in range(POLLERS)]
        with repeating(lambda: clients.poll(pollers[0]), errors), repeating(lambda: clients.poll(pollers[1]), errors):
            stage.phase("before the backfill")
            time.sleep(1)
            backfill(stage)
            verify(stage)
            corrupted = corrupt_and_reconcile(stage)
            switch_off_and_on(stage)
            stage.phase("afterwards")
            time.sleep(given.gap / 4)
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
    command = [sys.executable, "-m", "scripts.backfill", "--project", stage.project, "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not stage.app.client.document(path).get().exists and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    if process.returncode == 0:
        raise Failed("the backfill was done before it could be killed: give more groups")
    summary = stage.script("backfill")
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
    summary = stage.script("verify")
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
    time.sleep(stage.given.gap / 2)
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
    summary = stage.script("verify", "--lag", "0")
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


def age_of(answer: Answer, timeline: Timeline) -> timedelta | None:
    """How long before it was given an answer was last true; None when it was not within OLDEST."""
    for ledger, until in timeline.between(answer.asked - OLDEST, answer.answered):
        if essence_of(ledger) == answer.essence:
            return max(timedelta(), answer.asked - until) if until else timedelta()
    return None


def _ms(ages: list[timedelta], share: float) -> int:
    return round(ages[min(len(ages) - 1, int(share * len(ages)))].total_seconds() * 1000)


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.rehearsal", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", metavar="N", type=int, default=300, help="how many groups (default: 300)")
    parser.add_argument("--old", metavar="N", type=int, default=8, help="documents that each group begins with (default: 8)")
    parser.add_argument(
        "--gap", metavar="SECONDS", type=float, default=30.0, help="between two writes to one group (default: 30)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of the traffic (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON in the last line")
    given = parser.parse_args(arguments)
    try:
        urls = json.loads(os.environ["FUNCTION_URLS"])
        project, admin_url = os.environ["GOOGLE_CLOUD_PROJECT"], os.environ["FIRESTORE_ADMIN_URL"]
        runner_url = os.environ["RUNNER_URL"]
    except KeyError as missing:
        print(f"rehearsal: {missing} is not set: run it inside the runner (see --help)", file=sys.stderr)
        return 2
    groups = [f"group-{index:04}" for index in range(given.groups)]
    app = App(firestore.Client(project=project), groups, random.Random(given.seed))
    clients = Clients(urls["balance_api"], project, groups)
    settings = from_environment(os.environ)
    database = connect(project, settings.database)
    stage = Stage(given, settings, project, database, app, clients, admin_url, runner_url)
    started = time.monotonic()
    try:
        rehearse(stage)
    except (Failed, CallFailed) as error:
        console.print(f"FAILED: {error}", markup=False)
        return 1
    stage.figures["seconds"] = round(time.monotonic() - started, 1)
    if given.json:
        print(json.dumps(stage.figures))
    else:
        _print(stage.figures)
    return 0


def _print(figures: dict[str, Any]) -> None:
    table = Table(title="rehearsal", title_justify="left", show_header=False)
    for name in ("groups", "writes", "answers", "unavailable", "corrupted", "writesWhileOff", "ageMs", "seconds"):
        table.add_row(name, str(figures[name]))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
