"""Field paths and resource names. Pages: https://firebase.google.com/docs/firestore/quotas (limits) and
https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#document (syntax of field paths)."""

from __future__ import annotations

import contextlib

import grpc
import pytest
from google.cloud.firestore_v1.field_path import FieldPath
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import RpcError
from emulator.names import check_document_name, check_id, check_parent, database_of, numeric_id
from emulator.paths import NAME, delete_field, field_name_fault, get_field, parse_field_path, parse_writable_path, set_field
from tests.unit.emulator.model import ROOT, Vector, to_document, to_plain, to_value


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("a", ("a",)),
        ("foo_bar_17.b.C", ("foo_bar_17", "b", "C")),
        ("foo.`x&y`", ("foo", "x&y")),  # the page's example
        (r"`bak\`tik`", ("bak`tik",)),  # the page's example
        (r"`back\\slash`", ("back\\slash",)),
        ("`a.b`.c", ("a.b", "c")),
        ("`0`", ("0",)),
        ("_", ("_",)),
        ("__name__", NAME),
        ("`__name__`", NAME),
        ("`a\nb`", ("a\nb",)),
    ],
)
def test_a_path_consists_of_simple_and_quoted_names(path: str, names: tuple[str, ...]) -> None:
    assert parse_field_path(path) == names


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "0a",
        "a-b",
        "a b",
        "é",
        "`",
        "``",
        "`a",
        "a`b`",
        "`a`b",
        "`a`.",
        "a.__b__",
        "__a__.b",
        "____",
        "a\n",
        "a.__name__",
        r"`a\`",
    ],
)
def test_what_is_no_path_is_refused_with_its_name(path: str) -> None:
    with pytest.raises(RpcError) as caught:
        parse_field_path(path)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert repr(path) in caught.value.message or "reserved" in caught.value.message


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4))
def test_every_path_that_the_official_client_makes_is_understood(names: list[str]) -> None:
    if any(field_name_fault(name) for name in names):
        return
    assert parse_field_path(FieldPath(*names).to_api_repr()) == tuple(names)


def test_names_and_paths_are_measured_in_bytes() -> None:
    """Field names and field paths have at most 1,500 bytes (quotas page)."""
    assert parse_field_path("a" * 1_500)
    assert parse_field_path("`" + "é" * 750 + "`")
    assert parse_field_path("a." * 749 + "bb")
    for path in ("a" * 1_501, "`" + "é" * 751 + "`", "a." * 750 + "b"):
        with pytest.raises(RpcError, match="bytes"):
            parse_field_path(path)
    assert field_name_fault("é" * 750) is None
    assert field_name_fault("é" * 751)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("a", True),
        ("__", True),
        ("___", True),
        ("__a", True),
        ("a__", True),
        ("____", False),
        ("__a__", False),
        ("__\n__", False),
        ("", False),
    ],
)
def test_field_names_are_not_empty_and_not_between_two_underscores(name: str, allowed: bool) -> None:
    """Quotas page: must match no `__.*__`; document reference: cannot be empty."""
    assert (field_name_fault(name) is None) is allowed


def test_the_name_of_a_document_cannot_be_written() -> None:
    with pytest.raises(RpcError, match="reserved"):
        parse_writable_path("__name__")
    assert parse_writable_path("a.b") == ("a", "b")


def test_a_field_is_read_set_and_deleted_where_the_path_leads() -> None:
    document = to_document("c/d", {"a": {"b": {"c": 1}}, "s": "text"})
    fields = document.fields
    assert to_plain(get_field(fields, ("a", "b", "c"))) == 1
    for missing in (("x",), ("x", "y"), ("a", "x"), ("s", "x"), ("a", "b", "c", "d")):
        assert get_field(fields, missing) is None
        delete_field(fields, missing)
    assert document == to_document("c/d", {"a": {"b": {"c": 1}}, "s": "text"}), "looking must not leave traces"
    set_field(fields, ("s", "x", "y"), to_value([1]))
    set_field(fields, ("a", "n"), to_value(None))
    delete_field(fields, ("a", "b", "c"))
    assert document == to_document("c/d", {"a": {"b": {}, "n": None}, "s": {"x": {"y": [1]}}})


