"""A bad day of the platform, on the real functions in processes of their own, while clients write all the time.

In turn: the functions' connections to Firestore go silent; the server of Google's keys hangs; functions are replaced amid a
burst (SIGTERM); events come in another envelope; deliveries come late. After each the time is taken until a write that was
made at that moment is in its balance, or until the read API answers.
Then all of it ends, everything is delivered, and an independent auditor compares every balance with the documents.

Exit codes: 0 nothing is lost, nothing differs; 1 something does, or did not recover (it says what); 2 wrong usage.

Examples:
  balance soak --minutes 5
"""

from __future__ import annotations

import base64
import json
import math
import os
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import click

from balance.database.firestore import Set, transaction
from balance.database.sdk import SdkFirestore, connect
from runner.session import Session, running
from scripts.command import Finite, subcommand
from scripts.developing.attack import DRAIN_S, FUNCTIONS, PROJECT, Attack, audit
from scripts.unsigned_token import unsigned_token
from tests.cloud_events import body, headers
from tests.integration.silent_proxy import SilentProxy, silent_proxy

GROUP = "soak"
GIVE_UP_S = 120.0
"""What is not over by then has not recovered."""

PAUSE_S = 2.0


class Lost(Exception):
    """Something did not recover."""


class Probe:
    """Writes to a group of its own, and waits until they are in its balance."""

    def __init__(self, firestore: SdkFirestore) -> None:
        self._firestore = firestore
        self._cents = 0
        self._put(f"groups/{GROUP}", {"members": ["ana", "bo"]})

    def write(self) -> tuple[str, dict[str, Any], Any]:
        """One expense more: its path, its fields and when it was committed."""
        path = f"expenses/{uuid4().hex}"
        splits = [{"uid": "bo", "amount": 0.01}]
        fields = {"groupId": GROUP, "paidBy": "ana", "amount": 0.01, "currency": "USD", "splits": splits, "deletedAt": None}
        self._cents += 1
        return path, fields, self._put(path, fields)

    def arrived(self) -> bool:
        """Whether all writes are in the balance."""
        (stored,) = self._firestore.get([f"groups/{GROUP}/metadata/balance"])
        rows = ((stored.fields or {}).get("balancesByCurrency") or {}).get("USD") or {}
        return bool(rows) and round(rows["ana"]["netBalance"] * 100) == self._cents

    def _put(self, path: str, fields: dict[str, Any]) -> Any:
        with transaction(self._firestore) as attempt:
            attempt.get([path])
            return attempt.commit([Set(path, fields)])


class BadDay:
    """The kinds of faults, each a method that returns once everything works again."""

    def __init__(self, session: Session, proxy: SilentProxy, probe: Probe) -> None:
        self._session, self._proxy, self._probe = session, proxy, probe
        self._revision = 0
        self._began_s = 0.0
        self.kinds: Mapping[str, Callable[[], None]] = {
            "connections go silent": self.silence,
            "functions are replaced": self.replace,
            "another envelope": self.envelope,
            "deliveries come late": self.lateness,
            "the key server hangs": self.keys,
        }

    def endure(self, kind: str) -> float:
        """Let one kind of fault happen; returns how many seconds it took to recover. Raises Lost, OSError."""
        self._began_s = time.monotonic()
        self.kinds[kind]()
        return time.monotonic() - self._began_s

    def silence(self) -> None:
        """All living connections of the functions swallow what passes; new ones work."""
        self._probe.write()
        _until(self._probe.arrived)
        before = self._proxy.accepted
        self._began_s = time.monotonic()
        self._proxy.silence()
        self._probe.write()
        _until(self._probe.arrived)
        if self._proxy.accepted == before:
            raise Lost("no connection went silent: this was no test")

    def replace(self) -> None:
        """New revisions while events are under way."""
        self._revision += 1
        for _ in range(10):
            self._probe.write()
        for function in FUNCTIONS:
            self._session.deploy(function, {"K_REVISION": f"soak-{self._revision}"})
        _until(self._probe.arrived)

    def envelope(self) -> None:
        """An event as Pub/Sub pushes it. Firestore's own comes some seconds later, to be a duplicate."""
        self._session.set_chaos(delayMaxMs=10_000)
        path, fields, written = self._probe.write()
        data = base64.b64encode(body(path, after=fields, after_time=written)).decode()
        attributes = headers(path, event_id=uuid4().hex, time=written.isoformat())
        message = {"data": data, "attributes": attributes, "messageId": "1"}
        pushed = json.dumps({"message": message, "subscription": f"projects/{PROJECT}/subscriptions/s"}).encode()
        request = urllib.request.Request(
            self._session.function_urls["on_expense_written"], pushed, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=GIVE_UP_S):
            pass
        _until(self._probe.arrived)
        self._session.set_chaos()

    def lateness(self) -> None:
        """The queue hands events over up to five seconds late, twice and out of order."""
        self._session.set_chaos(delayMaxMs=5_000, duplicate=0.5, reorder=0.5, windowMs=3_000, loseAcknowledgement=0.2)
        for _ in range(10):
            self._probe.write()
        _until(self._probe.arrived)
        self._session.set_chaos()

    def keys(self) -> None:
        """Whoever asks for Google's keys gets no answer: the read API must say so by itself, and work again afterwards."""
        with hanging_server() as port:
            proxy = f"http://127.0.0.1:{port}"
            self._session.deploy("balance_api", {"FIREBASE_AUTH_EMULATOR_HOST": None, "HTTPS_PROXY": proxy})
            began_s = time.monotonic()
            status = self._read(_signed_token())
            took_s = time.monotonic() - began_s
            if status != 503 or took_s > 10:
                raise Lost(f"the read API answered {status} after {took_s:.1f} s while the key server hung")
        self._session.deploy("balance_api", {"FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9", "HTTPS_PROXY": None})
        _until(lambda: self._read(unsigned_token("ana", PROJECT)) == 200)

    def _read(self, token: str) -> int:
        url = f"{self._session.function_urls['balance_api'].rstrip('/')}/groups/{GROUP}/balance"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=GIVE_UP_S) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code


