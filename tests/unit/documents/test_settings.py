"""Settings: what the environment may say, and what is said of an environment that says otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from balance.core.money import Unit
from balance.documents.layout import Layout
from balance.documents.settings import (
    InvalidSetting,
    Settings,
    allowed_origins,
    check,
    fallback_on,
    from_environment,
    precomputed_reads_on,
    updates_on,
)

ROOT = Path(__file__).parents[3]
SWITCHES = [
    ("BALANCE_UPDATES", updates_on),
    ("BALANCE_PRECOMPUTED_READS", precomputed_reads_on),
    ("BALANCE_FALLBACK", fallback_on),
]


def test_an_empty_environment_means_the_defaults() -> None:
    assert from_environment({}) == Settings()
    # The Firebase CLI hands on parameters that were left empty.
    empty = dict.fromkeys(
        ["GROUPS_COLLECTION", "EXPENSES_COLLECTION", "AMOUNT_UNIT", "FIRESTORE_DATABASE", "RECORD_TTL_DAYS"], ""
    )
    assert from_environment(empty) == Settings()


def test_every_parameter_is_read() -> None:
    environment = {
        "GROUPS_COLLECTION": "teams",
        "EXPENSES_COLLECTION": "bills",
        "SETTLEMENTS_COLLECTION": "teams/{groupId}/payments",
        "AMOUNT_UNIT": "minor",
        "CURRENCIES": " POINTS:0, BTC:8,",
        "FIRESTORE_DATABASE": "ledger",
        "GROUP_MEMBERS": "map",
        "RECORD_TTL_DAYS": "30",
    }
    assert from_environment(environment) == Settings(
        layout=Layout(groups="teams", expenses="bills", settlements="teams/{groupId}/payments"),
        unit=Unit(is_minor=True, own=(("BTC", 8), ("POINTS", 0))),
        database="ledger",
        members_as_map=True,
        record_ttl=timedelta(days=30),
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AMOUNT_UNIT": "cents"}, "AMOUNT_UNIT is 'cents'; it must be major or minor"),
        ({"AMOUNT_UNIT": "MINOR"}, "AMOUNT_UNIT is 'MINOR'"),
        ({"CURRENCIES": "BTC"}, "CURRENCIES holds 'BTC'; give codes of 2 to 12 capital letters .* like BTC:8,POINTS:0"),
        ({"CURRENCIES": "btc:8"}, "CURRENCIES holds 'btc:8'"),
        ({"CURRENCIES": "BTC:8,:2"}, "CURRENCIES holds ':2'"),
        ({"CURRENCIES": "BTC:-1"}, "CURRENCIES holds 'BTC:-1'"),
        ({"CURRENCIES": "ETH:18"}, "CURRENCIES holds 'ETH:18'.*0 to 12"),
        ({"CURRENCIES": "BTC:8;POINTS:0"}, "CURRENCIES holds 'BTC:8;POINTS:0'"),
        ({"CURRENCIES": "POINTS:0,USD:3"}, "CURRENCIES holds 'USD:3', but by ISO 4217 USD has 2 decimals; leave USD out"),
        ({"CURRENCIES": "ITL:2"}, "CURRENCIES holds 'ITL:2', but by ISO 4217 ITL has 0 decimals"),
        ({"CURRENCIES": "BTC:8,BTC:6"}, "CURRENCIES gives BTC twice, with 8 and with 6 decimals"),
        ({"GROUP_MEMBERS": "set"}, "GROUP_MEMBERS is 'set'; it must be list or map"),
        ({"GROUPS_COLLECTION": "apps/a/groups"}, "GROUPS_COLLECTION is 'apps/a/groups'; it must be the name of a top-level"),
        ({"EXPENSES_COLLECTION": "apps/a/expenses"}, 'EXPENSES_COLLECTION .* like "groups/{groupId}/expenses"'),
        ({"EXPENSES_COLLECTION": "groups/{groupId}/a/b/c"}, "EXPENSES_COLLECTION"),
        ({"EXPENSES_COLLECTION": "groups/{group/expenses"}, "EXPENSES_COLLECTION"),
        ({"EXPENSES_COLLECTION": "{groupId}"}, "EXPENSES_COLLECTION"),
        ({"GROUPS_COLLECTION": "teams", "EXPENSES_COLLECTION": "groups/{groupId}/expenses"}, "teams/{groupId}/expenses"),
        ({"EXPENSES_COLLECTION": "groups/{groupId}/"}, "EXPENSES_COLLECTION"),
        ({"SETTLEMENTS_COLLECTION": "a/b"}, "SETTLEMENTS_COLLECTION"),
        ({"EXPENSES_COLLECTION": "items", "SETTLEMENTS_COLLECTION": "items"}, "SETTLEMENTS_COLLECTION"),
        ({"EXPENSES_COLLECTION": "items", "SETTLEMENTS_COLLECTION": "groups/{groupId}/items"}, "SETTLEMENTS_COLLECTION"),
        ({"RECORD_TTL_DAYS": "2"}, "RECORD_TTL_DAYS is '2'; it must be a whole number of days from 3 to 365"),
        ({"RECORD_TTL_DAYS": "366"}, "RECORD_TTL_DAYS"),
        ({"RECORD_TTL_DAYS": "7.5"}, "RECORD_TTL_DAYS"),
        ({"RECORD_TTL_DAYS": "-7"}, "RECORD_TTL_DAYS"),
        ({"RECORD_TTL_DAYS": "seven"}, "RECORD_TTL_DAYS"),
    ],
)
def test_a_setting_that_is_not_understood_is_named_with_what_it_must_be(environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        from_environment(environment)


@pytest.mark.parametrize("days", ["3", "365"])
def test_the_bounds_of_the_records_time_to_live_are_within(days: str) -> None:
    assert from_environment({"RECORD_TTL_DAYS": days}).record_ttl == timedelta(days=int(days))


def test_a_currency_to_which_iso_gives_no_decimals_or_the_same_is_no_contradiction() -> None:
    assert from_environment({"CURRENCIES": "XAU:4,USD:2"}).unit.own == (("USD", 2), ("XAU", 4))


@pytest.mark.parametrize(
    ("given", "read"),
    [("", ()), ("*", ("*",)), ("https://a.example/, http://localhost:5000 ,", ("https://a.example", "http://localhost:5000"))],
)
def test_origins_are_a_list_with_commas_and_may_end_with_a_slash(given: str, read: tuple[str, ...]) -> None:
    assert allowed_origins({"ALLOWED_ORIGINS": given}) == read


@pytest.mark.parametrize("given", ["example.com", "https://app.example.com/path"])
def test_what_is_no_origin_is_named(given: str) -> None:
    with pytest.raises(InvalidSetting, match=f"ALLOWED_ORIGINS holds '{given}'"):
        allowed_origins({"ALLOWED_ORIGINS": given})


@pytest.mark.parametrize("name", ["groupId", "tripId", "trip_id", "x"])
def test_a_subcollection_is_understood_whatever_stands_in_the_braces(name: str) -> None:
    environment = {"GROUPS_COLLECTION": "trips", "EXPENSES_COLLECTION": f"trips/{{{name}}}/bills"}
    assert from_environment(environment).layout.expenses == "trips/{groupId}/bills"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AMOUNT_UNIT": "cents"}, "AMOUNT_UNIT is 'cents'"),
        ({"BALANCE_UPDATES": "false"}, "BALANCE_UPDATES is 'false'"),
        ({"BALANCE_FALLBACK": "yes"}, "BALANCE_FALLBACK is 'yes'"),
        ({"ALLOWED_ORIGINS": "example.com", "FUNCTION_TARGET": "balance_api"}, "ALLOWED_ORIGINS holds 'example.com'"),
        ({"APP_CHECK": "on"}, "APP_CHECK is 'on'"),
        ({"READS_PER_MINUTE": "50"}, "READS_PER_MINUTE is '50'"),
        ({"BALANCE_LOG_DELTAS": "true"}, "BALANCE_LOG_DELTAS is 'true'"),
    ],
)
def test_a_deployment_that_cannot_be_obeyed_fails_when_it_is_loaded(environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        check(environment)
    # The framework sets FUNCTION_TARGET when a test, run before in this process, makes an app.
    inherited = {name: value for name, value in os.environ.items() if name != "FUNCTION_TARGET"}
    command, environ = [sys.executable, "-c", "import main"], {**inherited, **environment}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(message, done.stderr.splitlines()[-1])


def test_a_trigger_does_not_look_at_what_only_the_read_api_needs() -> None:
    check({"FUNCTION_TARGET": "on_expense_written", "ALLOWED_ORIGINS": "example.com", "APP_CHECK": "on"})


@pytest.mark.parametrize(("name", "switch"), SWITCHES)
def test_a_switch_is_on_unless_turned_off(name: str, switch: Callable[[Mapping[str, str]], bool]) -> None:
    assert switch({})
    assert switch({name: ""})
    assert switch({name: "on"})
    assert not switch({name: "off"})
    others = {other: "off" for other, _ in SWITCHES if other != name}
    assert switch(others)


@pytest.mark.parametrize(("name", "switch"), SWITCHES)
@pytest.mark.parametrize("value", ["false", "OFF", "0", "no"])
def test_a_switch_that_is_not_understood_is_not_guessed(
    name: str, switch: Callable[[Mapping[str, str]], bool], value: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"{name} is '{value}'; it must be on or off"):
        switch({name: value})


def test_a_switch_is_read_at_every_use() -> None:
    environment = {"BALANCE_UPDATES": "on"}
    assert updates_on(environment)
    environment["BALANCE_UPDATES"] = "off"
    assert not updates_on(environment)
