"""Attack the real functions in processes of their own, on the embedded Firestore.

Clients write expenses and settlements of every kind, malformed ones too, all the time. Events come twice, late, out of order
and with event times that are off; calls of Firestore are aborted, unavailable, slow, or fail although they took effect;
function processes are killed with SIGKILL at random moments and started again; groups are deleted and come back; an operator
rebuilds balances meanwhile.
Then the faults end, everything drains, and an independent auditor compares every balance and every fault document with the
expenses and settlements. The seed decides what is written and when processes are killed, but not how real processes
interleave.

It ends with its figures: errors by their code, injected ones and genuine ones alike; outcomes as the functions logged them,
of which those of a killed process may be lacking.

Exit codes: 0 no differences; 1 differences, or something did not work (it says what); 2 wrong usage.

Examples:
  balance chaos --seed 7 --minutes 10
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import click
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.firestore_v1 import types

from balance.database.firestore import TransientError
from balance.database.sdk import SdkFirestore, connect
from balance.documents.balances import VERSION
from balance.documents.settings import Settings
from balance.protocol.bookkeeper import Bookkeeper
from runner.session import Session, running
from scripts.command import Finite, subcommand
from tests.simulation.app import App, scene
from tests.simulation.audit import Audit
from tests.simulation.auditor import Discrepancy
from tests.simulation.profile import Profile, draw
from tests.simulation.translation import DATABASE, ROOT

PROJECT = DATABASE.split("/")[1]
WRITERS = 4
GROUP_DELETES, GROUP_RESTORES = 0.05, 0.3
"""How often a writer deletes one of its groups, or creates a deleted one again, for each of its rounds."""
DRAIN_S = 180.0
PROGRESS_EVERY_S = 10.0
FUNCTIONS = ("on_expense_written", "on_settlement_written", "on_group_created", "on_group_deleted")
_CommitPb = types.CommitRequest.pb()
_QueryPb = types.RunQueryRequest.pb()


def profile() -> Profile:
    """What each writer writes: four groups of four users."""
    drawn, _ = draw(Random(0), later=Random(0))
    return replace(
        drawn,
        groups=4,
        users=4,
        documents=40,
        nested=False,
        minor_units=False,
        small_documents=False,
        new_rules=False,
        loses_events=False,
    )


class Client:
    """An app's client: knows what it wrote last, and tries until a write succeeds."""

    def __init__(self, firestore: SdkFirestore) -> None:
        self._firestore = firestore
        self.documents: dict[str, Any] = {}
        self.writes = 0

    def post(self, writes: Sequence[Any]) -> None:
        """Commit; writing the same once more does no harm."""
        request = _CommitPb(database=self._firestore.database, writes=writes)
        while True:
            try:
                self._firestore.client.commit(
                    types.CommitRequest.wrap(request), retry=None, timeout=30.0, metadata=self._firestore.metadata
                )
                break
            except GoogleAPICallError:
                time.sleep(0.05)
        self.writes += len(writes)
        for write in writes:
            if write.delete:
                self.documents.pop(write.delete[len(ROOT) :], None)
            else:
                self.documents[write.update.name[len(ROOT) :]] = write.update


