"""Rehearse the roll-out: an app with years of data switches to stored balances, under traffic.

An app writes all the time, no group twice within the gap; clients poll the read API all the time. Meanwhile: a backfill
that is killed and started again, verification, balances corrupted by hand and reconciled, updates switched off and on. Each
answer that the clients get must be the recalculation at some instant no older than 30 seconds: of all groups but those just
corrupted. At the end every balance must be the recalculation.

It runs the functions on this machine, as `balance dev` does.

Exit codes: 0 every answer was right; 1 something was not (it says what); 2 wrong usage.

Examples:
  balance rehearsal
  balance rehearsal --groups 60 --gap 10 --json
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import click
from google.cloud import firestore
from rich.table import Table

from balance.database.sdk import connect
from balance.documents.settings import from_environment
from runner.session import CallFailed
from scripts import inside_runner
from scripts.command import POSITIVE, subcommand
from scripts.command import as_json as json_option
from scripts.developing.rollout.stages import Failed, Plan, Stage, console, rehearse
from scripts.developing.rollout.traffic import App
from scripts.developing.rollout.verdicts import Clients
from scripts.exits import Exit


@subcommand("rehearsal", __doc__)
@click.option("--groups", metavar="N", type=POSITIVE, default=300, help="How many groups (300).")
@click.option("--old", metavar="N", type=POSITIVE, default=8, help="Documents that each begins with (8).")
@click.option("--gap", metavar="SECONDS", type=float, default=30.0, help="Between two writes to one group (30).")
@click.option("--seed", metavar="N", type=int, default=1, help="Of the traffic (1).")
@click.option("--logs", type=Path, metavar="DIR", help="Keep what the processes say there.")
@json_option
def rehearsal(groups: int, old: int, gap: float, seed: int, logs: Path | None, as_json: bool) -> int:
    if not inside_runner.is_inside():
        return inside_runner.run(logs=logs)
    project = os.environ["GOOGLE_CLOUD_PROJECT"]
    ids = [f"group-{index:04}" for index in range(groups)]
    settings = from_environment(os.environ)
    stage = Stage(
        Plan(groups, old, gap, seed, as_json),
        settings,
        project,
        connect(project, settings.database),
        App(firestore.Client(project=project), ids, random.Random(seed)),
        Clients(json.loads(os.environ["FUNCTION_URLS"])["balance_api"], project, ids),
        os.environ["FIRESTORE_ADMIN_URL"],
        os.environ["RUNNER_URL"],
    )
    started = time.monotonic()
    try:
        rehearse(stage)
    except (Failed, CallFailed) as error:
        console.print(f"FAILED: {error}", markup=False)
        return Exit.WRONG
    stage.figures["seconds"] = round(time.monotonic() - started, 1)
    if as_json:
        print(json.dumps(stage.figures))
    else:
        _print(stage.figures)
    return Exit.DONE


def _print(figures: dict[str, Any]) -> None:
    table = Table(title="rehearsal", title_justify="left", show_header=False)
    for name in ("groups", "writes", "answers", "unavailable", "corrupted", "writesWhileOff", "ageMs", "seconds"):
        table.add_row(name, str(figures[name]))
    console.print(table)
