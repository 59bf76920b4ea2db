"""Writes a household as its app would, and compares its balance with what it should be.

Run it inside the runner; the README beside it says how. Exit codes: 0 the balance is right, 1 it is not.
"""

import json
import os
import subprocess
import sys
import urllib.request
from typing import Any

from google.cloud import firestore

EXPECTED = {
    "EUR": {"mia": 2_500, "noor": -2_500},
    "JPY": {"mia": -700, "noor": 350, "olu": 350},
}
EXPECTED_LATER = {
    "EUR": {"mia": 3_000, "noor": -5_000, "olu": 2_000},
    "JPY": {"mia": -700, "noor": 350, "olu": 350},
}
"""After a refund for the lamp, and a dinner that two have paid."""


def main() -> int:
    client = firestore.Client(project=os.environ["GOOGLE_CLOUD_PROJECT"])
    household = client.document("households/elm-street")
    household.set({"people": {"mia": {"since": 2021}, "noor": {"since": 2021}, "olu": {"since": 2024}}})
    costs, transfers = household.collection("costs"), household.collection("transfers")
    costs.document("rent").set(cost("mia", 90_000, "EUR", {"mia": 30_000, "noor": 30_000, "olu": 30_000}))
    costs.document("lamp").set(cost("noor", 5_000, "EUR", {"mia": 2_500, "noor": 2_500}))
    costs.document("sofa").set({**cost("olu", 70_000, "EUR", {"mia": 70_000}), "removedAt": firestore.SERVER_TIMESTAMP})
    costs.document("sushi").set(cost("noor", 1_050, "JPY", {"mia": 350, "noor": 350, "olu": 350}))
    costs.document("tea").set(cost("olu", 700, "JPY", {"mia": 350, "olu": 350, "noor": 0}))
    costs.document("tea").update({"shares": {"mia": 350, "noor": 350, "olu": 0}})
    costs.document("coins").set(cost("olu", 0.5, "JPY", "everybody"))
    transfers.document("noor-pays").set({"from": "noor", "to": "mia", "cents": 25_000, "currencyCode": "EUR"})
    transfers.document("olu-pays").set({"from": "olu", "to": "mia", "cents": 30_000, "currencyCode": "EUR"})
    nets = nets_once_settled(household)
    costs.document("lamp-refund").set(cost("noor", -1_000, "EUR", {"mia": -500, "noor": -500}))
    dinner = cost("", 6_000, "EUR", {"mia": 2_000, "noor": 2_000, "olu": 2_000})
    del dinner["payer"]
    costs.document("dinner").set({**dinner, "payers": {"mia": 2_000, "olu": 4_000}})
    later = nets_once_settled(household)
    faults = {fault.get("source"): fault.get("field") for fault in household.collection("balanceFaults").stream()}
    listed = nets_of_a_member("mia")
    print("nets:", json.dumps(nets), "then", json.dumps(later), "faults:", json.dumps(faults), "listed:", json.dumps(listed))
    is_right = nets == EXPECTED and later == EXPECTED_LATER
    is_right = is_right and listed == {"elm-street": {"EUR": 3_000, "JPY": -700}}
    return 0 if is_right and faults == {"households/elm-street/costs/coins": "splits"} else 1


def nets_once_settled(household: Any) -> dict[str, dict[str, int]]:
    """What the balance says once every event has been handled."""
    drain()
    stored = household.collection("metadata").document("balance").get().to_dict() or {}
    return {
        currency: {uid: row["netBalance"] for uid, row in rows.items() if row["netBalance"]}
        for currency, rows in stored.get("balancesByCurrency", {}).items()
    }


def nets_of_a_member(uid: str) -> dict[str, dict[str, int]]:
    """By household, as the read API's list tells them."""
    token = subprocess.run(["balance", "token", uid], capture_output=True, text=True, check=True).stdout.strip()
    url = json.loads(os.environ["FUNCTION_URLS"])["balance_api"] + "/balances"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})) as answer:
        return {group["groupId"]: group["netByCurrency"] for group in json.loads(answer.read())["groups"]}


def cost(payer: str, cents: float, currency: str, shares: object) -> dict[str, Any]:
    return {"payer": payer, "cents": cents, "currencyCode": currency, "shares": shares}


def drain() -> None:
    """Wait until every event has been handled."""
    request = urllib.request.Request(
        os.environ["FIRESTORE_ADMIN_URL"] + "/drain", data=b"{}", headers={"content-type": "application/json"}
    )
    urllib.request.urlopen(request).close()


if __name__ == "__main__":
    sys.exit(main())
