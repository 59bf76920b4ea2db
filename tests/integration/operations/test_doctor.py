"""`balance doctor` before an embedded server, and before a stand-in for the project's own APIs that speaks their HTTP."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.auth.transport.requests import requests

from scripts.cli import main
from scripts.diagnosis import project
from scripts.diagnosis.findings import Finding, Level
from scripts.exits import Exit
from tests.integration.deployment import Deployment, deployment, expense

ROOT = Path(__file__).parents[3]
BALANCE = str(ROOT / "venv" / "bin" / "balance")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


Found = dict[str, list[str]]


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Found]:
    """Exit code, and the findings by level."""
    capsys.readouterr()
    code = main(["doctor", "--json", *arguments])
    found: Found = {}
    for line in capsys.readouterr().out.splitlines():
        finding = json.loads(line)
        assert finding["do"] or finding["level"] in (Level.OK, Level.NOTE), finding
        found.setdefault(finding["level"], []).append(finding["finding"])
    return code, found


def healthy(app: Deployment) -> None:
    for group_id in ("lisbon", "porto"):
        app.group(group_id)
        app.keeper.rebuild(group_id)
        app.deliver(app.expense(group_id, "a", "USD", b=12.5, c=3), app.write(f"settlements/{group_id}", settlement(group_id)))


def settlement(group_id: str) -> dict[str, Any]:
    return {"groupId": group_id, "payerId": "b", "payeeId": "a", "amount": 2, "currency": "USD", "deletedAt": None}


def test_a_healthy_app_is_told_so(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    healthy(app)
    code, found = doctor(capsys)
    assert (code, set(found)) == (Exit.DONE, {Level.OK, Level.NOTE}), found
    assert any(told.startswith("expenses: amounts look like major units") for told in found[Level.OK])
    (note,) = found[Level.NOTE]
    assert note.startswith("settlements: 2 whole amounts are too few to tell whether they count major units")
    told = "\n".join(found[Level.OK])
    assert "expenses: of 2 documents 2 post; currencies USD (2)" in told
    assert "all 2 balances are current" in told
    assert "the newest record is 0 min old" in told


def test_nothing_is_written(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    healthy(app)
    app.server.within(app.server.databases.statistics.reset)
    assert doctor(capsys, "--before-after")[0] == Exit.DONE
    rpcs = app.server.within(lambda: dict(app.server.databases.statistics.rpcs))
    assert set(rpcs) <= {"BatchGetDocuments", "RunQuery"}


def test_before_deploying_there_are_only_documents(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.group("lisbon")
    app.expense("lisbon", "a", "USD", b=5)
    code, found = doctor(capsys)
    assert code == Exit.DONE
    assert "has a balance or a record" in found[Level.NOTE][-1]


def test_an_empty_project_or_another_collection_is_an_error(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    healthy(app)
    code, found = doctor(capsys, "--param", "GROUPS_COLLECTION=teams")
    assert code == Exit.WRONG
    assert "the collection 'teams' holds no groups" in found[Level.ERROR]


def test_malformed_documents_are_told_by_field_and_reason_with_an_example(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy(app)
    for name in ("one", "two"):
        app.write(f"expenses/{name}", {**expense("lisbon", b=1), "currency": 5})
    code, found = doctor(capsys)
    assert code == Exit.LEFT_OUT
    (told,) = found[Level.LEFT_OUT]
    assert told.startswith("expenses: 2 of 4 documents are malformed: currency is not a string, such as expenses/")


def test_an_adapter_that_does_not_fit_is_an_error(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.group("lisbon")
    for number in range(3):
        app.write(f"expenses/{number}", {"group": "lisbon", "payer": "a", "total": 5})
    code, found = doctor(capsys, "--before-after")
    assert code == Exit.WRONG
    assert "expenses: not one document is understood, so every balance would be empty" in found[Level.ERROR]
    assert any('"payer": "a"' in note and "after the adapter" in note for note in found[Level.NOTE])


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        ("\ndef group(fields):\n    return {'members': fields['users']}\n", "KeyError 'users'"),
        ("\ndef group(fields):\n    return None\n", "group returned None, not a map of fields"),
    ],
)
def test_an_adapter_that_cannot_read_groups_is_named(app: Deployment, tmp_path: Path, adapter: str, told: str) -> None:
    healthy(app)
    functions = packaged(tmp_path, adapter)
    done = balance("doctor", "--source", str(functions))
    assert done.returncode == Exit.WRONG, done.stderr
    assert "the adapter cannot read groups, such as groups/" in done.stdout
    assert told in done.stdout
    done = balance("show", "lisbon", "--source", str(functions))
    assert (done.returncode, "Traceback" in done.stderr) == (Exit.REFUSED, False), done.stderr
    assert told in done.stderr


def test_an_adapter_that_lacks_a_function_is_refused(app: Deployment, tmp_path: Path) -> None:
    done = balance("doctor", "--source", str(packaged(tmp_path, "\ndel settlement, MEMBERS_FIELD\n")))
    assert done.returncode == Exit.REFUSED, done.stderr
    assert "balance/adapter.py lacks settlement, MEMBERS_FIELD" in done.stderr


def packaged(tmp_path: Path, adapter: str) -> Path:
    """The functions in a folder of their own, with other code at the end of their adapter."""
    functions = tmp_path / "functions"
    balance("package", str(functions))
    with (functions / "balance" / "adapter.py").open("a") as file:
        file.write(adapter)
    return functions


def balance(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([BALANCE, *arguments], capture_output=True, text=True, check=False)


def test_documents_that_all_count_as_deleted_are_told(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.group("lisbon")
    app.write("expenses/x", {**expense("lisbon", b=1), "deletedAt": app.database.get(["a/b"])[0].read_time})
    code, found = doctor(capsys)
    assert code == Exit.WRONG
    assert "every document counts as deleted" in found[Level.WARNING][0]


@pytest.mark.parametrize(
    ("unit", "share", "is_wrong"),
    [("major", 1_250, True), ("major", 12.5, False), ("minor", 12.5, True), ("minor", 1_250, False)],
)
def test_a_unit_that_looks_wrong_is_told(
    app: Deployment, capsys: pytest.CaptureFixture[str], unit: str, share: float, is_wrong: bool
) -> None:
    app.group("lisbon")
    for _ in range(10):
        app.expense("lisbon", "a", "USD", b=share)
    code, found = doctor(capsys, "--param", f"AMOUNT_UNIT={unit}")
    assert (code == Exit.WRONG) == is_wrong, found
    assert any(f"AMOUNT_UNIT is {unit}" in text for text in found.get(Level.ERROR, [])) == is_wrong


def test_strangers_mismatches_and_documents_without_a_group_are_told(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy(app)
    app.write("expenses/stranger", expense("lisbon", "a", "USD", zoe=5))
    app.write("expenses/sum", {**expense("lisbon", "a", "USD", b=5), "amount": 7})
    app.write("expenses/nowhere", expense("atlantis", "a", "USD", b=5))
    code, found = doctor(capsys)
    assert code == Exit.DONE
    told = "\n".join(found[Level.NOTE])
    assert "'zoe' in expenses/stranger" in told
    assert "do not add up to their amount, such as expenses/sum" in told
    assert "1 document names a group that does not exist, such as expenses/nowhere" in told
    for _ in range(5):
        app.expense("atlantis", "a", "USD", b=1)
    code, found = doctor(capsys)
    assert code == Exit.WRONG
    assert "6 documents name a group that does not exist" in "\n".join(found[Level.WARNING])


def test_members_of_another_shape_are_told(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    healthy(app)
    app.client.document("groups/map").set({"members": {"a": True}})
    app.client.document("groups/none").set({})
    _, found = doctor(capsys)
    assert "such as groups/map" in found[Level.ERROR][0]
    assert "such as groups/none" in found[Level.WARNING][0]


def test_missing_stale_and_newer_balances_are_told(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    healthy(app)
    app.group("new")
    app.set_balance("porto", {**app.balance("porto"), "version": 0})
    _, found = doctor(capsys)
    assert "of 3 balances 1 " in found[Level.WARNING][0]
    app.set_balance("porto", {**app.balance("porto"), "version": 99})
    _, found = doctor(capsys)
    assert "newer code" in found[Level.ERROR][0]


def test_functions_of_another_version_are_told(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    healthy(app)
    for record in app.client.collection_group("balanceEvents").stream():
        record.reference.update({"version": 99})
    _, found = doctor(capsys)
    assert "the deployed functions wrote version 99 last" in found[Level.ERROR][0]


def test_triggers_that_do_not_run_are_noticed(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    healthy(app)
    app.clock.advance(hours=1)
    app.expense("lisbon", "a", "USD", b=1)
    assert doctor(capsys)[0] == Exit.DONE
    app.clock.advance(hours=1)
    _, found = doctor(capsys)
    assert "no event came" in found[Level.ERROR][0]


def test_records_without_a_time_to_live_are_noticed(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    healthy(app)
    app.clock.advance(hours=24 * (7 + 2))
    assert not any("TTL" in text for text in doctor(capsys)[1].get(Level.WARNING, []))
    app.clock.advance(hours=24 * 2)
    _, found = doctor(capsys)
    assert any("records have no TTL" in text for text in found[Level.WARNING])


def test_names_that_look_like_ours_and_code_of_another_version_are_told(app: Deployment, tmp_path: Path) -> None:
    healthy(app)
    functions = tmp_path / "functions"
    subprocess.run([BALANCE, "package", str(functions)], check=True, capture_output=True)
    (functions / ".env").write_text(
        "AMOUNT_UNITS=minor\nBALANCE_UPDATE=off\nMY_OWN=1\nBALANCE_FALLBACK=on\nRECORD_TTL_DAYS=9\n"
    )
    shutil.copyfile(ROOT / "main.py", functions / "balance" / "core" / "money.py")
    done = subprocess.run([BALANCE, "doctor", "--source", str(functions)], capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    warnings = {row[1] for row in rows if row[0] == Level.WARNING}
    assert done.returncode == Exit.WRONG, done.stderr
    assert any(text.startswith("AMOUNT_UNITS in") and "is AMOUNT_UNIT meant?" in text for text in warnings)
    assert any(text.startswith("BALANCE_UPDATE in") and "is BALANCE_UPDATES meant?" in text for text in warnings)
    assert any("balance/core/money.py" in text for text in warnings)
    assert not any(name in text for text in warnings for name in ("MY_OWN", "BALANCE_FALLBACK", "RECORD_TTL"))


def test_what_env_local_shadows_is_told_and_no_value(
    app: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    healthy(app)
    (tmp_path / "firebase.json").write_text(json.dumps({"functions": [{"codebase": "balance", "source": "functions"}]}))
    subprocess.run([BALANCE, "package", str(tmp_path / "functions")], check=True, capture_output=True)
    (tmp_path / "functions" / ".env").write_text("RECORD_TTL_DAYS=9\nSERVICE_ACCOUNT=secret@x\nEPOCH=0\n")
    (tmp_path / "functions" / ".env.local").write_text(
        "RECORD_TTL_DAYS=7\nSERVICE_ACCOUNT=another@x\nEPOCH=0\nMAX_INSTANCES=10\n"
    )
    command = [BALANCE, "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    (told,) = [finding["finding"] for finding in found if ".env.local" in finding["finding"]]
    assert told.startswith("RECORD_TTL_DAYS, SERVICE_ACCOUNT: emulators take the value of .env.local instead of that of .env")
    assert "secret" not in done.stdout + done.stderr
    assert done.returncode == Exit.WRONG


# The project's own APIs.

DATABASE = "/v1/projects/my-app/databases/(default)"
FIELDS = f"{DATABASE}/collectionGroups"
SERVICES = "/v2/projects/my-app/locations/us-central1/services"
PARAMETERS = {"BALANCE_REGION": "us-central1", "AMOUNT_UNIT": "major"}


def answers() -> dict[str, Any]:
    """Of a project where all is as it should be."""
    exempt: dict[str, Any] = {"indexConfig": {}}
    found: dict[str, Any] = {DATABASE: {"locationId": "nam5", "type": "FIRESTORE_NATIVE"}}
    found |= {
        f"{FIELDS}/{group}/fields/{name}": {"indexConfig": {"indexes": [], "reverting": False}}
        for group, name in project.EXEMPT
    }
    found[f"{FIELDS}/balanceEvents/fields/expireAt"] = {**exempt, "ttlConfig": {"state": "ACTIVE"}}
    for service in project.SERVICES:
        env = [{"name": "AMOUNT_UNIT", "value": "major"}, {"name": "BALANCE_UPDATES", "value": "on"}]
        found[f"{SERVICES}/{service}"] = {"template": {"containers": [{"env": env}]}}
    return found


@contextmanager
def google(found: dict[str, Any]) -> Iterator[project.Api]:
    """A server that answers so; what is not there is 404, and an int is an error's status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = found.get(self.path, 404)
            status = answer if isinstance(answer, int) else 200
            body = {"error": {"message": f"status {status}"}} if isinstance(answer, int) else answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield project.Api(requests.Session(), url, url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def findings(found: dict[str, Any]) -> list[Finding]:
    with google(found) as api:
        return list(project.look(api, "my-app", "(default)", PARAMETERS, frozenset(PARAMETERS)))


def test_a_healthy_project_is_told_so() -> None:
    assert [finding.level for finding in findings(answers())] == [Level.OK] * 4


@pytest.mark.parametrize(
    ("path", "answer", "level", "told"),
    [
        (DATABASE, None, Level.ERROR, "the database does not exist"),
        (DATABASE, {"locationId": "eur3"}, Level.WARNING, "crosses regions"),
        (DATABASE, 403, Level.UNKNOWN, "status 403"),
        (
            f"{FIELDS}/metadata/fields/balancesByCurrency",
            {"indexConfig": {"usesAncestorConfig": True}},
            Level.ERROR,
            "are indexed",
        ),
        (f"{FIELDS}/metadata/fields/simplifiedDebts", None, Level.ERROR, "metadata.simplifiedDebts are indexed"),
        (f"{FIELDS}/balanceEvents/fields/expireAt", None, Level.ERROR, "records have no TTL"),
        (f"{FIELDS}/balanceEvents/fields/expireAt", {"ttlConfig": {"state": "CREATING"}}, Level.NOTE, "being created"),
        (f"{SERVICES}/balance-api", None, Level.ERROR, "not deployed in us-central1: balance-api"),
        (
            f"{SERVICES}/on-expense-written",
            {"template": {"containers": [{"env": [{"name": "AMOUNT_UNIT", "value": "minor"}]}]}},
            Level.ERROR,
            "on-expense-written runs with AMOUNT_UNIT='minor', but the .env files say 'major'",
        ),
        (
            f"{SERVICES}/balance-api",
            {"template": {"containers": [{"env": [{"name": "BALANCE_FALLBACK", "value": "off"}]}]}},
            Level.WARNING,
            "the switch BALANCE_FALLBACK is off",
        ),
    ],
)
def test_what_is_wrong_with_a_project_is_told(path: str, answer: Any, level: Level, told: str) -> None:
    found = {**answers(), path: answer}
    if answer is None:
        del found[path]
    (finding,) = [finding for finding in findings(found) if finding.level is level]
    assert told in finding.text
    assert finding.todo


def test_a_project_without_our_functions_is_noted() -> None:
    found = {path: answer for path, answer in answers().items() if not path.startswith(SERVICES)}
    assert [finding.text for finding in findings(found) if finding.level is Level.NOTE] == [
        "none of our functions is deployed in us-central1"
    ]


def test_apis_out_of_reach_are_told() -> None:
    api = project.Api(requests.Session(), "http://127.0.0.1:1", "http://127.0.0.1:1")
    found = list(project.look(api, "my-app", "(default)", PARAMETERS, frozenset(PARAMETERS)))
    assert [finding.level for finding in found] == [Level.UNKNOWN] * 3
    assert timedelta(seconds=project.TIMEOUT_S) < timedelta(minutes=1)
