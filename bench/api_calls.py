"""How long the read API takes: a group with a short history beside one with a long one, and a list of groups.

Run it inside the runner, which provides Firestore and the function:

    balance dev --only balance_api --quiet -- python -m bench.api_calls [--requests N] [--transactions N]

Requests go out one at a time, over one connection, in turns: what else the machine does at the time concerns all alike.
Exit codes: 0 done, 1 an answer was not what it must be, 2 outside of the runner.
"""

import argparse
import http.client
import json
import os
import statistics
import sys
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from google.cloud import firestore

from scripts.unsigned_token import unsigned_token

MEMBERS = tuple(f"user-{number:02}" for number in range(8))
CURRENCIES = ("EUR", "USD")
SHORT = 10
GROUPS = 50


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.api_calls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=500, metavar="N", help="of each kind (default: %(default)s)")
    parser.add_argument(
        "--transactions", type=int, default=10_000, metavar="N", help="in the long history (default: %(default)s)"
    )
    options = parser.parse_args()
    urls = json.loads(os.environ.get("FUNCTION_URLS", "{}"))
    if "balance_api" not in urls:
        print("run this inside the runner: python -m bench.api_calls --help", file=sys.stderr)
        return 2
    project = os.environ["GOOGLE_CLOUD_PROJECT"]
    client = firestore.Client(project=project)
    _write(client, "short", SHORT)
    _write(client, "long", options.transactions)
    for number in range(GROUPS - 2):
        _write(client, f"other-{number:02}", SHORT)
    api = _Api(urls["balance_api"], project)
    paths = {
        f"a group of {SHORT} transactions": "/groups/short/balance",
        f"a group of {options.transactions} transactions": "/groups/long/balance",
        f"the caller's {GROUPS} groups": f"/balances?pageSize={GROUPS}",
    }
    for path in (*paths.values(), *paths.values()):
        answer, _ = api.get(path)  # the first time the balances are rebuilt
    if len(answer["groups"]) != GROUPS or any(group["balance"]["source"] != "precomputed" for group in answer["groups"]):
        print(f"the list does not hold {GROUPS} stored balances", file=sys.stderr)
        return 1
    times_ms: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(options.requests):
        for name, path in paths.items():
            answer, ms = api.get(path)
            times_ms[name].append(ms)
    p95_ms = {name: statistics.quantiles(times, n=20)[-1] for name, times in times_ms.items()}
    for name, times in times_ms.items():
        print(f"{name:32} median {statistics.median(times):7.2f} ms   p95 {p95_ms[name]:7.2f} ms")
    short_ms, long_ms, _ = p95_ms.values()
    print(f"p95 of the long history / p95 of the short one: {long_ms / short_ms:.2f}")
    return 0


def _write(client: firestore.Client, group: str, transactions: int) -> None:
    batch = client.batch()
    batch.set(client.document(f"groups/{group}"), {"members": list(MEMBERS)})
    for number, fields in enumerate(_history(group, transactions)):
        batch.set(client.document(f"expenses/{group}-{number}"), fields)
        if number % 400 == 399:
            batch.commit()
            batch = client.batch()
    batch.commit()


def _history(group: str, transactions: int) -> Iterator[dict[str, Any]]:
    for number in range(transactions):
        # Every member pays for all in turn, something else each time: all pairs are there, in both currencies.
        shares = [(number * 37 + index * 11) % 97 + 1 for index in range(len(MEMBERS))]
        yield {
            "groupId": group,
            "paidBy": MEMBERS[number % len(MEMBERS)],
            "amount": sum(shares),
            "currency": CURRENCIES[number % len(CURRENCIES)],
            "splits": [{"uid": uid, "amount": share} for uid, share in zip(MEMBERS, shares, strict=True)],
            "deletedAt": None,
        }


class _Api:
    def __init__(self, url: str, project: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._base = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.netloc)
        self._headers = {"Authorization": f"Bearer {unsigned_token(MEMBERS[0], project)}"}

    def get(self, path: str) -> tuple[dict[str, Any], float]:
        """The answer, and how long it took in milliseconds."""
        started = time.perf_counter()
        self._connection.request("GET", self._base + path, headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        took_ms = (time.perf_counter() - started) * 1000
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {body.decode()}")
        return json.loads(body), took_ms


if __name__ == "__main__":
    sys.exit(main())
