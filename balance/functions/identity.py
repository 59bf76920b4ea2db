"""Who calls: Firebase ID tokens, verified with firebase-admin.

The library takes 300 ms to import, so it is imported when the first token is verified: in the read API's process only.
"""

from collections.abc import Mapping
from threading import Lock
from typing import Any

from balance.database.sdk import project_id
from balance.documents.settings import InvalidSetting
from balance.documents.sources import uid_fault

_CLOCK_SKEW_S = 10
"""Google's clocks and ours may differ by this much."""

_lock = Lock()
_app: Any = None


class Unauthenticated(Exception):
    """No token, or none that proves who calls; the message may be told to the caller."""


class VerificationUnavailable(Exception):
    """The keys that tokens are signed with cannot be had at the moment."""


def refuse_unsigned_tokens(environment: Mapping[str, str]) -> None:
    """Raises InvalidSetting in a deployed function that would take the Auth emulator's unsigned tokens: anybody's word."""
    emulated = environment.get("FUNCTIONS_EMULATOR") == "true" or environment.get("FIRESTORE_EMULATOR_HOST")
    if environment.get("K_SERVICE") and environment.get("FIREBASE_AUTH_EMULATOR_HOST") and not emulated:
        raise InvalidSetting(
            "FIREBASE_AUTH_EMULATOR_HOST is set in a deployed function, which would let anybody pass as anybody; remove it"
        )


def uid_of(authorization: str | None) -> str:
    """The uid that an Authorization header proves; raises Unauthenticated, VerificationUnavailable.

    With FIREBASE_AUTH_EMULATOR_HOST set, tokens as the Auth emulator makes them, which are not signed, are taken.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send a Firebase ID token: Authorization: Bearer TOKEN")
    from firebase_admin import auth

    app = _firebase_app()
    try:
        # Revocation is not checked: that would be a call to another service for each read. Tokens live for an hour.
        claims = auth.verify_id_token(token.strip(), app=app, check_revoked=False, clock_skew_seconds=_CLOCK_SKEW_S)
    except auth.CertificateFetchError as error:
        raise VerificationUnavailable(str(error)) from error
    except auth.ExpiredIdTokenError:
        raise Unauthenticated("the token has expired") from None
    except (auth.InvalidIdTokenError, ValueError, TypeError, AttributeError, RecursionError):
        # The library means a token of the wrong types by some of these.
        raise Unauthenticated("the token is not a valid Firebase ID token of this project") from None
    uid: str = claims["uid"]
    fault = uid_fault(uid) or ("is no text" if any("\ud800" <= character <= "\udfff" for character in uid) else None)
    if fault is not None:
        raise Unauthenticated(f"the token's uid {fault}")
    return uid


def _firebase_app() -> Any:
    global _app
    if _app is None:
        import firebase_admin

        with _lock:
            if _app is None:
                # With a name of our own, so that an app that shares the process keeps its default one.
                _app = firebase_admin.initialize_app(options={"projectId": project_id()}, name="balance")
    return _app
