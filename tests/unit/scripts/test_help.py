"""The help of `balance`: it fits a screen, and says of every command what it does, how it ends, and how it is called."""

import re
import shlex
from pathlib import Path

import click
import pytest

from scripts.cli import COMMANDS, DEVELOP, ENTRIES, balance, main
from scripts.exits import Exit

ROOT = Path(__file__).parents[3]
COLUMNS, LINES = 80, 40


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main([*arguments, "--help"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # who has more room must not need it


@pytest.mark.parametrize("arguments", [[], *([name] for name in ENTRIES)])
def test_help_fits_a_screen(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    lines = help_of(capsys, *arguments)
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS


def test_the_help_of_the_command_names_every_subcommand_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(help_of(capsys))
    for name in ENTRIES:
        assert re.search(rf"^  (.*, )?{name}( |,|$)", text, re.MULTILINE), name
    for code in Exit:
        assert f"\n    {code.value:<4} {code.meaning}" in text


@pytest.mark.parametrize("name", ENTRIES)
def test_the_help_of_a_subcommand_has_exit_codes_and_an_example_that_parses(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text = "\n".join(help_of(capsys, name))
    assert "Exit codes: " in text
    examples = re.findall(r"^    (balance .*)", text.partition("Examples:")[2], re.MULTILINE)
    if name != "completion":
        assert examples
    command = balance.get_command(click.Context(balance), name)
    assert command is not None
    for example in examples:
        words = shlex.split(re.split(r" [|>] ", example)[0], comments=True)
        assert words[1] == name
        command.make_context(name, words[2:])
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{option.name} has no help"
            assert all(flag in text for flag in option.opts)


def test_what_only_developers_run_lies_apart() -> None:
    for section, entries in COMMANDS.items():
        for entry in entries:
            assert entry.module.startswith("scripts.developing") == (section == DEVELOP), entry.name


def test_every_module_of_a_subcommand_is_named() -> None:
    """One module a subcommand; what they share has another docstring."""
    modules = {entry.module for entry in ENTRIES.values()}
    for path in [*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts" / "developing").glob("*.py")]:
        if re.search(r"^@(command\.)?subcommand\(", path.read_text(), re.MULTILINE):
            assert ".".join(path.relative_to(ROOT).with_suffix("").parts) in modules, path


def test_an_unknown_subcommand_or_option_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backfil"]) == Exit.REFUSED
    assert "backfil" in capsys.readouterr().err
    assert main(["show", "--frobnicate"]) == Exit.REFUSED
    assert "--frobnicate" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    assert "_BALANCE_COMPLETE" in capsys.readouterr().out


def test_completion_knows_the_subcommands_and_imports_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_BALANCE_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "balance ver")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setattr("scripts.cli.import_module", lambda name: pytest.fail(f"{name} was imported"))
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.split("\n")[1] == "verify"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["shwo", "lisbon"], "Did you mean 'show'?"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["token", ""], "a uid is not empty"),
        (["chaos", "--minutes", "nan"], "'--minutes': nan is no number of them"),
        (["soak", "--rate", "inf"], "'--rate': inf is no number of them"),
        (["show", "lisbon", "--records", "3000000000"], "'--records'"),
    ],
)
def test_a_wrong_call_is_refused_and_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(arguments) == Exit.REFUSED
    assert says in capsys.readouterr().err


def test_functions_are_not_copied_onto_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["package", str(ROOT)]) == Exit.REFUSED
    assert "this repository itself" in capsys.readouterr().err
