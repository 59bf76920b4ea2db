"""The runner as its users start it, on a small project of its own: real processes, real HTTP, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import firebase_admin
import pytest
from firebase_admin import exceptions, functions
from google.cloud import firestore

from runner.session import CallFailed, Session, call, running
from runner.stack import ROOT

NOTES = Path(__file__).parent / "fixtures" / "notes"
PATIENCE_S = 30.0


@dataclass
class Served:
    """A session on the small project, and what its functions wrote down."""

    session: Session
    file: Path

    def notes(self, function: str) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        lines = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [line for line in lines if line["function"] == function]

    def client(self) -> firestore.Client:
        with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": self.session.firestore_host}):
            return firestore.Client(project=self.session.project)

    def environment_of_functions(self) -> dict[str, str]:
        with urllib.request.urlopen(self.session.function_urls["tell_environment"]) as response:
            found: dict[str, str] = json.load(response)
            return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    file = folder / "notes.jsonl"
    with running(source=NOTES, logs=folder / "logs", environment={"NOTES_FILE": str(file), "GREETING": "a=b"}) as session:
        yield Served(session, file)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {PATIENCE_S:g} s")


def is_alive(pid: int) -> bool:
    """Zombies are dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def family(pid: int) -> set[int]:
    """A process and everything below it."""
    found, queue = {pid}, [pid]
    while queue:
        for listing in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
            children = {int(child) for child in listing.read_text().split()}
            found |= children
            queue += children
    return found


def test_a_write_reaches_its_function(served: Served) -> None:
    served.client().document("notes/first").set({"text": "hello"})
    served.session.drain()
    assert "notes/first" in {note["document"] for note in served.notes("on_note_written")}
    assert any("seen notes/first" in line for line in served.session.log_lines("on_note_written"))


