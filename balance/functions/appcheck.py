"""Whether a request comes from the app itself: App Check tokens.

Verified as Firebase documents it for other platforms, rather than by firebase-admin: that one waits 30 s for a key server that
hangs. Source: https://firebase.google.com/docs/app-check/custom-resource-backend (other protocols)
"""

from threading import Lock
from typing import Any

from balance.database.sdk import project_id
from balance.functions.identity import Unauthenticated, VerificationUnavailable

_KEYS_URL = "https://firebaseappcheck.googleapis.com/v1/jwks"
_KEYS_LIFESPAN_S = 6 * 3600
_TIMEOUT_S = 4
_ISSUER = "https://firebaseappcheck.googleapis.com/"

_lock = Lock()
_keys: Any = None


def verify_app(token: str | None) -> None:
    """Raises Unauthenticated unless this is an App Check token of the project, VerificationUnavailable without the keys."""
    if not token:
        raise Unauthenticated("send an App Check token: X-Firebase-AppCheck: TOKEN")
    import jwt

    try:
        if jwt.get_unverified_header(token).get("typ") != "JWT":
            raise jwt.InvalidTokenError("typ")
        key = _key_client().get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=["RS256"], audience=f"projects/{project_id()}", options={"require": ["exp"]})
    except jwt.PyJWKClientConnectionError as error:
        raise VerificationUnavailable(f"the keys of App Check: {error}") from error
    except (jwt.PyJWTError, ValueError):
        raise Unauthenticated("the App Check token is not a valid one of this project") from None
    if not str(claims.get("iss")).startswith(_ISSUER):
        raise Unauthenticated("the App Check token is not a valid one of this project")


def _key_client() -> Any:
    global _keys
    if _keys is None:
        import jwt

        with _lock:
            if _keys is None:
                _keys = jwt.PyJWKClient(_KEYS_URL, lifespan=_KEYS_LIFESPAN_S, timeout=_TIMEOUT_S)
    return _keys
