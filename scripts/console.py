"""Look at an app's balances in the browser: groups, debts, events as they come, what is wrong and what to do.

It listens on this machine only, at an address with a token, and prints that address. In production it only reads, and needs
no more than the role roles/datastore.viewer (for logs: roles/logging.viewer too). With --write it offers to rebuild balances,
and asks for the project's name each time. `balance dev` starts it, too.

Exit codes: 0 stopped by Ctrl-C; 2 not begun.

Examples:
  balance console --project my-app --names users
  balance console --project my-app --write --port 8765
"""

from __future__ import annotations

import json
import os
import socket
import sys

import click
import google.auth
import uvicorn
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from console.app import Console
from console.cloud_logs import CloudLogs
from console.deployment import Deployment
from console.feed import Feed
from console.local import Local
from emulator.gate import new_token
from runner import manifest
from scripts import command, output, target
from scripts.command import Refused
from scripts.exits import Exit
from scripts.output import Names
from scripts.target import Opened, Target


@command.subcommand("console", __doc__)
@click.option("--port", metavar="N", type=click.IntRange(0, 65_535), default=0, help="Default: any that is free.")
@click.option("--write", is_flag=True, help="Offer to rebuild balances, in production too.")
@output.names_option
@target.options(writes=False)
def console(target: Target, port: int, write: bool, names: str | None) -> int:
    opened = target.open(writes=False)
    local = _local(opened)
    deployment = Deployment(
        project=opened.project,
        firestore=opened.firestore,
        settings=opened.settings,
        parameters=opened.parameters,
        folder=opened.folder,
        names=Names.of(opened.firestore, names),
        emulator=opened.emulator,
        local=local,
        may_write=write or opened.emulator is not None,
    )
    feed = Feed(opened.settings, local, None if opened.emulator else _logs(opened))
    shown = Console(deployment, feed, new_token())
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise Refused(f"port {port}: {error.strerror}") from None
        listening.listen(128)
        feed.start()
        configuration = uvicorn.Config(
            shown.application(), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        try:
            _tell(f"http://127.0.0.1:{listening.getsockname()[1]}/{shown.token}/")
            uvicorn.Server(configuration).run(sockets=[listening])
        except KeyboardInterrupt:
            print(file=sys.stderr)
    return Exit.DONE


def _local(opened: Opened) -> Local | None:
    """The runner that has started this process, or that the environment names."""
    runner_url, admin_url = os.environ.get("RUNNER_URL"), os.environ.get("FIRESTORE_ADMIN_URL")
    if opened.emulator and runner_url and admin_url:
        return Local(runner_url, admin_url)
    return None


def _logs(opened: Opened) -> CloudLogs | None:
    """The project's logs, if there are credentials for other APIs than Firestore."""
    values = {**opened.parameters, "PROJECT_ID": opened.project}
    functions = manifest.read(opened.folder / manifest.FILE_NAME, values).functions
    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/logging.read"])
    except GoogleAuthError:
        return None
    return CloudLogs(AuthorizedSession(credentials), opened.project, [function.service for function in functions])


def _tell(url: str) -> None:
    """In the first line as JSON, for `balance dev`; for people on standard error."""
    if not sys.stdout.isatty():
        print(json.dumps({"url": url}), flush=True)
    else:
        print(f"the console is at {url}\nstop it with Ctrl-C", file=sys.stderr, flush=True)
