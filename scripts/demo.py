"""The demonstration behind `make demo`: a group's balances kept true by the real functions, under hostile delivery.

Run it inside the runner, which provides Firestore and the functions:

    python -m scripts.serve --chaos 7 -- python -m scripts.demo [--transactions N] [--seed N]

Exit codes: 0 when every group's balance equals a full recalculation at the end, 1 otherwise, 2 outside of the runner.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from google.cloud import firestore
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from balance.core.ledger import Ledger
from balance.core.money import to_stored
from balance.database.sdk import connect
from balance.documents import balances
from balance.documents.settings import Settings, from_environment
from balance.protocol.rebuild import read_history

MEMBERS = ("ana", "bo", "chidi", "dara", "elif", "femi", "gus", "hana")
CURRENCIES = {"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3}
GROUP, OTHER_GROUP = "lisbon", "flat-share"

console = Console(highlight=False)


class Emulator:
    """The admin side of the embedded Firestore."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def statistics(self) -> dict[str, Any]:
        """What was delivered so far."""
        return self._call("GET", "/statistics")

    def drain(self, timeout_s: float = 300) -> None:
        """Return when every event has been delivered and acknowledged."""
        self._call("POST", "/drain", {"timeoutSeconds": timeout_s})

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, method=method, data=data, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            found: dict[str, Any] = json.load(response)
            return found


class Demo:
    """One run: the database, and the story told on it."""

    def __init__(self, project: str, emulator: Emulator, seed: int) -> None:
        self.client = firestore.Client(project=project)
        self.settings: Settings = from_environment(os.environ)
        self.narrow = connect(project, self.settings.database)
        self.emulator = emulator
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
                delivery = self.emulator.statistics()["delivery"]
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
        table = Table(title="One read of the group's balance (median)")
        table.add_column("how")
        table.add_column("time", justify="right")
        table.add_row("recalculated from every expense and settlement", f"{slow_ms:.1f} ms")
        table.add_row("the balance document", f"{fast_ms:.1f} ms")
        table.add_row("ratio", f"{slow_ms / fast_ms:.0f} x")
        console.print(table)

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
            self.emulator.drain()
        stored = self.client.document(f"groups/{OTHER_GROUP}/metadata/balance").get().to_dict() or {}
        table = Table(title=what, title_justify="left")
        for column in ("currency", "user", "owes", "is owed by", "net"):
            table.add_column(column, justify="right" if column == "net" else "left")
        for currency, rows in sorted(stored.get("balancesByCurrency", {}).items()):
            for uid, row in sorted(rows.items()):
                owes, owed_by = (
                    ", ".join(f"{name} {amount}" for name, amount in sorted(row[side].items())) for side in ("owes", "owedBy")
                )
                table.add_row(currency, uid, owes, owed_by, f"{row['netBalance']}")
        console.print(table if table.row_count else f"{what}\n[dim]nobody owes anything[/dim]")
        for debt in stored.get("simplifiedDebts", []):
            amount = f"{debt['currency']} {debt['amount']}"
            console.print(f"  suggested: {debt['from']['uid']} pays {debt['to']['uid']} {amount}")
        console.print()

    def verify(self) -> list[str]:
        """Compare each group's stored balance with a full recalculation; returns the groups that differ."""
        layout = self.settings.layout
        different = []
        table = Table(title="Stored and recalculated")
        for column in ("group", "documents", "pairs", "verdict"):
            table.add_column(column)
        for group in self.client.collection("groups").list_documents():
            (snapshot,) = self.narrow.get([layout.balance(group.id)])
            history = read_history(self.narrow, self.settings, group.id, as_of=snapshot.read_time)
            recalculated: Ledger = history.ledger
            stored = balances.parse(snapshot.fields or {}, group.id, self.settings.unit).balance.ledger
            if stored != recalculated:
                different.append(group.id)
            pairs = sum(len(pairs) for pairs in recalculated.values())
            verdict = "[green]equal[/green]" if stored == recalculated else "[red]DIFFERENT[/red]"
            table.add_row(group.id, str(len(history.versions)), str(pairs), verdict)
        console.print(table)
        return different

    def tell_delivery(self) -> int:
        """Print what was delivered; returns how many events were lost."""
        delivery = self.emulator.statistics()["delivery"]
        table = Table(title="Delivery")
        for name in ("made", "delivered", "duplicates", "redeliveries", "failures", "deadLettered", "lost"):
            table.add_column(name, justify="right")
        table.add_row(*(str(delivery[column.header]) for column in table.columns))
        console.print(table)
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


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.demo",
        description="Load a lifelike group, change it live under hostile delivery, and prove its balances right.",
        epilog="exit codes: 0 all balances equal a recalculation; 1 a difference or a lost event; 2 not inside the runner. "
        "example: python -m scripts.serve --chaos 7 -- python -m scripts.demo --transactions 500",
    )
    parser.add_argument("--transactions", type=int, default=2_000, help="how many to load (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what decides the history (default %(default)s)")
    arguments = parser.parse_args()
    admin_url = os.environ.get("FIRESTORE_ADMIN_URL")
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not admin_url or not project or not os.environ.get("FIRESTORE_EMULATOR_HOST"):
        print("demo: run me inside the runner: python -m scripts.serve -- python -m scripts.demo", file=sys.stderr)
        return 2
    demo = Demo(project, Emulator(admin_url), arguments.seed)
    count = arguments.transactions
    console.rule(f"1  A group of {len(MEMBERS)} members with {count:,} transactions, under duplicated and reordered delivery")
    demo.load(count)
    console.rule("2  Reading its balance")
    demo.compare_read_times()
    console.rule("3  Live: every change reaches the balance, whatever the delivery does")
    demo.live()
    console.rule("4  The proof")
    different = demo.verify()
    lost = demo.tell_delivery()
    if different or lost:
        console.print(f"[red]FAILED[/red]: {len(different)} groups differ, {lost} events lost")
        return 1
    console.print("[green]every balance equals its full recalculation; nothing lost, nothing doubled[/green]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
