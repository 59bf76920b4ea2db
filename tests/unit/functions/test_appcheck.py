"""App Check tokens: real signatures against keys served on this machine."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from balance.functions import appcheck
from balance.functions.appcheck import verify_app
from balance.functions.identity import Unauthenticated, VerificationUnavailable

PROJECT = "demo-appcheck"


@pytest.fixture(scope="module")
def firebase() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(autouse=True)
def keys(firebase: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The key server."""
    public = {**json.loads(RSAAlgorithm.to_jwk(firebase.public_key())), "kid": "k1", "use": "sig"}

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": [public]}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setattr(appcheck, "_KEYS_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(appcheck, "_keys", None)
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def sign(firebase: rsa.RSAPrivateKey) -> Callable[..., str]:
    def sign(key: Any = firebase, algorithm: str = "RS256", headers: dict[str, str] | None = None, **changes: Any) -> str:
        claims = {
            "iss": "https://firebaseappcheck.googleapis.com/123",
            "aud": ["projects/123", f"projects/{PROJECT}"],
            "sub": "1:123:web:abc",
            "exp": int(time.time()) + 3600,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key, algorithm, headers={"kid": "k1", **(headers or {})})

    return sign


def test_a_token_of_the_app_passes(sign: Callable[..., str]) -> None:
    verify_app(sign())


def test_what_is_no_token_of_the_app_does_not_pass(sign: Callable[..., str]) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (
        None,
        "",
        "x",
        "a.b.c",
        sign(key=other),
        sign(key="secret" * 8, algorithm="HS256"),
        sign(headers={"typ": "other"}),
        sign(aud=["projects/other"]),
        sign(iss="https://securetoken.google.com/123"),
        sign(iss=None),
        sign(exp=int(time.time()) - 60),
        sign(exp=None),
        sign()[:-8] + "AAAAAAAA",
        sign(headers={"kid": "k2"}),
    ):
        with pytest.raises(Unauthenticated):
            verify_app(token)


def test_a_key_server_that_hangs_is_given_up_soon(sign: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(appcheck, "_KEYS_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(appcheck, "_TIMEOUT_S", 0.2)
        with pytest.raises(VerificationUnavailable):
            verify_app(sign())
