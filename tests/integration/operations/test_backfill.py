"""`balance backfill` before an embedded server: what it does, what it leaves alone, and that it may be stopped anywhere."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from balance.documents.balances import VERSION
from balance.functions import tasks
from balance.operations.backfill import Filled, Step
from balance.operations.reconcile import State, check
from emulator.engine import SECOND_US
from scripts.aliases import Project
from scripts.cli import main
from scripts.source import parameters
from tests.integration.deployment import Deployment, deployment, expense
from tests.integration.served import AS_DEPLOYED

ROOT = Path(__file__).parents[3]
BALANCE = str(ROOT / "venv" / "bin" / "balance")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Exit code, summary and failures."""
    capsys.readouterr()
    code = main(["backfill", *arguments, "--json"])
    *failures, summary = map(json.loads, capsys.readouterr().out.splitlines())
    return code, summary, failures


def old_groups(app: Deployment, count: int, expenses: int = 1) -> list[str]:
    """Groups with documents and no balances, as an app has before it knows us."""
    batch = app.client.batch()
    ids = [f"g{index:04}" for index in range(count)]
    for group_id in ids:
        batch.set(app.client.document(f"groups/{group_id}"), {"members": ["a", "b"]})
        for index in range(expenses):
            batch.set(app.client.document(f"expenses/{group_id}-{index}"), expense(group_id, "a", "USD", b=2))
    batch.commit()
    return ids


def is_true(app: Deployment, group_id: str) -> bool:
    return check(app.database, app.settings, group_id).state is State.TRUE and app.balance(group_id) is not None


