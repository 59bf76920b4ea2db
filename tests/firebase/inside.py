"""What runs inside `firebase emulators:exec`: wires the triggers where the CLI does not, then runs the end-to-end tests.

With the official Firestore emulator the CLI wires them itself. With the embedded one each event is sent to the functions
emulator as the official emulator would send it: `POST /functions/projects/PROJECT/triggers/REGION-NAME-0`, the body in base64.
"""

import json
import os
import subprocess
import sys
from typing import Any

from runner.session import call

FUNCTIONS = "http://" + os.environ.get("FUNCTIONS_EMULATOR_HOST", "127.0.0.1:5001")
TESTS = ("tests/firebase/package_check.py", "tests/e2e/through_functions")
PROJECT = os.environ["GCLOUD_PROJECT"]


def main() -> int:
    urls = {}
    for backend in call("GET", f"{FUNCTIONS}/backends")["backends"]:
        for function in backend["functionTriggers"]:
            trigger = function.get("eventTrigger")
            if trigger is None:
                urls[function["name"]] = f"{FUNCTIONS}/{PROJECT}/{function['region']}/{function['name']}"
            elif "eventFilterPathPatterns" in trigger:
                urls[function["name"]] = f"{FUNCTIONS}/functions/projects/{PROJECT}/triggers/{function['id']}-0"
                wire(function["name"], trigger, urls[function["name"]])
    expected = {
        "on_expense_written",
        "on_settlement_written",
        "on_group_created",
        "on_group_deleted",
        "balance_api",
        "rebuild-balance",
    }
    if missing := expected - urls.keys():
        print(f"test-firebase: the CLI did not load {sorted(missing)}", file=sys.stderr)
        return 1
    environment = {**os.environ, "GOOGLE_CLOUD_PROJECT": PROJECT, "FUNCTION_URLS": json.dumps(urls)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *TESTS, *sys.argv[1:]]
    return subprocess.run(command, env=environment, check=False).returncode


def wire(name: str, trigger: dict[str, Any], url: str) -> None:
    """Have the embedded Firestore deliver to the functions emulator."""
    admin = os.environ.get("FIRESTORE_ADMIN_URL")
    if admin is None:
        return
    pattern = trigger["eventFilterPathPatterns"]["document"]
    data = {"name": name, "pattern": pattern, "url": url, "eventType": trigger["eventType"], "base64Body": True}
    call("POST", f"{admin}/triggers", data)


if __name__ == "__main__":
    sys.exit(main())
