"""Check against a real project what the protocol assumes of Firestore.

The tests run on the embedded Firestore; what only Google's can confirm is checked here: what a read sees, that the past can
be read, that transactions keep others out, how errors are told apart, which uids can be keys, how large a balance may be.

It writes to a collection and a group of its own (balanceAssumptions) and removes both: a few hundred reads and writes.

Exit codes: 0 every assumption that was checked holds; 1 one does not, or could not be checked; 2 not begun.

Examples:
  balance check-assumptions --project my-staging
  balance check-assumptions --project my-staging --deployed --slow --yes
"""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from scripts import command, target
from scripts.assumptions import delivery_times, locking, shapes, times
from scripts.assumptions.laboratory import Laboratory, Refuted, Unknown, laboratory_in
from scripts.command import Refused
from scripts.command import as_json as json_option
from scripts.exits import Exit
from scripts.target import Target

Assumption = Callable[[Laboratory], str]

OF_FIRESTORE: tuple[Assumption, ...] = (
    times.a_read_sees_exactly_the_commits_up_to_its_time,
    times.queries_read_the_past_too,
    times.the_past_beyond_the_hour_is_told_from_other_errors,
    locking.queries_are_protected_against_phantoms,
    locking.missing_documents_are_protected_too,
    times.a_commit_has_one_time,
    times.a_write_that_changes_nothing_keeps_the_update_time,
    locking.a_record_cannot_be_made_twice,
    locking.a_commit_bears_its_conditions,
    locking.a_transaction_locks_whatever_the_databases_mode,
    locking.a_retry_keeps_its_age,
    locking.an_ended_transaction_is_told_from_other_errors,
    shapes.the_largest_balance_is_accepted,
    shapes.a_document_above_1_mib_is_refused_for_good,
    shapes.odd_uids_are_keys_like_others,
    shapes.the_longest_uids_may_lie_within_each_other,
    shapes.what_we_call_no_uid_firestore_refuses,
    times.the_servers_time_in_a_document_is_near_its_commit,
)
OF_TIME: tuple[Assumption, ...] = (
    locking.an_idle_transaction_times_out,
    locking.a_long_transaction_times_out,
)
OF_EVENTS: tuple[Assumption, ...] = (
    delivery_times.the_time_of_a_deletes_event_is_near_its_commit,
    delivery_times.the_event_of_a_large_document_arrives,
)


@command.subcommand("check-assumptions", __doc__)
@click.option("--deployed", is_flag=True, help="Events too, through the functions deployed there.")
@click.option("--slow", is_flag=True, help="Also that transactions time out: six minutes.")
@json_option
@target.options(writes=True)
def check_assumptions(target: Target, deployed: bool, slow: bool, as_json: bool) -> int:
    if not target.project:
        raise Refused("name the project with --project ID")
    checks = (*OF_FIRESTORE, *(OF_EVENTS if deployed else ()), *(OF_TIME if slow else ()))
    opened = target.open(writes=True)
    with laboratory_in(opened.firestore, opened.settings) as laboratory:
        refuted = sum(not _holds(assumption, laboratory, as_json=as_json) for assumption in checks)
    return Exit.WRONG if refuted else Exit.DONE


def _holds(assumption: Assumption, laboratory: Laboratory, *, as_json: bool) -> bool:
    name = assumption.__name__.replace("_", " ")
    try:
        verdict, text = "holds", assumption(laboratory)
    except Unknown as error:
        verdict, text = "unknown", str(error)
    except Refuted as error:
        verdict, text = "REFUTED", str(error)
    if as_json:
        print(json.dumps({"assumption": name, "verdict": verdict.lower(), "told": text}), flush=True)
    else:
        print(f"{verdict:8} {name}: {text}", flush=True)
    return verdict == "holds"
