"""Settings: what an app may choose, read from the environment.

Parameters describe the app and change only with a deployment. Switches may be turned on the running service; they are read
at every use.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from balance.core.currencies import EXPONENTS
from balance.core.money import MAX_EXPONENT, Unit
from balance.documents.layout import IN_GROUP, Layout
from balance.documents.sources import Kind

_MAX_CODE = 12
_CURRENCY = re.compile(rf"([A-Z][A-Z0-9]{{1,{_MAX_CODE - 1}}}):([0-9]{{1,2}})")
_READ_API = "balance_api"
_SUBCOLLECTION = re.compile(r"([^/{}]+)/\{\w+\}/([^/{}]+)")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,*]+")


SWITCHES = (
    "BALANCE_UPDATES",
    "BALANCE_PRECOMPUTED_READS",
    "BALANCE_FALLBACK",
    "BALANCE_LOG_DELTAS",
    "APP_CHECK",
    "CHECK_REVOKED",
)
"""The names of all switches; those of the parameters are in functions.yaml."""


class InvalidSetting(ValueError):
    """An environment variable holds what it must not; the message names both."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The parameters."""

    layout: Layout = field(default_factory=Layout)
    unit: Unit = Unit.MAJOR
    """What a number in the app's documents counts, for each currency: those of ISO 4217 and the app's own."""
    database: str = "(default)"
    members_as_map: bool = False
    """A group's members are a map keyed by uid, not a list: the two are searched in different ways."""
    epoch: int = 0
    """Raised by an operator when the functions were away, or to roll out other rules in order: what was written in a lower
    epoch is stale, and code of a lower epoch stands back."""
    record_ttl: timedelta = timedelta(days=7)
    """How long records are kept. A write older than half of it is answered by a rebuild: its record may be gone."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The parameters of a deployment; raises InvalidSetting."""
    groups = _collection(environment, "GROUPS_COLLECTION", "groups")
    collections: dict[str, str] = {}
    for kind in Kind:
        name = _collection(environment, kind.parameter, kind.collections, below=groups)
        for other in collections.values():
            if name.split("/")[-1] == other.split("/")[-1]:
                raise InvalidSetting(f"{kind.parameter} is {name!r}; its last part must differ from that of {other!r}")
        collections[kind.collections] = name
    is_minor = _choice(environment, "AMOUNT_UNIT", ("major", "minor")) == "minor"
    return Settings(
        layout=Layout(groups=groups, **collections),
        unit=Unit(is_minor=is_minor, own=_currencies(environment, "CURRENCIES")),
        database=environment.get("FIRESTORE_DATABASE") or "(default)",
        members_as_map=_choice(environment, "GROUP_MEMBERS", ("list", "map")) == "map",
        epoch=_epoch(environment, "EPOCH"),
        record_ttl=timedelta(days=_days(environment, "RECORD_TTL_DAYS", default=7)),
    )


def check(environment: Mapping[str, str]) -> None:
    """Refuse a deployment whose parameters or switches cannot be obeyed, instead of failing at each event.

    To be called when the functions are loaded; what only the read API looks at is checked for it alone. Raises InvalidSetting.
    """
    from_environment(environment)
    for switch in (updates_on, precomputed_reads_on, fallback_on, deltas_logged):
        switch(environment)
    if environment.get("FUNCTION_TARGET", _READ_API) == _READ_API:
        allowed_origins(environment)
        reads_per_minute(environment)
        app_check_required(environment)
        revocation_checked(environment)


