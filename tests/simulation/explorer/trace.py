"""A failing execution, readable: who did what, in runs of one actor."""

from collections.abc import Iterator

from tests.simulation.explorer.report import Failed


def lines(failed: Failed) -> Iterator[str]:
    """What was wrong, the steps with the actor where it changes, and what was answered."""
    yield f"{failed.what} ({len(failed.steps)} steps, {failed.switches} switches)"
    width = max((len(step.actor) for step in failed.steps), default=0)
    last = None
    for number, step in enumerate(failed.steps, 1):
        actor = "" if step.actor == last else step.actor
        failure = "" if step.failure is None else f"    <-- {step.failure}"
        yield f"{number:>3}  {actor:<{width}}  {step.label}{failure}"
        last = step.actor
    for name, outcome in failed.answers:
        yield f"     {name} was answered {outcome}"