@contextmanager
def hanging_server() -> Iterator[int]:
    """A port at which connections are taken and never answered."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=128)) as server:
        yield server.getsockname()[1]


def _signed_token() -> str:
    """A token that looks as if Google had signed it."""
    now = int(time.time())
    claims = {"aud": PROJECT, "iss": f"https://securetoken.google.com/{PROJECT}", "sub": "ana", "iat": now, "exp": now + 3600}
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "kid": "k1", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in [*parts, b"signature"])


def _until(is_over: Callable[[], bool]) -> None:
    end_s = time.monotonic() + GIVE_UP_S
    while not is_over():
        if time.monotonic() > end_s:
            raise Lost(f"not over after {GIVE_UP_S:g} s")
        time.sleep(0.1)


def run(seconds: float, rate: float, logs: Path) -> int:
    """Run it all; returns the exit code."""
    with running(project=PROJECT, logs=logs) as session:
        os.environ["FIRESTORE_EMULATOR_HOST"] = session.firestore_host
        firestore = connect(PROJECT, "(default)")
        assert isinstance(firestore, SdkFirestore), "connect() makes no other"
        port = urlsplit(f"//{session.firestore_host}").port
        assert port is not None, "it is host:port"
        with silent_proxy(port) as proxy:
            for function in (*FUNCTIONS, "balance_api"):
                session.deploy(function, {"FIRESTORE_EMULATOR_HOST": proxy.host})
            clients = Attack(session, firestore, 1, rate)
            clients.start_writing()
            try:
                longest, failures = _endure(BadDay(session, proxy, Probe(firestore)), seconds)
            finally:
                clients.stop()
            session.drain(DRAIN_S)
            differences = audit(firestore)
            delivery = session.statistics()["delivery"]
    lost = delivery["deadLettered"] + delivery["oversized"]
    for line in (*failures, *differences):
        print(line)
    print(f"{'longest time to recover':32}seconds")
    for kind, longest_s in longest.items():
        print(f"{kind:32}{longest_s:7.1f}")
    print(f"{delivery['made']:,} events, {lost} lost, {len(differences)} differences")
    return 1 if failures or differences or lost or not delivery["made"] else 0


def _endure(day: BadDay, seconds: float) -> tuple[dict[str, float], list[str]]:
    """One kind of fault after the other, each at least once: the longest time that each took, and what did not recover."""
    longest: dict[str, float] = {}
    failures: list[str] = []
    end_s = time.monotonic() + seconds
    while True:
        for kind in day.kinds:
            if time.monotonic() > end_s and len(longest) == len(day.kinds):
                return longest, failures
            took_s = math.inf
            try:
                took_s = day.endure(kind)
            except (Lost, OSError) as error:
                failures.append(f"{kind}: {error}")
            longest[kind] = max(longest.get(kind, 0.0), took_s)
            print(f"soak: {kind}: {took_s:.1f} s", file=sys.stderr, flush=True)
            time.sleep(PAUSE_S)


@subcommand("soak", __doc__)
@click.option("--minutes", metavar="N", type=Finite(), default=5.0, help="How long it goes on (5).")
@click.option("--rate", metavar="N", type=Finite(), default=10.0, help="Writes of the clients a second (10).")
@click.option("--logs", metavar="DIR", type=Path, help="Keep what the processes say there.")
def soak(minutes: float, rate: float, logs: Path | None) -> int:
    if logs is not None:
        return run(minutes * 60, rate, logs)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return run(minutes * 60, rate, Path(folder))