def allowed_origins(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The web origins whose pages may call the read API; ("*",) for all. Raises InvalidSetting."""
    name = "ALLOWED_ORIGINS"
    origins = []
    for part in environment.get(name, "").split(","):
        # As browsers send them, without a slash: https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Origin
        if origin := part.strip().rstrip("/"):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InvalidSetting(f"{name} holds {origin!r}; give origins like https://app.example.com, with commas, or *")
            origins.append(origin)
    return tuple(origins)


def updates_on(environment: Mapping[str, str]) -> bool:
    """The switch BALANCE_UPDATES: off, events are recorded as gaps and balances marked stale."""
    return _choice(environment, "BALANCE_UPDATES", ("on", "off")) == "on"


def precomputed_reads_on(environment: Mapping[str, str]) -> bool:
    """The switch BALANCE_PRECOMPUTED_READS: off, the read API recalculates every balance."""
    return _choice(environment, "BALANCE_PRECOMPUTED_READS", ("on", "off")) == "on"


def fallback_on(environment: Mapping[str, str]) -> bool:
    """The switch BALANCE_FALLBACK: off, the read API answers an error instead of recalculating."""
    return _choice(environment, "BALANCE_FALLBACK", ("on", "off")) == "on"


def deltas_logged(environment: Mapping[str, str]) -> bool:
    """The switch BALANCE_LOG_DELTAS: on, an event's log entry says who owes whom how much more; its record always does."""
    return _choice(environment, "BALANCE_LOG_DELTAS", ("off", "on")) == "on"


def app_check_required(environment: Mapping[str, str]) -> bool:
    """The switch APP_CHECK: required, the read API answers only requests with a valid App Check token."""
    return _choice(environment, "APP_CHECK", ("off", "required")) == "required"


def revocation_checked(environment: Mapping[str, str]) -> bool:
    """The switch CHECK_REVOKED: on, the read API asks the Auth service whether a token's user was disabled or signed out."""
    return _choice(environment, "CHECK_REVOKED", ("off", "on")) == "on"


def reads_per_minute(environment: Mapping[str, str]) -> int:
    """The parameter READS_PER_MINUTE: how many documents one caller may have the read API read beyond stored balances."""
    value = environment.get("READS_PER_MINUTE") or "20000"
    if not (value.isascii() and value.isdecimal()) or not 100 <= int(value) <= 10_000_000:
        raise InvalidSetting(f"READS_PER_MINUTE is {value!r}; it must be a whole number from 100 to 10000000")
    return int(value)


def _choice(environment: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """One of the choices; the first by default."""
    value = environment.get(name) or choices[0]
    if value not in choices:
        raise InvalidSetting(f"{name} is {value!r}; it must be {' or '.join(choices)}")
    return value


def _collection(environment: Mapping[str, str], name: str, default: str, below: str | None = None) -> str:
    """The name of a top-level collection or, where `below` names the groups, of a subcollection of each of them."""
    value = environment.get(name) or default
    in_groups = f"{below}/{IN_GROUP}/"
    if below and (found := _SUBCOLLECTION.fullmatch(value)) and found[1] == below:
        # A trigger's path pattern may call the group as it likes: trips/{tripId}/bills.
        return in_groups + found[2]
    if "/" not in value and "{" not in value:
        return value
    also = f' or of a subcollection of the groups, like "{in_groups}{default}"' if below else ""
    raise InvalidSetting(f"{name} is {value!r}; it must be the name of a top-level collection{also}")


def _currencies(environment: Mapping[str, str], name: str) -> tuple[tuple[str, int], ...]:
    """The app's own currencies with their exponents, in the order of their codes: "BTC:8, POINTS:0"."""
    own: dict[str, int] = {}
    for part in filter(None, map(str.strip, environment.get(name, "").split(","))):
        found = _CURRENCY.fullmatch(part)
        if found is None or int(found[2]) > MAX_EXPONENT:
            raise InvalidSetting(
                f"{name} holds {part!r}; give codes of 2 to {_MAX_CODE} capital letters or digits, each with its number of "
                f"decimals (0 to {MAX_EXPONENT}), like BTC:8,POINTS:0"
            )
        code, exponent = found[1], int(found[2])
        iso = EXPONENTS.get(code)
        if iso is not None and iso != exponent:
            raise InvalidSetting(f"{name} holds {part!r}, but by ISO 4217 {code} has {iso} decimals; leave {code} out")
        if own.setdefault(code, exponent) != exponent:
            raise InvalidSetting(f"{name} gives {code} twice, with {own[code]} and with {exponent} decimals")
    return tuple(sorted(own.items()))


def _epoch(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name) or "0"
    if not (value.isascii() and value.isdecimal() and len(value) <= 9):
        raise InvalidSetting(f"{name} is {value!r}; it must be a whole number from 0 to 999999999")
    return int(value)


def _days(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name) or str(default)
    # Redelivery goes on for a day, and half of the time to live must outlast it.
    if not value.isdecimal() or not 3 <= int(value) <= 365:
        raise InvalidSetting(f"{name} is {value!r}; it must be a whole number of days from 3 to 365")
    return int(value)
