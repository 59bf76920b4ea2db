"""With FIRESTORE_EMULATOR_HOST set, the tests that can do with any Firestore run against that one; the others are skipped."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from google.cloud import firestore

from balance.database.firestore import Directory
from balance.database.sdk import connect
from tests.integration.served import PROJECT, served

# As it was when the tests were started: fixtures set it for servers of their own.
NAMED = os.environ.get("FIRESTORE_EMULATOR_HOST")


@dataclass(frozen=True, slots=True)
class AnyFirestore:
    """Some Firestore, by its host and port."""

    host: str

    def client(self) -> firestore.Client:
        """An official client of it."""
        with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": self.host}):
            return firestore.Client(project=PROJECT)

    def database(self) -> Directory:
        """Our narrow view of it."""
        with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": self.host}):
            return connect(PROJECT, "(default)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What does not ask for `any_firestore` drives the embedded server itself."""
    if NAMED is not None:
        skip = pytest.mark.skip(reason="drives the embedded server itself: its clock, faults, statistics or engine")
        for item in items:
            if "any_firestore" not in getattr(item, "fixturenames", ()):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def any_firestore() -> Iterator[AnyFirestore]:
    """The Firestore that FIRESTORE_EMULATOR_HOST names, else an embedded one. Tests use groups of their own."""
    if NAMED is not None:
        yield AnyFirestore(NAMED)
    else:
        with served() as server:
            yield AnyFirestore(f"127.0.0.1:{server.port}")
