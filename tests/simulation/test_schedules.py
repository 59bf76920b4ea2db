"""Schedules by the thousand. SEEDS says how many (2,000 by default)."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.campaign import run
from tests.simulation.profile import Fate, Roll
from tests.simulation.simulation import Simulation

ROOT = Path(__file__).parents[2]
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
    """Whatever the process: where things lie in memory and how strings hash differs, and which schedules were run before."""
    seeds = range(5, 17)
    assert {Simulation(seed).profile.real_codec for seed in seeds} == {False, True}
    first = _traces([*seeds], {"PYTHONHASHSEED": "1"})
    second = _traces([*reversed(seeds)], {"PYTHONHASHSEED": "2", "PYTHONMALLOC": "malloc"})
    assert first.keys() == second.keys() == set(seeds)
    for seed in seeds:
        assert first[seed] == second[seed]
        assert any("app" in line for line in first[seed])


def _traces(seeds: list[int], environment: dict[str, str]) -> dict[int, list[str]]:
    """The traces of these schedules, run one after the other in a process of their own."""
    program = (
        "import json; from tests.simulation.simulation import Simulation\n"
        f"for seed in {seeds}:\n"
        "    trace = []; Simulation(seed, trace=trace.append).run(); print(json.dumps([seed, trace]))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    return dict(map(json.loads, done.stdout.splitlines()))


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
        *("new_rules", "by_parameter", "loses_events", "switches_off", "expires", "tampers"),
        *("deletes_groups", "storm", "other_ids", "pauses"),
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


def test_an_interrupted_campaign_says_what_was_done() -> None:
    command = [sys.executable, "-m", "scripts", "simulate", "--seeds", "100000", "--jobs", "1"]
    campaign = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert campaign.stderr is not None
        assert "of 100000 schedules" in campaign.stderr.read(40)
        # As a terminal does it: to all processes.
        os.killpg(campaign.pid, signal.SIGINT)
        out, _ = campaign.communicate(timeout=60)
    finally:
        campaign.kill()
    assert campaign.returncode == 130
    assert out.startswith("interrupted after ")
    assert "0 failed" in out
