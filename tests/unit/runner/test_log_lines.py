"""The latest lines of the processes, handed on or read from their files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runner.log_lines import MAX_LINE_BYTES, LogLines
from runner.logs import Logs


def texts(lines: LogLines, after: int = 0, limit: int = 100) -> list[str]:
    return [line["text"] for line in lines.since(after, limit)["lines"]]


def test_lines_are_numbered_and_told_after_a_number() -> None:
    lines = LogLines()
    for text in ("a", "b", "c"):
        lines.add("f", text.encode())
    assert lines.since(1, 100) == {
        "number": 3,
        "lines": [{"number": 2, "process": "f", "text": "b"}, {"number": 3, "process": "f", "text": "c"}],
    }
    assert texts(lines, limit=1) == ["c"]
    assert texts(lines, after=3) == []
    assert texts(lines, after=99) == []


def test_files_are_read_on_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "f.log"
    path.write_text("of an earlier run\n")
    lines = LogLines()
    lines.follow("f", path)
    lines.follow("g", tmp_path / "not-yet.log")
    assert texts(lines) == []
    with path.open("a") as file:
        file.write("first\nhalf")
        file.flush()
        assert texts(lines) == ["first"]
        file.write(" and half\n")
    assert texts(lines) == ["first", "half and half"]


def test_a_line_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.log_lines._READ_BYTES", 10)
    path = tmp_path / "f.log"
    lines = LogLines()
    lines.follow("f", path)
    path.write_text("x" * 25 + "\n")
    for _ in range(4):
        lines.since(0, 1)
    assert "".join(texts(lines)) == "x" * 25
    lines.add("f", b"y" * (MAX_LINE_BYTES + 1))
    assert len(texts(lines)[-1]) == MAX_LINE_BYTES


def test_waiting_ends_with_the_next_line_or_the_time() -> None:
    async def wait() -> None:
        lines = LogLines()
        waiting = asyncio.create_task(lines.wait(0, 10))
        await asyncio.sleep(0.01)
        lines.add("f", b"a")
        await asyncio.wait_for(waiting, 2)
        await asyncio.wait_for(lines.wait(1, 0.01), 2)

    asyncio.run(wait())


def test_quiet_lines_are_kept_though_they_are_not_shown(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    logs = Logs(quiet=True)
    output = logs.output("f")
    assert not isinstance(output, Path)
    output(b'{"severity": "INFO", "message": "m"}')
    output(b"plain")
    assert capfdbinary.readouterr().err == b"[f] plain\n"
    assert len(texts(logs.lines)) == 2
