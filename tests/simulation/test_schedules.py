"""Schedules by the thousand. SEEDS says how many (2,000 by default)."""

import os
from pathlib import Path

import pytest

from tests.simulation.campaign import run
from tests.simulation.profile import Fate, Roll
from tests.simulation.simulation import Simulation

SEEDS = int(os.environ.get("SEEDS", "2000"))
_CHUNK = 250
_REGRESSIONS = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "regressions" / "seeds.txt").read_text().splitlines()
    if line[0] != "#"
]


@pytest.mark.parametrize("start", range(0, SEEDS, _CHUNK))
def test_nothing_is_lost_and_nothing_counts_twice(start: int) -> None:
    report = run(range(start, min(start + _CHUNK, SEEDS)))
    assert not report.failures, "\n".join(report.failures.values())


@pytest.mark.parametrize("seed", _REGRESSIONS)
def test_a_seed_that_once_failed_passes(seed: int) -> None:
    Simulation(seed).run()


def test_a_seed_decides_everything() -> None:
    for seed in range(5, 15):
        traces: list[list[str]] = [[], []]
        for trace in traces:
            Simulation(seed, trace=trace.append).run()
        assert traces[0] == traces[1]
        assert traces[0]


def test_every_kind_of_danger_occurs() -> None:
    simulations = []
    trace: list[str] = []
    for seed in range(400):
        simulation = Simulation(seed, trace=trace.append)
        simulation.run()
        simulations.append(simulation)
    profiles = [simulation.profile for simulation in simulations]
    for flag in (
        *("nested", "minor_units", "small_documents", "real_codec", "optimistic", "coarse_clock", "slow", "slow_queries"),
        *("new_rules", "loses_events", "switches_off", "expires", "tampers", "deletes_groups", "storm", "other_ids", "pauses"),
    ):
        assert {getattr(profile, flag) for profile in profiles} == {False, True}, flag
    assert {profile.roll for profile in profiles} == set(Roll)
    assert {fate for simulation in simulations for fate in simulation.network.met} == set(Fate)
    outcomes = {outcome for simulation in simulations for outcome in simulation.figures.outcomes}
    assert outcomes == {
        *("APPLIED", "DUPLICATE", "ALREADY_INCLUDED", "REBUILT", "NO_CHANGE", "DISABLED", "GROUP_GONE", "FAULT"),
    }
    assert any("ttl" in line and "deletes" in line for line in trace)
    assert any("hand" in line and "bends" in line for line in trace)
    assert {detail for simulation in simulations for detail in simulation.audit.details} == {"pairs", "nets", "none"}
