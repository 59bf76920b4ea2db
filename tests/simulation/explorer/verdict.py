"""The verdict of one execution, once nothing moves any more."""

from datetime import datetime
from typing import Any

from balance.documents.balances import VERSION
from tests.simulation.auditor import Discrepancy
from tests.simulation.explorer.execution import Execution
from tests.simulation.explorer.state import OF_NO_MEANING
from tests.simulation.explorer.world import BALANCE, GROUP, State
from tests.simulation.product import LATER_VERSION

KNOWN_BY_NOW = frozenset({"DUPLICATE", "ALREADY_INCLUDED", "NO_CHANGE", "FAULT", "GROUP_GONE"})
"""How a redelivery may be answered once everything has been processed."""


def judge(run: Execution) -> State:
    """What stands at rest; raises Discrepancy when it must not, or goes wrong in a repair or a redelivery of everything."""
    run.check_progress()
    run.failures_left = 0
    run.processes = {name: process for name, process in run.processes.items() if process.is_alive}
    state = _at_rest(run)
    if invented := set(run.repaired) - run.world.nightly_may_find:
        raise Discrepancy(f"the nightly check found {', '.join(sorted(invented))}")
    if state is not State.GONE and (state is not State.RIGHT or run.world.final.new_rules):
        run.start_over()
        run.rebuild("repair", "judge")
        run.settle()
        _check_repaired(run, "after a repair")
    run.start_over()
    run.answers.clear()
    for event in run.events:
        run.deliver(event, f"{event.name} once more", "judge")
        run.settle()
    _check_repaired(run, "after everything came once more")
    for name, outcome in run.answers:
        allowed = {*KNOWN_BY_NOW, *(("REBUILT",) if run.world.may_rebuild else ())}
        if run.audit.existing_groups() and not set(outcome.split()) <= allowed:
            raise Discrepancy(f"{name} was answered {outcome}")
    return state


def _at_rest(run: Execution) -> State:
    audit, world = run.audit, run.world
    if not audit.existing_groups():
        if BALANCE in audit.documents:
            raise Discrepancy("at rest: a balance stands of a group that is gone")
        return State.GONE
    stored = audit.balance(GROUP)
    if stored is None:
        state = State.ABSENT
    elif stored.version == 0:
        state = State.STALE
    elif stored.version != _final_version(run) or _epoch(run) != world.final.epoch:
        state = State.OLDER
    elif stored.incarnation != audit.created(GROUP):
        state = State.EARLIER
    else:
        state = State.RIGHT
        try:
            # Code that knows other rules may have been the last to look at a document, and have left its fault.
            audit.check(GROUP, stored, with_faults=not world.final.new_rules)
        except Discrepancy as error:
            raise Discrepancy(f"at rest: {error}") from None
    if state is not State.RIGHT and state not in world.may_be:
        raise Discrepancy(f"at rest: the balance is {state}")
    return state


def _check_repaired(run: Execution, when: str) -> None:
    try:
        if run.audit.existing_groups():
            run.audit.check_repaired(_final_version(run))
        elif BALANCE in run.audit.documents:
            raise Discrepancy("a balance stands of a group that is gone")
    except Discrepancy as error:
        raise Discrepancy(f"{when}: {error}") from None


def _final_version(run: Execution) -> int:
    return LATER_VERSION if run.world.final.is_later else VERSION


def _epoch(run: Execution) -> int:
    fields = run.reader.fields(run.audit.documents[BALANCE])
    return int(fields["rules"].partition(":")[0])


def end(run: Execution) -> str:
    """What stands, with names for times: the same whatever the order of independent steps."""

    def shown(value: Any) -> Any:
        if isinstance(value, datetime):
            return run.instants.name(value)
        if isinstance(value, dict):
            return {key: shown(inner) for key, inner in sorted(value.items())}
        return [shown(inner) for inner in value] if isinstance(value, list) else value

    documents = {}
    for path, document in run.audit.documents.items():
        fields = {name: shown(value) for name, value in run.reader.fields(document).items() if name not in OF_NO_MEANING}
        documents[run.names.get(path, path)] = fields
    return repr((sorted(documents.items()), str(run.violation)))
