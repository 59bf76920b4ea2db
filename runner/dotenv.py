"""`.env` files, as the Firebase CLI reads them: https://firebase.google.com/docs/functions/config-env#env-variables"""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r"""(?P<quote>["'])(?P<text>(?:\\.|(?!(?P=quote)).)*)(?P=quote)\s*(?:\#.*)?""", re.DOTALL)
_ESCAPE = re.compile(r"\\([nrtv\\'\"])")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class InvalidDotenv(ValueError):
    """A line that is no assignment; the text names file and line."""


def parse(text: str, where: str = ".env") -> dict[str, str]:
    """The assignments of a file, the last one of each name. Raises InvalidDotenv."""
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise InvalidDotenv(f"{where}, line {number}: {line.strip()!r} is not of the form NAME=value")
        values[found["name"]] = _value(found["value"].strip())
    return values


def load(folder: Path, project: str, *, local: bool = True) -> dict[str, str]:
    """What `.env`, `.env.<project>` and, for an emulator, `.env.local` in the folder say, later ones first.

    Raises InvalidDotenv.
    """
    values: dict[str, str] = {}
    for name in (".env", f".env.{project}", *((".env.local",) if local else ())):
        path = folder / name
        if path.is_file():
            values |= parse(path.read_text(encoding="utf-8"), str(path))
    return values


def _value(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        return text.partition("#")[0].rstrip()
    if quoted["quote"] == "'":
        return quoted["text"]
    return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), quoted["text"])
