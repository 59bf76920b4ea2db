"""What writes make of documents. Pages:
https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#write (masks, transforms, preconditions) and
https://firebase.google.com/docs/firestore/quotas (limits)."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import DocumentTransform, Write
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import RpcError
from emulator.writes import Applied, apply, check_transforms
from tests.unit.emulator.model import (
    ROOT,
    DocumentPb,
    Time,
    compare,
    is_nan,
    names,
    numbers,
    plain_fields,
    plain_values,
    to_document,
    to_plain,
    to_value,
)

WritePb = Write.pb()
TransformPb = DocumentTransform.FieldTransform.pb()
NAME = f"{ROOT}/c/d"
FIRST_US = 1_600_000_000_123_456
LATER_US = 1_700_000_000_654_321


def update(fields: dict[str, Any], *mask: str, transforms: Any = (), **condition: Any) -> Any:
    """An update of the document; with a mask if one is given ("" for an empty one)."""
    write = WritePb(update=to_document("c/d", fields), update_transforms=transforms)
    if mask:
        write.update_mask.field_paths.extend(path for path in mask if path)
        write.update_mask.SetInParent()
    return conditional(write, **condition)


def delete(**condition: Any) -> Any:
    return conditional(WritePb(delete=NAME), **condition)


def conditional(write: Any, exists: bool | None = None, update_us: int | None = None) -> Any:
    if exists is not None:
        write.current_document.exists = exists
    if update_us is not None:
        set_time(write.current_document.update_time, update_us)
    return write


def set_time(timestamp: Any, us: int) -> None:
    timestamp.seconds, timestamp.nanos = us // 1_000_000, us % 1_000_000 * 1_000


def transform(path: str, kind: str, operand: Any = None) -> Any:
    message = TransformPb(field_path=path)
    if kind == "set_to_server_value":
        message.set_to_server_value = operand
    elif kind in ("append_missing_elements", "remove_all_from_array"):
        getattr(message, kind).CopyFrom(to_value(operand).array_value)
        getattr(message, kind).SetInParent()
    else:
        getattr(message, kind).CopyFrom(to_value(operand))
    return message


def there(fields: dict[str, Any]) -> Any:
    """The document as it is stored since FIRST_US."""
    document = to_document("c/d", fields)
    set_time(document.create_time, FIRST_US)
    set_time(document.update_time, FIRST_US)
    return document


def plain(document: Any) -> dict[str, Any]:
    return {name: to_plain(value) for name, value in document.fields.items()}


def refusal(write: Any, current: Any = None) -> RpcError:
    with pytest.raises(RpcError) as caught:
        apply(write, current, LATER_US)
    return caught.value


def code(write: Any, current: Any = None) -> grpc.StatusCode:
    return refusal(write, current).code


def after(write: Any, current: dict[str, Any] | None) -> dict[str, Any]:
    """The fields after a write that changes something."""
    applied = apply(write, there(current) if current is not None else None, LATER_US)
    assert applied.changed
    return plain(applied.document)


# Updates, masks, deletes


def test_an_update_without_a_mask_replaces_the_document() -> None:
    """Write.update_mask: "If the mask is not set ... any existing data will be overwritten"."""
    assert after(update({"b": 2}), {"a": 1}) == {"b": 2}
    assert after(update({}), {"a": 1}) == {}


def test_a_mask_leaves_other_fields_and_deletes_those_without_a_value() -> None:
    """Write.update_mask: "Fields referenced in the mask, but not present in the input document, are deleted"."""
    current = {"a": 1, "b": {"c": 2, "d": 3}, "x-y": 4}
    assert after(update({"a": 9, "ignored": 1}, "a"), current) == {**current, "a": 9}
    assert after(update({}, "a", "`x-y`"), current) == {"b": {"c": 2, "d": 3}}
    assert after(update({"b": {"c": 9}}, "b.c"), current) == {**current, "b": {"c": 9, "d": 3}}
    assert after(update({"b": {}}, "b.c"), current) == {**current, "b": {"d": 3}}
    assert after(update({"b": {}}, "b"), current) == {**current, "b": {}}
    assert after(update({}, "b.c", "b.d"), current) == {**current, "b": {}}, "a map that became empty stays"
    assert after(update({"a": {"n": {"m": 1}}}, "a.n.m"), current) == {**current, "a": {"n": {"m": 1}}}
    assert not apply(update({}, "z", "a.z", "b.z.z"), there(current), LATER_US).changed


def test_a_masked_update_creates_a_missing_document() -> None:
    assert after(update({"a": 1, "ignored": 1}, "a", "b"), None) == {"a": 1}
    assert after(update({"a": {"b": 1}}, "a.b"), None) == {"a": {"b": 1}}
    assert after(update({"ignored": 1}, ""), None) == {}
    assert not apply(update({"ignored": 1}, ""), there({"a": 1}), LATER_US).changed


def test_a_delete_leaves_nothing_and_succeeds_on_nothing() -> None:
    assert apply(delete(), there({}), LATER_US) == Applied(None, [], True)
    assert apply(delete(), None, LATER_US) == Applied(None, [], False)


def test_the_time_of_creation_is_kept_and_that_of_the_update_is_the_commits() -> None:
    """Document.create_time and update_time, in microseconds."""
    created = apply(update({"a": 1}), None, FIRST_US).document
    assert created == there({"a": 1})
    changed = apply(update({"a": 2}), created, LATER_US).document
    assert changed.create_time == created.update_time
    assert (changed.update_time.seconds, changed.update_time.nanos) == (1_700_000_000, 654_321_000)
    again = apply(update({"a": 2}), None, LATER_US).document
    assert again.create_time == again.update_time == changed.update_time


@pytest.mark.parametrize(
    "write",
    [
        update({"a": 1, "n": math.nan}),
        update({"a": 1}, "a"),
        update({}, "z"),
        update({}, "", transforms=[transform("a", "increment", 0), transform("a", "maximum", 0)]),
        update({}, "", transforms=[transform("a", "increment", 5), transform("a", "increment", -5)]),
    ],
)
def test_a_write_that_changes_nothing_keeps_the_very_document(write: Any) -> None:
    """WriteResult.update_time: "If the write did not actually change the document, this will be the previous update_time"."""
    current = there({"a": 1, "n": math.nan})
    applied = apply(write, current, LATER_US)
    assert not applied.changed
    assert applied.document is current
    assert current == there({"a": 1, "n": math.nan})


@pytest.mark.parametrize(
    ("before", "now"), [(1, 1.0), (0.0, -0.0), (1, True), ("", b""), ([], {}), (None, False), ([1], [1.0])]
)
def test_what_is_equal_to_queries_may_still_be_a_change(before: Any, now: Any) -> None:
    applied = apply(update({"a": now}), there({"a": before}), LATER_US)
    assert applied.changed
    assert applied.document.fields["a"] == to_value(now)


def test_times_given_by_the_client_are_ignored() -> None:
    """Document.create_time and update_time are "output only"."""
    write = update({"a": 1})
    set_time(write.update.create_time, 7)
    set_time(write.update.update_time, 7)
    assert apply(write, None, FIRST_US).document == there({"a": 1})
    assert not apply(write, there({"a": 1}), LATER_US).changed


def test_writes_to_one_document_compose_in_order() -> None:
    document = None
    for write in (
        update({"n": 1}, exists=False),
        update({}, "", transforms=[transform("n", "increment", 2)]),
        update({"m": 1}, "m", exists=True),
        update({"m": 1}, "m"),
    ):
        document = apply(write, document, FIRST_US).document
    assert document == there({"n": 3, "m": 1})
    assert code(update({}, exists=False), document) is grpc.StatusCode.ALREADY_EXISTS
    assert apply(delete(exists=True), document, FIRST_US).document is None


# Preconditions


def test_preconditions_have_their_codes() -> None:
    """Precondition, with the codes of https://cloud.google.com/firestore/docs/understand-error-codes."""
    current = there({"a": 1})
    assert code(update({}, exists=False), current) is grpc.StatusCode.ALREADY_EXISTS
    assert code(delete(exists=False), current) is grpc.StatusCode.ALREADY_EXISTS
    assert code(update({}, exists=True)) is grpc.StatusCode.NOT_FOUND
    assert code(delete(exists=True)) is grpc.StatusCode.NOT_FOUND
    for stale_us in (FIRST_US - 1, FIRST_US + 1):
        assert code(update({}, update_us=stale_us), current) is grpc.StatusCode.FAILED_PRECONDITION
        assert code(delete(update_us=stale_us), current) is grpc.StatusCode.FAILED_PRECONDITION
    assert code(update({}, update_us=FIRST_US)) is grpc.StatusCode.FAILED_PRECONDITION
    assert NAME in refusal(update({}, exists=True)).message
    assert code(update({}, update_us=LATER_US), current) is grpc.StatusCode.FAILED_PRECONDITION
    for future_us in (LATER_US + 1, 2**60):
        assert code(update({}, update_us=future_us), current) is grpc.StatusCode.INVALID_ARGUMENT
        assert code(delete(update_us=future_us)) is grpc.StatusCode.INVALID_ARGUMENT
    assert apply(update({}, exists=True), current, LATER_US).changed
    assert apply(update({}, exists=False), None, LATER_US).changed
    assert apply(update({}, update_us=FIRST_US), current, LATER_US).changed
    assert apply(delete(update_us=FIRST_US), current, LATER_US).changed


