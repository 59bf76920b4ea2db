"""Measuring two things side by side: alternately, in one process or on the same servers, and compared as a ratio."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report. `target` and `ratio` belong together: "at least" or "at most", by `at_most`."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = False
    is_ratio: bool = False
    guard: float | None = None
    """What the check in CI compares with instead, where the target is out of reach."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def far_off(self) -> bool:
        """Whether a ratio is more than a third worse than its target: what the check in CI fails on."""
        if self.target is None or not self.is_ratio:
            return False
        expected = self.target if self.guard is None else self.guard
        return self.value > expected * 3 / 2 if self.at_most else self.value < expected * 2 / 3


@dataclass(slots=True)
class Report:
    """All figures of a run, by section."""

    sections: dict[str, list[Figure]] = field(default_factory=dict)
    read_ms: dict[str, dict[int, float]] = field(default_factory=dict)
    """Milliseconds by number of transactions, stored and recalculated: for the plot."""

    def add(self, section: str, *figures: Figure) -> None:
        """Append figures to a section."""
        self.sections.setdefault(section, []).extend(figures)


def at_least(name: str, value: float, target: float, guard: float | None = None) -> Figure:
    """A ratio that should be large."""
    return Figure(name, value, "x", target, is_ratio=True, guard=guard)


def at_most(name: str, value: float, target: float, unit: str = "x", guard: float | None = None) -> Figure:
    """A ratio that should be small, or with another unit an absolute figure that should be."""
    return Figure(name, value, unit, target, at_most=True, is_ratio=unit == "x", guard=guard)


def medians(
    actions: dict[str, Callable[[], object]], rounds: int, times: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of one call of each, all called in turn, `times` calls to a reading."""
    readings: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            started = clock()
            for _ in range(times):
                action()
            readings[name].append((clock() - started) / times)
    return {name: statistics.median(values) for name, values in readings.items()}


def cpu_medians(actions: dict[str, Callable[[], object]], rounds: int, times: int = 1) -> dict[str, float]:
    """The same in CPU time, for what waits for nobody: what else the machine does then counts for less."""
    return medians(actions, rounds, times, time.process_time)


def cpu_seconds(group: int) -> float:
    """The CPU time so far of all processes of a process group (Linux)."""
    return sum(int(fields[11]) + int(fields[12]) for fields in _processes(group)) / os.sysconf("SC_CLK_TCK")


def resident_bytes(group: int) -> int:
    """The resident memory of all processes of a process group (Linux)."""
    return sum(int(fields[21]) for fields in _processes(group)) * os.sysconf("SC_PAGE_SIZE")


def _processes(group: int) -> Iterator[list[str]]:
    """The fields after the name of /proc/PID/stat: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group:
                yield fields
