"""The console's gate: this machine, no other origin, the token, and forms of our own."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from console.gate import MAX_FORM_BYTES, Gate


def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {request.scope.get('form', '')}")


class Client:
    """Asks the gate, without a server between."""

    def __init__(self) -> None:
        inner = Starlette(routes=[Route("/", page, methods=["GET", "POST"])])
        self._transport = httpx.ASGITransport(Gate(inner, "token-1", "csrf-1"))

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport) as client:
                return await client.request(method, "http://127.0.0.1:8000" + path, **more)

        return asyncio.run(asked())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("POST", path, **more)


@pytest.fixture
def client() -> Client:
    return Client()


def test_the_address_with_its_token_opens(client: Client) -> None:
    answer = client.get("/token-1/")
    assert (answer.status_code, answer.text) == (200, "GET ")


@pytest.mark.parametrize("path", ["/", "/token-2/", "/token-1x/", "//token-1/", "/static/console.css"])
def test_without_the_token_there_is_nothing(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_a_name_that_somebody_points_at_this_machine_is_refused(client: Client, host: str) -> None:
    assert client.get("/token-1/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_this_machine_is_let_in(client: Client, host: str) -> None:
    assert client.get("/token-1/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9000"])
def test_pages_of_other_origins_are_refused(client: Client, origin: str) -> None:
    form = {"csrf": "csrf-1"}
    assert client.post("/token-1/", data=form, headers={"Origin": origin}).status_code == 403
    assert client.get("/token-1/", headers={"Origin": origin}).status_code == 403


def test_a_form_of_ours_gets_through_without_its_secret(client: Client) -> None:
    answer = client.post(
        "/token-1/", data={"csrf": "csrf-1", "name": "zoë & co", "empty": ""}, headers={"Origin": "http://127.0.0.1:8000"}
    )
    assert answer.text == "POST {'name': ['zoë & co'], 'empty': ['']}"


@pytest.mark.parametrize("form", [{"x": "y"}, {"csrf": ""}, {"csrf": "csrf-2"}, {"csrf": "é"}])
def test_a_form_without_the_secret_is_refused(client: Client, form: dict[str, str]) -> None:
    assert client.post("/token-1/", data=form).status_code == 403


def test_bodies_that_are_no_forms_and_other_methods_are_refused(client: Client) -> None:
    assert client.post("/token-1/", json={"csrf": "csrf-1"}).status_code == 415
    assert client.ask("DELETE", "/token-1/").status_code == 405
    assert client.post("/token-1/", data={"csrf": "csrf-1", "long": "x" * MAX_FORM_BYTES}).status_code == 413


def test_every_answer_forbids_to_load_from_elsewhere_to_frame_and_to_keep(client: Client) -> None:
    for path in ("/token-1/", "/other"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
