"""What a write makes of a document.

Pure: takes the `Write` and the document as it is, returns the document as it will be. Several writes to one document in
a commit are applied one after the other, each to the outcome of the one before.

Source: https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#write
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.cloud.firestore_v1.types import Document, DocumentTransform, Value

from emulator.errors import RpcError
from emulator.paths import FieldPath, delete_field, get_field, parse_writable_path, set_field
from emulator.values import MAX_DOCUMENT_BYTES, Fault, document_bytes, is_nan, is_too_large, sort_key, store_fields, store_value

# https://firebase.google.com/docs/firestore/quotas#writes_and_transactions
MAX_TRANSFORMS = 500

_Document = Document.pb()
_Value = Value.pb()
_REQUEST_TIME = DocumentTransform.FieldTransform.ServerValue.REQUEST_TIME.value
_NULL = _Value(null_value=0)
_MAX_INTEGER, _MIN_INTEGER = (1 << 63) - 1, -(1 << 63)


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of one write.

    document: as it is from now on, None if there is none. Without a change it is the very message that was there.
    transform_results: one Value for each transform, in their order.
    changed: whether anything is different. A write that changes nothing leaves the update time as it is.
    """

    document: Any
    transform_results: list[Any]
    changed: bool


def apply(write: Any, current: Any | None, now_us: int, request_us: int | None = None) -> Applied:
    """Apply a `Write` to the document it names, which is None if missing, at a time in microseconds.

    `request_us` is what REQUEST_TIME stands for; the same time unless given.

    Raises INVALID_ARGUMENT for a write that cannot be, ALREADY_EXISTS, NOT_FOUND or FAILED_PRECONDITION when its
    precondition does not hold. Modifies neither the write nor the document.
    """
    operation = write.WhichOneof("operation")
    if operation != "update" and (write.HasField("update_mask") or write.update_transforms):
        raise _invalid("A write may have an update_mask and update_transforms only with an update.")
    if operation == "delete":
        _check_precondition(write, current, write.delete, now_us)
        return Applied(None, [], current is not None)
    try:
        if operation == "update":
            document = _updated(write, current)
            transforms = write.update_transforms
        elif operation == "transform":
            document = _copied(current) if current is not None else _Document(name=write.transform.document)
            transforms = write.transform.field_transforms
            if not transforms:
                raise _invalid("transform: field_transforms must not be empty.")
        else:
            raise _invalid("A write must have an update, a delete or a transform.")
        if len(transforms) > MAX_TRANSFORMS:
            raise _too_many_transforms(len(transforms), document.name)
        results = [
            _transform(document.fields, transform, now_us if request_us is None else request_us) for transform in transforms
        ]
    except Fault as fault:
        raise _invalid(f"The document cannot be stored. {fault}: {_target(write)}") from fault
    _check_precondition(write, current, document.name, now_us)
    if current is not None:
        document.create_time.CopyFrom(current.create_time)
        document.update_time.CopyFrom(current.update_time)
        if document == current:  # exactly: 1 is not 1.0, and NaN is NaN
            return Applied(current, results, False)
    if is_too_large(document):
        raise _invalid(
            f"The document would have {document_bytes(document)} bytes; {MAX_DOCUMENT_BYTES} are allowed: {document.name}"
        )
    document.update_time.seconds, document.update_time.nanos = divmod(now_us, 1_000_000)
    document.update_time.nanos *= 1_000
    if current is None:
        document.create_time.CopyFrom(document.update_time)
    return Applied(document, results, True)


def check_transforms(writes: Iterable[Any]) -> None:
    """INVALID_ARGUMENT if the writes of a commit transform one document too often."""
    counts: Counter[str] = Counter()
    for write in writes:
        transforms = write.transform.field_transforms if write.HasField("transform") else write.update_transforms
        if transforms:
            counts[_target(write)] += len(transforms)
    for name, count in counts.items():
        if count > MAX_TRANSFORMS:
            raise _too_many_transforms(count, name)


def _target(write: Any) -> str:
    return str(write.transform.document if write.HasField("transform") else write.update.name)


def _check_precondition(write: Any, current: Any | None, name: str, now_us: int) -> None:
    if not write.HasField("current_document"):
        return
    condition = write.current_document
    kind = condition.WhichOneof("condition_type")
    if kind == "exists":
        if condition.exists and current is None:
            raise RpcError(grpc.StatusCode.NOT_FOUND, f"No document to update: {name}")
        if not condition.exists and current is not None:
            raise RpcError(grpc.StatusCode.ALREADY_EXISTS, f"Document already exists: {name}")
    elif kind == "update_time":
        required = condition.update_time
        if required.nanos % 1_000:
            raise _invalid("current_document.update_time: must be in whole microseconds.")
        if required.seconds * 1_000_000 + required.nanos // 1_000 > now_us:
            raise _invalid(f"current_document.update_time: {_said(required)} is in the future.")
        if current is None:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"The document is missing, but was required to be of {_said(required)}: {name}",
            )
        if current.update_time != required:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"The document is of {_said(current.update_time)}, but was required to be of {_said(required)}: {name}",
            )


