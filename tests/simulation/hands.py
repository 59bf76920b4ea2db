"""What others do to groups and to the system: deletions, by the app and by hand, and taking the system away."""

from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.profile import MINUTE_US, SECOND_US

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


class Hands:
    """Acts on one simulation."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._random = simulation.random
        self._app = simulation.app

    def delete_group(self) -> None:
        """Delete a group with what lies below it, and perhaps bring it back.

        Listed once or again and again; the group's own document first, last or in between; sometimes it stops half-way.
        """
        simulation, random, app = self._simulation, self._random, self._app
        group = random.choice(simulation.scene.groups)
        lists_again, stops, place = random.random() < 0.5, random.random() < 0.15, random.choice((0.0, 0.5, 1.0, 1.0))
        pace_us = random.choice((0, 1_000, SECOND_US // 5, 2 * SECOND_US))

        own, is_gone, is_marked = f"groups/{group}", False, False

        def delete(path: str) -> None:
            nonlocal is_gone, is_marked
            if path == own:
                is_gone = True
                if is_marked:
                    simulation.forget_when_gone(group)
            elif group in simulation.audit.existing_groups() and group not in simulation.tampered:
                # Until the group's own document goes, its balance may count faults that are gone already. When it has come back
                # under the deletion, which goes on, what it loses is lost for good, as by hand.
                simulation.tampered.add(group)
                is_marked = not is_gone
            app.delete(path)

        def delete_all(is_first: bool) -> int:
            paths = app.below(group)
            if is_first:
                paths.insert(int(place * len(paths)), own)
            if stops:
                del paths[len(paths) // 2 :]
                if own not in paths:
                    # What is deleted below a group that goes on is deleted by hand.
                    simulation.tampered.add(group)
            delay_us = 0
            for path in paths:
                delay_us += int(random.random() * pace_us)
                simulation.scheduler.after(delay_us, partial(delete, path))
            if paths and lists_again and not stops and not is_first:
                simulation.scheduler.after(delay_us + 20_000, partial(delete_all, False))
            return delay_us

        took_us = delete_all(True)
        if lists_again and not stops:
            simulation.scheduler.after(took_us + 20_000, partial(delete_all, False))
        if random.random() < 0.7:
            back_us = int(random.random() ** 2 * (2 * took_us + 3 * SECOND_US))
            simulation.scheduler.after(back_us, partial(app.create_group, group))
            simulation.scheduler.after(back_us + int(random.random() ** 2 * SECOND_US), app.write)

    def delete_by_hand(self) -> None:
        """Delete a balance, and perhaps records with it."""
        simulation, random = self._simulation, self._random
        group = random.choice(simulation.scene.groups)
        paths = [f"groups/{group}/metadata/balance"]
        if random.random() < 0.6:
            paths += [path for path in self._app.below(group) if "/balanceEvents/" in path and random.random() < 0.7]
        simulation.tampered.add(group)
        for path in sorted(paths, key=lambda _: random.random()):
            self._app.delete(path)

    def reinstall(self) -> None:
        """Take the system away; what is written meanwhile makes no events. It comes back in a higher epoch."""
        simulation = self._simulation
        if simulation.log:
            simulation.log("fate", "the system is taken away")
        simulation.take_away()
        simulation.scheduler.after(int(self._random.random() ** 2 * 10 * MINUTE_US), simulation.bring_back)
