"""The read API before an embedded server: the real function, real gRPC, tokens as the Auth emulator makes them."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from functions_framework.execution_id import execution_context_var
from google.cloud import firestore

from balance.core.ledger import Ledger
from balance.documents import balances
from balance.documents.balances import VERSION
from balance.documents.changes import Result
from balance.documents.settings import Settings
from balance.functions import api as api_module
from balance.functions import instance
from balance.operations import includes, log, reading
from balance.operations.budgets import MAX_AT_ONCE, ReadBudgets
from balance.operations.room import Room
from balance.protocol.bookkeeper import Bookkeeper
from emulator.faults import Fault
from scripts.unsigned_token import unsigned_token
from tests.integration.callers import ReadApi, read_api
from tests.integration.served import PROJECT, Served, served


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture
def make(server: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ReadApi]]:
    """Makes an API with given settings, before an empty database."""
    server.within(server.databases.clear)
    open_ones = []

    def make(**settings: str) -> ReadApi:
        context = read_api(server, monkeypatch, **settings)
        api = context.__enter__()
        open_ones.append(context)

        def record(severity: str, message: str, **fields: Any) -> None:
            given = {name: value for name, value in fields.items() if value is not None}
            api.logged.append({"severity": severity, "message": message, **given})

        for module in ("balance.functions.api", "balance.operations.reading"):
            monkeypatch.setattr(f"{module}.log", record)
        return api

    yield make
    server.within(lambda: server.faults.replace([]))
    for context in open_ones:
        context.__exit__(None, None, None)


@pytest.fixture
def api(make: Callable[..., ReadApi]) -> ReadApi:
    return make()


def expected(ledger: Ledger, *members: str) -> dict[str, Any]:
    """What the API must tell of a ledger, zeros of the members filled in."""
    now = datetime.now(UTC)
    document = balances.document("", balances.Stored(balances.of_ledger(ledger), now, now), Settings())
    for rows in document["balancesByCurrency"].values():
        for uid in members:
            rows.setdefault(uid, {"uid": uid, "owes": {}, "owedBy": {}, "netBalance": 0})
    return {name: document[name] for name in ("balancesByCurrency", "simplifiedDebts")}


def essence(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("balancesByCurrency", "simplifiedDebts")}


def dinner(api: ReadApi, group: str = "g1") -> str:
    """A group of four in which bo owes ana 12.5 and chidi owes ana 7.25."""
    api.group(group, "ana", "bo", "chidi", "dara")
    api.expense(group, "ana", {"ana": 10, "bo": 12.5, "chidi": 7.25})
    return group


# ------------------------------------------------------------------------------------------------- a group's balance


def test_a_stored_balance_is_told_with_a_row_for_each_member(api: ReadApi) -> None:
    api.rebuild(dinner(api))
    stored = api.stored("g1")
    assert stored is not None
    api.forget()
    response = api.get("/groups/g1/balance")
    assert response.status_code == 200
    assert response.content_type == "application/json; charset=utf-8"
    assert response.headers["Cache-Control"] == "private, no-store"
    assert response.json == {
        "groupId": "g1",
        "balancesByCurrency": {
            "USD": {
                "ana": {"uid": "ana", "owes": {}, "owedBy": {"bo": 12.5, "chidi": 7.25}, "netBalance": 19.75},
                "bo": {"uid": "bo", "owes": {"ana": 12.5}, "owedBy": {}, "netBalance": -12.5},
                "chidi": {"uid": "chidi", "owes": {"ana": 7.25}, "owedBy": {}, "netBalance": -7.25},
                "dara": {"uid": "dara", "owes": {}, "owedBy": {}, "netBalance": 0},
            }
        },
        "simplifiedDebts": [
            {"from": {"uid": "bo"}, "to": {"uid": "ana"}, "amount": 12.5, "currency": "USD"},
            {"from": {"uid": "chidi"}, "to": {"uid": "ana"}, "amount": 7.25, "currency": "USD"},
        ],
        "lastUpdatedAt": stored["lastUpdatedAt"].strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "asOf": stored["asOf"].strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "version": VERSION,
        "faults": 0,
        "detail": "pairs",
        "source": "precomputed",
    }
    assert api.rpcs() == {"BatchGetDocuments": 1}
    assert api.counters() == ["precomputedReads"]
    assert api.logged[0]["groupId"] == "g1"
    assert api.logged[0]["ms"] > 0


def test_how_many_documents_are_left_out_is_told(api: ReadApi) -> None:
    dinner(api)
    for number in range(2):
        api.expense("g1", "ana", {"bo": True}, name=f"odd-{number}")
    assert api.balance("g1")["faults"] == 2, "recalculated"
    assert (api.balance("g1")["source"], api.balance("g1")["faults"]) == ("precomputed", 2)


def test_members_may_be_a_map_keyed_by_uid(api: ReadApi) -> None:
    api.rebuild(dinner(api))
    api.database.document("groups/g1").set({"members": {"ana": {"role": "owner"}, "éva.o'x/`": True}})
    assert api.balance("g1")["balancesByCurrency"]["USD"]["éva.o'x/`"]["netBalance"] == 0
    assert api.get("/groups/g1/balance", "bo").status_code == 403


def test_uids_and_group_ids_are_opaque(api: ReadApi) -> None:
    api.group("gruppe ü%2F?&#", "ana", "x.y/`'\"\\", "日本")
    api.expense("gruppe ü%2F?&#", "x.y/`'\"\\", {"日本": 3})
    answer = api.balance("gruppe ü%2F?&#")
    assert answer["groupId"] == "gruppe ü%2F?&#"
    assert answer["balancesByCurrency"]["USD"]["日本"]["owes"] == {"x.y/`'\"\\": 3}


def test_the_unit_is_the_apps(make: Callable[..., ReadApi]) -> None:
    api = make(AMOUNT_UNIT="minor")
    api.group("g1", "ana", "bo")
    api.expense("g1", "ana", {"bo": 1250})
    assert api.balance("g1")["balancesByCurrency"]["USD"]["bo"]["netBalance"] == -1250


# ---------------------------------------------------------------------------------------------------------- falling back


def _set(**fields: Any) -> Callable[[firestore.DocumentReference], Any]:
    return lambda balance: balance.update(fields)


BENT = {
    "missing": lambda balance: balance.delete(),
    "stale": _set(version=0),
    "without a version": _set(version=firestore.DELETE_FIELD),
    "older": _set(version=VERSION - 1),
    "another's": _set(groupId="g2"),
    "a net": _set(**{"balancesByCurrency.USD.bo.netBalance": -12}),
    "one side of a pair": _set(**{"balancesByCurrency.USD.bo.owes.ana": 12}),
    "a row too many": _set(**{"balancesByCurrency.USD.zoe": {"uid": "zoe", "owes": {}, "owedBy": {}, "netBalance": 0}}),
    "a field too many": _set(**{"balancesByCurrency.USD.bo.name": "Bo"}),
    "a currency too many": _set(**{"balancesByCurrency.EUR": {}}),
    "a text for a map": _set(balancesByCurrency="none"),
    "suggestions": _set(simplifiedDebts=[]),
    "shape of suggestions": _set(simplifiedDebts=[1]),
    "no time": _set(lastUpdatedAt=None),
    "no asOf": _set(asOf="yesterday"),
    "asOf to come": _set(asOf=datetime.now(UTC) + timedelta(days=2)),
    "detail": _set(detail="all"),
    "other rules": _set(rules="0:other"),
    "an earlier incarnation": _set(incarnation=datetime(2020, 1, 1, tzinfo=UTC)),
    "a count of faults that is none": _set(faults=-1),
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT)
def test_a_balance_that_cannot_be_trusted_is_rebuilt_and_counted(
    api: ReadApi, bend: Callable[[firestore.DocumentReference], Any]
) -> None:
    api.rebuild(dinner(api))
    api.settlement("g1", "bo", "ana", 2.25)  # of which the stored balance has not heard
    bend(api.database.document("groups/g1/metadata/balance"))
    api.forget()
    answer = api.balance("g1")
    assert essence(answer) == expected(api.history("g1"), "ana", "bo", "chidi", "dara")
    assert answer["balancesByCurrency"]["USD"]["bo"]["netBalance"] == -10.25
    assert answer["source"] == "recalculated"
    assert sorted(api.counters()) == ["fallbackCalculations", "rebuilds"]
    assert api.balance("g1") == {**answer, "source": "precomputed"}


def test_a_reader_does_not_wait_for_somebody_elses_lock_and_is_told_what_was_written_meanwhile(
    api: ReadApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "REBUILD_WAIT_S", 0.5)
    rebuild = Bookkeeper.rebuild

    def write_and_rebuild(keeper: Bookkeeper, group_id: str, *, force: bool = False) -> Result:
        api.settlement(group_id, "bo", "ana", 5)
        return rebuild(keeper, group_id, force=force)

    monkeypatch.setattr(Bookkeeper, "rebuild", write_and_rebuild)
    dinner(api)
    # As a backfill does that is killed.
    holder = instance.firestore().begin()
    holder.get(["groups/g1/metadata/balance"])
    answer = api.balance("g1")
    assert api.stored("g1") is None
    assert answer["source"] == "recalculated"
    assert essence(answer) == expected(api.history("g1"), "ana", "bo", "chidi", "dara")
    holder.rollback()
    # The rebuild goes on without the reader.
    while api.stored("g1") is None:
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"version": VERSION + 1}, "newer"),
        ({"rules": "1:higher"}, "newer"),
        ({"detail": "none", "balancesByCurrency": {}, "simplifiedDebts": []}, "none"),
    ],
    ids=["newer", "of a higher epoch", "none"],
)
def test_a_balance_of_newer_code_or_without_detail_is_recalculated_and_left_alone(
    api: ReadApi, fields: dict[str, Any], cause: str
) -> None:
    api.rebuild(dinner(api))
    api.database.document("groups/g1/metadata/balance").update(fields)
    stored = api.stored("g1")
    api.forget()
    answer = api.balance("g1")
    assert essence(answer) == expected(api.history("g1"), "ana", "bo", "chidi", "dara")
    assert (answer["source"], answer["version"]) == ("recalculated", VERSION)
    assert api.stored("g1") == stored
    assert api.counters() == ["fallbackCalculations"]
    assert api.logged[0]["cause"] == cause


def test_totals_too_large_to_be_stored_are_told_as_nets(api: ReadApi) -> None:
    api.group("g1", "ana", "bo")
    for number in range(11):
        api.expense("g1", "ana", {"bo": 10**12 - number}, "JPY")
    for number in range(1000):
        if number % 100 == 0:
            api.database.document(f"expenses/rich-{number}").set(
                {
                    "groupId": "g1",
                    "paidBy": "ana",
                    "amount": 0,
                    "currency": "JPY",
                    "splits": [{"uid": "bo", "amount": 10**12}] * 999,
                }
            )
    answer = api.balance("g1")
    total = sum(10**12 - number for number in range(11)) + 10 * 999 * 10**12
    assert answer["detail"] == "nets"
    assert answer["balancesByCurrency"]["JPY"]["bo"] == {"uid": "bo", "owes": {}, "owedBy": {}, "netBalance": -total}
    assert answer["simplifiedDebts"] == [{"from": {"uid": "bo"}, "to": {"uid": "ana"}, "amount": total, "currency": "JPY"}]
    stored = api.stored("g1")
    assert stored is not None
    assert stored["detail"] == "none"


def test_while_updates_are_off_a_stale_balance_is_recalculated_and_left_alone(make: Callable[..., ReadApi]) -> None:
    api = make(BALANCE_UPDATES="off")
    api.rebuild(dinner(api))
    api.settlement("g1", "bo", "ana", 2.5)
    api.database.document("groups/g1/metadata/balance").update({"version": 0})
    stored = api.stored("g1")
    answer = api.balance("g1")
    assert answer["balancesByCurrency"]["USD"]["bo"]["netBalance"] == -10
    assert api.stored("g1") == stored


def test_precomputed_reads_are_switched_off_and_on_between_requests(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.rebuild(dinner(api))
    api.settlement("g1", "bo", "ana", 2.5)
    stored = api.stored("g1")
    monkeypatch.setenv("BALANCE_PRECOMPUTED_READS", "off")
    monkeypatch.setenv("BALANCE_FALLBACK", "off")  # recalculating is then not a fallback: rolling back takes one switch
    answer = api.balance("g1")
    assert answer["source"] == "recalculated"
    assert answer["balancesByCurrency"]["USD"]["bo"]["netBalance"] == -10
    assert api.stored("g1") == stored
    monkeypatch.setenv("BALANCE_PRECOMPUTED_READS", "on")
    assert api.balance("g1")["balancesByCurrency"]["USD"]["bo"]["netBalance"] == -12.5


def test_without_the_fallback_a_missing_balance_is_an_error_that_a_new_group_does_not_meet(
    api: ReadApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCE_FALLBACK", "off")
    api.group("new", "ana")
    assert api.balance("new")["balancesByCurrency"] == {}
    assert api.stored("new") is None
    response = api.get(f"/groups/{dinner(api)}/balance")
    assert response.status_code == 503
    assert response.json == {"error": {"code": "BALANCE_READ_ERROR", "message": "the balance cannot be read at the moment"}}
    assert response.headers["Retry-After"] == "1"
    assert api.logged[-1]["severity"] == "ERROR"


def test_many_readers_of_a_missing_balance_share_its_rebuilds(api: ReadApi) -> None:
    dinner(api)
    api.forget()
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: api.balance("g1"), range(30)))
    assert all(essence(answer) == expected(api.history("g1"), "ana", "bo", "chidi", "dara") for answer in answers)
    rebuilt = api.server.within(lambda: api.server.databases.statistics.commits)
    # At the least one; at the worst each reader that found nothing came when the rebuild before was just done.
    assert 1 <= rebuilt <= 10


def test_when_it_cannot_be_rebuilt_it_is_told_all_the_same(api: ReadApi) -> None:
    dinner(api)
    api.server.within(lambda: api.server.faults.replace([Fault("Commit", grpc.StatusCode.RESOURCE_EXHAUSTED)]))
    answer = api.balance("g1")
    assert essence(answer) == expected(api.history("g1"), "ana", "bo", "chidi", "dara")
    assert api.counters() == ["fallbackCalculations"]


# ------------------------------------------------------------------------------------------------------ whose and whether


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer x",
        "Bearer a.b.c",
        f"Bearer {unsigned_token('ana', 'another')}",
        f"Bearer {unsigned_token('ana', PROJECT, iss='https://evil.example')}",
        f"Bearer {unsigned_token('', PROJECT)}",
        f"Bearer {unsigned_token(None, PROJECT)}",
        f"Bearer {unsigned_token(['ana'], PROJECT)}",
        f"Bearer {unsigned_token('a' * 129, PROJECT)}",
        f"Bearer {unsigned_token('__x__', PROJECT)}",
        f"Bearer {unsigned_token(chr(0xD800), PROJECT)}",
        "Bearer " + "W1tbW1tb" * 800 + "." + "W1tbW1tb" * 800 + ".",
        "Bearer W10.W10.",
        "Bearer \xff\xfe.é.ü",
    ],
    ids=lambda authorization: str(authorization)[:30],
)
def test_without_a_valid_token_nobody_is_told_anything(api: ReadApi, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in ("/groups/g1/balance", "/balances", "/groups/g1/explain?from=a&to=b"):
        response = api.get(path, None, **headers)
        assert response.status_code == 401
        assert response.json["error"]["code"] == "UNAUTHENTICATED"
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_only_members_read_a_group(api: ReadApi) -> None:
    dinner(api)
    for path in ("/groups/g1/balance", "/groups/g1/explain?from=bo&to=ana"):
        response = api.get(path, "mallory")
        assert (response.status_code, response.json["error"]["code"]) == (403, "FORBIDDEN")
        response = api.get(path.replace("g1", "gone"))
        assert (response.status_code, response.json["error"]["code"]) == (404, "GROUP_NOT_FOUND")


@pytest.mark.parametrize("members", [None, "ana", 7, [["ana"]], [{"uid": "ana"}], {}])
def test_a_group_whose_members_are_of_no_known_shape_is_read_by_nobody(api: ReadApi, members: object) -> None:
    if members != [["ana"]]:  # which Firestore does not hold
        api.database.document("groups/g1").set({"members": members})
        assert api.get("/groups/g1/balance").status_code == 403


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/", 404, "NOT_FOUND"),
        ("/groups", 404, "NOT_FOUND"),
        ("/groups/g1", 404, "NOT_FOUND"),
        ("/groups/g1/balance/", 404, "NOT_FOUND"),
        ("/groups/a%2Fb/balance", 404, "NOT_FOUND"),
        ("/groups/a%252Fb/balance", 404, "GROUP_NOT_FOUND"),
        ("/groups/%00/balance", 404, "GROUP_NOT_FOUND"),
        ("/groups/%FF%FE/balance", 404, "GROUP_NOT_FOUND"),
        ("/groups/%ED%A0%80/balance", 404, "GROUP_NOT_FOUND"),
        ("/groups/%F0%9F%92%A9/balance", 404, "GROUP_NOT_FOUND"),
        ("/groups/../balance", 400, "INVALID_ARGUMENT"),
        ("/groups/__all__/balance", 400, "INVALID_ARGUMENT"),
        ("/groups/" + "g" * 1501 + "/balance", 400, "INVALID_ARGUMENT"),
        ("/BALANCES", 404, "NOT_FOUND"),
        ("/balances/x", 404, "NOT_FOUND"),
        ("/balances?pageSize=0", 400, "INVALID_ARGUMENT"),
        ("/balances?pageSize=-1", 400, "INVALID_ARGUMENT"),
        ("/balances?pageSize=101", 400, "INVALID_ARGUMENT"),
        ("/balances?pageSize=1e2", 400, "INVALID_ARGUMENT"),
        ("/balances?pageSize=", 400, "INVALID_ARGUMENT"),
        ("/balances?pageSize=%D9%A1", 400, "INVALID_ARGUMENT"),
        ("/balances?pageSize=" + "9" * 5000, 400, "INVALID_ARGUMENT"),
        ("/balances?pageSize=5&pageSize=6", 400, "INVALID_ARGUMENT"),
        ("/balances?pageToken=", 400, "INVALID_ARGUMENT"),
        ("/balances?pageToken=a%2Fb", 400, "INVALID_ARGUMENT"),
        ("/balances?pageToken=a&pageToken=b", 400, "INVALID_ARGUMENT"),
        ("/groups/g1/explain", 400, "INVALID_ARGUMENT"),
        ("/groups/g1/explain?from=bo", 400, "INVALID_ARGUMENT"),
        ("/groups/g1/explain?from=bo&to=", 400, "INVALID_ARGUMENT"),
        ("/groups/g1/explain?from=bo&from=ana&to=bo", 400, "INVALID_ARGUMENT"),
        ("/groups/g1/explain?from=__x__&to=bo", 400, "INVALID_ARGUMENT"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_by_status_and_code(api: ReadApi, path: str, status: int, code: str) -> None:
    dinner(api)
    response = api.get(path)
    assert (response.status_code, response.json["error"]["code"]) == (status, code)
    assert response.json["error"]["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
def test_the_api_only_reads(api: ReadApi, method: str) -> None:
    for uid in ("ana", None):
        response = api.get("/groups/g1/balance", uid, method)
        assert (response.status_code, response.json["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_head_answers_like_get_without_the_body(api: ReadApi) -> None:
    dinner(api)
    response = api.get("/groups/g1/balance", method="HEAD")
    assert (response.status_code, response.data) == (200, b"")
    assert api.get("/groups/g1/balance", "mallory", "HEAD").status_code == 403


@pytest.mark.parametrize(
    ("code", "status"),
    [("UNAVAILABLE", 503), ("PERMISSION_DENIED", 500), ("DEADLINE_EXCEEDED", 503), ("INVALID_ARGUMENT", 500)],
)
def test_trouble_within_is_logged_and_not_told(api: ReadApi, code: str, status: int) -> None:
    dinner(api)
    api.server.within(lambda: api.server.faults.replace([Fault("*", grpc.StatusCode[code])]))
    for path in ("/groups/g1/balance", "/balances", "/groups/g1/explain?from=bo&to=ana"):
        response = api.get(path)
        assert response.status_code == status
        assert set(response.json) == {"error"}
        assert response.json["error"]["code"] == "BALANCE_READ_ERROR"
        assert not any(word in response.text.lower() for word in ("grpc", "inject", "traceback", "firestore", "document"))
        assert api.logged[-1]["severity"] == "ERROR"
        assert api.logged[-1]["code"] == "BALANCE_READ_ERROR"
        assert "Traceback" in api.logged[-1]["stack"]


def test_a_passing_trouble_is_not_noticed(api: ReadApi) -> None:
    api.rebuild(dinner(api))
    rules = [Fault(rpc, grpc.StatusCode.UNAVAILABLE, remaining=2) for rpc in ("BatchGetDocuments", "RunQuery")]
    api.server.within(lambda: api.server.faults.replace(rules))
    assert api.get("/balances").json["groups"][0]["netByCurrency"] == {"USD": 19.75}


# ------------------------------------------------------------------------------------------------------ the caller's groups


def _fleet(api: ReadApi, count: int, members: Callable[[int], object]) -> None:
    for number in range(count):
        api.database.document(f"groups/g{number:02}").set({"members": members(number)})
        api.expense(f"g{number:02}", "ana", {"bo": number + 1}, "EUR" if number % 2 else "USD")
        api.rebuild(f"g{number:02}")


@pytest.mark.parametrize("shape", ["list", "map"])
def test_the_callers_groups_come_page_by_page_with_one_query_and_one_batched_read(
    make: Callable[..., ReadApi], shape: str
) -> None:
    api = make(GROUP_MEMBERS=shape)
    names = ("bo.x/`y", "ana", "bo")

    def members(number: int) -> object:
        own = names[:2] if number % 3 else names[1:]
        if shape == "list":
            return list(own)
        # Whatever an app keeps there: values of several types, so that their order is not that of the ids.
        return {uid: (True, None, {"role": "x", "n": -number}, "since 2020")[(number * 7 + len(uid)) % 4] for uid in own}

    _fleet(api, 15, members)
    found, token, pages = [], "", 0
    while token is not None:
        api.forget()
        page = api.get(f"/balances?pageSize=4{token and '&pageToken=' + token}", "bo.x/`y").json
        assert api.rpcs() == {"RunQuery": 1, "BatchGetDocuments": 1}
        assert api.counters() == ["precomputedReads"]
        found += page["groups"]
        token, pages = page["nextPageToken"], pages + 1
    assert pages == 3
    assert [item["groupId"] for item in found] == [f"g{number:02}" for number in range(15) if number % 3]
    whole = api.get("/balances", "ana").json
    assert whole["nextPageToken"] is None
    assert [item["netByCurrency"] for item in whole["groups"]] == [
        {"EUR" if number % 2 else "USD": number + 1} for number in range(15)
    ]
    assert whole["groups"][0]["balance"] == api.balance("g00")
    assert found[0]["netByCurrency"] == {"EUR": 0}
    assert api.get("/balances", "nobody").json == {"groups": [], "nextPageToken": None}


def test_a_page_that_ends_with_the_last_group_has_no_next(api: ReadApi) -> None:
    _fleet(api, 4, lambda _: ["ana"])
    assert api.get("/balances?pageSize=4").json["nextPageToken"] is None
    assert api.get("/balances?pageSize=3").json["nextPageToken"] == "g02"


def test_a_group_that_cannot_be_read_does_not_keep_the_others_from_the_caller(
    api: ReadApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fleet(api, 3, lambda _: ["ana", "bo"])
    api.database.document("groups/g01/metadata/balance").update({"version": 0})
    monkeypatch.setenv("BALANCE_FALLBACK", "off")
    first, second, third = api.get("/balances").json["groups"]
    assert second == {
        "groupId": "g01",
        "error": {"code": "BALANCE_READ_ERROR", "message": "the balance cannot be read at the moment"},
    }
    assert (first["netByCurrency"], third["netByCurrency"]) == ({"USD": 1}, {"USD": 3})
    monkeypatch.setenv("BALANCE_FALLBACK", "on")
    api.forget()
    assert [item["balance"]["source"] for item in api.get("/balances").json["groups"]] == [
        "precomputed",
        "recalculated",
        "precomputed",
    ]
    assert sorted(api.counters()) == ["fallbackCalculations", "precomputedReads", "rebuilds"]


# ------------------------------------------------------------------------------------------------------------- explaining


def test_a_debt_is_explained_by_pairs_and_these_by_transactions(api: ReadApi) -> None:
    api.group("g1", "ana", "bo", "chidi")
    lunch = api.expense("g1", "ana", {"bo": 20, "chidi": 5})
    taxi = api.expense("g1", "bo", {"ana": 4, "chidi": 6})
    paid = api.settlement("g1", "bo", "ana", 7.5)
    api.expense("g1", "ana", {"bo": 9}, "EUR")
    gone = api.expense("g1", "ana", {"bo": 100})
    api.database.document(gone).update({"deletedAt": firestore.SERVER_TIMESTAMP})
    api.database.document("expenses/odd").set({"groupId": "g1", "paidBy": "ana"})
    answer = api.get("/groups/g1/explain?from=bo&to=ana", "chidi").json
    assert (answer["groupId"], answer["from"], answer["to"]) == ("g1", {"uid": "bo"}, {"uid": "ana"})
    dollars = answer["byCurrency"]["USD"]
    assert (dollars["suggested"], dollars["owed"]) == (2.5, 8.5)
    assert dollars["netBalances"] == {"bo": -2.5, "ana": 13.5}
    direct, from_chidi_to_ana, from_chidi_to_bo = dollars["pairs"]
    assert (direct["from"], direct["to"], direct["amount"]) == ({"uid": "bo"}, {"uid": "ana"}, 8.5)
    assert [(t["kind"], t["source"], t["amount"]) for t in direct["transactions"]] == [
        ("settlement", paid, -7.5),
        ("expense", taxi, -4),
        ("expense", lunch, 20),
    ]
    assert (from_chidi_to_ana["amount"], from_chidi_to_bo["amount"]) == (5, 6)
    assert answer["byCurrency"]["EUR"]["owed"] == 9
    # The other way round the numbers change their signs.
    reverse = api.get("/groups/g1/explain?from=ana&to=bo").json["byCurrency"]["USD"]
    assert (reverse["suggested"], reverse["owed"]) == (0, -8.5)
    assert reverse["pairs"] == dollars["pairs"]


def test_refunds_several_payers_and_thirds_are_explained_by_what_they_do_to_each_pair(api: ReadApi) -> None:
    api.group("g1", "ana", "bo", "cy")

    def write(name: str, paid_by: object, **shares: float) -> None:
        splits = [{"uid": uid, "amount": amount} for uid, amount in shares.items()]
        fields = {"groupId": "g1", "paidBy": paid_by, "amount": sum(shares.values()), "currency": "USD", "splits": splits}
        api.database.document(f"expenses/{name}").set(fields)

    write("bill", "ana", ana=30, bo=30, cy=30)
    write("refund", "ana", ana=-10, bo=-10, cy=-10)
    write("two-payers", [{"uid": "ana", "amount": 4}, {"uid": "bo", "amount": 8}], ana=4, bo=4, cy=4)
    write("thirds", "ana", ana=10 / 3, bo=10 / 3, cy=10 / 3)

    dollars = api.get("/groups/g1/explain?from=bo&to=ana").json["byCurrency"]["USD"]
    told = {
        (pair["from"]["uid"], pair["to"]["uid"]): (
            pair["amount"],
            {part["source"].removeprefix("expenses/"): part["amount"] for part in pair["transactions"]},
        )
        for pair in dollars["pairs"]
    }
    assert told == {
        ("bo", "ana"): (23.33, {"bill": 30, "refund": -10, "thirds": 3.33}),
        ("cy", "ana"): (23.33, {"bill": 30, "refund": -10, "thirds": 3.33}),
        ("cy", "bo"): (4, {"two-payers": 4}),
    }
    assert dollars["netBalances"] == {"bo": -19.33, "ana": 46.66}


def test_a_users_own_net_balance_is_explained(api: ReadApi) -> None:
    dinner(api)
    dollars = api.get("/groups/g1/explain?from=ana&to=ana").json["byCurrency"]["USD"]
    assert (dollars["suggested"], dollars["owed"], dollars["netBalances"]) == (0, 0, {"ana": 19.75})
    assert [(pair["from"]["uid"], pair["amount"]) for pair in dollars["pairs"]] == [("bo", 12.5), ("chidi", 7.25)]


def test_what_is_suggested_to_others_explains_nothing(api: ReadApi) -> None:
    api.group("g1", "ana", "bo", "chidi")
    api.expense("g1", "ana", {"chidi": 5})
    api.expense("g1", "bo", {"chidi": 3})
    for creditor, amount in (("ana", 5), ("bo", 3)):
        dollars = api.get(f"/groups/g1/explain?from=chidi&to={creditor}").json["byCurrency"]["USD"]
        assert (dollars["suggested"], dollars["owed"]) == (amount, amount)


def test_between_strangers_there_is_nothing_to_explain(api: ReadApi) -> None:
    dinner(api)
    assert api.get("/groups/g1/explain?from=dara&to=x%2Fy").json["byCurrency"] == {}


def test_explanations_come_page_by_page_and_add_up(api: ReadApi) -> None:
    api.group("g1", "ana", "bo", "chidi")
    for number in range(60):
        payer, other = [("ana", "bo"), ("bo", "ana"), ("chidi", "ana")][number % 3]
        api.expense("g1", payer, {other: (number * 37 % 50 + 1) / 4}, "USD")
    told: dict[tuple[str, str], float] = {}
    sources: list[str] = []
    page = api.get("/groups/g1/explain?from=bo&to=ana&pageSize=25").json
    pages = [page]
    while page["nextPageToken"] is not None:
        page = api.get(f"/groups/g1/explain?from=bo&to=ana&pageSize=25&pageToken={page['nextPageToken']}").json
        pages.append(page)
    assert [sum(len(pair["transactions"]) for pair in page["byCurrency"]["USD"]["pairs"]) for page in pages] == [25, 25, 10]
    for page in pages:
        dollars = page["byCurrency"]["USD"]
        nets = dict.fromkeys(("bo", "ana"), 0.0)
        for pair in dollars["pairs"]:
            key = (pair["from"]["uid"], pair["to"]["uid"])
            told[key] = told.get(key, 0.0) + sum(t["amount"] for t in pair["transactions"])
            assert told[key] + pair["leftOut"]["amount"] == pair["amount"] > 0
            sources += [t["source"] for t in pair["transactions"]]
            for uid, sign in ((key[0], -1), (key[1], 1)):
                if uid in nets:
                    nets[uid] += sign * pair["amount"]
        assert nets == dollars["netBalances"]
    assert len(sources) == len(set(sources)) == 60
    assert all(pair["leftOut"] == {"count": 0, "amount": 0} for pair in pages[-1]["byCurrency"]["USD"]["pairs"])


@pytest.mark.parametrize("token", ["x", "", "W10", "WzEsMiwzLDQsNV0", "!!!", "WyIyMDI2LTAxLTAxIiwiYSIsImIiLCJjIiwiZCJd"])
def test_a_page_token_of_an_explanation_must_be_one_that_was_given(api: ReadApi, token: str) -> None:
    dinner(api)
    assert api.get(f"/groups/g1/explain?from=ana&to=bo&pageToken={token}").status_code == 400


def test_an_explanation_tells_what_is_in_no_sum(api: ReadApi) -> None:
    dinner(api)
    api.database.document("expenses/odd").set({"groupId": "g1", "amount": "?"})
    assert api.get("/groups/g1/explain?from=ana&to=bo").json["faults"] == 1


# --------------------------------------------------------------------------------------------------- what a caller may cost


def test_equal_explanations_are_read_once_while_the_balance_stands(api: ReadApi) -> None:
    dinner(api)
    api.rebuild("g1")
    api.forget()
    for _ in range(5):
        assert api.get("/groups/g1/explain?from=bo&to=ana").status_code == 200
    assert api.rpcs()["RunQuery"] == 2, "expenses and settlements, once"
    api.expense("g1", "ana", {"bo": 1})
    api.rebuild("g1")
    api.forget()
    assert api.get("/groups/g1/explain?from=bo&to=ana").status_code == 200
    assert api.rpcs()["RunQuery"] == 2


def test_a_group_without_detail_is_recalculated_once_until_its_balance_changes(api: ReadApi) -> None:
    api.group("g1", "ana", "bo")
    for _ in range(11):
        api.expense("g1", "ana", {"bo": 10**12}, "JPY")
        api.database.collection("expenses").add(
            {"groupId": "g1", "paidBy": "ana", "amount": 1, "currency": "JPY", "splits": [{"uid": "bo", "amount": 10**14}] * 2}
        )
    api.rebuild("g1")
    stored = api.stored("g1")
    assert stored is not None
    assert stored["detail"] == "none"
    api.forget()
    for _ in range(5):
        assert api.balance("g1")["detail"] == "nets"
    assert api.rpcs()["RunQuery"] == 2


def test_a_balance_of_newer_code_is_recalculated_each_time_since_nobody_may_follow_the_events(api: ReadApi) -> None:
    api.rebuild(dinner(api))
    api.database.document("groups/g1/metadata/balance").update({"version": VERSION + 1})
    assert api.balance("g1")["balancesByCurrency"]["USD"]["bo"]["netBalance"] == -12.5
    # After a roll-back the older code refuses the event of this, until a rebuild is forced: the balance does not change.
    api.settlement("g1", "bo", "ana", 2.25)
    assert api.balance("g1")["balancesByCurrency"]["USD"]["bo"]["netBalance"] == -10.25


def test_pages_of_an_explanation_fit_together_after_an_edit_that_moves_no_money(api: ReadApi) -> None:
    api.group("g1", "ana", "bo")
    paths = [api.expense("g1", "ana", {"bo": 1}, name=f"e{number}") for number in range(4)]
    api.rebuild("g1")
    url = "/groups/g1/explain?from=bo&to=ana&pageSize=2"
    assert api.get(url).json["nextPageToken"] is not None
    api.database.document("expenses/e0").update({"title": "lunch"})
    told, token = [], ""
    while token is not None:
        page = api.get(url + (f"&pageToken={token}" if token else "")).json
        told += [t["source"] for pair in page["byCurrency"]["USD"]["pairs"] for t in pair["transactions"]]
        token = page["nextPageToken"]
    assert sorted(told) == paths


def test_who_causes_too_many_reads_waits_and_nobody_else_does(make: Callable[..., ReadApi]) -> None:
    api = make(READS_PER_MINUTE="100")
    api_module._budgets_of.cache_clear()
    api.group("g1", "ana", "bo")
    for number in range(60):
        api.expense("g1", "ana", {"bo": 1}, name=f"e{number}")
    for size in (1, 2, 3, 4):
        response = api.get(f"/groups/g1/explain?from=bo&to=ana&pageSize={size}")
        assert response.status_code == (200 if size < 3 else 429), size
    assert response.json["error"]["code"] == "TOO_MANY_READS"
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert api.get("/groups/g1/explain?from=bo&to=ana&pageSize=5", "bo").status_code == 200
    assert api.counters().count("throttled") == 2


def many(api: ReadApi) -> list[str]:
    """Groups with stored balances of ana's, in order."""
    groups = [f"g{number}" for number in range(7)]
    for number, group in enumerate(groups):
        api.group(group, "ana", "bo")
        api.expense(group, "ana", {"bo": number + 1})
        api.rebuild(group)
    return groups


