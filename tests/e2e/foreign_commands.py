"""Calls of the Firebase CLI and of gcloud, judged by what these tools say of themselves.

As a program it judges one call of the Firebase CLI: `python -m tests.e2e.foreign_commands deploy --only functions`; exit code 2
when the CLI does not know it.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FIREBASE = ROOT / "tests" / "firebase" / "node_modules" / ".bin" / "firebase"
OFFLINE = {"CI": "1", "METADATA_SERVER_DETECTION": "none", "NO_UPDATE_NOTIFIER": "1"}

_OPTION = re.compile(r"^  (?:(-\w), )?(--[\w-]+)(?: ([<\[]))?", re.MULTILINE)
_TARGET = re.compile(r"^  (\w+) {2,}\w", re.MULTILINE)


class UnknownCall(Exception):
    """The tool would refuse the call; the text says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the Firebase CLI, as `--help` tells of it."""

    options: dict[str, bool]
    """By name, the short ones too: whether a value follows."""
    least: int
    most: float
    """How many arguments it takes."""
    targets: frozenset[str] = field(default_factory=frozenset)
    """What `--only` takes."""


def check_firebase(words: Sequence[str]) -> None:
    """Raises UnknownCall. The CLI must be installed."""
    name, *rest = words
    command = _firebase(name)
    arguments: list[str] = []
    options = {**_firebase("").options, **command.options}
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if not word.startswith("-"):
            arguments.append(word)
            continue
        if option not in options:
            raise UnknownCall(f"firebase {name} has no option {option}")
        if options[option] and not equals:
            if not rest:
                raise UnknownCall(f"firebase {name} {option}: its value is missing")
            value = rest.pop(0)
        for target in value.split(",") if option == "--only" and command.targets else ():
            if target.partition(":")[0] not in command.targets:
                raise UnknownCall(f"firebase {name} --only {target}: there is no such target")
    if not command.least <= len(arguments) <= command.most:
        raise UnknownCall(f"firebase {name} does not take {len(arguments)} arguments")


@cache
def _firebase(name: str) -> Command:
    said = subprocess.run(
        [FIREBASE, *([name] if name else []), "--help"],
        env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    # Of a command that it does not know it tells nothing, but shows the help of all.
    usage = said.partition("\n")[0].removeprefix("Usage: firebase ")
    if name and not usage.startswith(f"{name} "):
        raise UnknownCall(f"firebase has no command {name}")
    takes = [word for word in usage.split()[1:] if word not in ("[options]", "[command]")]
    targets = said.partition("Deploy targets include:")[2]
    return Command(
        {name: bool(value) for found in _OPTION.findall(said) for name in found[:2] if name for value in found[2:]},
        sum(word.startswith("<") for word in takes),
        float("inf") if any("..." in word for word in takes) else len(takes),
        frozenset(_TARGET.findall(targets)),
    )


def gcloud_tree() -> Mapping[str, Any] | None:
    """All commands and flags of the gcloud that is installed, from its own table for the Tab key; None without gcloud."""
    program = shutil.which("gcloud")
    table = program and Path(program).resolve().parents[1] / "data" / "cli" / "gcloud_completions.py"
    if not table or not table.is_file():
        return None
    found: Mapping[str, Any] = runpy.run_path(str(table))["STATIC_COMPLETION_CLI_TREE"]
    return found


def check_gcloud(words: Sequence[str], tree: Mapping[str, Any]) -> None:
    """Raises UnknownCall. Positional arguments are not in its table, and are not counted."""
    node, path = tree, ["gcloud"]
    flags = dict(tree["flags"])
    rest = list(words)
    while rest and rest[0] in node["commands"]:
        path.append(rest.pop(0))
        node = node["commands"][path[-1]]
        flags |= node["flags"]
    if node["commands"] and rest != ["--help"]:
        raise UnknownCall(f"{' '.join(path)} has no command {rest[0] if rest else ''!r}")
    while rest:
        flag, equals, _ = rest.pop(0).partition("=")
        if not flag.startswith("-"):
            continue
        if flag not in flags:
            raise UnknownCall(f"{' '.join(path)} has no flag {flag}")
        if flags[flag] != "bool" and not equals:
            if not rest:
                raise UnknownCall(f"{' '.join(path)} {flag}: its value is missing")
            rest.pop(0)


def main() -> int:
    """Judge the call that the arguments are."""
    if not FIREBASE.exists():
        sys.stderr.write("firebase: the real CLI is not installed, so only the stand-in has judged this call\n")
        return 0
    try:
        check_firebase(sys.argv[1:])
    except UnknownCall as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    return 0


def calls_of(tool: str, text: str) -> Iterator[str]:
    """The calls of a tool in a Markdown text or a shell script, in blocks and between back-ticks, each on one line."""
    text = re.sub(r"\\\n\s*", " ", text)
    call = rf"({tool} (?:'[^']*'|[^\n;|>&)])*)"
    if text.startswith("#!"):
        shell, prose = text, ""
    else:
        fenced = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
        indented = re.findall(r"(?:^    \S.*\n)+", prose, re.MULTILINE)
        shell = "\n".join([*(block for language, block in fenced if language == "sh"), *indented])
    for line in shell.splitlines():
        if not line.lstrip().startswith("#"):
            yield from re.findall(rf"(?:^\s*|\$\(|\bif |\brun ){call}", line)
    for quoted in re.findall(r"`([^`]+)`", prose):
        yield from re.findall(rf"^{call}", " ".join(quoted.split()))


if __name__ == "__main__":
    sys.exit(main())
