"""Aggregations over what a query finds: count, sum and average.

Pure: documents in, Values out. Semantics: the comments on
https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#structuredaggregationquery and
https://firebase.google.com/docs/firestore/query-data/aggregation-queries
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import grpc
from google.cloud.firestore_v1.types import Value

from emulator.errors import RpcError
from emulator.paths import FieldPath, get_field, parse_field_path

MAX_AGGREGATIONS = 5
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**63 - 1
_Value = Value.pb()


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One of them. `path` is that of a sum or an average, None for a count; `up_to` says where a count may stop."""

    alias: str
    path: FieldPath | None = None
    is_average: bool = False
    up_to: int | None = None

    def of(self, documents: Sequence[Any]) -> Any:
        """The Value that it makes of documents."""
        if self.path is None:
            return _Value(integer_value=len(documents) if self.up_to is None else min(len(documents), self.up_to))
        numbers = list(_numbers(documents, self.path))
        return _average(numbers) if self.is_average else _sum(numbers)


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What aggregations made of documents. Two are equal if nobody could tell them apart (NaN is like NaN)."""

    matched: int
    """How many documents there were."""
    serialized: tuple[bytes, ...]

    @classmethod
    def of(cls, aggregations: Sequence[Aggregation], documents: Sequence[Any]) -> Aggregated:
        """Aggregate documents."""
        return cls(len(documents), tuple(each.of(documents).SerializeToString() for each in aggregations))

    def values(self) -> list[Any]:
        """The Values, in the order of the aggregations."""
        return [_Value.FromString(each) for each in self.serialized]


def read(query: Any) -> list[Aggregation]:
    """Those of a `StructuredAggregationQuery`. Raises INVALID_ARGUMENT."""
    number_of_aggregations = len(query.aggregations)
    if not number_of_aggregations:
        raise _invalid("Aggregations can not be empty.")  # this and the next two in production's words
    if number_of_aggregations > MAX_AGGREGATIONS:
        raise _invalid(
            f"The maximum number of aggregations allowed in an aggregation query is {MAX_AGGREGATIONS}. "
            f"Received: {number_of_aggregations}"
        )
    found: dict[str, Aggregation] = {}
    unnamed = itertools.count(1)
    for each in query.aggregations:
        alias = each.alias or f"field_{next(unnamed)}"
        if alias in found:
            raise _invalid(f"Aggregation aliases contain duplicate alias: {alias}.")
        found[alias] = _aggregation(alias, each)
    return list(found.values())


def _aggregation(alias: str, message: Any) -> Aggregation:
    kind = message.WhichOneof("operator")
    if kind == "count":
        up_to = message.count.up_to.value if message.count.HasField("up_to") else None
        if up_to is not None and up_to <= 0:
            raise _invalid("aggregations: up_to must be greater than zero.")
        return Aggregation(alias, up_to=up_to)
    if kind is None:
        raise _invalid(f"aggregations: {alias!r} needs an operator.")
    field = message.sum.field if kind == "sum" else message.avg.field
    return Aggregation(alias, parse_field_path(field.field_path), is_average=kind == "avg")


def _numbers(documents: Sequence[Any], path: FieldPath) -> Iterator[int | float]:
    """ "Only numeric values will be aggregated. All non-numeric values including NULL are skipped." """
    for document in documents:
        value = get_field(document.fields, path)
        if value is not None and value.WhichOneof("value_type") == "integer_value":
            yield value.integer_value
        elif value is not None and value.WhichOneof("value_type") == "double_value":
            yield value.double_value


def _total(numbers: Sequence[int | float]) -> int | float:
    """The sum, an integer if all of them are. Integers are added exactly; doubles one by one, as IEEE 754 adds them."""
    integers = sum(number for number in numbers if isinstance(number, int))
    doubles = [number for number in numbers if isinstance(number, float)]
    # Not sum(): from Python 3.12 on it compensates for what gets lost.
    return reduce(operator.add, doubles) + integers if doubles else integers


def _sum(numbers: Sequence[int | float]) -> Any:
    total = _total(numbers)
    if isinstance(total, int) and _MIN_INTEGER <= total <= _MAX_INTEGER:
        return _Value(integer_value=total)
    return _Value(double_value=float(total))


def _average(numbers: Sequence[int | float]) -> Any:
    if not numbers:
        return _Value(null_value=0)
    return _Value(double_value=_total(numbers) / len(numbers))


def _invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)
