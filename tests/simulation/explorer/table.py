"""The table of worlds in docs/reliability.md: what was exhausted, under which bound, in how many executions."""

from collections.abc import Iterator

from tests.simulation.explorer import stated
from tests.simulation.explorer.worlds import WORLDS

_VARIANTS = ("", ", crash", ", unknown outcome", ", a failing read")


def lines() -> Iterator[str]:
    """The table in Markdown."""
    known = stated.all_worlds()
    yield "| world | what happens | as it is | a crash | unknown outcome | a failing read |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for name, world in WORLDS.items():
        if world.failures:
            continue
        cells = [_cell(known.get(name + variant)) if name + variant in WORLDS else "" for variant in _VARIANTS]
        yield f"| {name} | {world.about} | {' | '.join(cells)} |"


def _cell(world: stated.Stated | None) -> str:
    if world is None:
        return "not yet"
    bound = "" if world.preemptions is None else f" ({world.preemptions})"
    return f"{world.executions:,}{bound}"
