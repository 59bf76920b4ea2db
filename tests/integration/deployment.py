"""An app and our side of it before an embedded server: writes whose events are delivered when a test says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.cloud import firestore

from balance.database.firestore import Directory
from balance.database.sdk import connect
from balance.documents.changes import Result
from balance.documents.settings import Settings
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.events import SourceEvent, Version, effect
from emulator.engine import Settings as EngineSettings
from tests.integration.served import AS_DEPLOYED, PROJECT, Served, served


@dataclass
class Clock:
    """The server's clock: the wall's, put forward at will."""

    ahead: timedelta = timedelta()

    def __call__(self) -> int:
        return time.time_ns() // 1_000 + round(self.ahead.total_seconds() * 1_000_000)

    def advance(self, **duration: float) -> None:
        """Let time pass."""
        self.ahead += timedelta(**duration)


@dataclass
class Deployment:
    """One database with an app's documents, and a bookkeeper for it."""

    server: Served
    clock: Clock
    database: Directory
    client: firestore.Client
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.updates_on = True
        self.keeper = Bookkeeper(self.database, self.settings, updates_on=lambda: self.updates_on)

    def group(self, group_id: str, *members: str) -> str:
        """Create a group."""
        self.client.document(f"groups/{group_id}").set({"members": list(members or "abc")})
        return group_id

    def write(self, path: str, fields: dict[str, Any] | None) -> SourceEvent:
        """Write (None: delete) a source document; the event is the caller's to deliver."""
        reference = self.client.document(path)
        was = reference.get()
        before = Version(was.to_dict() or {}, was.update_time) if was.exists else None
        after, event_time = None, None
        if fields is None:
            event_time = reference.delete()
        else:
            after = Version(fields, reference.set(fields).update_time)
        kind = self.settings.layout.kind(path)
        assert kind is not None, f"{path} is in none of the app's collections"
        return SourceEvent(event_id=uuid4().hex, time=event_time, source=path, kind=kind, before=before, after=after)

    def expense(self, group_id: str, paid_by: str = "a", currency: str = "USD", **shares: float) -> SourceEvent:
        """Write an expense of which each named user has a share."""
        return self.write(f"expenses/{uuid4().hex}", expense(group_id, paid_by, currency, **shares))

    def deliver(self, *events: SourceEvent) -> list[Result]:
        """Have events processed."""
        return [result for event in events for result in self.keeper.process(event, effect(event, self.settings))]

    def balance(self, group_id: str) -> dict[str, Any]:
        """The stored document."""
        found: dict[str, Any] | None = self.client.document(f"groups/{group_id}/metadata/balance").get().to_dict()
        assert found is not None, f"{group_id} has no balance"
        return found

    def set_balance(self, group_id: str, fields: dict[str, Any]) -> None:
        """Overwrite the stored document, as a hand would."""
        self.client.document(f"groups/{group_id}/metadata/balance").set(fields)


def expense(group_id: str, paid_by: str = "a", currency: str = "USD", **shares: float) -> dict[str, Any]:
    """An expense's fields."""
    splits = [{"uid": uid, "amount": amount} for uid, amount in shares.items()]
    total = sum(shares.values())
    return {
        "groupId": group_id, "paidBy": paid_by, "amount": total, "currency": currency, "splits": splits, "deletedAt": None
    }  # fmt: skip


@contextmanager
def deployment(monkeypatch: pytest.MonkeyPatch, engine: EngineSettings = AS_DEPLOYED) -> Iterator[Deployment]:
    """A deployment with an empty database of its own; scripts run in this process find it."""
    clock = Clock()
    with served(engine, clock) as server:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{server.port}")
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        yield Deployment(server, clock, connect(PROJECT, "(default)"), server.client())
