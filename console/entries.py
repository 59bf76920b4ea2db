"""Expenses and settlements that people enter in the form, on an emulator: as the documents that an app would write."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from google.cloud.firestore_v1.types import Document
from google.protobuf import json_format

from balance.core.money import Unit, scale, to_stored
from balance.database.codec import decode_fields, encode_fields_into
from balance.database.firestore import Create, Delete, Set, Update, Write, transaction
from balance.database.retry import Retry
from balance.documents.layout import IN_GROUP
from balance.documents.sources import Kind, Malformed, is_document_id, parse, uid_fault
from console.deployment import Deployment, Refused
from scripts.output import stored

_Document = Document.pb()
Form = Mapping[str, Sequence[str]]


def field(form: Form, name: str) -> str:
    """A form's field; "" when it is not there."""
    values = form.get(name)
    return values[0].strip() if values else ""


def kind_named(name: str) -> Kind:
    """The kind of source document of this name. Raises Refused."""
    kind = next((kind for kind in Kind if str(kind) == name), None)
    if kind is None:
        raise Refused(f"{name!r} is no kind of document.")
    return kind


def create_group(deployment: Deployment, form: Form) -> str:
    """Write a group's document; returns its id. Raises Refused."""
    deployment.check_documents()
    group_id = field(form, "id")
    listed = map(str.strip, field(form, "members").replace(",", "\n").split("\n"))
    uids = list(dict.fromkeys(filter(None, listed)))
    if not is_document_id(group_id):
        raise Refused(f"{group_id!r} cannot be the id of a group.")
    for uid in uids:
        if reason := uid_fault(uid):
            raise Refused(f"The uid {uid!r} {reason}.")
    if not uids:
        raise Refused("A group needs members.")
    members: Any = dict.fromkeys(uids, True) if deployment.settings.members_as_map else uids
    fields: dict[str, Any] = {"members": members}
    if name := field(form, "name"):
        fields["name"] = name
    _commit(deployment, [Create(deployment.settings.layout.group(group_id), fields)], must_be_new=True)
    return group_id


def delete_group(deployment: Deployment, group_id: str) -> None:
    """Delete a group's document. Raises Refused."""
    deployment.check_documents()
    _commit(deployment, [Delete(deployment.settings.layout.group(group_id))])


def save(deployment: Deployment, group_id: str, form: Form) -> str:
    """Write an expense or settlement, a new one unless the form names a document; returns its path. Raises Refused."""
    deployment.check_documents()
    kind = kind_named(field(form, "kind"))
    path = field(form, "path")
    fields = (_expense if kind is Kind.EXPENSE else _settlement)(form, deployment.settings.unit)
    collection = deployment.settings.layout.collection(kind).replace(IN_GROUP, group_id)
    fields["groupId"] = group_id
    _check_adapter(deployment, kind, group_id, fields)
    if path:
        check_source(deployment, path)
        _commit(deployment, [Update(path, {(name,): value for name, value in fields.items()})])
        return path
    name = field(form, "id") or f"{kind}-{secrets.token_hex(3)}"
    if not is_document_id(name):
        raise Refused(f"{name!r} cannot be the id of a document.")
    path = f"{collection}/{name}"
    _commit(deployment, [Create(path, {**fields, "deletedAt": None})], must_be_new=True)
    return path


def _check_adapter(deployment: Deployment, kind: Kind, group_id: str, fields: Mapping[str, Any]) -> None:
    """Raises Refused when the app's adapter does not read what this form writes, which are the fields of the contract."""
    parsed = parse(kind, fields, deployment.settings.unit)
    if isinstance(parsed, Malformed):
        raise Refused(
            f"The document would be malformed: {parsed.field} {parsed.reason}. If your adapter reads other fields, use JSON."
        )
    if parsed.group_id is None:
        raise Refused("Your adapter takes what this form writes for none of yours: write the document as JSON.")


def form_of(deployment: Deployment, kind: Kind, fields: Mapping[str, Any]) -> Form | None:
    """The form that says the same as a document; None when the form cannot say it."""
    unit, currency = deployment.settings.unit, fields.get("currency")
    if not isinstance(currency, str) or unit.exponent(currency) is None:
        return None

    def text(amount: Any) -> str:
        return stored(amount, currency, unit).split()[0].replace(",", "")

    form: dict[str, list[str]] = {"kind": [str(kind)], "currency": [currency], "amount": [text(fields.get("amount"))]}
    if kind is Kind.SETTLEMENT:
        return {**form, "payerId": [str(fields.get("payerId"))], "payeeId": [str(fields.get("payeeId"))]}
    splits, payer = fields.get("splits"), fields.get("paidBy")
    if not isinstance(payer, str) or not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        return None
    shares = {str(split.get("uid")): split.get("amount") for split in splits}
    if len(shares) < len(splits):
        return None
    filled = {
        **form,
        "paidBy": [payer],
        "description": [str(fields.get("description", ""))],
        "among": list(shares),
        **{f"share:{uid}": [text(amount)] for uid, amount in shares.items()},
    }
    # A share that is no whole number of minor units.
    return None if any("?" in filled[name][0] for name in filled if name.startswith(("share:", "amount"))) else filled


