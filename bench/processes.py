"""Whole processes: the cold start of a trigger, and the backfill of a fleet."""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from google.cloud import firestore

from bench import workload
from bench.measure import Figure, Report, at_most
from bench.servers import Database, Kind, database, kinds, serving
from tests.integration.served import PROJECT, served

ROOT = Path(__file__).resolve().parent.parent
COLD, BACKFILL = "Cold start", "Backfill"

LIBRARIES = "import functions_framework.aio, google.cloud.firestore"

FIRST_EVENT = """
import asyncio
import functions_framework
from google.events.cloud.firestore_v1 import DocumentEventData
application = functions_framework.create_app("on_expense_written", "main.py", "cloudevent")
event = DocumentEventData.pb()()
event.value.name = "projects/demo-test/databases/(default)/documents/expenses/e1"
event.value.update_time.seconds = 1
event.value.fields["groupId"].string_value = "g"
for name in ("paidBy", "currency"):
    event.value.fields[name].string_value = "USD"
event.value.fields["amount"].integer_value = 2
split = event.value.fields["splits"].array_value.values.add().map_value.fields
split["uid"].string_value = "A"
split["amount"].integer_value = 2
headers = {"content-type": "application/protobuf", "ce-specversion": "1.0", "ce-id": "1", "ce-source": "//firestore",
           "ce-type": "google.cloud.firestore.document.v1.written", "ce-time": "2026-01-01T00:00:00Z"}
scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "root_path": "",
         "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
answers = []
async def receive():
    return {"type": "http.request", "body": event.SerializeToString()}
async def send(message):
    answers.append(message)
asyncio.run(application(scope, receive, send))
assert answers[0]["status"] == 200, answers
import sys
assert "firebase_admin" not in sys.modules
"""


def cold_start(report: Report, baseline: str, rounds: int) -> None:
    """Add the figures of a trigger's first event: in a process by itself, and as it is served."""
    with served() as server:
        server.client().document("groups/g").set({"members": ["A", "USD"]})
        environment = {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}", "GOOGLE_CLOUD_PROJECT": PROJECT}
        readings: dict[str, list[float]] = {LIBRARIES: [], FIRST_EVENT: []}
        for _ in range(rounds):
            for program, taken in readings.items():
                taken.append(_cpu_of(program, environment))
    libraries, first = (statistics.median(taken) for taken in readings.values())
    report.add(
        COLD,
        Figure("CPU time to import functions_framework.aio and google.cloud.firestore", libraries * 1e3, "ms"),
        Figure("CPU time to the first handled event of a trigger", first * 1e3, "ms"),
        at_most("the second / the first", first / libraries, 1.15),
    )
    names = ("ours", "before", "nothing") if rounds < 5 else ("ours", "before", "nothing", "node")
    starts: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    with ExitStack() as stack:
        found = {name: (kind, stack.enter_context(database())) for name, kind in kinds(names, baseline).items()}
        for number in range(rounds):
            for name, (kind, of) in found.items():
                starts[name].append(_served_start(kind, of, number))
    for name, measured in starts.items():
        cpu_s, took_s, size_bytes = (statistics.median(values) for values in zip(*measured, strict=True))
        report.add(
            COLD,
            Figure(f"as served, to the first event: {name}, CPU time", cpu_s * 1e3, "ms"),
            Figure(f"as served, to the first event: {name}, time", took_s * 1e3, "ms"),
            Figure(f"as served, to the first event: {name}, memory", size_bytes / 2**20, "MiB"),
        )


def _served_start(kind: Kind, of: Database, number: int) -> tuple[float, float, float]:
    """CPU time, time and memory of a server to its first event."""
    of.client.document("groups/cold").set({"members": workload.uids(10)})
    started_s = time.perf_counter()
    with serving(kind, of) as server:
        of.client.document(f"expenses/cold-{number}").set(workload.expenses(1, 10, "cold")[0])
        of.drain()
        return server.cpu_s(), time.perf_counter() - started_s, server.memory_bytes()


def _cpu_of(program: str, environment: dict[str, str]) -> float:
    """The CPU time of a Python process that runs a program in the root."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", program]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def backfill(report: Report, sizes: tuple[int, ...]) -> None:
    """Add the figures of a backfill of fleets of these sizes."""
    peaks = []
    for groups in sizes:
        with served() as server, patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}"}):
            _seed(server.client(), groups)
            rate, peak_kb = _backfilled()
            peaks.append(peak_kb)
        report.add(BACKFILL, Figure(f"groups a second, 8 workers, {groups:,} groups", rate, "/s", 150))
        report.add(BACKFILL, Figure(f"peak memory, {groups:,} groups", peaks[-1] / 1024, "MiB"))
    if len(sizes) > 1:
        report.add(BACKFILL, at_most(f"peak memory, {sizes[-1]:,} groups / {sizes[0]:,}", peaks[-1] / peaks[0], 1.15))


def _backfilled() -> tuple[float, int]:
    """Run the script; returns its groups a second, and its peak memory in kB."""
    command = [sys.executable, "-m", "scripts", "backfill", "--project", PROJECT, "--workers", "8", "--json"]
    peak_kb = 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None:
            peak_kb = max(peak_kb, _peak_kb(process.pid))
            time.sleep(0.1)
        assert process.stdout is not None
        printed = process.stdout.read()
    assert process.returncode == 0, f"the backfill ended with {process.returncode}: {printed}"
    return json.loads(printed.splitlines()[-1])["groupsPerSecond"], peak_kb


def _peak_kb(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _seed(client: firestore.Client, groups: int) -> None:
    """Groups with four expenses each."""
    for start in range(0, groups, 80):
        batch = client.batch()
        for number in range(start, min(groups, start + 80)):
            batch.set(client.document(f"groups/g{number}"), {"members": workload.uids(5)})
            for index, fields in enumerate(workload.expenses(4, 5, f"g{number}")):
                batch.set(client.document(f"expenses/g{number}-{index}"), fields)
        batch.commit()
