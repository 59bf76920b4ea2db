"""`.env` files, as the Firebase CLI reads them: https://firebase.google.com/docs/functions/config-env#env-variables"""

from __future__ import annotations

import re
from pathlib import Path

LOCAL = ".env.local"
"""`firebase emulators:start` writes the defaults of parameters there, and reads it last. It is never deployed."""

_SKIPPED = re.compile(r"\s*(?:#[^\n]*)?(?:\n|\Z)")
_ASSIGNMENT = re.compile(
    r"""[^\S\n]*(?:export[^\S\n]+)?(?P<name>[A-Za-z_]\w*)[^\S\n]*=[^\S\n]*
    (?:(?P<quote>["'])(?P<text>(?:\\.|(?!(?P=quote)).)*)(?P=quote)|(?P<plain>[^\#\n]*))
    [^\S\n]*(?:\#[^\n]*)?(?:\n|\Z)""",
    re.DOTALL | re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\([nrtv\\'\"])")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class InvalidDotenv(ValueError):
    """A line that is no assignment; the text names file and line."""


def parse(text: str, where: str = ".env") -> dict[str, str]:
    """The assignments of a file, the last one of each name. A value in quotes may have several lines. Raises InvalidDotenv."""
    values: dict[str, str] = {}
    text = text.replace("\r\n", "\n")
    position = 0
    while position < len(text):
        if skipped := _SKIPPED.match(text, position):
            position = skipped.end()
            continue
        found = _ASSIGNMENT.match(text, position)
        if found is None:
            line = text[position:].splitlines()[0].strip()
            number = text.count("\n", 0, position) + 1
            raise InvalidDotenv(f"{where}, line {number}: {line!r} is not of the form NAME=value")
        values[found["name"]] = _value(found)
        position = found.end()
    return values


def load(folder: Path, project: str, alias: str | None = None, *, local: bool = True) -> dict[str, str]:
    """What `.env`, `.env.<project>` (or `.env.<alias>`) and, for an emulator, `.env.local` in the folder say, later ones first.

    Raises InvalidDotenv.
    """
    values: dict[str, str] = {}
    for file in _files(folder, project, alias, local=local).values():
        values |= file
    return values


def shadowed(folder: Path, project: str, alias: str | None = None) -> dict[str, str]:
    """Variables that have another value in `.env.local` than in the file that tells of them else: by name, that file's name.

    Raises InvalidDotenv.
    """
    files = _files(folder, project, alias, local=True)
    local = files.pop(LOCAL, {})
    said = {name: (file, value) for file, values in files.items() for name, value in values.items()}
    return {name: said[name][0] for name in sorted(local.keys() & said.keys()) if said[name][1] != local[name]}


def _files(folder: Path, project: str, alias: str | None, *, local: bool) -> dict[str, dict[str, str]]:
    of_project = [f".env.{name}" for name in (project, alias) if name]
    if alias and all((folder / name).is_file() for name in of_project):
        raise InvalidDotenv(f"{folder} holds {' and '.join(of_project)}: the Firebase CLI takes only one of them")
    paths = [folder / name for name in (".env", *of_project, *((LOCAL,) if local else ()))]
    return {path.name: parse(_text(path), str(path)) for path in paths if path.is_file()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDotenv(f"{path}: it is not UTF-8: {error}") from None


def _value(found: re.Match[str]) -> str:
    if found["quote"] is None:
        return found["plain"].rstrip()
    if found["quote"] == "'":
        return found["text"]
    return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), found["text"])
