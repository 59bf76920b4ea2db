"""Baseline: the obvious trigger. One `@firestore.transactional` per event, gross pairs, no group commit."""

import functions_framework
from cloudevents.http import CloudEvent
from google.cloud import firestore
from google.cloud.firestore_v1 import _helpers
from google.cloud.firestore_v1.types import Document
from google.events.cloud.firestore_v1 import DocumentEventData

client = firestore.Client()


@functions_framework.cloud_event
def on_expense_written(event: CloudEvent) -> None:
    """Add the expense's shares to the balance, once per event id."""
    data = DocumentEventData.pb().FromString(event.data)
    expense = _helpers.decode_dict(Document.pb().FromString(data.value.SerializeToString()).fields, client)
    group = client.document(f"groups/{expense['groupId']}")
    balance = group.collection("metadata").document("balance")
    record = group.collection("balanceEvents").document(event["id"])

    @firestore.transactional
    def add(transaction: firestore.Transaction) -> None:
        if record.get(transaction=transaction).exists:
            return
        stored = balance.get(transaction=transaction).to_dict() or {}
        currencies = stored.get("balancesByCurrency", {})
        rows = currencies.setdefault(expense["currency"], {})
        payer = expense["paidBy"]
        for split in expense["splits"]:
            uid, amount = split["uid"], split["amount"]
            if uid == payer:
                continue
            for each in (uid, payer):
                rows.setdefault(each, {"uid": each, "owes": {}, "owedBy": {}, "netBalance": 0})
            rows[uid]["owes"][payer] = rows[uid]["owes"].get(payer, 0) + amount
            rows[payer]["owedBy"][uid] = rows[payer]["owedBy"].get(uid, 0) + amount
        for row in rows.values():
            row["netBalance"] = round(sum(row["owedBy"].values()) - sum(row["owes"].values()), 2)
        transaction.set(balance, {"balancesByCurrency": currencies, "lastUpdatedAt": firestore.SERVER_TIMESTAMP})
        transaction.create(record, {"appliedAt": firestore.SERVER_TIMESTAMP})

    add(client.transaction())
