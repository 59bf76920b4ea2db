"""Who calls: Firebase ID tokens, verified with firebase-admin.

Tokens of every tenant of the project are taken. A token lives for an hour, also when its user is disabled or signed out
everywhere meanwhile: CHECK_REVOKED=on asks the Auth service for each request whether that has happened.

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

_TIMEOUT_S = 4
"""For the keys of tokens, and for asking whether a token was revoked. A caller is waiting; the library's default is 120 s."""

_lock = Lock()
_app: Any = None


class Unauthenticated(Exception):
    """No token, or none that proves who calls; the message may be told to the caller."""


class VerificationUnavailable(Exception):
    """The keys that tokens are signed with cannot be had at the moment."""


def refuse_unsigned_tokens(environment: Mapping[str, str]) -> None:
    """Raises InvalidSetting in a deployed function that would take the Auth emulator's unsigned tokens: anybody's word."""
    # Not FUNCTIONS_EMULATOR: beside it Firestore may be the real one.
    if (
        environment.get("K_SERVICE")
        and environment.get("FIREBASE_AUTH_EMULATOR_HOST")
        and not environment.get("FIRESTORE_EMULATOR_HOST")
    ):
        raise InvalidSetting(
            "FIREBASE_AUTH_EMULATOR_HOST is set in a function that uses the real Firestore, which would let anybody pass as "
            "anybody; remove it"
        )


def uid_of(authorization: str | None, *, check_revoked: bool = False) -> str:
    """The uid that an Authorization header proves; raises Unauthenticated, VerificationUnavailable.

    `check_revoked` refuses users that were disabled, deleted or signed out everywhere since, by a call to the Auth service.
    With FIREBASE_AUTH_EMULATOR_HOST set, tokens as the Auth emulator makes them, which are not signed, are taken.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send a Firebase ID token: Authorization: Bearer TOKEN")
    from firebase_admin import auth, exceptions
    from google.auth.exceptions import GoogleAuthError

    app = _firebase_app()
    try:
        claims = auth.verify_id_token(token.strip(), app=app, check_revoked=check_revoked, clock_skew_seconds=_CLOCK_SKEW_S)
    except auth.CertificateFetchError as error:
        raise VerificationUnavailable(str(error)) from error
    except (auth.RevokedIdTokenError, auth.UserDisabledError, auth.UserNotFoundError):
        raise Unauthenticated("the user was signed out, disabled or deleted; sign in again") from None
    except auth.ExpiredIdTokenError:
        raise Unauthenticated("the token has expired") from None
    except (auth.InvalidIdTokenError, ValueError, TypeError, AttributeError, RecursionError):
        # The library means a token of the wrong types by some of these.
        raise Unauthenticated("the token is not a valid Firebase ID token of this project") from None
    except (exceptions.FirebaseError, GoogleAuthError) as error:
        raise VerificationUnavailable(str(error)) from error
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
                _app = firebase_admin.initialize_app(
                    options={"projectId": project_id(), "httpTimeout": _TIMEOUT_S}, name="balance"
                )
    return _app
