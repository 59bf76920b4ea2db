"""The commands that our documents name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("docs", "deploy", "emulator", "examples", "clients")
_CALL = re.compile(r"^(balance [a-z-].*?)(?: +[#|>&].*)?$|\$\((balance [a-z-][^)]*)\)")


def documents() -> list[str]:
    """All of them, relative to the root; decisions tell of their time."""
    found = [ROOT / "README.md", *(path for folder in _FOLDERS for path in sorted((ROOT / folder).rglob("*.md")))]
    return [str(path.relative_to(ROOT)) for path in found if "adr" not in path.parts and "node_modules" not in path.parts]


def in_blocks(document: str) -> list[str]:
    """The lines of its shell blocks that call `balance`."""
    tokens = MarkdownIt().parse((ROOT / document).read_text())
    blocks = [token for token in tokens if token.type == "code_block" or token.info == "sh"]
    lines = [line.strip() for block in blocks for line in block.content.splitlines()]
    return [line for line in lines if _CALL.search(line)]


def anywhere(document: str) -> Iterator[str]:
    """Each call of `balance` in it, in running text and tables too."""
    text = (ROOT / document).read_text()
    for quoted in [*re.findall(r"`(balance [^`\n]+)`", text), *in_blocks(document)]:
        for alone, within in _CALL.findall(quoted):
            yield alone or within
