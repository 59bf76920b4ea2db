"""What a running stack offers to its functions and to those who use it: a session on a small project, and its HTTP side."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import firebase_admin
import pytest
from firebase_admin import exceptions, functions
from google.cloud import firestore

from runner.session import CallFailed, Session, call, running
from tests.e2e.waiting import eventually, family, is_alive

pytestmark = pytest.mark.xdist_group("session")
NOTES = Path(__file__).parent / "fixtures" / "notes"


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
        "CLOUD_TASKS_EMULATOR_HOST": served.session.tasks_host,
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
    with patch.dict(os.environ, {"CLOUD_TASKS_EMULATOR_HOST": served.session.tasks_host}):
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
    url = f"http://{served.session.tasks_host}/projects/p/locations/l/queues/work-off/tasks"
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
