"""With FIRESTORE_EMULATOR_HOST set, the tests that can do with any Firestore run against that one; the others are skipped."""

import os
from collections.abc import Iterator

import pytest
from google.cloud import firestore

from tests.integration.served import PROJECT, served


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What does not ask for `any_firestore` drives the embedded server itself."""
    if "FIRESTORE_EMULATOR_HOST" in os.environ:
        skip = pytest.mark.skip(reason="drives the embedded server itself: its clock, faults, statistics or engine")
        for item in items:
            if "any_firestore" not in getattr(item, "fixturenames", ()):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def any_firestore() -> Iterator[firestore.Client]:
    """A client of the Firestore that FIRESTORE_EMULATOR_HOST names, else of an embedded one. Tests use groups of their own."""
    if "FIRESTORE_EMULATOR_HOST" in os.environ:
        yield firestore.Client(project=PROJECT)
        return
    with served() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{server.port}")
        yield server.client()