class Attack:
    """Everything that goes on at once, until `stop`."""

    def __init__(self, session: Session, firestore: SdkFirestore, seed: int, writes_per_s: float) -> None:
        self._session = session
        self._firestore = firestore
        self.seed = seed
        self._pause_s = WRITERS / writes_per_s
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._broken: list[BaseException] = []
        self.kills = 0
        self.rebuilds = 0
        self.failed_rebuilds = 0
        """After all their retries: an operator would ask again."""
        self.clients: list[Client] = []

    def start(self) -> None:
        """Begin."""
        self._session.set_chaos(
            duplicate=0.3,
            duplicateOtherId=0.4,
            reorder=0.5,
            windowMs=3_000,
            delayMaxMs=50,
            timeSkewMs=600_000,
            loseAcknowledgement=0.03,
        )
        self._session.set_faults(
            {"rpc": "Commit", "code": "ABORTED", "probability": 0.1},
            {"rpc": "Commit", "code": "DEADLINE_EXCEEDED", "probability": 0.02, "moment": "after"},
            {"rpc": "Commit", "code": "UNAVAILABLE", "probability": 0.02},
            {"rpc": "BatchGetDocuments", "code": "UNAVAILABLE", "probability": 0.02},
            {"rpc": "RunQuery", "code": "ABORTED", "probability": 0.02},
            {"rpc": "*", "probability": 0.3, "latencyMs": 20},
            {"rpc": "Commit", "probability": 0.02, "latencyMs": 1_000},
        )
        self.start_writing()
        self._go(self._kill)
        self._go(self._rebuild)

    def start_writing(self) -> None:
        """Begin with what the app's clients do, and nothing else."""
        for number in range(WRITERS):
            self._go(partial(self._write, number))

    def stop(self) -> None:
        """End the faults and all that goes on; raises what broke."""
        self._over.set()
        self._session.set_faults()
        self._session.set_chaos()
        for thread in self._threads:
            thread.join()
        if self._broken:
            raise self._broken[0]

    def _go(self, work: Callable[[], None]) -> None:
        def body() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised by stop()
                self._broken.append(error)

        self._threads.append(threading.Thread(target=body))
        self._threads[-1].start()

    def _write(self, number: int) -> None:
        random = Random(f"{self.seed} {number}")
        client, its_profile = Client(self._firestore), profile()
        self.clients.append(client)
        app = App(client, client.documents, random, its_profile, scene(random, its_profile, prefix=f"w{number}-"), None)
        app.set_up()
        while not self._over.wait(random.expovariate(1) * self._pause_s):
            for _ in range(random.choice((1, 1, 1, 5))):
                app.write()
            if random.random() < GROUP_DELETES:
                app.toggle_group()
            elif random.random() < GROUP_RESTORES:
                app.restore_group()

    def _kill(self) -> None:
        random = Random(f"{self.seed} kill")
        while not self._over.wait(1 + random.expovariate(0.3)):
            self._session.kill(random.choice(FUNCTIONS))
            self.kills += 1

    def _rebuild(self) -> None:
        """An operator rebuilds balances while events flow."""
        random = Random(f"{self.seed} rebuild")
        keeper = Bookkeeper(self._firestore, Settings(), updates_on=lambda: True)
        while not self._over.wait(random.expovariate(2)):
            group = f"w{random.randrange(WRITERS)}-g{random.randrange(profile().groups)}"
            try:
                keeper.rebuild(group, force=random.random() < 0.5)
                self.rebuilds += 1
            except TransientError:
                self.failed_rebuilds += 1


def audit(firestore: SdkFirestore) -> list[str]:
    """All differences."""
    judge = Audit(profile())
    for collection in ("groups", "expenses", "settlements", "metadata", "balanceFaults", "balanceEvents"):
        for document in documents(firestore, collection):
            judge.follow(document.name[len(ROOT) :], document)
    differences = []
    for group in judge.existing_groups():
        try:
            stored = judge.balance(group)
            if stored is None:
                raise Discrepancy(f"{group} has no balance")
            if stored.version != VERSION:
                raise Discrepancy(f"the balance of {group} is of version {stored.version}")
            judge.check(group, stored)
        except Discrepancy as difference:
            differences.append(str(difference))
    try:
        judge.check_faults(later=False, everywhere=True)
    except Discrepancy as difference:
        differences.append(str(difference))
    return differences


def documents(firestore: SdkFirestore, collection_id: str) -> Iterator[Any]:
    """All documents of all collections of this name."""
    request = _QueryPb(parent=firestore.root.rstrip("/"))
    request.structured_query.from_.add(collection_id=collection_id, all_descendants=True)
    for response in firestore.client.run_query(types.RunQueryRequest.wrap(request), metadata=firestore.metadata):
        answer = types.RunQueryResponse.pb(response)
        if answer.HasField("document"):
            yield answer.document


