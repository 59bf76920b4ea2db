"""The households' fields under the names of the contract; replaces balance/adapter.py."""

from collections.abc import Mapping

from balance.database.firestore import Fields

GROUP_ID_FIELD = "groupId"
"""Not used: the household is in the path."""

MEMBERS_FIELD = "people"

DELETED_FIELD = "removedAt"


def expense(fields: Fields) -> Fields:
    """A cost as an expense: the shares are a map there, and so are the payers when there are several."""
    named = _renamed(fields, {"paidBy": "payer", "amount": "cents", "currency": "currencyCode", "deletedAt": "removedAt"})
    if "payers" in fields:
        named["paidBy"] = _listed(fields["payers"])
    if "shares" in fields:
        named["splits"] = _listed(fields["shares"])
    return named


def _listed(cents_by_uid: object) -> object:
    """A map of cents as the contract's list; what is no map goes as it is, so that the parser says so."""
    if not isinstance(cents_by_uid, Mapping):
        return cents_by_uid
    return [{"uid": uid, "amount": cents} for uid, cents in cents_by_uid.items()]


def settlement(fields: Fields) -> Fields:
    """A transfer as a settlement."""
    names = {"payerId": "from", "payeeId": "to", "amount": "cents", "currency": "currencyCode", "deletedAt": "removedAt"}
    return _renamed(fields, names)


def group(fields: Fields) -> Fields:
    """A household as a group."""
    return _renamed(fields, {"members": MEMBERS_FIELD, "deletedAt": DELETED_FIELD})


def _renamed(fields: Fields, names: dict[str, str]) -> dict[str, object]:
    """Only the fields that are there: an absent one is reported as missing."""
    return {ours: fields[theirs] for ours, theirs in names.items() if theirs in fields}
