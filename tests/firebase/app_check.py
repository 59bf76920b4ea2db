"""An app's own functions in Node beside ours, in one Emulator Suite: each write reaches both. Run by `make test-firebase`."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud import firestore

from runner.session import call

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def client() -> firestore.Client:
    return firestore.Client(project=os.environ["GOOGLE_CLOUD_PROJECT"])


def fields(client: firestore.Client, path: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = client.document(path).get().to_dict()
    return found


def eventually(read: Callable[[], object], expected: object) -> None:
    end = time.monotonic() + PATIENCE_S
    while (found := read()) != expected and time.monotonic() < end:
        time.sleep(0.1)
    assert found == expected


def nets(client: firestore.Client, group: str) -> dict[str, float]:
    stored = fields(client, f"groups/{group}/metadata/balance") or {"balancesByCurrency": {}}
    return {uid: row["netBalance"] for uid, row in stored["balancesByCurrency"].get("EUR", {}).items()}


def dinner(amount: float) -> dict[str, Any]:
    splits = [{"uid": uid, "amount": amount / 2} for uid in ("ana", "bo")]
    return {"groupId": "lisbon", "paidBy": "ana", "amount": amount, "currency": "EUR", "splits": splits}


@pytest.mark.timeout(300)
def test_each_write_of_a_client_reaches_the_apps_functions_and_ours(client: firestore.Client) -> None:
    client.document("groups/lisbon").set({"members": ["ana", "bo"]})
    client.document("expenses/dinner").set(dinner(25))
    eventually(lambda: nets(client, "lisbon"), {"ana": 12.5, "bo": -12.5})
    eventually(lambda: fields(client, "feed/dinner--25"), {"amounts": [None, 25]})
    client.document("expenses/dinner").set(dinner(40))
    eventually(lambda: nets(client, "lisbon"), {"ana": 20, "bo": -20})
    eventually(lambda: fields(client, "feed/dinner-25-40"), {"amounts": [25, 40]})
    client.document("expenses/dinner").delete()
    eventually(lambda: nets(client, "lisbon"), {})
    eventually(lambda: fields(client, "feed/dinner-40-"), {"amounts": [40, None]})


@pytest.mark.timeout(300)
def test_a_function_on_a_single_document_gets_its_events(client: firestore.Client) -> None:
    client.document("settings/app").set({"theme": "dark"})
    eventually(lambda: fields(client, "settings/greeting"), {"text": "hello"})


@pytest.mark.timeout(300)
def test_an_event_that_the_app_does_not_ask_to_be_retried_is_delivered_once(client: firestore.Client) -> None:
    client.document("settings/broken").set({"at": firestore.SERVER_TIMESTAMP})
    eventually(lambda: fields(client, "settings/tried"), {"times": 1})
    admin = os.environ.get("FIRESTORE_ADMIN_URL")
    if admin is None:
        pytest.skip("another Firestore does not tell what is still to be delivered")
    call("POST", f"{admin}/drain", {"timeoutSeconds": PATIENCE_S})
    assert fields(client, "settings/tried") == {"times": 1}
