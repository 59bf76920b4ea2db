"""The console before a project: what it reads, what it refuses, what it says when it may not see something."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from balance.documents.settings import Settings
from console.app import Console
from console.deployment import Deployment
from console.feed import Feed
from emulator.faults import Fault
from scripts.output import Names
from tests.integration import deployment as integration

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "token-of-the-test"
PROJECT = "my-app"


@dataclass
class Pages:
    """The console's pages, asked without a server between."""

    app: integration.Deployment
    deployment: Deployment
    console: Console

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.console.application())
            async with httpx.AsyncClient(transport=transport) as client:
                return await client.request(method, f"http://127.0.0.1/{TOKEN}{path}", **more)

        return asyncio.run(asked())

    def get(self, path: str, status: int = 200) -> str:
        answer = self.ask("GET", path)
        assert answer.status_code == status, answer.text
        return answer.text

    def post(self, path: str, **form: str) -> httpx.Response:
        (csrf,) = set(re.findall(r'name="csrf" value="([^"]+)"', self.get("/workbench")))
        return self.ask("POST", path, data={"csrf": csrf, **form})


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[integration.Deployment]:
    with integration.deployment(monkeypatch) as made:
        yield made


def pages(app: integration.Deployment, *, may_write: bool = False) -> Pages:
    made = Deployment(
        project=PROJECT,
        firestore=app.database,
        settings=Settings(),
        parameters={},
        folder=ROOT,
        names=Names(app.database, "users"),
        may_write=may_write,
    )
    return Pages(app, made, Console(made, Feed(made.settings), TOKEN))


def trip(app: integration.Deployment) -> str:
    """A group with an expense in its balance."""
    group_id = app.group("trip", "ana", "bo")
    app.client.document("users/ana").set({"displayName": "Ana B."})
    app.client.document("expenses/dinner").set(integration.expense("trip", "ana", "EUR", ana=5, bo=7))
    app.keeper.rebuild(group_id)
    return group_id


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/?q=tr", "/?q=Trip&by=name", "/?q=ana&by=member", "/groups/trip", "/groups/trip/verify", "/events", "/oncall"),
        *("/groups/trip/why?from=bo&to=ana", "/runbook", "/workbench?path=expenses/dinner", "/groups/none"),
    ],
)
def test_in_production_every_page_is_there_and_none_offers_to_write(app: integration.Deployment, path: str) -> None:
    trip(app)
    html = pages(app).get(path)
    assert "production" in html
    assert "read only" in html
    assert re.findall(r'<form method="post" action="[^"]*/(\w+)"', html) == (["workbench"] if "/workbench" in path else [])


def test_reading_pages_write_nothing(app: integration.Deployment) -> None:
    trip(app)
    before = app.server.databases.statistics.as_dict()
    shown = pages(app)
    for path in ("/", "/groups/trip", "/groups/trip/verify", "/groups/trip/why?from=bo&to=ana", "/oncall", "/events"):
        shown.get(path)
    after = app.server.databases.statistics.as_dict()
    assert after["rpcs"].get("Commit") == before["rpcs"].get("Commit")
    assert (
        not {"Write", "BatchWrite", "CreateDocument", "UpdateDocument", "DeleteDocument"}
        & after["rpcs"].keys() - before["rpcs"].keys()
    )


def test_names_stand_in_the_place_of_uids(app: integration.Deployment) -> None:
    trip(app)
    html = pages(app).get("/groups/trip")
    assert 'title="ana">Ana B.</' in html


def test_the_apps_documents_cannot_be_written_in_production(app: integration.Deployment) -> None:
    trip(app)
    shown = pages(app, may_write=True)
    for path, form in (
        ("/groups", {"id": "new", "members": "ana"}),
        ("/groups/trip/delete", {}),
        ("/groups/trip/entries", {"kind": "expense", "amount": "5", "currency": "EUR", "paidBy": "ana", "among": "bo"}),
        ("/groups/trip/document?path=expenses/dinner", {"action": "delete"}),
        ("/groups/trip/document?path=expenses/dinner", {"action": "save", "document": "{}"}),
        ("/control", {"action": "hold"}),
        ("/events/1", {"action": "drop"}),
    ):
        assert shown.post(path, **form).status_code == 422, path
    assert app.client.document("expenses/dinner").get().exists
    assert app.client.document("groups/trip").get().exists
    assert not app.client.document("groups/new").get().exists


