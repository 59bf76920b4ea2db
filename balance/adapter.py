"""The one place to edit when an app's documents use other field names than ours.

Each function receives a document's fields as the app wrote them and returns them under the names of the contract:

- expense: `groupId`, `paidBy` (a uid, or a list of `{uid, amount}`), `amount`, `currency`, `splits` (a list of
  `{uid, amount}`), `deletedAt`
- settlement: `groupId`, `payerId`, `payeeId`, `amount`, `currency`, `deletedAt`
- group: `members` (a list of uids, or a map keyed by uid), `deletedAt`

Rename, do not judge: leave a field away when the app's is absent, pass values on as they are; the parser validates all of it
and reports a malformed document. What an adapter raises is a fault of that document, which then is in no balance. For a
document that is none of ours, such as a draft, return None. `deletedAt` is absent, null or false for a live document, a time or
true for a deleted one; everything else is a fault.

What this module means is part of the rules that every balance bears: after a change, and a deployment, all are rebuilt.
"""

from balance.database.firestore import Fields

GROUP_ID_FIELD = "groupId"
"""The field of the app's expenses and settlements that queries filter by, when these are top-level collections."""

MEMBERS_FIELD = "members"
"""The field of the app's groups in which a member's groups are searched."""


DELETED_FIELD = "deletedAt"
"""The field of the app's groups that tells a deleted one; lists of groups read this and the members, nothing else."""


def expense(fields: Fields) -> Fields | None:
    """An expense under the contract's field names."""
    return fields


def settlement(fields: Fields) -> Fields | None:
    """A settlement under the contract's field names."""
    return fields


def group(fields: Fields) -> Fields:
    """A group under the contract's field names."""
    return fields
