"""Matching those who owe with those who are owed, in the order of their uids. Pure: integers in, integers out.

Lay what the debtors owe along a line, one after the other in the order of their uids, and below it what the creditors are
owed. Both lines are equally long. Wherever a debtor's stretch lies above a creditor's, the one pays the other that much. So
the transfers depend on the nets alone, at most debtors + creditors - 1 are needed, and paying one of them cuts its piece out
of both lines and leaves the others as they were.

An expense posts its nets like this, and settle-up suggestions match the members of a block.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Transfer(NamedTuple):
    """The debtor pays the creditor this much, in minor units; always positive."""

    debtor: str
    creditor: str
    amount_minor: int


def match_nets(nets: Mapping[str, int]) -> list[Transfer]:
    """The transfers that bring everybody to zero, in the order of debtor and creditor.

    `nets` gives for each uid what the user is owed less what the user owes; they must sum to zero.
    """
    debtors = sorted([uid for uid, net in nets.items() if net < 0])
    creditors = sorted([uid for uid, net in nets.items() if net > 0])
    return match(debtors, [-nets[uid] for uid in debtors], creditors, [nets[uid] for uid in creditors])


def match(debtors: Sequence[str], debts: Sequence[int], creditors: Sequence[str], claims: Sequence[int]) -> list[Transfer]:
    """The same for uids in ascending order and amounts above zero; the sums of debts and claims are equal."""
    transfers: list[Transfer] = []
    next_creditor = zip(creditors, claims, strict=True).__next__
    claim = 0
    creditor = ""
    for debtor, owed in zip(debtors, debts, strict=True):
        debt = owed
        while debt > claim:
            if claim:
                transfers.append(_new(Transfer, (debtor, creditor, claim)))
                debt -= claim
            creditor, claim = next_creditor()
        transfers.append(_new(Transfer, (debtor, creditor, debt)))
        claim -= debt
    return transfers


_new = tuple.__new__  # half the time of calling Transfer, and most of the time of a large group