@pytest.mark.parametrize("path", ["/balances", "/balances?pageSize=5", "/totals"])
def test_large_balances_are_read_few_at_a_time(api: ReadApi, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    many(api)
    api.forget()
    whole = api.get(path).json
    assert api.rpcs()["BatchGetDocuments"] == 1
    monkeypatch.setattr(api_module, "_LISTS", Room(api_module.PORTION_BYTES + api_module.MAX_PAGE_BYTES, wait_s=0.0))
    _, size_bytes = instance.firestore().get_within(["groups/g6/metadata/balance"], 1)
    monkeypatch.setattr(api_module, "PORTION_BYTES", size_bytes * 5 // 2)  # for two of them
    api.forget()
    assert api.get(path).json == whole
    assert api.rpcs()["BatchGetDocuments"] == (3 if "5" in path else 4)
    assert api.get(path).json == whole, "there is as much room as before"


def test_more_large_lists_than_there_is_room_for_wait_or_are_told_to_come_again(
    api: ReadApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(api)
    monkeypatch.setattr(api_module, "_LISTS", Room(api_module.PORTION_BYTES + api_module.MAX_PAGE_BYTES, wait_s=0.0))
    with api_module._LISTS.share() as another:
        another.take(1)
        for path in ("/balances", "/totals"):
            response = api.get(path)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert api.get("/groups/g0/balance").status_code == 200
    assert api.get("/balances").status_code == 200


def test_the_first_documents_are_got_as_far_as_they_fit(api: ReadApi) -> None:
    paths = [f"groups/{group}" for group in many(api)]
    database = instance.firestore()
    found, size_bytes = database.get_within(paths, 1_000_000)
    assert [snapshot.path for snapshot in found] == paths
    assert database.get_within([], 1) == ([], 0)
    for limit in (1, size_bytes // 7, size_bytes // 2, size_bytes - 1):
        some, _ = database.get_within(paths, limit)
        assert 1 <= len(some) < 7
        assert [snapshot.path for snapshot in some] == paths[: len(some)]
    missing, _ = database.get_within(["groups/none", *paths], 1_000_000)
    assert (missing[0].fields, len(missing)) == (None, 8)


def test_what_asking_for_writes_reads_is_charged(make: Callable[..., ReadApi], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(includes, "WAIT_S", 0.0)
    api = make(READS_PER_MINUTE="100")
    api_module._budgets_of.cache_clear()
    api.group("g1", "ana", "bo")
    api.rebuild("g1")
    api.expense("g1", "ana", {"bo": 1}, name="e1")
    statuses = []
    for _ in range(60):
        statuses.append(api.get("/groups/g1/balance?includes=expenses/e1@latest").status_code)
        if statuses[-1] != 200:
            break
    # The document now, before and at the write, the balance and the record: five reads; and what is left may be overdrawn.
    assert statuses[-1] == 429
    assert 100 / 5 <= len(statuses) <= 100 / 5 + 3
    assert api.get("/groups/g1/balance").status_code == 200, "a stored balance is free"


def test_what_an_explanation_read_is_charged_though_it_failed(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = ReadBudgets(100, clock=lambda: 0.0)
    budgets.charge("ana", 98)
    monkeypatch.setattr(api_module, "_budgets_of", lambda _: budgets)
    api.group("g1", "ana", "bo")
    for number in range(5):
        api.expense("g1", "ana", {"bo": 1}, name=f"e{number}")
    # Each of its four attempts reads a document, and then the stream breaks.
    rules = [Fault("RunQuery", grpc.StatusCode.UNAVAILABLE, moment="within")]
    api.server.within(lambda: api.server.faults.replace(rules))
    assert api.get("/groups/g1/explain?from=bo&to=ana").status_code == 503
    api.server.within(lambda: api.server.faults.replace([]))
    assert api.get("/groups/g1/explain?from=bo&to=ana").status_code == 429


def test_a_list_tells_which_groups_were_not_read_for_want_of_budget(make: Callable[..., ReadApi]) -> None:
    api = make(READS_PER_MINUTE="100")
    api_module._budgets_of.cache_clear()
    api.group("g1", "ana", "bo")
    api.group("g2", "ana", "bo")
    api.expense("g2", "ana", {"bo": 1})
    api.rebuild("g2")
    for _ in range(3):
        api.expense("g1", "ana", {"bo": 1})
    api_module._budgets().charge("ana", 200)
    missing, stored = api.get("/balances").json["groups"]
    assert missing["error"]["code"] == "TOO_MANY_READS"
    assert stored["netByCurrency"] == {"USD": 1}


def test_who_waits_in_vain_for_a_place_to_read_a_history_waits_once(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        asked = 0

        def acquire(self, timeout: float) -> bool:
            self.asked += 1
            return False

    places = Full()
    monkeypatch.setattr("balance.operations.reading._HISTORIES", places)
    dinner(api)
    for number, path in enumerate(("/groups/g1/balance", "/groups/g1/explain?from=bo&to=ana"), 1):
        assert api.get(path).status_code == 503
        assert places.asked == number


def test_one_callers_explanations_leave_places_for_others(api: ReadApi) -> None:
    dinner(api)
    with ExitStack() as turns:
        for _ in range(MAX_AT_ONCE):
            turns.enter_context(api_module._budgets().turn("ana"))
        assert api.get("/groups/g1/explain?from=bo&to=ana").status_code == 429
        assert api.get("/groups/g1/explain?from=bo&to=ana", "bo").status_code == 200
    assert api.get("/groups/g1/explain?from=bo&to=ana").status_code == 200


def test_a_new_group_is_no_fallback(api: ReadApi) -> None:
    api.group("g1", "ana")
    assert api.balance("g1")["source"] == "precomputed"
    assert "fallbackCalculations" not in api.counters()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/groups/g1/balance?include=x", "include"),
        ("/balances?page=2", "page"),
        ("/totals?currency=EUR", "currency"),
        ("/groups/g1/explain?from=ana&to=bo&depth=1", "depth"),
    ],
)
def test_unknown_parameters_are_refused_by_name(api: ReadApi, path: str, name: str) -> None:
    dinner(api)
    response = api.get(path)
    assert response.status_code == 400
    assert repr(name) in response.json["error"]["message"]


# ------------------------------------------------------------------------------------------------------- lists and totals


@pytest.mark.parametrize(("deleted_at", "is_listed"), [(None, True), (False, True), (True, False), (datetime.now(UTC), False)])
def test_deleted_groups_are_left_out_of_lists(api: ReadApi, deleted_at: object, is_listed: bool) -> None:
    api.database.document("groups/g1").set({"members": ["ana"], "deletedAt": deleted_at})
    api.group("g2", "ana")
    listed = [group["groupId"] for group in api.get("/balances").json["groups"]]
    assert listed == (["g1", "g2"] if is_listed else ["g2"])


def test_a_page_ends_before_it_is_too_large(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        group = api.group(f"g{number}", "ana", "bo")
        api.expense(group, "ana", {"bo": 1})
        api.rebuild(group)
    monkeypatch.setattr("balance.functions.api.MAX_PAGE_BYTES", 1_500)
    found: list[str] = []
    token = None
    while True:
        page = api.get("/balances" + (f"?pageToken={token}" if token else "")).json
        assert 1 <= len(page["groups"]) < 6
        found += [group["groupId"] for group in page["groups"]]
        token = page["nextPageToken"]
        if token is None:
            break
    assert found == [f"g{number}" for number in range(6)]


def test_lists_do_not_hold_all_balances_at_once(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    _fleet(api, 6, lambda _: ["ana", "bo"])
    monkeypatch.setattr("balance.functions.api.BALANCES_AT_ONCE", 2)
    for path, read in (("/balances", 3), ("/totals", 3)):
        api.forget()
        assert api.get(path).status_code == 200
        assert api.rpcs() == {"RunQuery": 1, "BatchGetDocuments": read}
    assert len(api.get("/balances").json["groups"]) == 6
    monkeypatch.setattr("balance.functions.api.MAX_PAGE_BYTES", 500)
    api.forget()
    assert api.get("/balances").json["nextPageToken"] == "g00"
    assert api.rpcs()["BatchGetDocuments"] == 1, "what is on no page is not read"


def test_totals_say_what_a_user_owes_and_is_owed_over_all_groups(api: ReadApi) -> None:
    written: dict[str, list[tuple[str, dict[str, float], str]]] = {
        "flat": [("bo", {"ana": 5}, "EUR"), ("ana", {"chidi": 2}, "USD")],
        "lisbon": [("ana", {"bo": 12.5, "chidi": 1}, "EUR")],
        "zero": [("ana", {"bo": 3}, "EUR"), ("bo", {"ana": 3}, "EUR")],
        "others": [("bo", {"chidi": 100}, "EUR")],
    }
    for name, expenses in written.items():
        members = ["bo", "chidi"] if name == "others" else ["ana", "bo", "chidi"]
        api.group(name, *members)
        for payer, shares, currency in expenses:
            api.expense(name, payer, shares, currency)
        api.rebuild(name)
    totals = api.get("/totals").json
    assert totals["byCurrency"] == {
        "EUR": {
            "owes": 5,
            "isOwed": 13.5,
            "netBalance": 8.5,
            "groups": [{"groupId": "flat", "netBalance": -5}, {"groupId": "lisbon", "netBalance": 13.5}],
        },
        "USD": {"owes": 0, "isOwed": 2, "netBalance": 2, "groups": [{"groupId": "flat", "netBalance": 2}]},
    }
    assert totals["byPerson"]["bo"]["EUR"]["netBalance"] == 7.5
    assert totals["byPerson"]["bo"]["EUR"]["owes"] == 5
    assert {currency: each["netBalance"] for currency, each in totals["byPerson"]["chidi"].items()} == {"EUR": 1, "USD": 2}
    assert (totals["withoutPairs"], totals["unreadable"], totals["faults"]) == ([], [], 0)


def test_totals_over_a_hundred_groups_take_a_handful_of_rpcs(api: ReadApi) -> None:
    for number in range(100):
        group = api.group(f"g{number:03}", "ana", "bo")
        api.expense(group, "ana", {"bo": 1})
        api.rebuild(group)
    api.forget()
    assert api.get("/totals").json["byPerson"]["bo"]["USD"]["isOwed"] == 100
    assert sum(api.rpcs().values()) <= 3


def test_totals_tell_what_is_in_no_figure(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    dinner(api)
    api.database.document("expenses/odd").set({"groupId": "g1", "amount": "?"})
    api.rebuild("g1")
    api.group("g2", "ana", "bo")
    api.expense("g2", "ana", {"bo": 1})
    monkeypatch.setenv("BALANCE_FALLBACK", "off")
    totals = api.get("/totals").json
    assert totals["faults"] == 1
    assert [group["groupId"] for group in totals["unreadable"]] == ["g2"]
    monkeypatch.setattr("balance.functions.api.MAX_TOTALS_GROUPS", 1)
    assert api.get("/totals").json["error"]["code"] == "TOO_MANY_GROUPS"


# ------------------------------------------------------------------------------------------------------------------- CORS


def test_by_default_no_other_origin_may_read(api: ReadApi) -> None:
    response = api.get("/balances", Origin="https://evil.example")
    assert not any(name.startswith("Access-Control") for name, _ in response.headers)


def test_listed_origins_may_read_errors_and_preflights_too(make: Callable[..., ReadApi]) -> None:
    api = make(ALLOWED_ORIGINS="https://app.example.com, http://localhost:5173")
    for uid, status in (("ana", 200), (None, 401)):
        response = api.get("/balances", uid, Origin="http://localhost:5173")
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
        assert response.headers["Vary"] == "Origin"
        assert response.headers["Access-Control-Expose-Headers"] == "Retry-After"
    asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"}
    preflight = api.get("/groups/g1/balance", None, "OPTIONS", **asked)
    assert (preflight.status_code, preflight.data) == (204, b"")
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert preflight.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert preflight.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type, X-Firebase-AppCheck"
    other = api.get("/groups/g1/balance", None, "OPTIONS", Origin="https://app.example.com.evil.example")
    assert "Access-Control-Allow-Origin" not in other.headers
    assert other.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("path", "uid", "status"),
    [
        ("/nowhere", "ana", 404),
        ("/balances", None, 401),
        ("/balances?pageSize=x", "ana", 400),
        ("/groups/gone/balance", "ana", 404),
    ],
)
def test_errors_may_be_read_by_pages_too(
    server: Served, monkeypatch: pytest.MonkeyPatch, path: str, uid: str | None, status: int
) -> None:
    with read_api(server, monkeypatch, ALLOWED_ORIGINS="https://app.example.com") as api:
        response = api.get(path, uid, Origin="https://app.example.com")
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"


def test_with_app_check_required_a_request_without_its_token_is_refused(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with read_api(server, monkeypatch, APP_CHECK="required", ALLOWED_ORIGINS="*") as api:
        response = api.get("/balances", Origin="https://app.example.com")
        assert response.status_code == 401
        assert "X-Firebase-AppCheck" in response.json["error"]["message"]
        assert api.get("/balances", None, "OPTIONS", Origin="https://app.example.com").status_code == 204


def test_every_origin_may_be_allowed(make: Callable[..., ReadApi]) -> None:
    api = make(ALLOWED_ORIGINS="*")
    assert api.get("/balances", Origin="null").headers["Access-Control-Allow-Origin"] == "*"


# ---------------------------------------------------------------------------------------------------------------- logging


def test_entries_are_json_lines_of_the_fields_that_the_metrics_read(
    api: ReadApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("balance.functions.api.log", log.log)
    monkeypatch.setattr("balance.operations.reading.log", log.log)
    dinner(api)
    api.balance("g1")
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["metric"] for entry in entries] == ["rebuilds", "fallbackCalculations"]
    assert entries[1]["groupId"] == "g1"
    assert entries[1]["cause"] == "missing"
    assert entries[1]["ms"] > 0


def test_what_is_logged_beside_the_request_bears_the_id_of_its_execution(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    dinner(api)
    seen: list[Any] = []
    monkeypatch.setattr("balance.operations.reading.log", lambda *_, **__: seen.append(execution_context_var.get()))
    assert api.get("/balances", **{"Function-Execution-Id": "the-id"}).status_code == 200
    (context,) = seen
    assert context is not None, "the balance was missing, and its rebuild is logged by another thread"
    assert context.execution_id == "the-id"