def test_every_group_gets_its_balance_over_several_pages(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [*old_groups(app, 301, expenses=0), app.group("zoo"), app.group("ünïcode"), app.group("a.b")]
    app.expense("ünïcode", "a", "USD", b=3)
    code, summary, _ = run(capsys)
    assert (code, summary["groups"], summary["rebuilt"], summary["were"]) == (0, 304, 304, {"missing": 304})
    assert all(app.balance(group_id)["version"] == VERSION for group_id in ids)
    assert app.balance("ünïcode")["balancesByCurrency"]["USD"]["b"]["netBalance"] == -3
    code, summary, _ = run(capsys)
    assert (code, summary["skipped"], summary["rebuilt"]) == (0, 304, 0)


def test_what_is_current_is_left_alone_and_what_is_not_is_rebuilt(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    old_groups(app, 7)
    assert run(capsys)[0] == 0
    before = {group_id: app.balance(group_id) for group_id in ("g0000", "g0001")}
    app.set_balance("g0002", {**app.balance("g0002"), "version": 0})
    app.set_balance("g0003", {**app.balance("g0003"), "detail": "bent"})
    app.client.document("groups/g0004/metadata/balance").delete()
    app.client.document("groups/g0005").delete()
    app.group("g0005")  # another group under the same id
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    app.client.document("groups/g0006/metadata/balance").update({"rules": "0:other", "lastUpdatedAt": long_ago})
    code, summary, _ = run(capsys)
    assert (code, summary["skipped"], summary["rebuilt"]) == (0, 2, 5)
    assert summary["were"] == {"stale": 3, "corrupt": 1, "missing": 1}
    assert {group_id: app.balance(group_id) for group_id in before} == before
    assert all(is_true(app, f"g000{index}") for index in range(7))


def test_a_balance_of_a_time_to_come_is_rebuilt(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    old_groups(app, 1)
    assert run(capsys)[0] == 0
    app.set_balance("g0000", {**app.balance("g0000"), "asOf": datetime(2035, 1, 1, tzinfo=UTC)})
    code, summary, _ = run(capsys)
    assert (code, summary["rebuilt"], summary["were"]) == (0, 1, {"corrupt": 1})
    assert is_true(app, "g0000")


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    old_groups(app, 3)
    app.server.within(app.server.databases.statistics.reset)
    code, summary, _ = run(capsys, "--dry-run")
    assert (code, summary["would_rebuild"], summary["rebuilt"]) == (0, 3, 0)
    assert "Commit" not in app.server.within(lambda: dict(app.server.databases.statistics.rpcs))


def test_a_failure_is_named_and_counted_and_stops_nobody_else(
    app: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old_groups(app, 4)
    app.set_balance("g0001", {"version": VERSION + 1})
    code, summary, failures = run(capsys)
    assert (code, summary["failed"], summary["rebuilt"]) == (1, 1, 3)
    (failure,) = failures
    assert (failure["group"], failure["was"]) == ("g0001", "newer")
    assert "newer code" in failure["error"]
    assert main(["backfill"]) == 1
    assert "failed\tg0001\tNewerVersion: " in capsys.readouterr().out
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert main(["backfill"]) == 1
    assert "group g0001 failed: NewerVersion" in capsys.readouterr().err


def test_force_rebuilds_everything_over_newer_versions_too(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    old_groups(app, 3)
    run(capsys)
    app.set_balance("g0001", {"version": VERSION + 1})
    code, summary, _ = run(capsys, "--force")
    assert (code, summary["rebuilt"], summary["skipped"]) == (0, 3, 0)
    assert is_true(app, "g0001")


def test_only_the_groups_that_are_named(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    old_groups(app, 4)
    code, summary, _ = run(capsys, "--group", "g0001", "--group", "g0003", "--group", "g0001")
    assert (code, summary["groups"], summary["rebuilt"]) == (0, 2, 2)
    assert not app.client.document("groups/g0000/metadata/balance").get().exists


def test_a_group_that_was_named_must_exist(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    old_groups(app, 1)
    code, summary, failures = run(capsys, "--group", "nobody", "--group", "g0000")
    assert (code, summary["rebuilt"], summary["gone"]) == (1, 1, 1)
    assert [(failure["group"], failure["step"]) for failure in failures] == [("nobody", "gone")]
    assert not app.client.document("groups/nobody/metadata/balance").get().exists
    assert main(["backfill", "--group", "nobody"]) == 1
    assert "failed\tnobody\tthere is no such group" in capsys.readouterr().out


def test_no_groups_at_all_is_an_error_that_names_the_collection(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    old_groups(app, 1)
    for command in ("backfill", "verify", "faults"):
        assert main([command, "--param", "GROUPS_COLLECTION=teams"]) == 2
        assert "'teams'" in capsys.readouterr().err


def test_going_on_after_a_group(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    old_groups(app, 4)
    code, summary, _ = run(capsys, "--after", "g0001")
    assert (code, summary["rebuilt"]) == (0, 2)
    assert not app.client.document("groups/g0001/metadata/balance").get().exists


def test_parameters_come_from_the_files_of_the_firebase_cli(
    app: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "functions.yaml").symlink_to(ROOT / "functions.yaml")
    (tmp_path / "balance").symlink_to(ROOT / "balance")
    (tmp_path / ".env").write_text("AMOUNT_UNIT=major\nGROUPS_COLLECTION=clubs\n")
    (tmp_path / ".env.demo-test").write_text("AMOUNT_UNIT=minor  # cents\n")
    (tmp_path / ".env.local").write_text("GROUPS_COLLECTION=teams\n")
    (tmp_path / "deep" / "below").mkdir(parents=True)
    app.client.document("teams/t").set({"members": ["a", "b"]})
    app.expense("t", "a", "USD", b=250)
    monkeypatch.chdir(tmp_path / "deep" / "below")
    assert run(capsys)[0] == 0
    stored = app.client.document("teams/t/metadata/balance").get().to_dict()
    assert stored["balancesByCurrency"]["USD"]["a"]["netBalance"] == 250
    assert main(["backfill", "--param", "AMOUNT_UNIT=cents"]) == 2
    assert "AMOUNT_UNIT" in capsys.readouterr().err
    assert parameters(tmp_path, Project("demo-test"), {}, emulated=False)["GROUPS_COLLECTION"] == "clubs"


def test_without_a_folder_of_functions_nothing_is_read(
    app: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["backfill"]) == 2
    assert "--source DIR" in capsys.readouterr().err
    assert main(["backfill", "--source", str(tmp_path)]) == 2
    assert str(tmp_path / "functions.yaml") in capsys.readouterr().err
    old_groups(app, 1)
    assert run(capsys, "--source", str(ROOT))[0] == 0
    monkeypatch.setenv("BALANCE_SOURCE", str(ROOT))
    assert run(capsys)[0] == 0


def test_firebase_json_names_the_folder_of_the_functions(
    app: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "balance-functions").symlink_to(ROOT)
    codebases = [{"codebase": "default", "source": "functions"}, {"codebase": "balance", "source": "balance-functions"}]
    (tmp_path / "firebase.json").write_text(json.dumps({"functions": codebases}))
    monkeypatch.chdir(tmp_path)
    old_groups(app, 1)
    assert run(capsys)[0] == 0


def test_a_left_over_emulator_and_a_real_project_are_refused(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backfill", "--project", "my-app"]) == 2
    said = capsys.readouterr().err
    assert "unset FIRESTORE_EMULATOR_HOST" in said
    assert "my-app" in said


def test_in_the_folder_of_the_functions_it_goes_by_their_parameters_and_their_adapter(app: Deployment, tmp_path: Path) -> None:
    """As docs/deploy.md has it for functions that lie in an app's repository."""
    functions, example = tmp_path / "balance-functions", ROOT / "examples" / "households"
    subprocess.run([sys.executable, "-m", "scripts", "package", str(functions)], cwd=ROOT, check=True, capture_output=True)
    shutil.copyfile(example / "balance.env", functions / ".env")
    shutil.copyfile(example / "adapter.py", functions / "balance" / "adapter.py")
    household = app.client.document("households/h")
    household.set({"people": {"a": {}, "b": {}}})
    household.collection("costs").add({"payer": "a", "cents": 500, "currencyCode": "EUR", "shares": {"a": 250, "b": 250}})

    command = [BALANCE, "backfill", "--json"]
    for where in ([*command, "--source", str(functions)], command):
        household.collection("metadata").document("balance").delete()
        cwd = tmp_path if "--source" in where else functions
        done = subprocess.run(where, cwd=cwd, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["rebuilt"] == 1
        assert "balance-functions/balance/adapter.py" in done.stderr or "adapter balance/adapter.py" in done.stderr
    stored = household.collection("metadata").document("balance").get().to_dict() or {}
    assert stored["balancesByCurrency"]["EUR"]["b"]["owes"] == {"a": 250}


def test_tasks_go_to_the_region_of_the_functions(
    app: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old_groups(app, 1)
    regions: list[str] = []

    def sender(project: str | None, region: str, **_: object) -> Callable[[str], Filled]:
        regions.append(region)
        return lambda group_id: Filled(group_id, Step.ENQUEUED, None)

    monkeypatch.setattr(tasks, "sender", sender)  # the queue itself: tests/e2e/test_rollout.py
    assert main(["backfill", "--enqueue"]) == 2  # nobody listens on the emulator's side; Google's queue is not meant
    assert "CLOUD_TASKS_EMULATOR_HOST" in capsys.readouterr().err
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    run(capsys, "--enqueue")
    monkeypatch.setenv("BALANCE_REGION", "europe-west1")
    run(capsys, "--enqueue")
    run(capsys, "--enqueue", "--region", "asia-east1")
    assert regions == ["us-central1", "europe-west1", "asia-east1"]


def test_who_cannot_send_tasks_is_told_once_before_the_first_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    login = tmp_path / "login.json"
    login.write_text(json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "t"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(login))
    with pytest.raises(tasks.CannotEnqueue, match="--impersonate-service-account"):
        tasks.sender("demo-test", "us-central1", rate_per_s=1)


@pytest.mark.parametrize(("status", "advice"), [(403, "roles/cloudtasks.enqueuer"), (404, "--region")])
def test_a_queue_that_refuses_is_told_once(
    app: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: int, advice: str
) -> None:
    old_groups(app, 3)

    class Queue(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Queue) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", f"127.0.0.1:{server.server_port}")
        assert main(["backfill", "--enqueue", "--workers", "1"]) == 2
        server.shutdown()
    assert capsys.readouterr().err.count(advice) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--group", "a/b"], "a/b"),
        (["--param", "X"], "NAME=VALUE"),
        (["--param", "AMOUNT_UNTI=minor"], "is AMOUNT_UNIT meant?"),
        (["--workers", "0"], "workers"),
        (["--rate", "fast"], "rate"),
        (["--frobnicate"], "frobnicate"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    app: Deployment, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["backfill", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_real_project_must_be_named_and_confirmed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "left-over")
    monkeypatch.setattr("scripts.target.connect", lambda *_: pytest.fail("a real project was connected to"))
    assert main(["backfill"]) == 2
    assert "--project" in capsys.readouterr().err
    assert main(["backfill", "--project", "my-app"]) == 2
    assert "--yes" in capsys.readouterr().err

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return "my-ap\n"

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setenv("AMOUNT_UNIT", "minor")
    assert main(["backfill", "--project", "my-app"]) == 2
    said = capsys.readouterr().err
    assert "not confirmed" in said
    assert "minor units" in said
    assert "PRODUCTION, project my-app" in said
    assert "adapter balance/adapter.py" in said


def test_a_server_that_is_not_there_is_told_and_nothing_hangs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    assert main(["backfill", "--project", "demo-test"]) == 2
    assert "Firestore" in capsys.readouterr().err


def test_balances_are_true_when_the_app_is_used_meanwhile(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    ids = old_groups(app, 40, expenses=2)
    stopped = threading.Event()
    errors: list[BaseException] = []

    def use() -> None:
        try:
            index = 0
            while not stopped.is_set():
                group_id = ids[index % len(ids)]
                event = app.expense(group_id, "b", "USD", a=1)
                app.deliver(event, event)
                index += 7
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            errors.append(error)

    user = threading.Thread(target=use)
    user.start()
    try:
        for _ in range(3):
            code, _, _ = run(capsys, "--force")
            assert code == 0
    finally:
        stopped.set()
        user.join()
    assert not errors
    assert [group_id for group_id in ids if not is_true(app, group_id)] == []


@pytest.fixture
def forgetful_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """On a Firestore that ends a dead client's transactions, with their locks, after a second rather than a minute."""
    with deployment(monkeypatch, replace(AS_DEPLOYED, transaction_idle_us=SECOND_US)) as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_backfill_can_be_run_again(
    forgetful_app: Deployment, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    app = forgetful_app
    ids = old_groups(app, 120, expenses=1)
    command = [sys.executable, "-m", "scripts", "backfill", "--workers", "2", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not app.client.document(f"groups/{ids[20]}/metadata/balance").get().exists:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    if number is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "--after g0" in err
        summary = json.loads(out.splitlines()[-1])
        assert summary["interrupted"]
        assert 0 < summary["rebuilt"] < 120
    assert not app.client.document(f"groups/{ids[-1]}/metadata/balance").get().exists, "it was stopped too late to tell"
    code, summary, _ = run(capsys)
    assert code == 0
    assert summary["skipped"] >= 20
    assert summary["skipped"] + summary["rebuilt"] == 120
    assert [group_id for group_id in ids if not is_true(app, group_id)] == []
