"""Measure everything that docs/performance.md tells, in one go.

Every comparison is a ratio of two things measured in turn, in one process or on the same servers. Tables go to the terminal,
all figures to build/bench.json, and the time of a read against the number of transactions to build/performance.svg.

sections:
  core        the algebra, recalculation and suggestions, in memory
  reads       the stored balance beside a recalculation on read
  event       one isolated event in the function: CPU time, RPCs, billed reads and writes
  bursts      many events at once, beside the product as it was, a peer in Node, and functions that do nothing
  rivals      several instances that get the events of one group
  cold-start  CPU time to the first event
  backfill    giving every group its balance
  emulator    the embedded Firestore itself
  memory      a trigger's memory after 100,000 events

exit codes:
  0  done
  1  with --check: a ratio is more than a third worse than its target, or its guard (guards.py)
  2  called wrongly
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import core, embedded, functions, plot, processes, reads
from bench.measure import Figure, Report
from bench.servers import BASELINE, BUILD


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit code."""
    given = _parser().parse_args(arguments)
    progress = Console(stderr=True, highlight=False)
    report, timings = Report(), {}
    sections = _sections(given.quick, given.fleet, given.baseline)
    started = datetime.now(UTC)
    BUILD.mkdir(exist_ok=True)
    found: dict[str, Any] = {}
    for name in given.only or sections:
        progress.print(f"measuring: {name} ...")
        began = time.monotonic()
        sections[name](report)
        timings[name] = round(time.monotonic() - began, 1)
        progress.print(f"measuring: {name} took {timings[name]:.0f} s")
        # After each section: who interrupts a long run keeps what is measured by then.
        found = {"machine": _machine(), "at": started.isoformat(timespec="seconds"), "quick": given.quick, "seconds": timings}
        given.json.write_text(json.dumps({**found, **_as_json(report)}, indent=1) + "\n")
    if report.read_ms:
        plot.write(report.read_ms, BUILD / "performance.svg")
    _print(report, found)
    far_off = [figure for figures in report.sections.values() for figure in figures if figure.far_off]
    if given.check and far_off:
        for figure in far_off:
            progress.print(f"more than a third worse than its target: {figure.name}: {_number(figure.value)}{figure.unit}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller: about a minute; leaves out emulator, memory")
    parser.add_argument("--check", action="store_true", help="fail when a ratio is more than a third worse than its target")
    parser.add_argument(
        "--only", metavar="SECTION", action="append", choices=[*_sections(False, False, "")], help="may be repeated"
    )
    parser.add_argument(
        "--baseline",
        metavar="FOLDER",
        default=BASELINE,
        help=f"the product as it was: a folder with its main.py, or a commit (default: {BASELINE})",
    )
    parser.add_argument("--fleet", action="store_true", help="backfill 50,000 groups, too: takes half an hour more")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, default=BUILD / "bench.json", help="where to (default: build/bench.json)"
    )
    return parser


def _sections(quick: bool, fleet: bool, baseline: str) -> dict[str, Callable[[Report], None]]:
    """What there is to measure, by name, in order."""
    sizes = (200,) if quick else (1_000, 10_000, 50_000) if fleet else (1_000, 10_000)
    found: dict[str, Callable[[Report], None]] = {
        "core": lambda report: core.run(report, quick=quick),
        "reads": lambda report: reads.run(report, quick=quick),
        "event": lambda report: functions.one_event(report, baseline, quick=quick),
        "bursts": lambda report: functions.bursts(report, baseline, quick=quick),
        "rivals": lambda report: functions.rivals(report, baseline, quick=quick),
        "cold-start": lambda report: processes.cold_start(report, baseline, rounds=3 if quick else 15),
        "backfill": lambda report: processes.backfill(report, sizes),
    }
    if not quick:
        found |= {"emulator": embedded.run, "memory": functions.memory}
    return found


def _machine() -> dict[str, Any]:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    load = [round(value, 1) for value in os.getloadavg()]
    return {"processor": model, "cores": os.cpu_count(), "python": platform.python_version(), "loadAverage": load}


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "sections": {
            name: [asdict(figure) | {"met": figure.met} for figure in figures] for name, figures in report.sections.items()
        },
        "readMs": report.read_ms,
    }


def _print(report: Report, found: dict[str, Any]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    machine = found["machine"]
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"load {machine['loadAverage']} at the end, {found['at']}"
    )
    for name, figures in report.sections.items():
        table = Table(title=name, title_justify="left")
        for heading, justify in (("figure", "left"), ("measured", "right"), ("target", "right"), ("", "left")):
            table.add_column(heading, justify=justify)  # type: ignore[arg-type]
        for figure in figures:
            table.add_row(figure.name, f"{_number(figure.value)} {figure.unit}", _target(figure), _verdict(figure))
        console.print(table)


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{'<=' if figure.at_most else '>='} {_number(figure.target)} {figure.unit}"


def _verdict(figure: Figure) -> str:
    if figure.met is None:
        return ""
    return "[green]met[/]" if figure.met else "[red]far off[/]" if figure.far_off else "[yellow]missed[/]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
