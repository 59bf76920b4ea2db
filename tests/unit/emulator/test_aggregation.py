"""Counts, sums and averages of documents."""

import math
from typing import Any

import pytest
from google.cloud.firestore_v1.types import StructuredAggregationQuery

from emulator.aggregation import Aggregated, Aggregation, read
from emulator.errors import RpcError
from tests.unit.emulator.model import to_document

LARGEST = 2**63 - 1
BIG = 1.7976931348623157e308
SMALL = 5e-324
INFINITY = math.inf
NAN = math.nan


def aggregated(values: list[Any], **options: Any) -> Any:
    """The number that an aggregation of a field `n` makes, with its type; None for null."""
    documents = [to_document(f"c/{number}", {"n": value}) for number, value in enumerate(values)]
    value = Aggregation("x", ("n",), **options).of(documents)
    kind = value.WhichOneof("value_type")
    assert kind in ("integer_value", "double_value", "null_value")
    return None if kind == "null_value" else getattr(value, kind)


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([], 0),
        ([1, 2, 3], 6),
        ([1, 2.0], 3.0),
        ([5, 4.5, 3], 12.5),
        ([1, "2", None, True, [3], {"n": 4}], 1),
        (["2", None], 0),
        ([LARGEST], LARGEST),
        ([LARGEST, 1], float(2**63)),
        ([LARGEST, LARGEST, -LARGEST], LARGEST),
        ([-LARGEST - 1, -1], -float(2**63)),
        ([LARGEST, 0.5, -LARGEST], 0.5),
        ([BIG, BIG], INFINITY),
        ([-BIG, -BIG], -INFINITY),
        ([INFINITY, 1], INFINITY),
        ([INFINITY, -INFINITY], NAN),
        ([1, NAN, 2], NAN),
        ([SMALL], SMALL),
    ],
)
def test_a_sum_is_an_integer_as_long_as_it_can_be(values: list[Any], total: float) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#sum"""
    found = aggregated(values)
    assert type(found) is type(total)
    assert found == total or (found != found and total != total)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([], None),
        (["2", None], None),
        ([4, 5, 6], 5.0),
        ([9, 10], 9.5),
        ([8.6, 9, 10], 9.2),
        ([1, "100", None], 1.0),
        ([LARGEST, LARGEST], float(2**63)),
        ([BIG, BIG], INFINITY),
        ([SMALL, 0], 0.0),
        ([1, NAN], NAN),
    ],
)
def test_an_average_is_a_double_or_null(values: list[Any], mean: float | None) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#avg"""
    found = aggregated(values, is_average=True)
    if mean is None:
        assert found is None
    else:
        assert type(found) is float
        assert found == pytest.approx(mean, nan_ok=True, rel=1e-15, abs=0)


def test_the_same_result_is_equal_to_itself_nan_too() -> None:
    documents = [to_document("c/1", {"n": NAN})]
    wanted = [Aggregation("x", ("n",)), Aggregation("y")]
    assert Aggregated.of(wanted, documents) == Aggregated.of(wanted, documents)
    assert [value.integer_value for value in Aggregated.of(wanted, documents).values()] == [0, 1]
    assert Aggregated.of(wanted, documents) != Aggregated.of(wanted, [to_document("c/1", {"n": 1})])


def test_what_is_wanted_is_read_by_its_alias() -> None:
    message = StructuredAggregationQuery.pb()()
    message.aggregations.add(alias="total").sum.field.field_path = "a.`b c`"
    message.aggregations.add().avg.field.field_path = "n"
    message.aggregations.add(alias="few").count.up_to.value = 3
    assert read(message) == [
        Aggregation("total", ("a", "b c")),
        Aggregation("field_1", ("n",), is_average=True),
        Aggregation("few", up_to=3),
    ]


def test_one_without_an_operator_or_a_field_is_refused() -> None:
    no_operator, no_field = StructuredAggregationQuery.pb()(), StructuredAggregationQuery.pb()()
    no_operator.aggregations.add(alias="x")
    no_field.aggregations.add(alias="x").sum.SetInParent()
    for message in (no_operator, no_field):
        with pytest.raises(RpcError) as caught:
            read(message)
        assert caught.value.code.name == "INVALID_ARGUMENT"