def outcomes(session: Session) -> Counter[str]:
    """How often the functions said which outcome."""
    found: Counter[str] = Counter()
    for function in FUNCTIONS:
        for line in session.log_lines(function):
            if line.startswith("{"):
                entry = json.loads(line)
                if "outcome" in entry or entry.get("metric") == "updateFailures":
                    found[entry.get("outcome", "raised")] += 1
    return found


def attack(session: Session, firestore: SdkFirestore, seed: int, seconds: float, writes_per_s: float) -> Attack:
    """Attack for some time, then let everything be delivered."""
    assault = Attack(session, firestore, seed, writes_per_s)
    assault.start()
    _wait(assault, session, seconds)
    assault.stop()
    session.drain(DRAIN_S)
    return assault


def judge(session: Session, firestore: SdkFirestore, assault: Attack) -> int:
    """Print what differs and the figures; returns the exit code."""
    differences = audit(firestore)
    for difference in differences:
        print(difference)
    statistics = session.statistics()
    delivery = statistics["delivery"]
    given_up = delivery["deadLettered"] + delivery["oversized"]
    print(f"seed {assault.seed}")
    _print_table(
        {
            "writes": sum(client.writes for client in assault.clients),
            "events": delivery["made"],
            "duplicates": delivery["duplicates"],
            "redeliveries": delivery["redeliveries"],
            "kills": assault.kills,
            "aborted by conflict": statistics["aborts"],
            "rebuilds by hand": assault.rebuilds,
            "rebuilds that failed": assault.failed_rebuilds,
            **statistics["errors"],
            **{f"outcome {outcome}": count for outcome, count in outcomes(session).most_common()},
            "faults at the end": sum(1 for _ in documents(firestore, "balanceFaults")),
            "events given up": given_up,
            "differences": len(differences),
        }
    )
    if not delivery["made"]:
        print("nothing was delivered: this was no attack")
    return 1 if differences or given_up or not delivery["made"] else 0


def attack_and_judge(seed: int, seconds: float, writes_per_s: float, logs: Path) -> int:
    """Run it all; returns the exit code."""
    with running(project=PROJECT, logs=logs) as session:
        os.environ["FIRESTORE_EMULATOR_HOST"] = session.firestore_host
        firestore = connect(PROJECT, "(default)")
        assert isinstance(firestore, SdkFirestore)
        return judge(session, firestore, attack(session, firestore, seed, seconds, writes_per_s))


def _wait(assault: Attack, session: Session, seconds: float) -> None:
    """Until the time is up, saying now and then on standard error how far it is."""
    started = time.monotonic()
    while (left := started + seconds - time.monotonic()) > 0:
        time.sleep(min(left, PROGRESS_EVERY_S))
        delivery = session.statistics()["delivery"]
        print(
            f"chaos: {time.monotonic() - started:.0f} of {seconds:.0f} s, {delivery['made']:,} events, "
            f"{delivery['redeliveries']:,} redeliveries, {assault.kills} kills",
            file=sys.stderr,
            flush=True,
        )


def _print_table(figures: Mapping[str, int]) -> None:
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:{width}}  {figure:>9,}")


@subcommand("chaos", __doc__)
@click.option("--seed", metavar="N", type=int, default=1, help="What is written, and when processes are killed (1).")
@click.option("--minutes", metavar="N", type=Finite(), default=1.0, help="How long it goes on (1).")
@click.option("--rate", metavar="N", type=Finite(), default=20.0, help="Writes a second (20).")
@click.option("--logs", metavar="DIR", type=Path, help="Keep what the processes say there.")
def chaos(seed: int, minutes: float, rate: float, logs: Path | None) -> int:
    if logs is not None:
        return attack_and_judge(seed, minutes * 60, rate, logs)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        return attack_and_judge(seed, minutes * 60, rate, Path(folder))