@pytest.mark.parametrize(
    ("id_", "allowed"),
    [
        ("a", True),
        ("...", True),
        ("__a", True),
        ("é" * 750, True),
        ("a b", True),
        ("__id7_", True),
        ("", False),
        (".", False),
        ("..", False),
        ("a/b", False),
        ("____", True),
        ("_____", False),
        ("__a__", False),
        ("__id7__", False),
        ("é" * 751, False),
    ],
)
def test_ids_follow_the_rules(id_: str, allowed: bool) -> None:
    """Constraints on collection ids and document ids: quotas page."""
    if allowed:
        check_id(id_, "the id")
    else:
        with pytest.raises(RpcError) as caught:
            check_id(id_, "the id")
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("id_", "number"),
    [
        ("__id7__", 7),
        ("__id-2__", -2),
        ("__id0__", 0),
        ("__id-9223372036854775808__", -(1 << 63)),
        ("__id9223372036854775807__", (1 << 63) - 1),
        ("__id9223372036854775808__", None),
        ("__id-9223372036854775809__", None),
        ("__id" + "9" * 9_999 + "__", None),
        ("__id07__", None),
        ("__id-0__", None),
        ("__id__", None),
        ("__id7", None),
    ],
)
def test_a_document_may_have_a_numeric_id_and_a_collection_may_not(id_: str, number: int | None) -> None:
    """Datastore's numbers: production takes them where a document's id stands."""
    assert numeric_id(id_) == number
    with contextlib.nullcontext() if number is not None or id_ == "__id7" else pytest.raises(RpcError):
        check_document_name(f"{ROOT}/a/{id_}", ROOT)
    with contextlib.nullcontext() if id_ == "__id7" else pytest.raises(RpcError):
        check_document_name(f"{ROOT}/{id_}/a", ROOT)


@pytest.mark.parametrize("path", ["a", "a/b/c", "", "a//b/c", "a/b/", "/a/b", "__a__/b", "a/..", "/".join(["a"] * 202)])
def test_what_is_no_documents_name_is_refused(path: str) -> None:
    with pytest.raises(RpcError) as caught:
        check_document_name(f"{ROOT}/{path}", ROOT)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_documents_name_is_in_its_database_within_6_kib_and_100_collections() -> None:
    """Quotas page: maximum depth of subcollections 100, maximum size for a document name 6 KiB."""
    check_document_name(f"{ROOT}/a/b", ROOT)
    check_document_name(f"{ROOT}/{'/'.join(['a'] * 200)}", ROOT)
    check_document_name(f"{ROOT}/{'/'.join(['a' * 1_500] * 4)}", ROOT)
    with pytest.raises(RpcError, match="bytes"):
        check_document_name(f"{ROOT}/{'/'.join(['a' * 1_500] * 6)}", ROOT)
    with pytest.raises(RpcError):
        check_document_name("projects/p/databases/other/documents/a/b", ROOT)
    check_parent(ROOT, ROOT)
    with pytest.raises(RpcError):
        check_parent(f"{ROOT}/a", ROOT)
    assert database_of(f"{ROOT}/a/b") == "projects/p/databases/(default)"
    with pytest.raises(RpcError):
        database_of("projects/p")


def test_no_path_leads_into_a_vector() -> None:
    fields = to_document("c/d", {"v": Vector((1.0,))}).fields
    assert get_field(fields, ("v", "value")) is None
    delete_field(fields, ("v", "value"))
    assert get_field(fields, ("v",)) == to_value(Vector((1.0,)))
    set_field(fields, ("v", "a"), to_value(1))
    assert get_field(fields, ("v",)) == to_value({"a": 1})
