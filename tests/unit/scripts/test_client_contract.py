"""The page for clients shows code that is compiled and run; the client agrees with the functions on version and currencies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from balance.core.currencies import EXPONENTS
from scripts.cli import main as balance
from scripts.developing import client_contract
from scripts.developing.client_contract import CONTRACT, PAGE, MissingPart, contract, page, part
from scripts.source import ROOT

FENCE = re.compile(r"(?m)^ *```ts\n")
EXAMPLES = ROOT / "clients" / "typescript" / "examples"


def test_the_page_and_the_contract_are_up_to_date() -> None:
    assert balance(["client-contract", "--check"]) == 0, "run: balance client-contract"


def test_all_typescript_on_the_page_comes_from_files() -> None:
    text = PAGE.read_text()
    taken = client_contract._SNIPPET.findall(text)
    assert len(taken) == len(FENCE.findall(text)) > 3
    assert "```typescript" not in text
    assert {file for _, file, _ in taken} <= {str(path.relative_to(ROOT)) for path in _compiled()}


def _compiled() -> list[Path]:
    """What tsconfig.json and tsconfig.tests.json include."""
    return [*EXAMPLES.glob("*.ts"), *(EXAMPLES.parent / "src").glob("*.ts")]


def test_every_example_stands_on_the_page() -> None:
    text = PAGE.read_text()
    for example in EXAMPLES.glob("*.ts"):
        for name in re.findall(r"(?m)^ *// begin (.+)$", example.read_text()):
            assert f"<!-- from {example.relative_to(ROOT)}#{name} -->" in text, f"{example.name}: {name}"


def test_code_on_the_page_that_differs_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client_contract, "ROOT", tmp_path)
    (tmp_path / "a.ts").write_text(
        "// begin x\nconst a = 1;\n// end x\nfunction f() {\n  // begin y\n  g();\n\n  // end y\n}\n"
    )
    asked = "One:\n\n<!-- from a.ts#x -->\n```ts\nold\n```\n\n   <!-- from a.ts#y -->\n   ```ts\n   ```\n\nEnd.\n"
    first, second = "<!-- from a.ts#x -->\n```ts\nconst a = 1;\n```", "   <!-- from a.ts#y -->\n   ```ts\n   g();\n\n   ```"
    answer = f"One:\n\n{first}\n\n{second}\n\nEnd.\n"
    assert page(asked) == answer == page(answer)


@pytest.mark.parametrize(("file", "name", "complaint"), [("b.ts", "x", "no such file"), ("a.ts", "z", "no part")])
def test_code_that_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, name: str, complaint: str
) -> None:
    monkeypatch.setattr(client_contract, "ROOT", tmp_path)
    (tmp_path / "a.ts").write_text("// begin x\nconst a = 1;\n// end x\n")
    with pytest.raises(MissingPart, match=complaint):
        part(file, name)


def test_what_is_out_of_date_is_told_and_then_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "contract.ts"
    monkeypatch.setattr(client_contract, "CONTRACT", stale)
    monkeypatch.setattr(client_contract, "ROOT", tmp_path)
    monkeypatch.setattr(client_contract, "page", lambda text: text)
    monkeypatch.setattr(client_contract, "PAGE", stale)
    stale.write_text("old")
    monkeypatch.setattr(client_contract, "wanted", lambda: {stale: contract()})
    assert balance(["client-contract", "--check"]) == 1
    assert "contract.ts is out of date" in capsys.readouterr().err
    assert balance(["client-contract"]) == 0
    assert balance(["client-contract", "--check"]) == 0


def test_the_contract_holds_every_currency() -> None:
    found = {
        code: int(exponent)
        for exponent, codes in re.findall(r"\[(\d+), `([^`]*)`\]", CONTRACT.read_text())
        for code in codes.split()
    }
    assert found == EXPONENTS
