"""What the stand-ins for gcloud and the Firebase CLI (shims/) do to the local runner."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runner.session import call

RUNNER = os.environ["RUNNER_URL"]
STATE = Path(os.environ["SHIM_STATE"])
DEPLOYED = {"BALANCE_UPDATES": "on", "BALANCE_PRECOMPUTED_READS": "on", "BALANCE_FALLBACK": "on"}


def functions() -> dict[str, str]:
    """By the name of its Cloud Run service: the function."""
    names = [function["name"] for function in call("GET", f"{RUNNER}/functions")["functions"]]
    return {name.lower().replace("_", "-"): name for name in names}


def change(function: str, environment: dict[str, str]) -> None:
    """Have a function go on with other variables, unless they are what it has: starting it takes time."""
    kept = STATE / f"environment-{function}"
    present = json.loads(kept.read_text()) if kept.exists() else DEPLOYED
    changed = {**present, **environment}
    if changed != present:
        call("PUT", f"{RUNNER}/functions/{function}/environment", environment)
        kept.write_text(json.dumps(changed))


def main(action: str, *arguments: str) -> None:
    """Do it; an unknown service or function is a KeyError or CallFailed."""
    if action == "deploy":
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: change(name, DEPLOYED), functions().values()))
    elif action == "environment":
        service, assignments = arguments
        change(functions()[service], dict(assignment.split("=", 1) for assignment in assignments.split(",")))
    else:
        call("POST", f"{RUNNER}/schedules/{arguments[0]}/run")


if __name__ == "__main__":
    main(*sys.argv[1:])