def test_a_rebuild_in_production_needs_the_switch_and_the_projects_name(app: integration.Deployment) -> None:
    group_id = trip(app)
    balance = app.client.document(f"groups/{group_id}/metadata/balance")
    balance.update({"balancesByCurrency.EUR.ana.netBalance": 99})
    assert "--write" in pages(app).post("/groups/trip/rebuild", project=PROJECT).text
    shown = pages(app, may_write=True)
    for wrong in ("", "my-other-app"):
        answer = shown.post("/groups/trip/rebuild", project=wrong)
        assert (answer.status_code, "type the project" in answer.text) == (422, True)
    assert balance.get().get("balancesByCurrency.EUR.ana.netBalance") == 99
    html = shown.get("/groups/trip/verify")
    assert "99.00 EUR" in html
    assert f"balance verify --group trip --repair --project {PROJECT}" in html
    assert shown.post("/groups/trip/rebuild", project=PROJECT).status_code == 303
    assert balance.get().get("balancesByCurrency.EUR.ana.netBalance") == 7
    assert "Stored and recalculated agree" in shown.get("/groups/trip/verify")


def test_what_one_may_not_see_is_said(app: integration.Deployment) -> None:
    trip(app)
    app.server.within(lambda: app.server.faults.replace([Fault("RunQuery", grpc.StatusCode.PERMISSION_DENIED)]))
    assert "roles/datastore.viewer" in pages(app).get("/", 503)
    html = pages(app).get("/oncall", 503)
    assert "You may not see this" in html


def test_faults_of_all_groups_are_found_without_reading_all_groups(app: integration.Deployment) -> None:
    trip(app)
    for number in range(60):
        app.group(f"quiet-{number:02}", "ana")
    app.client.document("expenses/bad").set({**integration.expense("trip", "ana", "EUR", bo=7), "currency": "EURO"})
    app.client.document("expenses/lost").set({"amount": 1})
    app.keeper.rebuild("trip")
    before = app.server.databases.statistics.as_dict()["documentReads"]
    html = pages(app).get("/")
    assert app.server.databases.statistics.as_dict()["documentReads"] - before < 120
    assert "Needs attention" in html
    assert html.index("trip") < html.index("quiet-00")
    assert "EURO" in pages(app).get("/oncall")


def test_pages_follow_each_other_and_hold_every_group_once(app: integration.Deployment) -> None:
    for number in range(60):
        app.group(f"g-{number:02}", "ana")
    shown, found = pages(app), []
    path: str | None = "/"
    while path:
        html = shown.get(path)
        listed = html.partition("All groups")[2] or html.partition("Groups after")[2]
        found += re.findall(r'href="[^"]*/groups/(g-\d\d)"', listed)
        following = re.search(r'rel="next" href="[^"]*?/(\?[^"]*)"', html)
        path = following and "/" + following[1].replace("&amp;", "&")
    assert found == [f"g-{number:02}" for number in range(60)]


def test_what_somebody_has_bent_is_shown_all_the_same(app: integration.Deployment) -> None:
    trip(app)
    balance = app.client.document("groups/trip/metadata/balance")
    for bent in ({"balancesByCurrency": 5}, {"balancesByCurrency": {"EUR": {"ana": 3}}}, {"simplifiedDebts": [1, {"x": 2}]}):
        balance.update({**bent, "simplifiedDebts": bent.get("simplifiedDebts", "x")})
        assert "corrupt" in pages(app).get("/groups/trip")
        pages(app).get("/groups/trip?debts=pairs")
        pages(app).get("/groups/trip/verify")
    app.client.document("groups/trip/balanceEvents/x").set({"appliedAt": 5, "source": 7, "delta": {"EUR": 1}})
    app.client.document("groups/trip/balanceFaults/x").set({"since": "x"})
    pages(app).get("/groups/trip")


def test_the_adapter_is_read_anew_for_each_question(app: integration.Deployment, tmp_path: Path) -> None:
    shown = pages(app)
    folder = tmp_path / "functions"
    (folder / "balance").mkdir(parents=True)
    (folder / "functions.yaml").write_text((ROOT / "functions.yaml").read_text())
    own = (ROOT / "balance" / "adapter.py").read_text()
    adapter = folder / "balance" / "adapter.py"
    shown.deployment = Deployment(**{**_as_dict(shown.deployment), "folder": folder})
    shown.console.deployment = shown.deployment

    def read() -> str:
        document = '{"groupId": "g", "paidBy": "ana", "amount": 5, "currency": "EUR", "splits": [{"uid": "bo", "amount": 5}]}'
        return shown.post("/workbench", action="read", kind="expense", document=document).text

    adapter.write_text(own)
    assert "bo</span> owes" in read()
    adapter.write_text(own.replace("    return fields\n", '    return {**fields, "currency": "EURO"}\n', 1))
    answer = read()
    assert "not an ISO 4217 code" in answer, answer[2500:6000]
    adapter.write_text(own.replace("    return fields\n", '    raise ValueError("no")\n', 1))
    assert "ValueError no" in read()
    adapter.write_text("def expense(:\n")
    assert "The adapter cannot be loaded" in read()


def _as_dict(deployment: Deployment) -> dict[str, Any]:
    return {name: getattr(deployment, name) for name in Deployment.__slots__}
