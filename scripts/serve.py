"""Run the embedded Firestore and every function of functions.yaml on this machine.

Beside it COMMAND runs, if there is one; all is stopped when it ends. It finds FIRESTORE_EMULATOR_HOST, GOOGLE_CLOUD_PROJECT,
FUNCTION_URLS (JSON: function to URL), FIRESTORE_ADMIN_URL, RUNNER_URL (GET lists what they offer),
CLOUD_TASKS_EMULATOR_HOST and the parameters in its environment. Without COMMAND a pipe gets one line of JSON with all that.

Parameters come from functions.yaml, .env, .env.PROJECT, .env.local and the environment, later ones first. Functions that
die are started again. The data live in memory, as long as this runs.

Exit codes: COMMAND's (128 + N when signal N ended it); 0 stopped by Ctrl-C or SIGTERM (130, 143 if that cut a COMMAND
short); 1 something does not start; 2 wrong usage or manifest, port in use; 127 COMMAND cannot be run.

Examples:
  balance dev --firestore-port 8080
  balance dev --source ../my-app/balance-functions --chaos 7 -- npm test
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from balance.documents.settings import InvalidSetting, from_environment
from runner.dotenv import InvalidDotenv
from runner.manifest import InvalidManifest
from runner.processes import die_with_parent
from runner.serving import run, tell
from runner.stack import DEPLOYED_INDEXES, Options
from scripts import aliases
from scripts import source as folders
from scripts.command import Refused, subcommand
from scripts.exits import Exit
from scripts.ports import check_free

_PORT = click.IntRange(0, 65_534)


class Assignment(click.ParamType[tuple[str, str]]):
    """NAME=VALUE."""

    name = "NAME=VALUE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """The two."""
        name, separator, text = value.partition("=")
        if not name or not separator:
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        return name, text


@subcommand("dev", __doc__, context_settings={"allow_interspersed_args": False})
@click.option("--project", default="demo-balance", help="The project's id or alias (demo-balance).")
@click.option("--source", metavar="DIR", envvar=folders.VARIABLE, help="Folder of functions.yaml (here or above).")
@click.option("--only", metavar="FUNCTION", multiple=True, help="Not the others; may be repeated.")
@click.option("--firestore-port", metavar="N", type=_PORT, default=0, help="Default: any that is free.")
@click.option("--admin-port", metavar="N", type=_PORT, help="Of Firestore's HTTP side (the next one).")
@click.option("--runner-port", metavar="N", type=_PORT, default=0, help="Of the runner's HTTP side (any).")
@click.option("--chaos", metavar="SEED", type=int, help="Deliver events twice, late and out of order.")
@click.option("--indexes", type=Path, metavar="FILE", default=DEPLOYED_INDEXES, help="Refuse other queries; or 'none'.")
@click.option("--emulator", metavar="ARGUMENT", multiple=True, help="More for `python -m emulator`.")
@click.option("--console/--no-console", default=None, help="In the browser (yes, without COMMAND).")
@click.option("--schedules", is_flag=True, help="Call scheduled functions on their schedules too.")
@click.option("--env", type=Assignment(), multiple=True, help="A variable for the functions.")
@click.option("--logs", type=Path, metavar="DIR", help="Output of the processes to files there.")
@click.option("--quiet", is_flag=True, help="Only log lines of WARNING and above.")
@click.option("--exit-with-parent", type=int, hidden=True)
@click.argument("command", nargs=-1, metavar="[-- COMMAND]", type=click.UNPROCESSED)
def dev(
    project: str,
    source: str | None,
    only: tuple[str, ...],
    firestore_port: int,
    admin_port: int | None,
    runner_port: int,
    chaos: int | None,
    indexes: Path,
    emulator: tuple[str, ...],
    console: bool | None,
    schedules: bool,
    env: tuple[tuple[str, str], ...],
    logs: Path | None,
    quiet: bool,
    exit_with_parent: int | None,
    command: tuple[str, ...],
) -> int:
    if exit_with_parent is not None:
        die_with_parent(exit_with_parent)
    taken: dict[int, str] = {}
    for port, option in _ports(firestore_port, admin_port, runner_port):
        if port in taken:
            raise Refused(f"port {port} is asked for twice, for {taken[port]} and {option}: choose another for one of them")
        taken[port] = option
        check_free(port, f"another port with {option}")
    if str(indexes) != "none" and not indexes.is_file():
        raise Refused(f"--indexes {indexes}: there is no such file; 'none' allows every query")
    folder = folders.find(source)
    folders.try_adapter(folder)
    meant = aliases.resolve(project, folder if source else None)
    options = Options(
        source=folder,
        project=meant.id,
        alias=meant.alias,
        firestore_port=firestore_port,
        admin_port=admin_port,
        control_port=runner_port,
        chaos_seed=chaos,
        indexes=None if str(indexes) == "none" else indexes.absolute(),
        emulator_arguments=emulator,
        schedules=schedules,
        only=only,
        environment=dict(env),
        adapter=folders.ADAPTER if (folder / folders.ADAPTER).is_file() else None,
        companions=_companions(project, folder) if console or (console is None and not command) else {},
    )
    for warning in (*folders.look_alikes(folder, meant, emulated=True), *folders.shadowed(folder, meant)):
        tell(warning)
    try:
        # Else each function would refuse to start, with a traceback of its own.
        from_environment({**folders.parameters(folder, meant, {}, emulated=True), **options.environment})
        return run(options, command, logs_folder=logs, quiet=quiet)
    except InvalidSetting as error:
        raise Refused(f"{error} (parameters of {options.source})") from None
    except (InvalidManifest, InvalidDotenv) as error:
        tell(str(error))
        return Exit.REFUSED


def _ports(firestore: int, admin: int | None, runner: int) -> list[tuple[int, str]]:
    """The ports that were asked for, each with the option that moves it."""
    if admin is None and firestore:
        admin = firestore + 1
    asked = ((firestore, "--firestore-port"), (admin or 0, "--admin-port"), (runner, "--runner-port"))
    return [(port, option) for port, option in asked if port]


def _companions(project: str, folder: Path) -> dict[str, list[str]]:
    """The command line of the console for this run; none for functions that are not ours."""
    if not (folder / folders.ADAPTER).is_file():
        return {}
    words = [sys.executable, str(folders.ROOT / "scripts"), "console", "--project", project, "--source", str(folder)]
    return {"console": words}


if __name__ == "__main__":
    from scripts.cli import main

    sys.exit(main(["dev", *sys.argv[1:]]))
