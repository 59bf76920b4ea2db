"""Who may call the HTTP sides that listen on this machine: programs that were told the address, and no web page.

Any page that is open in a browser can send requests to 127.0.0.1. So what can be done stands below a token that only the
address holds. In front of everything, a request must name this machine as its host (a name that somebody else's DNS points
here is refused), must not come from another origin, and must say that its body is JSON, which a page cannot do unasked.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

Refuse = Callable[[int, str], web.Response]


def new_token() -> str:
    """A token that cannot be guessed, fit for a path."""
    return secrets.token_urlsafe(18)


def gate(refuse: Refuse, *also: str) -> Middleware:
    """A middleware that lets no web page of another origin through; `also` are host names beside localhost.

    `refuse` makes the answer from a status (403 or 415) and a reason.
    """
    names = {"localhost", *also}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not names_this_machine(request.headers.get("Host", ""), names):
            return refuse(403, f"the request's Host is {request.headers.get('Host')!r}; use an IP address or localhost")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.headers["Host"]:
            return refuse(403, f"requests from pages of another origin ({origin}) are refused")
        if request.body_exists and request.content_type != "application/json":
            return refuse(415, f"the body is {request.content_type}; send JSON with Content-Type: application/json")
        return await handler(request)

    return check


def names_this_machine(host: str, names: Collection[str] = ("localhost",)) -> bool:
    """Whether a Host header is one of these names, or an address.

    An address is nobody's name: DNS rebinding always comes with a name.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
