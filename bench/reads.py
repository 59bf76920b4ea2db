"""Reading: the balance document beside a recalculation on read, as apps do it without us."""

import os
from collections.abc import Callable
from unittest.mock import patch

from google.cloud import firestore

from balance.documents.balances import Stored, document, of_ledger
from balance.documents.settings import Settings
from bench import workload
from bench.core import recalculate
from bench.measure import Figure, Report, at_least, at_most, medians
from tests.integration.served import Served, served

SECTION = "Reads"
COUNTS = (10, 100, 1_000, 2_000, 10_000)


def run(report: Report, *, quick: bool) -> None:
    """Add this section's figures."""
    counts = COUNTS[:3] if quick else COUNTS
    times: dict[str, dict[int, float]] = {"stored": {}, "recalculated": {}}
    with served() as server, patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}"}):
        client = server.client()
        for count in counts:
            _seed(client, count)
        for count in counts:
            taken = medians(
                {
                    "stored": lambda count=count: client.document(f"groups/g{count}/metadata/balance").get(),  # type: ignore[misc]
                    "recalculated": lambda count=count: recalculate_on_read(client, f"g{count}"),  # type: ignore[misc]
                },
                rounds=3 if quick or count > 2_000 else 7,
            )
            for name, seconds in taken.items():
                times[name][count] = seconds * 1e3
        billed = {
            "the balance document": _billed(server, lambda: client.document(f"groups/g{counts[-1]}/metadata/balance").get()),
            "recalculated on read": _billed(server, lambda: recalculate_on_read(client, f"g{counts[-1]}")),
        }
        small, large = counts[0], counts[-1]
        flat = medians(
            {
                name: lambda count=count: client.document(f"groups/g{count}/metadata/balance").get()  # type: ignore[misc]
                for name, count in (("small", small), ("large", large))
            },
            rounds=50 if quick else 200,
        )
    for count in counts:
        report.add(
            SECTION,
            Figure(f"the balance document, {count:,} transactions", times["stored"][count], "ms"),
            Figure(f"recalculated on read, {count:,} transactions", times["recalculated"][count], "ms"),
        )
    for name, reads in billed.items():
        report.add(SECTION, Figure(f"document reads billed for one look, {large:,} transactions: {name}", reads, ""))
    at = 1_000 if quick else 2_000
    target = 50 if quick else 100
    ratio = times["recalculated"][at] / times["stored"][at]
    report.add(SECTION, at_least(f"recalculated / stored, {at:,} transactions", ratio, target))
    report.add(SECTION, at_most(f"stored, {large:,} transactions / {small}", flat["large"] / flat["small"], 1.2))
    report.read_ms = times


def _billed(server: Served, look: Callable[[], object]) -> int:
    """How many document reads a look is billed as."""
    before = server.databases.statistics.document_reads
    look()
    return server.databases.statistics.document_reads - before


def _seed(client: firestore.Client, count: int) -> None:
    group = f"g{count}"
    expenses = workload.expenses(count, 8, group)
    client.document(f"groups/{group}").set({"members": workload.uids(8)})
    for start in range(0, count, 400):
        batch = client.batch()
        for number, fields in enumerate(expenses[start : start + 400]):
            batch.set(client.document(f"expenses/{group}-{start + number}"), fields)
        batch.commit()
    present = client.document(f"groups/{group}").get()
    stored = Stored(of_ledger(recalculate(expenses)), present.read_time, present.create_time)
    fields = document(group, stored, Settings())
    client.document(f"groups/{group}/metadata/balance").set({**fields, "lastUpdatedAt": firestore.SERVER_TIMESTAMP})


def recalculate_on_read(client: firestore.Client, group: str) -> dict[str, dict[str, float]]:
    """Group, expenses and settlements are read at each look, then added up."""
    client.document(f"groups/{group}").get()
    totals: dict[str, dict[str, float]] = {}
    by_group = firestore.FieldFilter("groupId", "==", group)
    for expense in client.collection("expenses").where(filter=by_group).stream():
        fields = expense.to_dict()
        nets = totals.setdefault(fields["currency"], {})
        for split in fields["splits"]:
            nets[split["uid"]] = nets.get(split["uid"], 0) - split["amount"]
            nets[fields["paidBy"]] = nets.get(fields["paidBy"], 0) + split["amount"]
    for settlement in client.collection("settlements").where(filter=by_group).stream():
        fields = settlement.to_dict()
        nets = totals.setdefault(fields["currency"], {})
        nets[fields["payerId"]] = nets.get(fields["payerId"], 0) + fields["amount"]
        nets[fields["payeeId"]] = nets.get(fields["payeeId"], 0) - fields["amount"]
    return totals
