"""The rebuild task through the queue, as `balance backfill --enqueue` uses it."""

import os
import subprocess
import sys
import time

import pytest

from tests.e2e.through_functions.app import App, Drain
from tests.e2e.through_functions.conftest import Running

pytestmark = pytest.mark.xdist_group("functions")


def test_an_enqueued_backfill_rebuilds_the_group(app: App, functions: Running, drain: Drain) -> None:
    app.new("expenses").set(app.expense("A", 100, "USD", {"A": 50, "B": 50}))
    drain()
    app.client.document(f"groups/{app.group}/metadata/balance").delete()
    environment = {**os.environ, "GOOGLE_CLOUD_PROJECT": functions.client.project}
    if functions.session is not None:
        environment["FIRESTORE_EMULATOR_HOST"] = functions.session.firestore_host
        environment["CLOUD_TASKS_EMULATOR_HOST"] = functions.session.tasks_host

    done = subprocess.run(
        [sys.executable, "-m", "scripts", "backfill", "--project", functions.client.project, "--enqueue", "--group", app.group],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + 60
    while app.balance() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert app.debts() == {"USD": {("B", "A"): 50}}
