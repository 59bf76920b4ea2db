"""What our documents say exists: commands with their options, files, links, exit codes."""

import re
import shlex

import click
import pytest

from scripts.cli import ENTRIES, balance
from scripts.exits import Exit
from tests.e2e.documented import ROOT, anywhere, documents

PLACES = {"PROJECT": "demo-x", "GROUP": "lisbon", "UID": "bo", "FOLDER": "/x", "NAME": "show", "COMMAND": "show"}


@pytest.mark.parametrize("document", documents())
def test_a_command_in_a_document_exists_and_takes_these_options(document: str) -> None:
    for text in anywhere(document):
        words = [PLACES.get(word, word) for word in shlex.split(text)][1:]
        name, arguments = words[0], words[1:]
        if name == "--help":
            continue
        assert name in ENTRIES, f"{document}: {text}"
        command = balance.get_command(click.Context(balance), name)
        assert command is not None
        if any(isinstance(param, click.Argument) and param.required for param in command.params) and not arguments:
            continue  # running text that names the command only
        try:
            command.make_context(name, list(arguments), resilient_parsing=False)
        except click.exceptions.Exit:
            continue  # --help
        except click.UsageError as error:
            pytest.fail(f"{document}: {text}: {error.message}")


@pytest.mark.parametrize("document", documents())
def test_what_a_document_links_to_is_there(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize("document", documents())
def test_a_file_that_a_document_names_is_there(document: str) -> None:
    for path in re.findall(
        r"`((?:balance|bench|clients|deploy|emulator|examples|runner|scripts|tests)/[\w./-]+)`", (ROOT / document).read_text()
    ):
        assert (ROOT / path).exists(), f"{document}: {path}"


@pytest.mark.parametrize("document", [name for name in documents() if name != "README.md"])
def test_a_page_opens_with_whom_it_is_for_and_what_they_can_do_after_it(document: str) -> None:
    opening = (ROOT / document).read_text().split("\n\n")[1]
    assert re.match(r"\*?For .* After ", opening, re.DOTALL), f"{document}: {opening}"


def table(document: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading."""
    section = (ROOT / document).read_text().partition(heading)[2]
    rows = re.findall(r"^\| (.*) \|$", section.partition("\n## ")[0], re.MULTILINE)
    return [row.split(" | ") for row in rows[2:]]


def test_where_to_change_what_names_files_that_are_there() -> None:
    rows = table("docs/architecture.md", "## Where do I change ...")
    assert len(rows) >= 10
    for what, where in rows:
        files = re.findall(r"`([\w/]+\.(?:py|yaml))`", where)
        assert files, what
        for file in files:
            assert (ROOT / file).is_file(), file


def test_every_promise_names_a_command_or_a_test_that_is_there() -> None:
    rows = table("docs/promises.md", "# Promises")
    assert len(rows) >= 8
    for promise, shown in rows:
        named = re.findall(r"`([^`]+)`", shown)
        assert named, promise
        for file in named:
            if "/" in file and " " not in file:
                assert (ROOT / file).exists(), file
        assert any(name.startswith(("balance ", "tests/")) for name in named), promise


def test_the_table_of_exit_codes_is_the_codes_own() -> None:
    rows = table("docs/command.md", "## How it ends")
    assert rows == [[str(code.value), code.meaning] for code in Exit]
