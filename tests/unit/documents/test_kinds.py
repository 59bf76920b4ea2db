"""Every kind of source document is known in every place that must know it. docs/adding-a-kind.md goes by what is told here."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml

import main
from balance import adapter
from balance.core.money import Unit
from balance.documents import sources
from balance.documents.layout import Layout
from balance.documents.settings import InvalidSetting, from_environment
from balance.documents.sources import NOTHING, Kind, Malformed, parse

ROOT = Path(__file__).resolve().parents[3]
MANIFEST = yaml.safe_load((ROOT / "functions.yaml").read_text())
KINDS = pytest.mark.parametrize("kind", list(Kind))


@KINDS
def test_each_kind_has_a_reader(kind: Kind) -> None:
    assert kind in sources._READERS
    assert parse(kind, None, Unit.MAJOR) == NOTHING
    assert isinstance(parse(kind, {"groupId": "g"}, Unit.MAJOR), Malformed)
    assert len(set(sources._READERS.values())) == len(Kind), "two kinds share a reader"


@KINDS
def test_each_kind_has_a_function_in_the_adapter(kind: Kind) -> None:
    assert list(inspect.signature(getattr(adapter, kind)).parameters) == ["fields"]
    assert f"- {kind}: `groupId`" in (adapter.__doc__ or "")


@KINDS
def test_each_kind_has_a_collection_in_the_layout(kind: Kind) -> None:
    layout = Layout()
    assert layout.collection(kind) == kind.collections
    assert layout.kind(f"{kind.collections}/x") is kind
    assert Layout.in_groups().collection(kind) == f"groups/{{groupId}}/{kind.collections}"
    assert {field.name for field in dataclasses.fields(Layout)} == {"groups", *(each.collections for each in Kind)}


@KINDS
def test_each_kinds_collection_is_a_parameter(kind: Kind) -> None:
    assert from_environment({kind.parameter: "things"}).layout.collection(kind) == "things"
    for other in Kind:
        if other is not kind:
            with pytest.raises(InvalidSetting, match="must differ"):
                from_environment({kind.parameter: "things", other.parameter: "things"})
    defaults = {parameter["name"]: parameter["default"] for parameter in MANIFEST["params"]}
    assert defaults[kind.parameter] == kind.collections


@KINDS
def test_each_kinds_writes_trigger_a_function(kind: Kind) -> None:
    assert callable(getattr(main, kind.function))
    endpoint = MANIFEST["endpoints"][kind.function]
    assert endpoint["entryPoint"] == kind.function
    pattern = endpoint["eventTrigger"]["eventFilterPathPatterns"]["document"]
    assert pattern == f"{{{{ params.{kind.parameter} }}}}/{{{kind}Id}}"
    alike = [MANIFEST["endpoints"][other.function] | {"entryPoint": "", "eventTrigger": ""} for other in Kind]
    assert all(each == alike[0] for each in alike)


@KINDS
def test_each_kinds_function_is_watched_and_may_be_invoked(kind: Kind) -> None:
    service = kind.function.replace("_", "-")
    watched = [path for path in (ROOT / "deploy/monitoring/metrics").glob("*.yaml") if "on-expense-written" in path.read_text()]
    assert watched
    for path in [*watched, ROOT / "deploy/README.md"]:
        assert service in path.read_text(), path


def test_a_document_of_no_kind_is_taken_for_none() -> None:
    assert Layout().kind("notes/x") is None
    assert Layout().kind("groups/g/metadata/balance") is None


def test_the_api_names_all_kinds() -> None:
    api = yaml.safe_load((ROOT / "deploy/openapi.yaml").read_text())
    assert f"enum: [{', '.join(Kind)}]" in (ROOT / "deploy/openapi.yaml").read_text()
    assert api["openapi"]
