"""Applying one write to a document. (First version.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.cloud.firestore_v1.types import Document as _Document
from google.cloud.firestore_v1.types import Value as _Value

from emulator.errors import RpcError
from emulator.values import get_field, parse_field_path, sort_key

_DocumentPb = _Document.pb()
_ValuePb = _Value.pb()


@dataclass(frozen=True, slots=True)
class Applied:
    document: Any
    transform_results: list[Any]
    changed: bool


def apply(write: Any, current: Any, now_us: int) -> Applied:
    _check(write, current)
    if write.HasField("delete"):
        return Applied(None, [], current is not None)
    document = _DocumentPb()
    if write.HasField("update"):
        document.name = write.update.name
        if write.HasField("update_mask"):
            if current is not None:
                document.MergeFrom(current)
            for path in write.update_mask.field_paths:
                _assign(document, parse_field_path(path), get_field(write.update.fields, parse_field_path(path)))
        else:
            for name, value in write.update.fields.items():
                document.fields[name].CopyFrom(value)
        transforms = write.update_transforms
    else:
        document.name = write.transform.document
        if current is not None:
            document.MergeFrom(current)
        transforms = write.transform.field_transforms
    results = [_transform(document, transform, now_us) for transform in transforms]
    if current is not None and document.fields == current.fields:
        return Applied(current, results, False)
    document.update_time.seconds, document.update_time.nanos = now_us // 10**6, now_us % 10**6 * 1000
    document.create_time.CopyFrom(current.create_time if current is not None else document.update_time)
    return Applied(document, results, True)


def _check(write: Any, current: Any) -> None:
    if not write.HasField("current_document"):
        return
    condition = write.current_document
    kind = condition.WhichOneof("condition_type")
    if kind == "exists" and condition.exists and current is None:
        raise RpcError(grpc.StatusCode.NOT_FOUND, "No document to update")
    if kind == "exists" and not condition.exists and current is not None:
        raise RpcError(grpc.StatusCode.ALREADY_EXISTS, "Document already exists")
    if kind == "update_time" and (current is None or current.update_time != condition.update_time):
        raise RpcError(grpc.StatusCode.FAILED_PRECONDITION, "the stored version does not match the required one")


def _assign(document: Any, path: tuple[str, ...], value: Any) -> None:
    fields = document.fields
    for segment in path[:-1]:
        if segment not in fields or fields[segment].WhichOneof("value_type") != "map_value":
            if value is None:
                return
            fields[segment].Clear()
            fields[segment].map_value.SetInParent()
        fields = fields[segment].map_value.fields
    if value is None:
        if path[-1] in fields:
            del fields[path[-1]]
    else:
        fields[path[-1]].CopyFrom(value)


def _transform(document: Any, transform: Any, now_us: int) -> Any:
    path = parse_field_path(transform.field_path)
    old = get_field(document.fields, path)
    kind = transform.WhichOneof("transform_type")
    result, answer = _ValuePb(), _ValuePb(null_value=0)
    if kind == "set_to_server_value":
        result.timestamp_value.seconds, result.timestamp_value.nanos = now_us // 10**6, now_us % 10**6 * 1000
        answer = result
    elif kind in ("increment", "maximum", "minimum"):
        operand = getattr(transform, kind)
        number = {"integer_value", "double_value"}
        if old is None or old.WhichOneof("value_type") not in number:
            result.CopyFrom(operand)
        elif kind == "increment":
            total = getattr(old, old.WhichOneof("value_type")) + getattr(operand, operand.WhichOneof("value_type"))
            setattr(result, "integer_value" if isinstance(total, int) else "double_value", total)
        else:
            bigger = sort_key(operand) > sort_key(old)
            result.CopyFrom(operand if bigger == (kind == "maximum") else old)
        answer = result
    else:
        elements = list(getattr(transform, kind).values)
        present = list(old.array_value.values) if old is not None and old.WhichOneof("value_type") == "array_value" else []
        keys = [sort_key(item) for item in present]
        result.array_value.SetInParent()
        if kind == "append_missing_elements":
            result.array_value.values.extend(present)
            for element in elements:
                if sort_key(element) not in keys:
                    keys.append(sort_key(element))
                    result.array_value.values.append(element)
        else:
            gone = [sort_key(element) for element in elements]
            result.array_value.values.extend(item for item, key in zip(present, keys, strict=True) if key not in gone)
    _assign(document, path, result)
    return answer