def test_functions_run_in_the_environment_of_production(served: Served) -> None:
    environment = served.environment_of_functions()
    expected = {
        "K_SERVICE": "tell-environment",
        "FUNCTION_TARGET": "tell_environment",
        "FUNCTION_SIGNATURE_TYPE": "http",
        "GOOGLE_CLOUD_PROJECT": served.session.project,
        "GCLOUD_PROJECT": served.session.project,
        "FIRESTORE_EMULATOR_HOST": served.session.firestore_host,
        "CLOUD_TASKS_EMULATOR_HOST": served.session.runner_url.removeprefix("http://"),
        "NOTES_COLLECTION": "notes",
        "GREETING": "a=b",
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert environment["FIREBASE_AUTH_EMULATOR_HOST"]


def test_a_killed_function_comes_back_on_its_url_and_gets_what_it_missed(served: Served) -> None:
    client = served.client()
    before = served.session.functions()["on_note_written"]
    os.kill(served.session.pid_of("on_note_written"), signal.SIGKILL)
    paths = {f"notes/missed-{number}" for number in range(20)}
    for path in paths:
        client.document(path).set({})
    served.session.drain()
    assert paths <= {note["document"] for note in served.notes("on_note_written")}
    after = served.session.functions()["on_note_written"]
    assert after["url"] == before["url"]
    assert after["pid"] != before["pid"]
    assert after["restarts"] == before["restarts"] + 1


def test_killing_a_function_over_http_leaves_none_of_its_processes(served: Served) -> None:
    pid = served.session.pid_of("tell_environment")
    processes = family(pid)
    assert len(processes) > 1, "gunicorn has a master and a worker"
    served.session.kill("tell_environment")
    eventually(lambda: not any(map(is_alive, processes)), "all are gone")
    assert served.session.pid_of("tell_environment") != pid


def test_a_functions_environment_can_be_changed_while_all_else_runs(served: Served) -> None:
    served.session.deploy("tell_environment", {"SWITCH": "off", "GREETING": None})
    environment = served.environment_of_functions()
    assert environment["SWITCH"] == "off"
    assert "GREETING" not in environment


def test_a_scheduled_function_runs_on_demand(served: Served) -> None:
    assert served.session.run_schedule("tidy") == {"status": 200, "body": "tidied"}
    headers = served.notes("tidy")[-1]["headers"]
    assert headers["X-Cloudscheduler"] == "true"
    served.session.deploy("tidy", {"TIDY_FAILS": "yes"})
    with pytest.raises(CallFailed, match='"status": 500'):
        served.session.run_schedule("tidy")
    with pytest.raises(CallFailed, match="no schedule"):
        served.session.run_schedule("tell_environment")


@pytest.fixture
def queue(served: Served) -> Iterator[Any]:
    """The official Admin SDK's."""
    with patch.dict(os.environ, {"CLOUD_TASKS_EMULATOR_HOST": served.session.runner_url.removeprefix("http://")}):
        app = firebase_admin.initialize_app(options={"projectId": served.session.project}, name="serve-tests")
        yield functions.task_queue("locations/europe-west1/functions/work-off", app=app)
        firebase_admin.delete_app(app)


def attempts(served: Served, name: str) -> list[dict[str, Any]]:
    return [note for note in served.notes("work-off") if note["data"]["name"] == name]


def test_a_task_reaches_its_function_with_its_data_and_headers(served: Served, queue: Any) -> None:
    task_id = queue.enqueue({"data": {"name": "plain"}})
    served.session.drain_queue("work-off")
    (attempt,) = attempts(served, "plain")
    headers = attempt["headers"]
    assert headers["X-Cloudtasks-Queuename"] == "work-off"
    assert headers["X-Cloudtasks-Taskname"] == task_id
    assert headers["X-Cloudtasks-Taskretrycount"] == "0"
    assert headers["Content-Type"] == "application/json"


def test_a_failed_task_is_repeated_as_often_as_the_manifest_allows(served: Served, queue: Any) -> None:
    before = served.session.drain_queue("work-off")
    queue.enqueue({"data": {"name": "twice", "failures": 2}})
    queue.enqueue({"data": {"name": "hopeless", "failures": 99}})
    after = served.session.drain_queue("work-off")
    assert [attempt["headers"]["X-Cloudtasks-Taskretrycount"] for attempt in attempts(served, "twice")] == ["0", "1", "2"]
    assert len(attempts(served, "hopeless")) == 3
    assert attempts(served, "twice")[1]["headers"]["X-Cloudtasks-Taskpreviousresponse"] == "503"
    assert (after["completed"] - before["completed"], after["failed"] - before["failed"]) == (1, 1)


def test_a_task_name_is_used_once(served: Served, queue: Any) -> None:
    named = functions.TaskOptions(task_id="only-once", schedule_delay_seconds=0)
    # The SDK cuts the first letter off the name that it gets back from an emulator, so it is sent by hand.
    task = {"name": named.task_id, "httpRequest": {"url": "", "body": "eyJkYXRhIjogeyJuYW1lIjogIm9uY2UifX0="}}
    url = f"{served.session.runner_url}/projects/p/locations/l/queues/work-off/tasks"
    call("POST", url, {"task": task})
    with pytest.raises(CallFailed) as caught:
        call("POST", url, {"task": task})
    assert caught.value.status == 409
    served.session.drain_queue("work-off")
    assert len(attempts(served, "once")) == 1


def test_a_scheduled_task_waits_and_can_be_taken_back(served: Served, queue: Any) -> None:
    task_id = queue.enqueue({"data": {"name": "later"}}, functions.TaskOptions(schedule_delay_seconds=600))
    with pytest.raises(CallFailed) as caught:
        served.session.drain_queue("work-off", timeout_s=0.1)
    assert caught.value.status == 504
    queue.delete(task_id)
    served.session.drain_queue("work-off")
    assert attempts(served, "later") == []
    with pytest.raises(exceptions.NotFoundError):
        queue.delete(task_id)


def serve(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with one function only."""
    command = [sys.executable, "-m", "scripts.serve", "--source", str(NOTES), "--only", "tell_environment", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=60
    )


def test_a_command_finds_everything_in_its_environment_and_its_exit_code_is_the_runners() -> None:
    program = (
        "import json, os, sys, urllib.request\n"
        "urls = json.loads(os.environ['FUNCTION_URLS'])\n"
        "for url in (os.environ['FIRESTORE_ADMIN_URL'], os.environ['RUNNER_URL'], urls['tell_environment']):\n"
        "    urllib.request.urlopen(url).read()\n"
        "from google.cloud import firestore\n"
        "firestore.Client().document('a/b').set({'x': 1})\n"
        "print(os.environ['GOOGLE_CLOUD_PROJECT'], sys.argv[1:])\n"
        "sys.exit(7)\n"
    )
    done = serve("--project", "demo-x", "--", sys.executable, "-c", program, "--chaos", "-x")
    assert (done.returncode, done.stdout) == (7, "demo-x ['--chaos', '-x']\n"), done.stderr
    assert "tell_environment" in done.stderr


def test_what_a_command_leaves_behind_is_ended() -> None:
    done = serve("--", "sh", "-c", "setsid sleep 300 & echo $!; kill -KILL $$")
    assert done.returncode == 128 + signal.SIGKILL
    assert not is_alive(int(done.stdout))


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "complaint"),
    [
        (["--", "no-such-program"], {}, 127, "no-such-program"),
        ([], {"REFUSE_TO_START": "1"}, 1, "I was told not to start"),
        (["--only", "nothing"], {}, 2, "there is no function 'nothing'"),
        (["--source", "/nowhere"], {}, 2, "/nowhere/functions.yaml"),
        (["--firestore-port", "x"], {}, 2, "--firestore-port"),
        (["--emulator=--mode=none", "--", "true"], {}, 1, "--mode"),
    ],
)
def test_what_cannot_be_run_is_explained(arguments: list[str], environment: dict[str, str], code: int, complaint: str) -> None:
    done = serve(*arguments, environment=environment)
    assert done.returncode == code, done.stderr
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@dataclass
class Started:
    """A runner that waits, and the processes below it."""

    process: subprocess.Popen[str]
    processes: set[int]
    where: dict[str, Any]


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def starter(*arguments: str) -> Started:
        command = [sys.executable, "-m", "scripts.serve", "--source", str(NOTES), "--only", "tell_environment", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        processes = eventually(lambda: len(found := family(process.pid)) >= 4 and found, "all processes run")
        started.append(Started(process, processes, where))
        return started[-1]

    yield starter
    for one in started:
        one.process.kill()
        one.process.wait(10)
        assert one.process.stdout is not None
        one.process.stdout.close()


def test_ctrl_c_stops_everything(start: Callable[..., Started]) -> None:
    started = start()
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(PATIENCE_S) == 0
    assert not any(map(is_alive, started.processes))


def test_nothing_survives_the_death_of_the_runner(start: Callable[..., Started]) -> None:
    started = start()
    started.process.kill()
    eventually(lambda: not any(map(is_alive, started.processes)), "all are gone")


def test_the_death_of_the_embedded_firestore_ends_the_run(start: Callable[..., Started]) -> None:
    started = start()
    with urllib.request.urlopen(started.where["adminUrl"]) as response:
        os.kill(json.load(response)["pid"], signal.SIGKILL)
    assert started.process.wait(PATIENCE_S) == 1
    assert not any(map(is_alive, started.processes))


def test_a_command_that_is_cut_short_has_not_succeeded(start: Callable[..., Started]) -> None:
    started = start("--", "sh", "-c", "echo '{}'; sleep 300")
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert not any(map(is_alive, started.processes))
