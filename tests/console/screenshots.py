"""Take the pictures of the console that the documents show, light and dark: `make screenshots`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from google.cloud import firestore
from playwright.sync_api import sync_playwright

from runner.session import Session, running
from tests.console import app_data
from tests.console.conftest import PROJECT, chromium_path

DOCS = Path(__file__).resolve().parents[2] / "docs"
SIZE = {"width": 1080, "height": 720}


def main() -> int:
    """Write them, and say where."""
    with running(project=PROJECT, console=True, arguments=["--quiet"]) as session, sync_playwright() as playwright:
        with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": session.firestore_host}):
            client = firestore.Client(project=PROJECT)
        app_data.write_group(client)
        session.drain()
        app_data.write_trip(client)
        session.drain()
        app_data.write_crowd(client)
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        session.drain()
        for scheme in ("light", "dark"):
            for path in _taken(browser, session, scheme):
                sys.stdout.write(f"{path.relative_to(DOCS.parent)}: {path.stat().st_size / 1024:.0f} KB\n")
        browser.close()
    return 0


def _taken(browser: Any, session: Session, scheme: str) -> list[Path]:
    assert session.console_url is not None, "it was asked for"
    url = session.console_url.rstrip("/")
    context = browser.new_context(viewport=SIZE, color_scheme=scheme)
    page = context.new_page()
    taken = []
    for name, path, wanted in (
        ("console", f"/groups/{app_data.TRIP}", "svg.flow path.ribbon"),
        ("console-events", f"/events?group={app_data.TRIP}", "ol.events li"),
    ):
        page.goto(url + path)
        page.locator(wanted).first.wait_for()
        page.locator(".live[data-state=live]").wait_for()
        file = DOCS / f"{name}-{scheme}.png"
        page.screenshot(path=file)
        taken.append(file)
    context.close()
    return taken


if __name__ == "__main__":
    sys.exit(main())