def test_a_required_time_is_in_microseconds() -> None:
    """Precondition.update_time: "Timestamp must be microsecond aligned"."""
    write = update({}, update_us=FIRST_US)
    write.current_document.update_time.nanos += 1
    assert code(write, there({})) is grpc.StatusCode.INVALID_ARGUMENT


# Transforms


@pytest.mark.parametrize(
    ("kind", "current", "operand", "result"),
    [
        ("increment", 1, 2, 3),
        ("increment", 1, 2.5, 3.5),
        ("increment", 1.5, 2, 3.5),
        ("increment", "text", 2, 2),
        ("increment", None, 2.5, 2.5),
        ("increment", ..., 2, 2),
        ("increment", [1], 2, 2),
        ("increment", 2**63 - 1, 1, 2**63 - 1),
        ("increment", -(2**63), -1, -(2**63)),
        ("increment", 2**63 - 1, 1.0, 2.0**63),
        ("increment", 2**53, 1.0, 2.0**53),
        ("increment", math.inf, -math.inf, math.nan),
        ("increment", math.nan, 1, math.nan),
        ("increment", 1e308, 1e308, math.inf),
        ("maximum", 1, 2, 2),
        ("maximum", 2, 1, 2),
        ("maximum", 3, 3.0, 3),
        ("maximum", 3.0, 3, 3.0),
        ("maximum", 3, 3.5, 3.5),
        ("maximum", 3.5, 4, 4),
        ("maximum", 0, -0.0, 0),
        ("maximum", -0.0, 0, -0.0),
        ("maximum", 5, math.nan, math.nan),
        ("maximum", math.nan, 5, math.nan),
        ("maximum", "text", 1, 1),
        ("maximum", ..., 1, 1),
        ("maximum", 2**53, 2.0**53, 2**53),
        ("maximum", 2.0**53, 2**53 + 1, 2**53 + 1),
        ("minimum", 1, 2, 1),
        ("minimum", 2, 1, 1),
        ("minimum", 3, 3.0, 3),
        ("minimum", 3.0, 2, 2),
        ("minimum", -0.0, 0, -0.0),
        ("minimum", 5, math.nan, math.nan),
        ("minimum", math.nan, 5, math.nan),
        ("minimum", True, 1, 1),
    ],
)
def test_numeric_transforms_compute_as_documented(kind: str, current: Any, operand: Any, result: Any) -> None:
    """FieldTransform.increment, maximum and minimum. The result is what the field becomes."""
    document = there({} if current is ... else {"a": current})
    applied = apply(update({}, "", transforms=[transform("a", kind, operand)]), document, LATER_US)
    assert applied.document.fields["a"] == to_value(result)
    assert applied.transform_results == [to_value(result)]


