"""The read API in the test's process, before an embedded server, and tokens as the Auth emulator makes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import functions_framework
from flask.testing import FlaskClient
from google.cloud import firestore

from balance.core.ledger import Ledger
from balance.database.sdk import connect
from balance.documents.settings import from_environment
from balance.functions import instance
from balance.protocol.rebuild import read_history
from scripts.unsigned_token import unsigned_token
from tests.integration.served import PROJECT, Served

MAIN = Path(__file__).parents[2] / "main.py"


@dataclass
class ReadApi:
    """Calls of the API, the database behind it, and what it logged."""

    client: FlaskClient
    database: firestore.Client
    environment: dict[str, str]
    server: Served
    logged: list[dict[str, Any]] = field(default_factory=list)

    def get(self, path: str, uid: str | None = "ana", method: str = "GET", **headers: str) -> Any:
        """Werkzeug's TestResponse to a call as a user, or without a token when there is none."""
        if uid is not None:
            headers = {"Authorization": f"Bearer {unsigned_token(uid, PROJECT)}", **headers}
        return self.client.open(path, method=method, headers=headers)

    def balance(self, group: str, uid: str = "ana") -> dict[str, Any]:
        """The balance of a group, which must be answered."""
        response = self.get(f"/groups/{quote(group, safe='')}/balance", uid)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json
        return found

    def group(self, group: str, *members: str) -> str:
        """Write a group."""
        self.database.document(f"groups/{group}").set({"name": "G", "members": list(members)})
        return group

    def expense(self, group: str, paid_by: str, shares: Mapping[str, float], currency: str = "USD", name: str = "") -> str:
        """Write an expense and return its path."""
        splits = [{"uid": uid, "amount": share} for uid, share in shares.items()]
        fields = {"groupId": group, "paidBy": paid_by, "amount": sum(shares.values()), "currency": currency, "splits": splits}
        reference = self.database.collection("expenses").document(name or None)
        reference.set({**fields, "deletedAt": None})
        return str(reference.path)

    def settlement(self, group: str, payer: str, payee: str, amount: float, currency: str = "USD") -> str:
        """Write a settlement and return its path."""
        fields = {"groupId": group, "payerId": payer, "payeeId": payee, "amount": amount, "currency": currency}
        reference = self.database.collection("settlements").document()
        reference.set(fields)
        return str(reference.path)

    def stored(self, group: str) -> dict[str, Any] | None:
        """The balance document."""
        found: dict[str, Any] | None = self.database.document(f"groups/{group}/metadata/balance").get().to_dict()
        return found

    def rebuild(self, group: str) -> None:
        """Store the group's balance."""
        instance.bookkeeper().rebuild(group)

    def history(self, group: str) -> Ledger:
        """What the group's documents add up to now."""
        narrow = connect(PROJECT, "(default)")
        (found,) = narrow.get([f"groups/{group}"])
        return read_history(narrow, from_environment(self.environment), group, found.read_time).ledger

    def counters(self) -> list[str]:
        """The metrics logged so far."""
        return [entry["metric"] for entry in self.logged if "metric" in entry]

    def rpcs(self) -> dict[str, int]:
        """The RPCs that the server has answered since `forget`."""
        return self.server.within(lambda: dict(self.server.databases.statistics.rpcs))

    def forget(self) -> None:
        """Start counting RPCs and log entries anew."""
        self.server.within(self.server.databases.statistics.reset)
        self.logged.clear()


@contextmanager
def read_api(server: Served, monkeypatch: Any, **settings: str) -> Iterator[ReadApi]:
    """The function as functions_framework serves it, with these settings."""
    environment = {
        "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}",
        "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9",  # only its presence counts: tokens are then taken unsigned
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        **settings,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(instance, "_firestore", None)
    monkeypatch.setattr(instance, "_bookkeeper", None)
    app = functions_framework.create_app(target="balance_api", source=str(MAIN))
    yield ReadApi(app.test_client(), server.client(), environment, server)
