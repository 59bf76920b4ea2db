"""Run everything on this machine: the embedded Firestore and every function of functions.yaml, as in production."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from runner.dotenv import InvalidDotenv
from runner.manifest import InvalidManifest
from runner.processes import die_with_parent
from runner.serving import run, tell
from runner.stack import Options

EPILOG = """\
COMMAND runs with these set, and everything is stopped when it ends:
  FIRESTORE_EMULATOR_HOST, GOOGLE_CLOUD_PROJECT  what Firestore's clients want
  FUNCTION_URLS              JSON: from the name of a function to its URL
  FIRESTORE_ADMIN_URL        the embedded Firestore's HTTP side: statistics, drain, chaos, faults (GET lists all)
  RUNNER_URL                 the runner's HTTP side: processes, schedules, task queues (GET lists all)
  CLOUD_TASKS_EMULATOR_HOST  where the Admin SDKs send tasks
and the parameters of functions.yaml. Without COMMAND, where everything is comes as one line of JSON on standard output.

The functions' parameters and variables come from functions.yaml, .env, .env.PROJECT, .env.local and the environment,
later ones first. Functions that die are started again; the embedded Firestore's data live as long as it runs.

exit codes: COMMAND's (128 + N when signal N ended it); 0 stopped by Ctrl-C or SIGTERM (130, 143 if that cut a COMMAND
short); 1 something does not start; 2 wrong usage or manifest; 127 COMMAND cannot be run

examples:
  python -m scripts.serve --firestore-port 8080
  python -m scripts.serve --chaos 7 --quiet -- python -m scripts.demo
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m scripts.serve", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--project", default="demo-balance", help="the project's id (default: %(default)s)")
    made.add_argument("--source", type=Path, default=Path(), help="folder of functions.yaml and main.py (default: this one)")
    made.add_argument("--only", action="append", default=[], metavar="FUNCTION", help="not the others; may be repeated")
    made.add_argument("--firestore-port", type=_port, default=0, metavar="N", help="default: any that is free")
    made.add_argument("--admin-port", type=_port, metavar="N", help="the embedded Firestore's HTTP side (default: the next)")
    made.add_argument("--runner-port", type=_port, default=0, metavar="N", help="the runner's HTTP side (default: any)")
    made.add_argument("--chaos", type=int, metavar="SEED", help="deliver events twice, late and out of order")
    made.add_argument(
        "--emulator",
        action="append",
        default=[],
        metavar="ARGUMENT",
        help="more for the embedded Firestore, such as --emulator=--mode=optimistic (see python -m emulator --help)",
    )
    made.add_argument("--schedules", action="store_true", help="call scheduled functions on their schedules too")
    made.add_argument("--env", action="append", default=[], type=_assignment, metavar="NAME=VALUE", help="for the functions")
    made.add_argument("--logs", type=Path, metavar="DIR", help="write what the processes say to files there, not the screen")
    made.add_argument("--quiet", action="store_true", help="show only structured log lines of WARNING and above")
    made.add_argument("--exit-with-parent", type=int, metavar="PID", help="stop when this parent process ends (Linux)")
    made.add_argument("command", nargs="*", metavar="COMMAND", help="what to run beside it, after --")
    return made


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_534:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65534)")
    return int(text)


def _assignment(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def main() -> int:
    """Run; returns the exit code."""
    arguments = parser().parse_args()
    if arguments.exit_with_parent is not None:
        die_with_parent(arguments.exit_with_parent)
    options = Options(
        source=Path(os.path.abspath(arguments.source)),
        project=arguments.project,
        firestore_port=arguments.firestore_port,
        admin_port=arguments.admin_port,
        control_port=arguments.runner_port,
        chaos_seed=arguments.chaos,
        emulator_arguments=arguments.emulator,
        schedules=arguments.schedules,
        only=arguments.only,
        environment=dict(arguments.env),
    )
    try:
        return run(options, arguments.command, logs_folder=arguments.logs, quiet=arguments.quiet)
    except (InvalidManifest, InvalidDotenv) as error:
        tell(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