@pytest.mark.parametrize(
    ("kind", "current", "operand", "result"),
    [
        ("append_missing_elements", [1, "a"], ["a", "b"], [1, "a", "b"]),
        ("append_missing_elements", [1, 1], [2, 2, 2.0], [1, 1, 2]),
        ("append_missing_elements", [3.0], [3], [3.0]),
        ("append_missing_elements", [math.nan, None], [math.nan, None], [math.nan, None]),
        ("append_missing_elements", [{"a": 1}], [{"a": 1.0}, {"a": 2}], [{"a": 1}, {"a": 2}]),
        ("append_missing_elements", "text", [1], [1]),
        ("append_missing_elements", ..., [1], [1]),
        ("append_missing_elements", ..., [], []),
        ("append_missing_elements", "text", [], []),
        ("remove_all_from_array", [1, 2, 1.0, "a"], [1], [2, "a"]),
        ("remove_all_from_array", [math.nan, None, 1], [math.nan, None], [1]),
        ("remove_all_from_array", [1], [1], []),
        ("remove_all_from_array", [1], [2], [1]),
        ("remove_all_from_array", "text", [1], []),
        ("remove_all_from_array", ..., [1], []),
    ],
)
def test_array_transforms_compute_as_documented(kind: str, current: Any, operand: Any, result: Any) -> None:
    """FieldTransform.append_missing_elements and remove_all_from_array. "The transform_result will be the null value"."""
    document = there({} if current is ... else {"a": current})
    applied = apply(update({}, "", transforms=[transform("a", kind, operand)]), document, LATER_US)
    assert applied.document.fields["a"] == to_value(result)
    assert applied.transform_results == [to_value(None)]


