"""The households' fields under the names of the contract; replaces balance/adapter.py."""

from collections.abc import Mapping

from balance.database.firestore import Fields

GROUP_ID_FIELD = "groupId"
"""Not used: the household is in the path."""

MEMBERS_FIELD = "people"


def expense(fields: Fields) -> Fields:
    """A cost as an expense: the shares are a map there."""
    named = _renamed(fields, {"paidBy": "payer", "amount": "cents", "currency": "currencyCode", "deletedAt": "removedAt"})
    shares = fields.get("shares")
    if isinstance(shares, Mapping):
        named["splits"] = [{"uid": uid, "amount": cents} for uid, cents in shares.items()]
    elif "shares" in fields:
        named["splits"] = shares  # not a map: the parser says so
    return named


def settlement(fields: Fields) -> Fields:
    """A transfer as a settlement."""
    names = {"payerId": "from", "payeeId": "to", "amount": "cents", "currency": "currencyCode", "deletedAt": "removedAt"}
    return _renamed(fields, names)


def group(fields: Fields) -> Fields:
    """A household as a group."""
    return _renamed(fields, {"members": MEMBERS_FIELD})


def _renamed(fields: Fields, names: dict[str, str]) -> dict[str, object]:
    """Only the fields that are there: an absent one is reported as missing."""
    return {ours: fields[theirs] for ours, theirs in names.items() if theirs in fields}
