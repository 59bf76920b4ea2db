"""Print an ID token as the Firebase Auth emulator makes them, for the read API on this machine.

    venv/bin/python -m scripts.unsigned_token UID [--project PROJECT]

Such a token is not signed: only functions that run with FIREBASE_AUTH_EMULATOR_HOST set, as the runner starts them, take it,
and a deployed function refuses to start with that. Exit codes: 0 printed, 2 wrong usage.
"""

import argparse
import base64
import json
import os
import sys
import time

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


def main(arguments: list[str] | None = None) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.unsigned_token", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("uid", metavar="UID")
    parser.add_argument(
        "--project", default=os.environ.get("GOOGLE_CLOUD_PROJECT", "demo-balance"), help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    print(unsigned_token(options.uid, options.project))
    return 0


if __name__ == "__main__":
    sys.exit(main())