def test_the_servers_time_has_milliseconds_and_is_one_for_all_fields() -> None:
    """ServerValue.REQUEST_TIME: "with millisecond precision ... all the fields will get the same server timestamp"."""
    transforms = [transform(path, "set_to_server_value", 1) for path in ("a", "b.c")]
    applied = apply(update({"b": 1}, transforms=transforms), None, LATER_US)
    now = Time(1_700_000_000, 654_000_000)
    assert plain(applied.document) == {"a": now, "b": {"c": now}}
    assert list(map(to_plain, applied.transform_results)) == [now, now]


def test_transforms_follow_the_update_in_their_order_each_with_its_result() -> None:
    """Write.update_transforms: "The transforms to perform after update", "in order"."""
    write = update(
        {"n": 10, "list": [1]},
        transforms=[
            transform("n", "increment", 5),
            transform("list", "append_missing_elements", [2]),
            transform("n", "maximum", 3),
            transform("list", "remove_all_from_array", [1]),
            transform("n", "minimum", 2.5),
            transform("list", "increment", 1),
        ],
    )
    applied = apply(write, there({"n": 100, "gone": 1}), LATER_US)
    assert plain(applied.document) == {"n": 2.5, "list": 1}
    assert list(map(to_plain, applied.transform_results)) == [15, None, 15, None, 2.5, 1]


def test_a_transform_alone_changes_only_its_fields_and_creates_the_document() -> None:
    """Write.transform."""
    write = WritePb()
    write.transform.document = NAME
    write.transform.field_transforms.append(transform("a.b", "increment", 1))
    assert after(write, None) == {"a": {"b": 1}}
    assert after(write, {"a": {"b": 1, "c": 2}, "d": 3}) == {"a": {"b": 2, "c": 2}, "d": 3}
    assert code(conditional(write, exists=True)) is grpc.StatusCode.NOT_FOUND
    del write.transform.field_transforms[:]
    assert code(write) is grpc.StatusCode.INVALID_ARGUMENT


# Refusals


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (WritePb(), "must have an update"),
        (update({"a": 1}, "a", "__name__"), "reserved"),
        (update({"a": 1}, "a-b"), "'a-b'"),
        (update({"a": 1}, "a..b"), "'a..b'"),
        (update({"a": {"__x__": 1}}), "'a': a field name of the form"),
        (update({"a": {"__x__": 1}}, "a"), "'a': a field name of the form"),
        (update({"a": [[1]]}), "'a.0': an array"),
        (update({"a": {"b": [[1]]}}, "a.b"), "'a.b.0': an array"),
        (update({"": 1}), "empty"),
        (update({}, transforms=[transform("__name__", "increment", 1)]), "reserved"),
        (update({}, transforms=[transform("a b", "increment", 1)]), "'a b'"),
        (update({}, transforms=[transform("a", "increment", "1")]), "'a': increment needs"),
        (update({}, transforms=[transform("a", "maximum", None)]), "'a': maximum needs"),
        (update({}, transforms=[transform("a", "minimum", [])]), "'a': minimum needs"),
        (update({}, transforms=[transform("a", "append_missing_elements", [[1]])]), "'a.0': an array"),
        (update({}, transforms=[transform("a", "set_to_server_value", 0)]), "'a': the server value"),
        (update({}, transforms=[TransformPb(field_path="a")]), "'a': it is not said which"),
        (update({}, transforms=[transform("a", "increment", 1)] * 501), "500 are allowed"),
        (WritePb(delete=NAME, update_mask={"field_paths": ["a"]}), "only with an update"),
        (WritePb(delete=NAME, update_transforms=[transform("a", "increment", 1)]), "only with an update"),
        (update({"a": "x" * 1_048_000, "b": "x" * 600}), "1048576 are allowed"),
    ],
)
def test_what_cannot_be_is_refused_and_said(write: Any, says: str) -> None:
    refused = refusal(write)
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert says in refused.message


def test_what_grows_too_large_or_too_deep_bit_by_bit_is_refused() -> None:
    """Quotas page: 1 MiB, depth 20."""
    half = "x" * 600_000
    assert "1048576" in refusal(update({"b": half}, "b"), there({"a": half})).message
    many = [str(number) * 1_000 for number in range(900)]
    grown = update({}, "", transforms=[transform("b", "append_missing_elements", many)])
    assert "1048576" in refusal(grown, there({"a": half})).message
    path = ".".join("a" * 20)
    assert apply(update({}, "", transforms=[transform(path, "increment", 1)]), None, LATER_US).changed
    assert "20 deep" in refusal(update({}, "", transforms=[transform(path + ".a", "increment", 1)])).message
    assert "20 deep" in refusal(update({}, "", transforms=[transform(path, "append_missing_elements", [1])])).message


