"""Watch a group's balances being kept true by the real functions, under hostile delivery.

It runs an embedded Firestore and all functions on this machine, writes a group with a long history and then single changes,
while events come twice, late and out of order. At the end every balance is compared with a full recalculation.

Exit codes: 0 every balance equals its recalculation; 1 a difference or a lost event; 2 wrong usage.

Examples:
  balance demo
  balance demo --transactions 500 --seed 3
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import click
from google.cloud import firestore
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from balance.core.ledger import Ledger
from balance.core.money import to_stored
from balance.database.sdk import connect
from balance.documents import balances
from balance.documents.settings import Settings, from_environment
from balance.protocol.rebuild import read_history
from runner.session import call
from scripts import inside_runner
from scripts.command import POSITIVE, subcommand
from scripts.exits import Exit
from scripts.output import Cell, Names, Section, counted, stored, tables

MEMBERS = ("ana", "bo", "chidi", "dara", "elif", "femi", "gus", "hana")
CURRENCIES = {"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3}
GROUP, OTHER_GROUP = "lisbon", "flat-share"

console = Console(highlight=False)


class Demo:
    """One run: the database, and the story told on it."""

    def __init__(self, project: str, admin_url: str, seed: int) -> None:
        self.client = firestore.Client(project=project)
        self.settings: Settings = from_environment(os.environ)
        self.narrow = connect(project, self.settings.database)
        self.admin_url = admin_url
        self.random = random.Random(seed)

    def load(self, transactions: int) -> None:
        """Write a lifelike history through the official client and watch the functions follow."""
        for group in (GROUP, OTHER_GROUP):
            self.client.document(f"groups/{group}").set({"name": group, "members": list(MEMBERS)})
        documents = list(self._history(transactions))
        with _progress() as progress:
            written = progress.add_task("transactions written", total=len(documents))
            for start in range(0, len(documents), 200):
                batch = self.client.batch()
                for path, fields in documents[start : start + 200]:
                    batch.create(self.client.document(path), fields)
                batch.commit()
                progress.advance(written, len(documents[start : start + 200]))
            handled = progress.add_task("events handled", total=None)
            while True:
                delivery = self._delivery()
                progress.update(handled, completed=delivery["delivered"], total=delivery["made"] + delivery["duplicates"])
                if not delivery["pending"]:
                    break
                time.sleep(0.2)

    def _history(self, transactions: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in range(transactions):
            currency = self.random.choices(list(CURRENCIES), weights=(6, 3, 2, 1))[0]
            minor_per_unit = 10 ** CURRENCIES[currency]
            payer, payee = self.random.sample(MEMBERS, 2)
            if self.random.random() < 0.12:
                amount_minor = self.random.randint(1, 400) * minor_per_unit // 2 or 1
                yield (
                    f"settlements/past-{number}",
                    _settlement(payer, payee, to_stored(amount_minor, minor_per_unit), currency),
                )
            else:
                amount_minor = self.random.randint(5 * minor_per_unit, 180 * minor_per_unit)
                among = self.random.sample(MEMBERS, self.random.randint(2, len(MEMBERS)))
                yield f"expenses/past-{number}", _expense(payer, amount_minor, currency, among)

    def compare_read_times(self) -> None:
        """Recalculating on read beside reading the balance, run alternately."""
        recalculating, reading = [], []
        reference = self.client.document(f"groups/{GROUP}/metadata/balance")
        with console.status("timing reads"):
            for _ in range(5):
                recalculating.append(_milliseconds(self._recalculate_on_read))
                reading += [_milliseconds(reference.get) for _ in range(5)]
        slow_ms, fast_ms = statistics.median(recalculating), statistics.median(reading)
        rows: list[tuple[Cell, ...]] = [
            ("recalculated from every expense and settlement", f"{slow_ms:.1f} ms"),
            ("the balance document", f"{fast_ms:.1f} ms"),
            ("ratio", f"{slow_ms / fast_ms:.0f} x"),
        ]
        _print(Section("read", "One read of the group's balance", ("how", "median"), rows, frozenset({"median"})))

    def _recalculate_on_read(self) -> None:
        """As apps do it without us: group, expenses, settlements, then arithmetic."""
        self.client.document(f"groups/{GROUP}").get()
        totals: dict[str, dict[str, float]] = {}
        by_group = firestore.FieldFilter("groupId", "==", GROUP)
        for expense in self.client.collection("expenses").where(filter=by_group).stream():
            fields = expense.to_dict()
            nets = totals.setdefault(fields["currency"], {})
            for split in fields["splits"]:
                nets[split["uid"]] = nets.get(split["uid"], 0) - split["amount"]
                nets[fields["paidBy"]] = nets.get(fields["paidBy"], 0) + split["amount"]
        for settlement in self.client.collection("settlements").where(filter=by_group).stream():
            fields = settlement.to_dict()
            nets = totals.setdefault(fields["currency"], {})
            nets[fields["payerId"]] = nets.get(fields["payerId"], 0) + fields["amount"]
            nets[fields["payeeId"]] = nets.get(fields["payeeId"], 0) - fields["amount"]

    def live(self) -> None:
        """A week in the other group, step by step."""
        expenses, settlements = self.client.collection("expenses"), self.client.collection("settlements")
        dinner, taxi = expenses.document("live-dinner"), expenses.document("live-taxi")
        paid_back = settlements.document("live-paid-back")
        pair = ("ana", "bo")

        def create() -> None:
            dinner.set(_expense("ana", 10_000, "USD", pair, OTHER_GROUP))

        def edit() -> None:
            dinner.update(_expense("ana", 12_050, "USD", ("ana", "bo", "chidi"), OTHER_GROUP))

        def overpay() -> None:
            paid_back.set(_settlement("bo", "ana", 70, "USD", OTHER_GROUP))

        self._step("ana pays a dinner of USD 100 for herself and bo", create)
        self._step("it was USD 120.50, and chidi was there too: the expense is edited", edit)
        self._step("bo paid, not ana: the payer is changed", lambda: dinner.update({"paidBy": "bo"}))
        self._step("... and then not: changed back", lambda: dinner.update({"paidBy": "ana"}))
        self._step("bo settles with USD 70, more than is owed: the debt turns round", overpay)
        self._step("the settlement is deleted again", paid_back.delete)
        self._step(
            "a taxi of KWD 12.345, three ways", lambda: taxi.set(_expense("chidi", 12_345, "KWD", MEMBERS[:3], OTHER_GROUP))
        )
        self._step(
            "it was paid in JPY: 100, as 33, 33 and 34",
            lambda: taxi.update(_expense("chidi", 100, "JPY", MEMBERS[:3], OTHER_GROUP)),
        )
        self._step("the taxi is deleted, softly", lambda: taxi.update({"deletedAt": datetime.now(UTC)}))
        self._step("... and restored", lambda: taxi.update({"deletedAt": None}))
        self._step("the dinner belongs to another group: it moves", lambda: dinner.update({"groupId": GROUP}))
        self._step("the taxi is deleted for good", taxi.delete)

    def _step(self, what: str, change: Callable[[], object]) -> None:
        change()
        with console.status("waiting for the functions"):
            call("POST", self.admin_url + "/drain", {"timeoutSeconds": 300})
        document = self.client.document(f"groups/{OTHER_GROUP}/metadata/balance").get().to_dict() or {}
        console.print(f"[bold]{what}[/bold]")
        rows: list[tuple[Cell, ...]] = [
            (debtor, creditor, self._money(amount, currency))
            for currency, users in sorted(document.get("balancesByCurrency", {}).items())
            for debtor, row in sorted(users.items())
            for creditor, amount in sorted(row["owes"].items())
        ]
        if rows:
            _print(Section("debt", "", ("who owes", "whom", "amount"), rows, frozenset({"amount"})))
        else:
            console.print("  nobody owes anything")
        for debt in document.get("simplifiedDebts", []):
            amount = self._money(debt["amount"], debt["currency"])
            console.print(f"  suggested: {debt['from']['uid']} pays {debt['to']['uid']} {amount}")
        console.print()

    def _money(self, amount: Any, currency: str) -> str:
        return stored(amount, currency, self.settings.unit)

    def _delivery(self) -> dict[str, Any]:
        delivery: dict[str, Any] = call("GET", self.admin_url + "/statistics")["delivery"]
        return delivery

    def verify(self) -> list[str]:
        """Compare each group's stored balance with a full recalculation; returns the groups that differ."""
        layout = self.settings.layout
        different = []
        rows: list[tuple[Cell, ...]] = []
        layout = self.settings.layout
        for group in self.client.collection("groups").list_documents():
            (snapshot,) = self.narrow.get([layout.balance(group.id)])
            history = read_history(self.narrow, self.settings, group.id, as_of=snapshot.read_time)
            recalculated: Ledger = history.ledger
            is_equal = balances.parse(snapshot.fields or {}, group.id, self.settings.unit).balance.ledger == recalculated
            if not is_equal:
                different.append(group.id)
            pairs = sum(len(pairs) for pairs in recalculated.values())
            rows.append((group.id, str(len(history.versions)), str(pairs), "equal" if is_equal else "DIFFERENT"))
        _print(Section("group", "Stored and recalculated", ("group", "documents", "pairs", "verdict"), rows))
        return different

    def tell_delivery(self) -> int:
        """Print what was delivered; returns how many events were lost."""
        delivery = self._delivery()
        said = {
            "made": "events made",
            "delivered": "deliveries that a function took",
            "duplicates": "events delivered twice on purpose",
            "redeliveries": "deliveries repeated after a failure",
            "deadLettered": "given up",
            "lost": "lost",
        }
        rows: list[tuple[Cell, ...]] = [(text, f"{delivery[name]:,}") for name, text in said.items()]
        _print(Section("delivery", "Delivery", ("what", "how many"), rows, frozenset({"how many"})))
        return int(delivery["lost"]) + int(delivery["deadLettered"])


