"""Progress of a long run on standard error: a bar on a terminal, else a plain line now and then."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_LINE_EVERY_S = 5.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "-/s")


class Counting:
    """Counts groups done and failed; `total` None when nobody knows how many there are. Colours obey NO_COLOR."""

    def __init__(self, verb: str, total: int | None) -> None:
        self._verb, self._total = verb, total
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._done = self._failed = 0
        self._started = self._told = time.monotonic()
        self._bar = Progress(
            TextColumn(verb),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[failed]}", style="red"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(verb, total=total, failed="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self, *, failed: bool = False) -> None:
        """One more is done."""
        self._done += 1
        self._failed += failed
        self._bar.update(self._task, advance=1, failed=f"{self._failed} failed" if self._failed else "")
        now = time.monotonic()
        if not self._console.is_terminal and now - self._told >= _LINE_EVERY_S:
            self._told = now
            self.say(self._line(now))

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        self._console.print(line, markup=False)

    def _line(self, now: float) -> str:
        rate = self._done / (now - self._started)
        of_total = f" of {self._total:,}" if self._total is not None else ""
        left = f", {_duration((self._total - self._done) / rate)} left" if self._total is not None and rate else ""
        failed = f", {self._failed:,} failed" if self._failed else ""
        return f"{self._verb}: {self._done:,}{of_total} groups, {rate:,.0f}/s{left}{failed}"

    @property
    def elapsed_s(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
