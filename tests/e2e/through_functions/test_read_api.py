"""The read API as deployed, with the tokens of the Auth emulator where there is one."""

import base64
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.through_functions.app import App, Drain
from tests.e2e.through_functions.conftest import Running

pytestmark = pytest.mark.xdist_group("functions")


def test_a_member_reads_the_balance_that_the_functions_wrote(functions: Running, drain: Drain) -> None:
    uid, token = _sign_in(functions)
    app = App(functions.client, members=(uid, "B"))
    app.new("expenses").set(app.expense(uid, 100, "USD", {uid: 50, "B": 50}))
    drain()

    status, body = _get(functions, f"/groups/{app.group}/balance", token)

    assert status == 200
    assert body["balancesByCurrency"]["USD"]["B"]["owes"] == {uid: 50}
    assert body["balancesByCurrency"]["USD"][uid]["netBalance"] == 50
    status, body = _get(functions, "/balances", token)
    assert status == 200
    assert app.group in json.dumps(body)


def test_a_stranger_and_a_nobody_are_refused(functions: Running, drain: Drain) -> None:
    _, token = _sign_in(functions)
    app = App(functions.client)

    assert _get(functions, f"/groups/{app.group}/balance", token)[0] == 403
    status, body = _get(functions, f"/groups/{app.group}/balance", None)
    assert status == 401
    assert body["error"]["code"] == "UNAUTHENTICATED"


def _get(functions: Running, path: str, token: str | None) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(functions.urls["balance_api"] + path)
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _sign_in(functions: Running) -> tuple[str, str]:
    """A user's uid and ID token."""
    host = os.environ.get("FIREBASE_AUTH_EMULATOR_HOST")
    if functions.session is None and host:
        url = f"http://{host}/identitytoolkit.googleapis.com/v1/accounts:signUp?key=any"
        data = json.dumps({"email": f"{uuid4().hex}@example.com", "password": "secret", "returnSecureToken": True}).encode()
        request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            user = json.load(response)
        return user["localId"], user["idToken"]
    uid, project, now = uuid4().hex, functions.client.project, int(time.time())
    claims = {
        "iss": f"https://securetoken.google.com/{project}",
        "aud": project,
        "sub": uid,
        "user_id": uid,
        "iat": now,
        "exp": now + 3600,
        "auth_time": now,
        "firebase": {"sign_in_provider": "password", "identities": {}},
    }
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "none"}, claims)]
    return uid, f"{parts[0]}.{parts[1]}."