def _expense(
    payer: str, amount_minor: int, currency: str, among: tuple[str, ...] | list[str], group: str = GROUP
) -> dict[str, Any]:
    """Split as evenly as the minor units allow; the last ones bear what is left over."""
    minor_per_unit = 10 ** CURRENCIES[currency]
    share_minor, left_over_minor = divmod(amount_minor, len(among))
    shares = [share_minor + (index >= len(among) - left_over_minor) for index in range(len(among))]
    return {
        "groupId": group,
        "paidBy": payer,
        "amount": to_stored(amount_minor, minor_per_unit),
        "currency": currency,
        "splits": [{"uid": uid, "amount": to_stored(share, minor_per_unit)} for uid, share in zip(among, shares, strict=True)],
        "deletedAt": None,
    }


def _settlement(payer: str, payee: str, amount: float, currency: str, group: str = GROUP) -> dict[str, Any]:
    return {
        "groupId": group,
        "payerId": payer,
        "payeeId": payee,
        "amount": amount,
        "currency": currency,
        "deletedAt": None,
    }


def _milliseconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def _print(section: Section) -> None:
    console.print(tables([section], Names()))


@subcommand("demo", __doc__)
@click.option("--transactions", metavar="N", type=POSITIVE, default=2_000, help="How many to load (2000).")
@click.option("--seed", metavar="N", type=int, default=1, help="What decides the history (1).")
@click.option("--chaos", metavar="SEED", type=int, default=7, help="What decides how events are delivered (7).")
def demo(transactions: int, seed: int, chaos: int) -> int:
    if not inside_runner.is_inside():
        return inside_runner.run(chaos=chaos)
    shown = Demo(os.environ["GOOGLE_CLOUD_PROJECT"], os.environ["FIRESTORE_ADMIN_URL"].rstrip("/"), seed)
    console.rule(f"1  {len(MEMBERS)} members, {transactions:,} transactions; events come twice and out of order")
    shown.load(transactions)
    console.rule("2  Reading its balance")
    shown.compare_read_times()
    console.rule("3  Live: every change reaches the balance, whatever the delivery does")
    shown.live()
    console.rule("4  The proof")
    different = shown.verify()
    lost = shown.tell_delivery()
    if different or lost:
        differing = counted(len(different), "group differs", "groups differ")
        console.print(f"[red]FAILED[/red]: {differing}, {counted(lost, 'event')} lost")
        return Exit.WRONG
    console.print("[green]every balance equals its full recalculation; nothing lost, nothing doubled[/green]")
    console.print(
        "See it in a browser: run [bold]venv/bin/balance dev[/bold] and open the address that it prints as `console`."
    )
    return Exit.DONE