def save_json(deployment: Deployment, path: str, text: str) -> None:
    """Write a document as it is given, malformed or not. Raises Refused."""
    deployment.check_documents()
    check_source(deployment, path)
    _commit(deployment, [Set(path, document(text))])


def remove(deployment: Deployment, path: str) -> None:
    """Delete a document. Raises Refused."""
    deployment.check_documents()
    check_source(deployment, path)
    _commit(deployment, [Delete(path)])


def mark(deployment: Deployment, path: str, *, deleted: bool) -> None:
    """Mark a document as deleted, or restore it. Raises Refused."""
    deployment.check_documents()
    check_source(deployment, path)
    _commit(deployment, [Update(path, {("deletedAt",): datetime.now(UTC) if deleted else None})])


def check_source(deployment: Deployment, path: str) -> None:
    """Raises Refused unless the path is that of an expense or settlement."""
    segments = path.split("/")
    if len(segments) % 2 or not all(map(is_document_id, segments)) or deployment.settings.layout.kind(path) is None:
        raise Refused(f"{path!r} is not the path of an expense or settlement.")


def document(text: str) -> dict[str, Any]:
    """The fields of a document that somebody has pasted: plain JSON, or a document as Firestore's REST API gives it.

    Raises Refused.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Refused(f"This is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise Refused("This is no JSON object.")
    if not isinstance(data.get("fields"), dict) or any(
        key not in ("name", "fields", "createTime", "updateTime") for key in data
    ):
        return data
    message = _Document()
    try:
        json_format.ParseDict({"fields": data["fields"]}, message)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise Refused(f"This is no document of Firestore's REST API: {error}") from None
    return dict(decode_fields(message.fields))


def _expense(form: Form, unit: Unit) -> dict[str, Any]:
    currency = field(form, "currency").upper()
    total_minor = _amount(form, "amount", currency, unit)
    payer = field(form, "paidBy")
    among = list(dict.fromkeys(form.get("among", ())))
    given = {uid: text for uid in among if (text := field(form, f"share:{uid}"))}
    if not payer or not among:
        raise Refused("An expense needs a payer, and at least one member who shares it.")
    shares = {uid: _minor(text, currency, unit) for uid, text in given.items()}
    others = [uid for uid in among if uid not in shares]
    rest_minor = total_minor - sum(shares.values())
    if others:
        if rest_minor < 0:
            raise Refused("The shares are more than the amount.")
        share_minor, left_over = divmod(rest_minor, len(others))
        shares |= {uid: share_minor + (index < left_over) for index, uid in enumerate(others)}
    elif rest_minor:
        raise Refused("The shares do not add up to the amount.")
    fields: dict[str, Any] = {
        "paidBy": payer,
        "amount": _stored(total_minor, currency, unit),
        "currency": currency,
        "splits": [{"uid": uid, "amount": _stored(shares[uid], currency, unit)} for uid in among],
    }
    if description := field(form, "description"):
        fields["description"] = description
    return fields


def _settlement(form: Form, unit: Unit) -> dict[str, Any]:
    currency = field(form, "currency").upper()
    payer, payee = field(form, "payerId"), field(form, "payeeId")
    if not payer or not payee or payer == payee:
        raise Refused("A settlement needs two different members.")
    amount_minor = _amount(form, "amount", currency, unit)
    return {"payerId": payer, "payeeId": payee, "amount": _stored(amount_minor, currency, unit), "currency": currency}


def _amount(form: Form, name: str, currency: str, unit: Unit) -> int:
    amount_minor = _minor(field(form, name), currency, unit)
    if amount_minor <= 0:
        raise Refused("The amount must be more than zero.")
    return amount_minor


def _minor(text: str, currency: str, unit: Unit) -> int:
    exponent = unit.exponent(currency)
    if exponent is None:
        raise Refused(f"{currency!r} is no currency of ISO 4217, nor one of the app's own.")
    try:
        exact = Decimal(text) * 10**exponent
    except InvalidOperation:
        raise Refused(f"{text!r} is no amount; write it like 12.50.") from None
    if not exact.is_finite() or exact != exact.to_integral_value():
        raise Refused(f"{text} {currency} has more decimals than its currency.")
    return int(exact)


def _stored(amount_minor: int, currency: str, unit: Unit) -> int | float:
    return to_stored(amount_minor, scale(currency, unit) or 1)


def _commit(deployment: Deployment, writes: list[Write], *, must_be_new: bool = False) -> None:
    def write() -> None:
        with transaction(deployment.firestore) as attempt:
            (found,) = attempt.get([writes[0].path])
            if must_be_new and found.fields is not None:
                raise Refused(f"There is a document {writes[0].path} already.")
            if isinstance(writes[0], Update) and found.fields is None:
                raise Refused(f"There is no document {writes[0].path} any more.")
            attempt.commit(writes)

    Retry().run(write)


def as_json(fields: Mapping[str, Any]) -> str:
    """A document for the form, as `document` reads it: plain JSON where that can say all, else as the REST API has it."""
    try:
        return json.dumps(fields, indent=2, ensure_ascii=False)
    except TypeError:
        message = _Document()
        encode_fields_into(message.fields, fields)
        return json.dumps({"fields": json_format.MessageToDict(message).get("fields", {})}, indent=2, ensure_ascii=False)