def _said(timestamp: Any) -> str:
    return f"{timestamp.seconds}.{timestamp.nanos // 1_000:06} s"


def _updated(write: Any, current: Any | None) -> Any:
    """The document after the update proper, without its times. Raises Fault."""
    update = write.update
    if not write.HasField("update_mask"):
        document = _copied(update)
        store_fields(document.fields)
        return document
    document = _copied(current) if current is not None else _Document(name=update.name)
    for path in write.update_mask.field_paths:
        names = parse_writable_path(path)
        value = get_field(update.fields, names)
        if value is None:
            delete_field(document.fields, names)
        else:
            _store(document.fields, names, value)
    return document


def _store(fields: Any, path: FieldPath, value: Any) -> Any:
    """Store a value at a path; returns what is stored. Raises Fault."""
    stored = set_field(fields, path, value)
    try:
        store_value(stored, len(path))
    except Fault as fault:
        fault.steps.extend(reversed(path))
        raise
    return stored


def _copied(document: Any) -> Any:
    copy = _Document()
    copy.CopyFrom(document)
    copy.ClearField("create_time")
    copy.ClearField("update_time")
    return copy


def _transform(fields: Any, transform: Any, now_us: int) -> Any:
    """Transform a field and return the result to be reported. Raises Fault."""
    path = parse_writable_path(transform.field_path)
    kind = transform.WhichOneof("transform_type")
    current = get_field(fields, path)
    if kind == "set_to_server_value":
        if transform.set_to_server_value != _REQUEST_TIME:
            raise _invalid(f"Transform of {transform.field_path!r}: the server value is not specified.")
        new = _Value()
        # "With millisecond precision", unlike the times of commits.
        now_ms = now_us // 1_000
        new.timestamp_value.seconds, new.timestamp_value.nanos = now_ms // 1_000, now_ms % 1_000 * 1_000_000
    elif kind in ("increment", "maximum", "minimum"):
        operand = getattr(transform, kind)
        if not _is_number(operand):
            raise _invalid(f"Transform of {transform.field_path!r}: {kind} needs an integer or a double.")
        new = operand if current is None or not _is_number(current) else _NUMERIC[kind](current, operand)
    elif kind in ("append_missing_elements", "remove_all_from_array"):
        elements = getattr(transform, kind).values
        present = current.array_value.values if current is not None else ()
        new = _append_missing(present, elements) if kind == "append_missing_elements" else _remove_all(present, elements)
    else:
        raise _invalid(f"Transform of {transform.field_path!r}: it is not said which.")
    stored = _store(fields, path, new)
    if kind in ("append_missing_elements", "remove_all_from_array"):
        return _NULL
    result = _Value()
    result.CopyFrom(stored)
    return result


def _is_number(value: Any) -> bool:
    return value.WhichOneof("value_type") in ("integer_value", "double_value")


def _number(value: Any) -> int | float:
    number: int | float = value.integer_value if value.HasField("integer_value") else value.double_value
    return number


def _increment(current: Any, operand: Any) -> Any:
    total = _number(current) + _number(operand)
    if isinstance(total, int):
        return _Value(integer_value=max(_MIN_INTEGER, min(_MAX_INTEGER, total)))
    return _Value(double_value=total)


def _maximum(current: Any, operand: Any) -> Any:
    return _nan_or(current, operand, operand if _number(operand) > _number(current) else current)


def _minimum(current: Any, operand: Any) -> Any:
    return _nan_or(current, operand, operand if _number(operand) < _number(current) else current)


def _nan_or(current: Any, operand: Any, extreme: Any) -> Any:
    """The extreme of any number and NaN is NaN."""
    return current if is_nan(current) else operand if is_nan(operand) else extreme


_NUMERIC = {"increment": _increment, "maximum": _maximum, "minimum": _minimum}


def _append_missing(present: Any, elements: Any) -> Any:
    new = _Value()
    new.array_value.SetInParent()  # even if it stays empty
    new.array_value.values.extend(present)
    seen = {sort_key(item) for item in present}
    for element in elements:
        key = sort_key(element)
        if key not in seen:
            seen.add(key)
            new.array_value.values.append(element)
    return new


def _remove_all(present: Any, elements: Any) -> Any:
    gone = {sort_key(element) for element in elements}
    new = _Value()
    new.array_value.SetInParent()
    new.array_value.values.extend(item for item in present if sort_key(item) not in gone)
    return new


def _too_many_transforms(count: int, name: str) -> RpcError:
    return _invalid(f"{count} transforms of a document are too many; {MAX_TRANSFORMS} are allowed: {name}")


def _invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)
