"""The console on a runner of its own, driven in a real Chromium by `make test-console`, which installs what that needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from google.cloud import firestore

from runner.session import Session, running
from tests.console import app_data

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PROJECT = "demo-console"


def chromium_path() -> str | None:
    """The browser."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


def missing() -> str:
    """What is not installed; "" when all is."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright's Python library is not installed: run make test-console"
    if chromium_path() is None:
        return "there is no Chromium: run make test-console, or apt-get install chromium"
    if not AXE.is_file():
        return "axe-core is not installed: run make test-console"
    return ""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser."""
    if os.environ.get("CONSOLE_TESTS") != "required":
        pytest.skip("run make test-console")
    if reason := missing():
        pytest.fail(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, in a container, Chromium has no sandbox of its own.
        started = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def session(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The runner with its console."""
    with running(project=PROJECT, console=True, logs=tmp_path_factory.mktemp("logs")) as started:
        yield started


@pytest.fixture(scope="session")
def client(session: Session) -> firestore.Client:
    """The app's own."""
    with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": session.firestore_host}):
        return firestore.Client(project=PROJECT)


@pytest.fixture(scope="session")
def url(session: Session) -> str:
    """The console's address, without the slash at its end."""
    assert session.console_url is not None, "it was asked for"
    return session.console_url.rstrip("/")


@pytest.fixture(scope="session")
def filled(session: Session, client: firestore.Client) -> None:
    """The app's documents, and their balances."""
    app_data.write_trip(client)
    app_data.write_crowd(client)
    client.document("expenses/broken").set(
        {**app_data.expense(app_data.TRIP, "ana", 10, "EUR", ("ana", "bo")), "currency": "EURO"}
    )
    session.drain()


NewPage = Callable[..., Any]


@pytest.fixture
def new_page(chromium: Any, session: Session) -> Iterator[NewPage]:
    """A page of a browser of its own; fails the test for what the page asks of foreign hosts, and for errors in its script."""
    contexts, problems = [], []

    def made(**options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 850}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(f"script: {error}"))
        page.on(
            "request",
            lambda request: None if "//127.0.0.1:" in request.url else problems.append(f"asked elsewhere: {request.url}"),
        )
        return page

    yield made
    for context in contexts:
        context.close()
    assert not problems
