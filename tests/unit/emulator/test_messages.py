"""Whatever well-formed message arrives, the answer is a result or an error of the protocol, never a failure of the server."""

from __future__ import annotations

import struct
from random import Random
from typing import Any

import pytest
from google.cloud.firestore_v1.types import Document, StructuredQuery, Write
from google.protobuf.descriptor import FieldDescriptor

from emulator.errors import RpcError
from emulator.query import PreparedQuery
from emulator.values import document_bytes, sort_key
from emulator.writes import apply, check_transforms
from tests.unit.emulator.model import ROOT, ValuePb, to_document

NOW_US = 1_700_000_000_000_000
STRINGS = ["", "a", "b", "a.b", "`", "a..b", "__name__", "__x__", "é", "\0", f"{ROOT}/c/d", f"{ROOT}/c", ROOT, "x" * 1_600]
INTEGERS = [0, 1, -1, 2, 3, 5, 2**31 - 1, -(2**31)]
MAX_NESTING = 7


def random_message(random: Random, type_: Any, nesting: int = 0) -> Any:
    """A message with some of its fields filled, with plausible and with absurd content."""
    message = type_()
    for field in message.DESCRIPTOR.fields:
        wanted = 0.9 if field.name in ("name", "field_path", "op", "fields", "values", "update") else 0.5
        if random.random() > wanted or (nesting >= MAX_NESTING and field.type == FieldDescriptor.TYPE_MESSAGE):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(random.randrange(4)):
                value = random_message(random, ValuePb, nesting + 1)
                getattr(message, field.name)[random.choice(STRINGS)].CopyFrom(value)
        elif field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(random.randrange(3)):
                items.append(random_content(random, field, nesting))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(random_content(random, field, nesting))
        else:
            setattr(message, field.name, random_content(random, field, nesting))
    return message


def random_content(random: Random, field: FieldDescriptor, nesting: int) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return random_message(random, field.message_type._concrete_class, nesting + 1)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return random.randrange(12)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return random.random() < 0.5
    if field.type == FieldDescriptor.TYPE_STRING:
        return random.choice(STRINGS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.randbytes(2)
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return struct.unpack("<d", random.randbytes(8))[0] if random.random() < 0.5 else float(random.randrange(-3, 3))
    wide = field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64)
    return random.choice([*INTEGERS, 2**63 - 1, -(2**63)] if wide else INTEGERS)


def test_any_write_is_applied_or_refused() -> None:
    outcomes = []
    for seed in range(1_500):
        random = Random(seed)
        write = random_message(random, Write.pb())
        if random.random() < 0.8:  # the fields of the others are refused with it
            write.update.CopyFrom(random_message(random, Document.pb(), MAX_NESTING - 3))
        current = to_document("c/d", {"a": {"b": 1}, "b": [1.5, None]}) if random.random() < 0.5 else None
        try:
            check_transforms([write])
            applied = apply(write, current, NOW_US)
        except RpcError as error:
            outcomes.append(error.code.name)
        else:
            outcomes.append("OK")
            if applied.document is not None:
                again = Document.pb().FromString(applied.document.SerializeToString())
                assert again == applied.document
                assert document_bytes(again) > 0
                assert sort_key(ValuePb(map_value={"fields": dict(again.fields.items())}))
    assert outcomes.count("OK") >= 30
    assert outcomes.count("INVALID_ARGUMENT") >= 30, "the messages became too uniform to show anything"


@pytest.mark.parametrize("with_filter", [False, True])
def test_any_query_is_run_or_refused(with_filter: bool) -> None:
    documents = [to_document(f"c/{number}", {"a": number, "b": {"a": str(number)}, "é": [number]}) for number in range(5)]
    ran = refused = 0
    for seed in range(1_500):
        random = Random(seed)
        message = random_message(random, StructuredQuery.pb())
        message.ClearField("find_nearest")
        if not with_filter:
            message.ClearField("where")
        del message.from_[1:]
        message.offset, message.limit.value = message.offset & 0xFFFF, message.limit.value & 0xFFFF
        try:
            prepared = PreparedQuery(ROOT, message)
        except RpcError:
            refused += 1
        else:
            ran += 1
            for document in prepared.run(documents):
                assert prepared.project(document).name == document.name
    assert min(ran, refused) >= 30, "the messages became too uniform to show anything"
