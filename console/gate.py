"""Who may see the console: whoever was told its address, from this machine, and no page of another site.

In front of every page a request must name this machine as its host, must not come from another origin, and its path must begin
with a token that only the address holds. What changes something is a form that bears a second secret, which only our own pages
hold. The answers forbid the browser to load anything from elsewhere, to be framed, and to hand the address on.
"""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.gate import names_this_machine

MAX_FORM_BYTES = 1024 * 1024
CSRF_FIELD = "csrf"
_FORM_TYPE = "application/x-www-form-urlencoded"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Gate:
    """Wraps an ASGI application, which sees the path without the token, and a form's fields as `scope["form"]`."""

    def __init__(self, app: ASGIApp, token: str, csrf: str) -> None:
        self._app = app
        self._token = token
        self._csrf = csrf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None and scope["method"] not in ("GET", "HEAD"):
            refusal = await self._refused_form(scope, headers, receive)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        inner = {**scope, "root_path": f"/{self._token}"}
        await self._app(inner, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not names_this_machine(host):
            return _refuse(403, f"The request's Host is {host!r}: use an IP address or localhost.")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refuse(403, f"Requests from pages of another origin ({origin}) are refused.")
        if not secrets.compare_digest(scope["path"].split("/")[1].encode(), self._token.encode()):
            return _refuse(404, "There is nothing here. Use the whole address that `balance console` printed, with its token.")
        return None

    async def _refused_form(self, scope: Scope, headers: Headers, receive: Receive) -> PlainTextResponse | None:
        if scope["method"] != "POST":
            return _refuse(405, "Only GET and POST are understood.")
        if headers.get("content-type", "").partition(";")[0] != _FORM_TYPE:
            return _refuse(415, "Only forms are understood.")
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return _refuse(400, "The form is not complete.")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_FORM_BYTES:
                return _refuse(413, f"The form has more than {MAX_FORM_BYTES} bytes.")
        form = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
        (given, *_) = form.pop(CSRF_FIELD, [""])
        if not secrets.compare_digest(given.encode(), self._csrf.encode()):
            return _refuse(403, "The form is not of this console, or of an earlier run of it: load the page again.")
        scope["form"] = form
        return None


def _refuse(status: int, reason: str) -> PlainTextResponse:
    return PlainTextResponse(reason + "\n", status, headers=_HEADERS)