def test_a_commit_transforms_a_document_500_times_at_most() -> None:
    """Quotas page: "Maximum number of field transformations ... on a single document in a Commit operation ...: 500"."""
    half = update({}, "", transforms=[transform("a", "increment", 1)] * 250)
    other = deepcopy(half)
    other.update.name = f"{ROOT}/c/other"
    alone = WritePb()
    alone.transform.document = NAME
    alone.transform.field_transforms.append(transform("a", "increment", 1))
    check_transforms([half, half, other, other, delete()])
    for too_many in ([half, other, half, alone], [alone, half, half]):
        with pytest.raises(RpcError, match=r"501 transforms.*500"):
            check_transforms(too_many)


# Any writes, against a model


Step = tuple[str, Any]


def model_set(fields: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        if type(fields.get(name)) is not dict:
            fields[name] = {}
        fields = fields[name]
    fields[path[-1]] = deepcopy(value)


def model_get(fields: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if type(fields) is not dict or name not in fields:
            return ...
        fields = fields[name]
    return fields


def model_delete(fields: dict[str, Any], path: tuple[str, ...]) -> None:
    parent = model_get(fields, path[:-1])
    if type(parent) is dict:
        parent.pop(path[-1], None)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def contains(items: list[Any], item: Any) -> bool:
    return any(compare(each, item) == 0 for each in items)


def model_transform(kind: str, now: Any, operand: Any) -> Any:
    """What a field becomes."""
    if kind in ("append_missing_elements", "remove_all_from_array"):
        items = list(now) if isinstance(now, list) else []
        if kind == "remove_all_from_array":
            return [item for item in items if not contains(operand, item)]
        for item in operand:
            if not contains(items, item):
                items.append(item)
        return items
    if not is_number(now):
        return operand
    if kind == "increment":
        if isinstance(now, float) or isinstance(operand, float):
            return float(now) + float(operand)
        return min(max(now + operand, -(2**63)), 2**63 - 1)
    if is_nan(now) or is_nan(operand):
        return math.nan
    order = compare(operand, now)
    return operand if order == (1 if kind == "maximum" else -1) else now


paths = st.lists(names, min_size=1, max_size=3).map(tuple)
transforms = st.one_of(
    st.tuples(st.sampled_from(["increment", "maximum", "minimum"]), paths, numbers),
    st.tuples(
        st.sampled_from(["append_missing_elements", "remove_all_from_array"]),
        paths,
        st.lists(plain_values.filter(lambda value: not isinstance(value, list)), max_size=3),
    ),
)


def api_path(path: tuple[str, ...]) -> str:
    return ".".join(name if name.isascii() and name.isidentifier() else f"`{name}`" for name in path)


@settings(max_examples=300, deadline=None)
@given(
    st.none() | plain_fields,
    plain_fields,
    st.none() | st.lists(paths, max_size=4),
    st.lists(transforms, max_size=4),
)
def test_any_update_does_to_a_document_what_it_does_to_a_dictionary(
    current: dict[str, Any] | None,
    fields: dict[str, Any],
    mask: list[tuple[str, ...]] | None,
    steps: list[tuple[str, tuple[str, ...], Any]],
) -> None:
    if mask is None:
        expected = deepcopy(fields)
    else:
        expected = deepcopy(current or {})
        for path in mask:
            value = model_get(fields, path)
            if value is ...:
                model_delete(expected, path)
            else:
                model_set(expected, path, value)
    results: list[Any] = []
    for kind, path, operand in steps:
        value = model_transform(kind, model_get(expected, path), operand)
        model_set(expected, path, value)
        results.append(None if isinstance(value, list) else value)

    write = update(fields, transforms=[transform(api_path(path), kind, operand) for kind, path, operand in steps])
    if mask is not None:
        write.update_mask.field_paths.extend(map(api_path, mask))
        write.update_mask.SetInParent()
    document = there(current) if current is not None else None
    untouched = WritePb.FromString(write.SerializeToString()), None if document is None else there(current or {})
    applied = apply(write, document, LATER_US)

    wanted = to_document("c/d", expected)
    assert DocumentPb(name=NAME, fields=applied.document.fields) == wanted
    assert applied.transform_results == [to_value(result) for result in results]
    assert applied.changed == (document is None or wanted != to_document("c/d", current or {}))
    assert (write, document) == untouched, "the arguments were modified"
