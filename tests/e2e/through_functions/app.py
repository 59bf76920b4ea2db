"""An app as the functions see it: writes its documents with the official client, and reads the balances."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import uuid4

from google.cloud import firestore

Drain = Callable[[], None]
"""Returns when every event has been delivered and acknowledged."""


class Functions(Protocol):
    """The functions under test, wherever they run."""

    client: firestore.Client
    urls: Mapping[str, str]

    def deliver(self, name: str, body: bytes, headers: Mapping[str, str]) -> int:
        """POST an event to a function as the platform does; returns the status."""

    def kill(self, name: str) -> None:
        """End a function's processes with SIGKILL, once it runs; it is started again."""

    def log_lines(self, name: str) -> list[str]:
        """What a function has printed so far."""


class App:
    """One group of an app, with documents of its own, so that tests can share a database."""

    def __init__(self, client: firestore.Client, members: tuple[str, ...] = ("A", "B", "C")) -> None:
        self.client = client
        self.group = f"group-{uuid4().hex[:12]}"
        self.members = members
        self.create_group(self.group)

    def create_group(self, group: str) -> None:
        self.client.document(f"groups/{group}").set({"members": list(self.members)})

    def new(self, collection: str) -> firestore.DocumentReference:
        """A reference that no other test uses."""
        return self.client.document(f"{collection}/{uuid4().hex}")

    def expense(
        self, paid_by: str, amount: object, currency: str, splits: Mapping[str, object], **more: object
    ) -> dict[str, Any]:
        """An expense's fields."""
        listed = [{"uid": uid, "amount": share} for uid, share in splits.items()]
        fields = {"groupId": self.group, "paidBy": paid_by, "amount": amount, "currency": currency, "splits": listed}
        return {**fields, "deletedAt": None, **more}

    def settlement(self, payer: str, payee: str, amount: object, currency: str) -> dict[str, Any]:
        """A settlement's fields."""
        fields = {"groupId": self.group, "payerId": payer, "payeeId": payee, "amount": amount, "currency": currency}
        return {**fields, "deletedAt": None}

    def balance(self, group: str | None = None) -> dict[str, Any] | None:
        """The stored document."""
        found: dict[str, Any] | None = self.client.document(f"groups/{group or self.group}/metadata/balance").get().to_dict()
        return found

    def debts(self, group: str | None = None) -> dict[str, dict[tuple[str, str], object]]:
        """What is stored: {currency: {(debtor, creditor): amount}}."""
        stored = self.balance(group)
        assert stored is not None, "the group has no balance"
        return {
            currency: {(uid, other): amount for uid, row in rows.items() for other, amount in row["owes"].items()}
            for currency, rows in stored["balancesByCurrency"].items()
        }

    def nets(self, currency: str) -> dict[str, object]:
        """The stored net balances of a currency."""
        stored = self.balance()
        assert stored is not None, "the group has no balance"
        return {uid: row["netBalance"] for uid, row in stored["balancesByCurrency"][currency].items()}

    def faults(self, group: str | None = None) -> dict[str, tuple[str, str]]:
        """The faults of a group: {source: (field, reason)}."""
        documents = self.client.collection(f"groups/{group or self.group}/balanceFaults").stream()
        return {fault.get("source"): (fault.get("field"), fault.get("reason")) for fault in documents}
