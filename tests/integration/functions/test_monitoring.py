"""The log-based metrics and alert policies of deploy/monitoring, against the lines that the running functions log."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from balance.documents.sources import Kind
from balance.functions import api as api_module
from balance.functions import nightly, tasks, triggers
from emulator.changes import Change
from emulator.triggers import encode_body
from runner import manifest
from tests.integration.callers import read_api
from tests.integration.deployment import Deployment, deployment, expense

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "deploy" / "monitoring"

Entry = dict[str, Any]


SERVICES = {function.service for function in manifest.read(ROOT / "functions.yaml", {}).functions}
GROUP_TRIGGERS = {service for service in SERVICES if service.startswith("on-group-")}


def load(folder: str) -> dict[str, Any]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((MONITORING / folder).glob("*.yaml"))}


METRICS = load("metrics")
ALERTS = load("alerts")
COUNTERS = [name for name, metric in METRICS.items() if metric["metricDescriptor"]["valueType"] == "INT64"]


def matches(condition: str, entry: Entry) -> bool:
    """Evaluates the part of the logging query language that our filters use.

    https://cloud.google.com/logging/docs/view/logging-query-language
    """
    return all(_matches_term(term.strip(), entry) for term in re.split(r"\s+AND\s+", condition))


def _matches_term(term: str, entry: Entry) -> bool:
    found = re.fullmatch(r'([\w.]+)(=|:)(\*|"[^"]*"|\(("[^"]*")( OR "[^"]*")*\))', term)
    assert found, f"not understood: {term}"
    value: Any = entry
    for name in found[1].split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if found[3] == "*":
        assert found[2] == ":", term
        return value is not None
    assert found[2] == "=", f"':' is a substring match, which is not meant: {term}"
    return value in re.findall(r'"([^"]*)"', found[3])


@dataclass
class Logs:
    """What the functions have logged, as Cloud Logging files it."""

    entries: list[Entry]
    capture: pytest.CaptureFixture[str]

    def of(self, service: str) -> None:
        """File what was printed since, as logged by this service."""
        for line in self.capture.readouterr().out.splitlines():
            payload = json.loads(line)
            severity = payload.pop("severity")
            resource = {"type": "cloud_run_revision", "labels": {"service_name": service}}
            self.entries.append({"resource": resource, "severity": severity, "jsonPayload": payload})


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


@pytest.fixture
def entries(app: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[Entry]:
    """What the functions log when they meet everything that is counted."""
    logs = Logs([], capsys)
    changes: list[Change] = []
    app.server.databases.subscribe(changes.extend)

    def deliver(kind: Kind = Kind.EXPENSE, event_id: str = "e") -> None:
        change = next(change for change in reversed(changes) if "/documents/expenses/" in change.name)
        asyncio.run(triggers.handle(kind, encode_body(change), event_id=event_id, event_time=None))

    with read_api(app.server, monkeypatch) as api:
        capsys.readouterr()
        app.group("g", "ana", "bo")
        app.expense("g", "ana", bo=5)
        deliver()  # REBUILT: there is no balance yet
        app.expense("g", "ana", bo=6)
        deliver()  # APPLIED
        deliver()  # DUPLICATE
        app.write("expenses/malformed", {**expense("g", "ana", bo=5), "currency": "???"})
        deliver()  # FAULT
        app.write("expenses/mismatch", {**expense("g", "ana", bo=5), "amount": 9})
        deliver()  # a mismatch
        asyncio.run(triggers.handle(Kind.EXPENSE, b"\xff", event_id="x", event_time=None))  # UNREADABLE
        stored = app.balance("g")
        app.set_balance("g", {**stored, "version": 99})
        app.expense("g", "ana", bo=7)
        with pytest.raises(Exception, match="newer"):
            deliver()
        app.set_balance("g", stored)
        deliver()
        logs.of("on-expense-written")
        assert api.get("/groups/g/balance").status_code == 200
        app.client.document("groups/g/metadata/balance").delete()
        assert api.get("/groups/g/balance").status_code == 200  # falls back
        app.client.document("groups/g/metadata/balance").delete()
        monkeypatch.setenv("BALANCE_FALLBACK", "off")
        assert api.get("/groups/g/balance").status_code >= 500
        api_module._budgets().charge("ana", 10_000_000)
        assert api.get("/groups/g/balance").status_code == 429
        api_module._budgets_of.cache_clear()
        logs.of("balance-api")
        assert tasks.handle(b'{"data": {"groupId": "g"}}') == ("rebuilt", 200)
        assert tasks.handle(b"{}")[1] == 200
        logs.of("rebuild-balance")
        stored = app.balance("g")
        stored["balancesByCurrency"]["USD"]["bo"]["netBalance"] = 1
        app.set_balance("g", stored)
        monkeypatch.setattr(nightly, "ENOUGH_DOCUMENTS", 2)
        nightly.handle()
        nightly.run(app.database, app.keeper, budget_s=0.0)
        logs.of("reconcile-balances")
    return logs.entries


def test_every_metric_counts_exactly_the_lines_that_are_meant(entries: list[Entry]) -> None:
    payloads = [entry["jsonPayload"] for entry in entries]
    for name in COUNTERS:
        meant = [payload for payload in payloads if payload.get("metric") == name]
        assert meant, f"nothing logs {name}"
        assert [entry["jsonPayload"] for entry in entries if matches(METRICS[name]["filter"], entry)] == meant, name


def test_every_counter_that_is_logged_has_a_metric(entries: list[Entry]) -> None:
    assert {entry["jsonPayload"]["metric"] for entry in entries if "metric" in entry["jsonPayload"]} <= set(COUNTERS)


@pytest.mark.parametrize(("name", "needs"), [("lagMs", "outcome"), ("readMs", "detail")])
def test_durations_are_extracted_from_the_lines_that_have_them(entries: list[Entry], name: str, needs: str) -> None:
    metric = METRICS[name]
    field = re.fullmatch(r"EXTRACT\(jsonPayload\.(\w+)\)", metric["valueExtractor"])
    assert field
    matched = [entry["jsonPayload"] for entry in entries if matches(metric["filter"], entry)]
    assert len(matched) >= 2
    for payload in matched:
        assert payload[needs]
        assert isinstance(payload[field[1]], int | float)
        assert payload[field[1]] >= 0


def test_a_line_of_another_service_is_not_counted(entries: list[Entry]) -> None:
    for entry in entries:
        entry["resource"]["labels"]["service_name"] = "somebody-else"
    assert not any(matches(metric["filter"], entry) for entry in entries for metric in METRICS.values())


def test_the_filters_name_exactly_the_deployed_services() -> None:
    named = {name for metric in METRICS.values() for name in re.findall(r'"([a-z-]+-[a-z]+)"', metric["filter"])}
    assert named == SERVICES


def test_metrics_are_of_the_shape_that_gcloud_takes() -> None:
    """https://cloud.google.com/logging/docs/reference/v2/rest/v2/projects.metrics"""
    for name, metric in METRICS.items():
        assert metric["name"] == f"balance_{name}"
        is_distribution = metric["metricDescriptor"]["valueType"] == "DISTRIBUTION"
        wanted = {"name", "description", "filter", "metricDescriptor"}
        assert metric.keys() == (wanted | {"valueExtractor", "bucketOptions"} if is_distribution else wanted)
        assert metric["metricDescriptor"]["metricKind"] == "DELTA"
        if is_distribution:
            buckets = metric["bucketOptions"]["exponentialBuckets"]
            largest = buckets["scale"] * buckets["growthFactor"] ** buckets["numFiniteBuckets"]
            # Retries end after a day; an API call long before.
            assert largest >= (86_400_000 if name == "lagMs" else 300_000)


