"""No web page, of whatever origin and name, gives orders to the HTTP sides of the embedded Firestore and of the runner."""

import asyncio
import http.client
import json
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from runner.control import Control
from runner.log_lines import LogLines
from tests.integration.emulator.test_admin import Emulator, emulator

TRIGGER = {"pattern": "expenses/{id}", "url": "http://127.0.0.1:9/steal"}


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    with emulator() as running:
        yield running


def send(url: str, method: str, body: bytes | None, **headers: str) -> int:
    """The status of a request with exactly these headers, as a browser might send it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, parts.path, body, {"Content-Type": "application/json", **named})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example", "Content_Type": "text/plain"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example:8081"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_web_page_cannot_redirect_events(running: Emulator, headers: dict[str, str], status: int) -> None:
    assert send(running.admin_url + "/triggers", "POST", json.dumps(TRIGGER).encode(), **headers) == status
    assert running.ok("GET", "/triggers") == {"triggers": []}


def test_without_the_token_there_is_nothing(running: Emulator) -> None:
    root = running.admin_url.rpartition("/")[0]
    for path in ("/triggers", "/guessed-token-0000/triggers", "//triggers"):
        assert send(root + path, "POST", json.dumps(TRIGGER).encode()) == 404
    assert send(root + "/", "GET", None) == 404
    assert running.ok("GET", "/triggers") == {"triggers": []}


def test_pages_of_another_name_cannot_even_read(running: Emulator) -> None:
    assert send(running.admin_url + "/dead-letters", "GET", None, Host="rebound.example") == 403
    assert send(running.admin_url + "/dead-letters", "GET", None, Origin="http://127.0.0.1:1") == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:80", "192.168.1.7:8086"])
def test_addresses_and_localhost_are_this_machine(running: Emulator, host: str) -> None:
    assert send(running.admin_url + "/statistics", "GET", None, Host=host) == 200


def test_the_token_may_be_chosen() -> None:
    with emulator("--token", "chosen-token") as running:
        assert running.admin_url.endswith("/chosen-token")
        assert running.ok("GET", "/triggers") == {"triggers": []}


def test_a_web_page_cannot_run_a_file_through_the_runner() -> None:
    async def attack() -> list[int]:
        async with aiohttp.ClientSession() as session:
            control = Control(lambda: {"name": "runner"}, session, LogLines())
            root = f"http://127.0.0.1:{await control.start(0)}"
            url = f"{root}/{control.token}/functions/f/environment"
            order = {"PYTHONPATH": "/tmp/attack"}
            # fmt: off
            attempts = [
                session.put(url, json=order, headers={"Host": "evil.example"}),
                session.put(url, json=order, headers={"Origin": "https://evil.example"}),
                session.put(url, data="{}", headers={"Content-Type": "text/plain"}),
                session.put(f"{root}/functions/f/environment", json=order),
                session.get(f"{root}/{control.token}"),
            ]
            # fmt: on
            statuses = [(await attempt).status for attempt in attempts]
            await control.stop()
            return statuses

    assert asyncio.run(attack()) == [403, 403, 415, 404, 200]


def test_the_admin_url_describes_itself(running: Emulator) -> None:
    with urllib.request.urlopen(running.admin_url) as response:
        assert json.load(response)["adminUrl"] == running.admin_url
