"""Tasks of the queue before an embedded server: what the function does with one."""

import json
import time
from collections.abc import Iterator

import pytest

from balance.documents.balances import VERSION
from balance.functions import instance, tasks
from balance.functions.tasks import _Pace
from tests.integration.deployment import Deployment, deployment


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        monkeypatch.setattr(instance, "_firestore", None)
        monkeypatch.setattr(instance, "_bookkeeper", None)
        running.group("g")
        running.expense("g", "a", "USD", b=2)
        yield running


def body(**data: object) -> bytes:
    return json.dumps({"data": data}).encode()


def test_a_task_rebuilds_its_group_once(app: Deployment) -> None:
    assert tasks.handle(body(groupId="g")) == ("rebuilt", 200)
    first = app.balance("g")
    assert first["balancesByCurrency"]["USD"]["b"]["owes"] == {"a": 2}
    assert tasks.handle(body(groupId="g", force=False)) == ("skipped", 200)
    assert app.balance("g") == first


def test_a_forced_task_rebuilds_over_newer_versions(app: Deployment) -> None:
    app.set_balance("g", {"version": VERSION + 1})
    assert tasks.handle(body(groupId="g")) == ("failed", 500)
    assert tasks.handle(body(groupId="g", force=True)) == ("rebuilt", 200)
    assert app.balance("g")["version"] == VERSION


def test_a_task_of_a_deleted_group_is_done(app: Deployment) -> None:
    assert tasks.handle(body(groupId="nobody")) == ("gone", 200)


@pytest.mark.parametrize(
    "wrong",
    [
        b"", b"{", b"[]", b"{}", b'{"data": 5}', b"\xff", body(), body(groupId=5), body(groupId=""), body(groupId="a/b"),
        body(groupId="__x__"), body(groupId="g", force="yes"), body(groupId=None), b"[" * 100_000, b'{"data":' * 100_000,
    ],
)  # fmt: skip
def test_a_wrong_task_is_dropped_at_once_and_logged(app: Deployment, capsys: pytest.CaptureFixture[str], wrong: bytes) -> None:
    text, status = tasks.handle(wrong)
    assert status == 200, "else the queue would bring it again"
    assert text.startswith("dropped: ")
    assert "data" in text
    entry = json.loads(capsys.readouterr().out)
    assert (entry["severity"], entry["metric"]) == ("ERROR", "updateFailures")


def test_a_pace_is_never_exceeded() -> None:
    pace = _Pace(200)
    started = time.monotonic()
    for _ in range(41):
        pace.wait()
    assert time.monotonic() - started >= 40 / 200
