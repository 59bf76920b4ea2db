"""functions.yaml with its parameters, and the .env files that set them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.triggers import EventType
from runner import dotenv
from runner.manifest import (
    EventTrigger,
    Function,
    HttpsTrigger,
    InvalidManifest,
    ScheduleTrigger,
    TaskQueueTrigger,
    parse,
    read,
)

ROOT = Path(__file__).resolve().parents[3]


def a_manifest(endpoint: dict[str, Any] | None = None, params: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "specVersion": "v1alpha1",
        "params": params or [],
        "endpoints": {"f": {"entryPoint": "f", "platform": "gcfv2", "httpsTrigger": {}, **(endpoint or {})}},
    }


def an_event_trigger(**more: Any) -> dict[str, Any]:
    trigger = {
        "eventType": "google.cloud.firestore.document.v1.written",
        "retry": True,
        "eventFilters": {"database": "(default)", "namespace": "(default)"},
        "eventFilterPathPatterns": {"document": "expenses/{expenseId}"},
    }
    endpoint = a_manifest()
    endpoint["endpoints"]["f"] = {"entryPoint": "f", "eventTrigger": {**trigger, **more}}
    return endpoint


def only(data: dict[str, Any], **values: str) -> Function:
    (function,) = parse(data, values).functions
    return function


def test_the_manifest_of_this_project_is_understood() -> None:
    manifest = read(ROOT / "functions.yaml", {"EXPENSES_COLLECTION": "bills"})
    functions = {function.name: function for function in manifest.functions}
    expenses = functions["on_expense_written"].trigger
    assert expenses == EventTrigger(EventType.WRITTEN, "bills/{expenseId}", "(default)", retry=True)
    assert manifest.parameters["EXPENSES_COLLECTION"] == "bills"
    assert manifest.parameters["SETTLEMENTS_COLLECTION"] == "settlements"


def test_an_endpoint_without_settings_gets_the_defaults() -> None:
    function = only(a_manifest())
    assert function == Function(name="f", entry_point="f", trigger=HttpsTrigger())
    assert (function.concurrency, function.timeout_s, function.signature_type) == (80, 60.0, "http")


def test_settings_are_read() -> None:
    function = only(
        a_manifest(
            {
                "region": ["eur3"],
                "concurrency": 7,
                "timeoutSeconds": 9,
                "environmentVariables": {"THREADS": 7},
                "entryPoint": "g",
            }
        )
    )
    assert (function.region, function.concurrency, function.timeout_s) == ("eur3", 7, 9.0)
    assert (function.environment, function.entry_point) == ({"THREADS": "7"}, "g")


def test_event_functions_get_cloud_events() -> None:
    function = only(an_event_trigger())
    assert function.signature_type == "cloudevent"
    assert function.trigger == EventTrigger(EventType.WRITTEN, "expenses/{expenseId}", "(default)", retry=True)
    without_retry = an_event_trigger()
    del without_retry["endpoints"]["f"]["eventTrigger"]["retry"]
    assert only(without_retry).trigger == EventTrigger(EventType.WRITTEN, "expenses/{expenseId}", "(default)", retry=False)


def test_a_schedule_and_a_task_queue_are_read() -> None:
    data = a_manifest()
    data["endpoints"] = {
        "nightly": {"entryPoint": "f", "scheduleTrigger": {"schedule": "every day 03:00", "timeZone": "Europe/Berlin"}},
        "work-off": {
            "entryPoint": "g",
            "taskQueueTrigger": {"rateLimits": {"maxConcurrentDispatches": 3}, "retryConfig": {"maxAttempts": 9}},
        },
    }
    nightly, work_off = parse(data, {}).functions
    assert nightly.trigger == ScheduleTrigger("every day 03:00", "Europe/Berlin")
    assert work_off.trigger == TaskQueueTrigger(max_concurrent_dispatches=3, max_attempts=9)


def test_a_default_may_name_the_project() -> None:
    """As the Firebase CLI has it; to the functions it is no parameter."""
    params = [{"name": "ACCOUNT", "type": "string", "default": "balance@{{ params.PROJECT_ID }}.iam.gserviceaccount.com"}]
    found = parse(a_manifest(params=params), {"PROJECT_ID": "demo-me"})
    assert found.parameters == {"ACCOUNT": "balance@demo-me.iam.gserviceaccount.com"}


def test_every_function_runs_as_an_account_with_a_whole_address() -> None:
    """The CLI hands it to Cloud Scheduler as it stands: with nothing, or "balance@", the nightly run would never start."""
    text = yaml.safe_load((ROOT / "functions.yaml").read_text())
    found = parse(text, {"PROJECT_ID": "demo-me"})
    assert found.parameters["SERVICE_ACCOUNT"] == "balance@demo-me.iam.gserviceaccount.com"
    assert {endpoint["serviceAccount"] for endpoint in text["endpoints"].values()} == {"{{ params.SERVICE_ACCOUNT }}"}


def test_parameters_have_defaults_and_values_come_first() -> None:
    params = [{"name": "COLLECTION", "type": "string", "default": "expenses"}]
    data = an_event_trigger(eventFilterPathPatterns={"document": "{{ params.COLLECTION }}/{id}"}) | {"params": params}
    by_default, set_ = only(data), only(data, COLLECTION="bills")
    assert isinstance(by_default.trigger, EventTrigger)
    assert isinstance(set_.trigger, EventTrigger)
    assert (by_default.trigger.pattern, set_.trigger.pattern) == ("expenses/{id}", "bills/{id}")


def test_parameters_of_every_type_become_text() -> None:
    params: list[dict[str, Any]] = [
        {"name": "COUNT", "type": "int", "default": 7},
        {"name": "ON", "type": "boolean", "default": True},
        {"name": "NAME", "type": "string", "default": "count {{ params.COUNT }}"},
    ]
    data = a_manifest({"concurrency": "{{ params.COUNT }}"}, params)
    assert parse(data, {}).parameters == {"COUNT": "7", "ON": "true", "NAME": "count 7"}
    assert only(data).concurrency == 7


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ([], "the manifest"),
        ({"specVersion": "v2"}, "specVersion"),
        (a_manifest() | {"endpoints": {}}, "endpoints: there is none"),
        (a_manifest() | {"endpoints": None}, "endpoints"),
        (a_manifest({"entryPoint": None}), "endpoints.f.entryPoint: it is missing"),
        (a_manifest({"platform": "gcfv1"}), "endpoints.f.platform"),
        (a_manifest({"scheduleTrigger": {}}), "endpoints.f: it needs one trigger"),
        (a_manifest({"concurrency": "many"}), "endpoints.f.concurrency"),
        (a_manifest({"timeoutSeconds": True}), "endpoints.f.timeoutSeconds"),
        (a_manifest({"environmentVariables": []}), "endpoints.f.environmentVariables"),
        (a_manifest({"entryPoint": "{{ params.GONE }}"}), "endpoints.f.entryPoint: there is no parameter 'GONE'"),
        (a_manifest({"entryPoint": "{{ params.A == 1 }}"}), "endpoints.f.entryPoint: the expression"),
        (a_manifest(params=[{"name": "A"}]), "params.A: it has no default"),
        (a_manifest(params=[{"name": "A", "type": "int", "default": "x"}]), "params.A: 'x' is no number"),
        (a_manifest(params=[{"name": "A", "type": "boolean", "default": "maybe"}]), "params.A"),
        (a_manifest(params=[{}]), "params[0].name"),
        (an_event_trigger(eventType="google.pubsub"), "endpoints.f.eventTrigger.eventType"),
        (an_event_trigger(eventFilterPathPatterns={}), "endpoints.f.eventTrigger.eventFilterPathPatterns.document"),
        (an_event_trigger(eventFilterPathPatterns={"document": "expenses"}), "names a collection"),
        (an_event_trigger(retry="yes"), "endpoints.f.eventTrigger.retry"),
        (
            a_manifest() | {"endpoints": {"a_b": {"entryPoint": "f", "taskQueueTrigger": {}}}},
            "endpoints.a_b.taskQueueTrigger: Cloud Tasks",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(data: Any, where: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse(data, {})
    assert where in str(caught.value)


def test_a_file_that_is_missing_or_no_yaml_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="No such file"):
        read(tmp_path / "functions.yaml", {})
    (tmp_path / "functions.yaml").write_bytes(b"a: \xff")
    with pytest.raises(InvalidManifest, match="not UTF-8"):
        read(tmp_path / "functions.yaml", {})
    (tmp_path / "functions.yaml").write_text("a: [")
    with pytest.raises(InvalidManifest, match="no YAML"):
        read(tmp_path / "functions.yaml", {})
    (tmp_path / "functions.yaml").write_text(yaml.safe_dump(a_manifest({"cpu": 1, "platform": "run"})))
    with pytest.raises(InvalidManifest, match=r"functions\.yaml: endpoints\.f\.platform"):
        read(tmp_path / "functions.yaml", {})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("  export A = b c  ", "b c"),
        ("A=b # a comment", "b"),
        ("A=", ""),
        ("A='b # c'", "b # c"),
        ('A="b\\nc\\"d"  # a comment', 'b\nc"d'),
        ("A='b\\nc'", "b\\nc"),
        ("A=b=c", "b=c"),
        ('A="b"c', '"b"c'),
        ("A=x\nA=y", "y"),
        ("A=b#c", "b"),
        ('A="one\ntwo # three"', "one\ntwo # three"),
        ("A='one\n\ntwo'  # four\n# B=5", "one\n\ntwo"),
        ('A="b', '"b'),
        ("A=b\r\n", "b"),
    ],
)
def test_a_dotenv_line_is_read_as_the_firebase_cli_reads_it(line: str, value: str) -> None:
    assert dotenv.parse(f"# comment\n\n{line}\n") == {"A": value}


def test_a_dotenv_file_that_is_not_utf_8_is_told_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"# caf\xe9\n")
    with pytest.raises(dotenv.InvalidDotenv, match="not UTF-8"):
        dotenv.load(tmp_path, "demo-p")


def test_a_dotenv_line_that_is_no_assignment_is_told_with_its_number() -> None:
    with pytest.raises(dotenv.InvalidDotenv, match=r"\.env, line 2: 'nonsense'"):
        dotenv.parse("A=b\nnonsense\n")


def test_later_dotenv_files_come_first(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / ".env.demo-x").write_text("B=2\nC=2\n")
    (tmp_path / ".env.other").write_text("A=9\n")
    (tmp_path / ".env.local").write_text("C=3\n")
    assert dotenv.load(tmp_path, "demo-x") == {"A": "1", "B": "2", "C": "3"}


def test_what_env_local_shadows_is_told_by_name_and_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nB=1\nC=1\nD=1\n")
    (tmp_path / ".env.demo-x").write_text("B=2\n")
    assert dotenv.shadowed(tmp_path, "demo-x") == {}
    (tmp_path / ".env.local").write_text("A=2\nB=1\nC=1\nE=1\n")
    assert dotenv.shadowed(tmp_path, "demo-x") == {"A": ".env", "B": ".env.demo-x"}
