"""Bring up to date what the TypeScript client and its page take from elsewhere in this repository.

`clients/typescript/src/contract.ts` takes the document's version and the currencies' exponents from balance/. The code in
`docs/clients.md` is that of the examples: below each line `<!-- from FILE#NAME -->` stands the part of that file between
`// begin NAME` and `// end NAME`.

Exit codes: 0 up to date or written; 1 out of date (--check); 2 the page names a file or a part that is not there.

Examples:
  balance client-contract --check
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import click

from balance.core.currencies import EXPONENTS
from balance.documents.balances import VERSION
from scripts.command import Refused, subcommand
from scripts.exits import Exit
from scripts.source import ROOT

PAGE = ROOT / "docs" / "clients.md"
CONTRACT = ROOT / "clients" / "typescript" / "src" / "contract.ts"

_SNIPPET = re.compile(r"(?m)^( *)<!-- from (?P<file>\S+?)#(?P<part>[\w-]+) -->\n\n? *```ts\n(?:.*\n)*? *```$")


class MissingPart(LookupError):
    """The page asks for code that is not there; the message says which."""


def contract() -> str:
    """The source of contract.ts."""
    lines = ""
    for exponent in sorted(set(EXPONENTS.values())):
        codes = textwrap.wrap(" ".join(sorted(code for code in EXPONENTS if EXPONENTS[code] == exponent)), 110)
        lines += f"  [{exponent}, `\n" + "".join(f"    {line}\n" for line in codes) + "  `],\n"
    return (
        "/** What the client and the functions must agree on. Written by `balance client-contract`; do not edit. */\n\n"
        "/** The version of the balance document that this package was made for; the functions write it to `version`. */\n"
        f"export const VERSION = {VERSION};\n\n"
        "const CODES_BY_EXPONENT: readonly (readonly [number, string])[] = [\n"
        f"{lines}];\n\n"
        "/** The number of decimals of each currency by ISO 4217, the withdrawn ones included. */\n"
        "export const EXPONENTS: Record<string, number> = Object.fromEntries(\n"
        "  CODES_BY_EXPONENT.flatMap(([exponent, codes]) => codes.trim().split(/\\s+/).map((code) => [code, exponent])),\n"
        ");\n"
    )


def page(text: str) -> str:
    """The page with the present code in it; raises MissingPart."""
    return _SNIPPET.sub(_snippet, text)


def _snippet(found: re.Match[str]) -> str:
    code = part(found["file"], found["part"])
    block = f"<!-- from {found['file']}#{found['part']} -->\n```ts\n{code}```"
    return textwrap.indent(block, found[1])


def part(file: str, name: str) -> str:
    """The lines of a file between `// begin NAME` and `// end NAME`, without their common indentation."""
    path = ROOT / file
    if not path.is_file():
        raise MissingPart(f"{file}: there is no such file")
    between = re.search(rf"(?ms)^ *// begin {re.escape(name)}\n(.*?)^ *// end {re.escape(name)}$", path.read_text())
    if between is None:
        raise MissingPart(f"{file}: there is no part between `// begin {name}` and `// end {name}`")
    return textwrap.dedent(between[1])


def wanted() -> dict[Path, str]:
    """What the files should hold; raises MissingPart."""
    return {CONTRACT: contract(), PAGE: page(PAGE.read_text())}


@subcommand("client-contract", __doc__)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when something is out of date.")
def client_contract(check: bool) -> int:
    try:
        files = wanted()
    except MissingPart as error:
        raise Refused(f"docs/clients.md: {error}") from None
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        name = path.relative_to(ROOT)
        if check:
            print(f"{name} is out of date: run `balance client-contract`", file=sys.stderr)
        else:
            path.write_text(files[path])
            print(f"{name} written")
    return Exit.WRONG if stale and check else Exit.DONE
