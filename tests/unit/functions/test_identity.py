"""Whose token it is: real signatures, checked by the library as in production, against keys served on this machine."""

import datetime
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from balance.documents.settings import InvalidSetting
from balance.functions import identity
from balance.functions.identity import Unauthenticated, VerificationUnavailable, refuse_unsigned_tokens, uid_of
from scripts.unsigned_token import unsigned_token

PROJECT = "demo-signed"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def google() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def certificates(google: rsa.RSAPrivateKey) -> Iterator[dict[str, Any]]:
    """Where the library fetches Google's certificates from: `url`, and `status`, which may be changed."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "securetoken")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(google.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(google, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    state: dict[str, Any] = {"status": 200, "asked": 0}

    class Certificates(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["asked"] += 1
            self.send_response(state["status"])
            self.send_header("Cache-Control", "public, max-age=3600")
            self.end_headers()
            self.wfile.write(json.dumps({"k1": certificate}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Certificates)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state["url"] = f"http://127.0.0.1:{server.server_port}/certificates"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def production(
    certificates: dict[str, Any], google: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """No emulator, a service account, and a fresh app of the library."""
    import firebase_admin
    from firebase_admin import _token_gen

    pem = google.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = tmp_path / "account.json"
    account.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "x",
                "private_key": pem,
                "client_email": f"balance@{PROJECT}.iam.gserviceaccount.com",
                "token_uri": "http://127.0.0.1:9/token",
            }
        )
    )
    monkeypatch.delenv("FIREBASE_AUTH_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setattr(_token_gen, "ID_TOKEN_CERT_URI", certificates["url"])
    kept, identity._app = identity._app, None
    if kept is not None:
        firebase_admin.delete_app(kept)
    yield
    if identity._app is not None:
        firebase_admin.delete_app(identity._app)
        identity._app = None


@pytest.fixture
def sign(google: rsa.RSAPrivateKey) -> Callable[..., str]:
    def sign(key: Any = google, algorithm: str = "RS256", kid: str = "k1", **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": f"https://securetoken.google.com/{PROJECT}",
            "aud": PROJECT,
            "sub": "ana",
            "iat": now - 60,
            "exp": now + 3540,
            **changes,
        }
        return "Bearer " + jwt.encode(claims, key, algorithm, headers={"kid": kid})

    return sign


def test_a_signed_token_proves_its_uid(sign: Callable[..., str], certificates: dict[str, Any]) -> None:
    assert uid_of(sign()) == "ana"
    assert uid_of(sign(sub="bo").replace("Bearer", "bearer")) == "bo"
    assert certificates["asked"] == 1, "the certificates are cached as their headers allow"


def test_clocks_may_differ_by_some_seconds(sign: Callable[..., str]) -> None:
    assert uid_of(sign(iat=time.time() + 5)) == "ana"
    assert uid_of(sign(exp=time.time() - 5)) == "ana"


def test_a_token_that_somebody_else_signed_proves_nothing(sign: Callable[..., str]) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for authorization in (
        sign(key=other),
        sign(kid="k2"),
        sign(key="secret" * 8, algorithm="HS256"),
        sign(aud="another"),
        sign(iss="https://securetoken.google.com/another"),
        sign(sub=7),
        sign(iat="now"),
        sign(iat=time.time() + 3600),
        sign()[:-8] + "AAAAAAAA",
        f"Bearer {unsigned_token('ana', PROJECT)}",
    ):
        with pytest.raises(Unauthenticated):
            uid_of(authorization)


def test_an_expired_token_says_so(sign: Callable[..., str]) -> None:
    with pytest.raises(Unauthenticated, match="expired"):
        uid_of(sign(iat=time.time() - 7200, exp=time.time() - 3600))


def test_without_certificates_nobody_is_refused_for_good(sign: Callable[..., str], certificates: dict[str, Any]) -> None:
    certificates["status"] = 503
    with pytest.raises(VerificationUnavailable):
        uid_of(sign())
    certificates["status"] = 200
    assert uid_of(sign()) == "ana"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_key_server_that_hangs_is_given_up_soon(
    sign: Callable[..., str], silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from firebase_admin import _token_gen

    monkeypatch.setattr(_token_gen, "ID_TOKEN_CERT_URI", silent_server)
    monkeypatch.setattr(identity, "_TIMEOUT_S", 0.2)
    with pytest.raises(VerificationUnavailable, match=r"(?i)time"):
        uid_of(sign())


def test_without_the_auth_service_revocation_cannot_be_told(sign: Callable[..., str], certificates: dict[str, Any]) -> None:
    with pytest.raises(VerificationUnavailable):
        uid_of(sign(), check_revoked=True)
    assert uid_of(sign()) == "ana", "and without asking nothing is missed"


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, Any]]]:
    """What an Auth service in the place of the emulator knows of its users, by uid."""
    known: dict[str, dict[str, Any]] = {"ana": {}}

    class Accounts(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (uid,) = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["localId"]
            found = [{"localId": uid, **known[uid]}] if uid in known else []
            body = json.dumps({"users": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Accounts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", f"127.0.0.1:{server.server_port}")
    yield known
    server.shutdown()
    server.server_close()


def test_users_who_were_signed_out_disabled_or_deleted_are_refused_when_that_is_checked(
    users: dict[str, dict[str, Any]],
) -> None:
    token = f"Bearer {unsigned_token('ana', PROJECT)}"
    assert uid_of(token, check_revoked=True) == "ana"
    for state in ({"disabled": True}, {"validSince": str(int(time.time()) + 3600)}, None):
        if state is None:
            del users["ana"]
        else:
            users["ana"] = state
        with pytest.raises(Unauthenticated, match="sign in again"):
            uid_of(token, check_revoked=True)


DEPLOYED = {"K_SERVICE": "balance-api", "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9099"}


def test_a_deployed_function_refuses_unsigned_tokens_and_local_ones_do_not() -> None:
    with pytest.raises(InvalidSetting, match="FIREBASE_AUTH_EMULATOR_HOST"):
        refuse_unsigned_tokens(DEPLOYED)
    with pytest.raises(InvalidSetting):
        refuse_unsigned_tokens({**DEPLOYED, "FUNCTIONS_EMULATOR": "false"})
    # The CLI's emulator of functions, with the Auth emulator beside the real Firestore.
    with pytest.raises(InvalidSetting, match="real Firestore"):
        refuse_unsigned_tokens({**DEPLOYED, "FUNCTIONS_EMULATOR": "true"})
    refuse_unsigned_tokens({**DEPLOYED, "FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080"})
    refuse_unsigned_tokens({"K_SERVICE": "balance-api"})
    refuse_unsigned_tokens({"FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9099"})


def test_a_deployed_function_with_unsigned_tokens_does_not_start() -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FIRE", "FUNCTION"))}
    command = [sys.executable, "-m", "functions_framework", "--target", "balance_api", "--port", "0"]
    started = subprocess.run(command, cwd=ROOT, env={**kept, **DEPLOYED}, capture_output=True, text=True, timeout=60)
    assert started.returncode != 0
    assert "remove it" in started.stderr


def test_importing_the_functions_does_not_import_the_library() -> None:
    check = "import main, sys; sys.exit('firebase_admin' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, timeout=60).returncode == 0
