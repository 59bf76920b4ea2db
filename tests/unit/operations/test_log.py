"""Log lines: one JSON object each, whatever is logged and however many threads log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from functions_framework.execution_id import ExecutionContext, LoggingHandlerAddExecutionId, execution_context_var

from balance.documents.outcome import Outcome
from balance.operations.log import MAX_ENTRY_CHARACTERS, log, of_request


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_entry_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    log("INFO", "it worked", outcome=Outcome.APPLIED, lagMs=0, delta={"USD": {"a": {"b": 5}}})
    assert logged(capsys) == [
        {"severity": "INFO", "message": "it worked", "outcome": "APPLIED", "lagMs": 0, "delta": {"USD": {"a": {"b": 5}}}}
    ]


def test_what_is_none_is_left_out_and_what_is_empty_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    log("DEBUG", "x", nothing=None, zero=0, empty="", off=False)
    assert logged(capsys) == [{"severity": "DEBUG", "message": "x", "zero": 0, "empty": "", "off": False}]


@pytest.mark.parametrize(
    "text", ["two\nlines", "tab\t", 'a "quote"', "back\\slash", "café 🍕", "\u2028\u2029\x85", "\x00\x1b[31m", "{}"]
)
def test_any_text_stays_on_its_line(capsys: pytest.CaptureFixture[str], text: str) -> None:
    log("WARNING", text, source=text)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.endswith("\n")
    assert json.loads(out) == {"severity": "WARNING", "message": text, "source": text}


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_no_text_is_beyond_the_output(encoding: str) -> None:
    program = r"from balance.operations.log import log; log('ERROR', 'café 🍕 \udcff \ud83c')"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == {"severity": "ERROR", "message": "café 🍕 \udcff \ud83c"}


def test_what_json_does_not_know_is_written_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    log("INFO", "x", at=datetime(2026, 3, 1, tzinfo=UTC), body=b"\xff")
    assert logged(capsys) == [{"severity": "INFO", "message": "x", "at": "2026-03-01 00:00:00+00:00", "body": r"b'\xff'"}]


def test_lines_of_many_threads_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    start = threading.Barrier(16)

    def work(number: int) -> None:
        start.wait(30)
        for at in range(50):
            log("INFO", "x" * 500, thread=number, at=at)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted((entry["thread"], entry["at"]) for entry in logged(capsys)) == [
        (t, at) for t in range(16) for at in range(50)
    ]


@pytest.mark.parametrize("letter", ["x", "é", "🍕", "\x00"])
def test_an_entry_too_large_is_cut_and_says_so(letter: str, capsys: pytest.CaptureFixture[str]) -> None:
    log("ERROR", "it failed", stack=f"begin {letter * 100_000} end", found=[letter] * 50_000, metric="updateFailures")
    line = capsys.readouterr().out
    assert len(line) < MAX_ENTRY_CHARACTERS
    entry = json.loads(line)
    assert (entry["severity"], entry["message"], entry["metric"]) == ("ERROR", "it failed", "updateFailures")
    assert entry["stack"].startswith("begin ")
    assert " ... " in entry["stack"]
    assert entry["stack"].endswith(" end")
    assert "found" not in entry
    assert entry["cut"] == {
        "stack": len(json.dumps(f"begin {letter * 100_000} end")),
        "found": len(json.dumps([letter] * 50_000)),
    }


def test_an_entry_just_small_enough_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    frame = len(json.dumps({"severity": "INFO", "message": "x", "text": ""}))
    log("INFO", "x", text="y" * (MAX_ENTRY_CHARACTERS - frame))
    log("INFO", "x", text="y" * (MAX_ENTRY_CHARACTERS - frame + 1))
    whole, cut = logged(capsys)
    assert len(whole["text"]) == MAX_ENTRY_CHARACTERS - frame
    assert cut["cut"] == {"text": MAX_ENTRY_CHARACTERS - frame + 3}


def test_no_blank_lines_come_of_threads_that_serve_no_request(capsys: pytest.CaptureFixture[str]) -> None:
    with redirect_stdout(LoggingHandlerAddExecutionId(sys.stdout)):
        thread = threading.Thread(target=log, args=("INFO", "beside the request"))
        thread.start()
        thread.join(30)
        execution_context_var.set(ExecutionContext("the-id"))
        log("INFO", "of the request")
        execution_context_var.set(None)
    said = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["message"] for line in said] == ["beside the request", "of the request"]
    assert json.loads(said[1])["logging.googleapis.com/labels"] == {"execution_id": "the-id"}


def test_an_entry_of_a_request_bears_the_ids_that_the_framework_would_add(capsys: pytest.CaptureFixture[str]) -> None:
    headers = {"function-execution-id": "the-id", "x-cloud-trace-context": "105445aa7843bc8bf206b12000100000/17;o=1"}
    with redirect_stdout(LoggingHandlerAddExecutionId(sys.stdout)):
        execution_context_var.set(ExecutionContext("the-id", "17"))
        log("INFO", "by the framework", lagMs=5)
        with of_request(headers):
            log("INFO", "by us", lagMs=5)
        execution_context_var.set(None)
    by_framework, by_us = logged(capsys)
    assert by_us == by_framework | {"message": "by us"}


@pytest.mark.parametrize("headers", [{}, {"x-cloud-trace-context": "no trace"}, {"function-execution-id": ""}])
def test_an_entry_of_a_request_without_ids_bears_none(capsys: pytest.CaptureFixture[str], headers: dict[str, str]) -> None:
    with of_request(headers):
        log("INFO", "x")
    assert logged(capsys) == [{"severity": "INFO", "message": "x"}]


def test_an_entry_of_a_request_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Output(StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stdout", LoggingHandlerAddExecutionId(Output()))
    with of_request({"function-execution-id": 'a "quoted" id'}):
        log("INFO", "x")
    assert len(written) == 1
    assert json.loads(written[0])["logging.googleapis.com/labels"] == {"execution_id": 'a "quoted" id'}
    assert written[0].endswith("}\n")
