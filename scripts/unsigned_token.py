"""Print an ID token as the Firebase Auth emulator makes them, for the read API of `balance dev`.

Such a token is not signed: only functions that run with FIREBASE_AUTH_EMULATOR_HOST set, as `balance dev` starts them, take
it. A deployed function refuses to start with that.

Exit codes: 0 printed; 2 wrong usage.

Examples:
  balance token ana
  curl -H "Authorization: Bearer $(balance token ana)" $API/balances
"""

from __future__ import annotations

import base64
import json
import time

import click

from scripts import aliases
from scripts.command import subcommand
from scripts.exits import Exit

LIFETIME_S = 3600


def unsigned_token(uid: object, project: str, **claims: object) -> str:
    """The token of a user; `claims` are added to the usual ones or replace them."""
    now = int(time.time())
    usual = {
        "iss": f"https://securetoken.google.com/{project}",
        "aud": project,
        "sub": uid,
        "user_id": uid,
        "iat": now,
        "exp": now + LIFETIME_S,
    }
    # Header, claims, and the place of the signature, which stays empty.
    return ".".join([_segment({"alg": "none", "typ": "JWT"}), _segment({**usual, **claims}), ""])


def _segment(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@subcommand("token", __doc__)
@click.argument("uid")
@click.option(
    "--project",
    metavar="ID",
    envvar="GOOGLE_CLOUD_PROJECT",
    default="demo-balance",
    help="The project of `balance dev` (demo-balance).",
)
def token(uid: str, project: str) -> int:
    if not uid:
        raise click.BadParameter("a uid is not empty", param_hint="UID")
    print(unsigned_token(uid, aliases.resolve(project, None).id))
    return Exit.DONE