THRESHOLDS = {
    "fallbackCalculations": (10, "60s"),
    "updateFailures": (0, "300s"),
    "readMs": (500, "300s"),
    "drift": (0, "300s"),
    "lagMs": (60_000, "300s"),
    "errors": (0, "300s"),
    "nightlyShortfalls": (0, "300s"),
    "malformedJumps": (0, "300s"),
}

OF_OUR_LOGS = {name: alert for name, alert in ALERTS.items() if "user/balance_" in str(alert["conditions"])}
TRIGGERS = {"on-expense-written", "on-settlement-written"}


def test_there_is_an_alert_for_every_threshold() -> None:
    """https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies"""
    found = {}
    for alert in OF_OUR_LOGS.values():
        (condition,) = alert["conditions"]
        threshold = condition["conditionThreshold"]
        pattern = r'resource\.type="cloud_run_revision" AND metric\.type="logging\.googleapis\.com/user/balance_(\w+)"'
        metric = re.fullmatch(pattern, threshold["filter"])
        assert metric
        assert threshold["comparison"] == "COMPARISON_GT"
        (aggregation,) = threshold["aggregations"]
        found[metric[1]] = (threshold["thresholdValue"], aggregation["alignmentPeriod"])
        is_distribution = METRICS[metric[1]]["metricDescriptor"]["valueType"] == "DISTRIBUTION"
        assert aggregation["perSeriesAligner"] == "ALIGN_DELTA"
        assert aggregation["crossSeriesReducer"] == ("REDUCE_PERCENTILE_95" if is_distribution else "REDUCE_SUM")
        assert alert["notificationChannels"] == ["projects/PROJECT/notificationChannels/CHANNEL"]
    assert found == THRESHOLDS


@pytest.mark.parametrize("name", sorted(ALERTS.keys() - OF_OUR_LOGS.keys()))
def test_alerts_of_the_platforms_metrics_need_none_of_our_lines(name: str) -> None:
    """A function that does not start, or answers 403, logs nothing: https://cloud.google.com/monitoring/promql/promql-mapping"""
    (condition,) = ALERTS[name]["conditions"]
    text = str(condition)
    assert ALERTS[name]["notificationChannels"] == ["projects/PROJECT/notificationChannels/CHANNEL"]
    kind = condition.keys() - {"displayName"}
    assert kind in ({"conditionThreshold"}, {"conditionPrometheusQueryLanguage"})
    if name.startswith("platform"):
        assert "user_balance" not in text
        for pattern in re.findall(r"(on-\([a-z|]+\)-\.\*)", text):
            assert {service for service in SERVICES if re.fullmatch(pattern, service)} >= TRIGGERS
            assert not {service for service in SERVICES - TRIGGERS if re.fullmatch(pattern, service)} - GROUP_TRIGGERS
    else:
        (metric,) = re.findall(r"logging_googleapis_com:user_balance_(\w+)", text)
        assert metric in METRICS


def test_a_missing_nightly_run_is_missed_even_when_there_never_was_one() -> None:
    query = ALERTS["nightly-missing"]["conditions"][0]["conditionPrometheusQueryLanguage"]["query"]
    assert "or vector(0)" in query
    assert "[25h]" in query


def test_every_alert_has_a_section_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    for name, alert in ALERTS.items():
        assert f"\n### {name}\n" in runbook
        assert name in alert["documentation"]["content"]
        assert "docs/runbook.md" in alert["documentation"]["content"]
