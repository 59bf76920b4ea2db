"""What the stand-ins for gcloud and the Firebase CLI (shims/) do to the local runner."""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from runner.session import call

RUNNER = os.environ["RUNNER_URL"]
DEPLOYED = {"BALANCE_UPDATES": None, "BALANCE_PRECOMPUTED_READS": None, "BALANCE_FALLBACK": None}


def functions() -> dict[str, str]:
    """By the name of its Cloud Run service: the function."""
    names = [function["name"] for function in call("GET", f"{RUNNER}/functions")["functions"]]
    return {name.lower().replace("_", "-"): name for name in names}


def change(function: str, environment: Mapping[str, str | None]) -> None:
    """Have a function go on with other variables."""
    call("PUT", f"{RUNNER}/functions/{function}/environment", dict(environment))


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
