"""Settle-up suggestions: from net balances to the transfers that bring everybody to zero. Pure: integers in, integers out.

Theory of operation
-------------------
A *solution* is a set of transfers in which only debtors pay, only creditors receive, and everybody ends at zero. Its
transfers, seen as edges between members, form components; each component is a set of members whose nets sum to zero (a
*block*), and a component of k members needs k - 1 edges. So the fewest transfers are the number of non-zero members less
the largest number of blocks into which they can be partitioned.

*Opposite nets may be cancelled first when counting.* Let a owe exactly what b is owed, and take any partition. If a and b
share a block, {a, b} and the rest of that block are both zero-sum: the partition has no fewer blocks if they part. If they
are in blocks A and B, then {a, b} and A + B - {a, b} are zero-sum too, and as many. So some best partition holds {a, b}.

*The canonical choice.* Transfers are ordered by debtor, creditor, largest amount first. Of the solutions with the fewest
transfers we suggest the one that holds the smallest transfer in which it differs from any other. It can be built transfer
by transfer: the first debtor left pays the first creditor who can share a block with them in some best partition, as much
as either has; paying less would be a later transfer, and paying all never costs a block.

*Stability.* Let T be the suggestion for the nets x, t a transfer of T, and x' the nets once t is paid. T without t solves x'
and no solution of x' is shorter, for with t it would solve x in fewer transfers than T. Were another solution U of x' as
short as T without t and preferred to it, then U with t would solve x, be as short as T (were the pair of t in U, the two
would merge and be shorter) and be preferred to T. So the suggestion for x' is exactly T without t, for every t.
"""

from collections.abc import Mapping
from typing import NamedTuple

EXACT_LIMIT = 14
"""Up to this many non-zero members the suggestions are provably the fewest; above it they are a good heuristic."""


class Transfer(NamedTuple):
    """The debtor pays the creditor this much, in minor units, to settle up; always positive."""

    debtor: str
    creditor: str
    amount_minor: int


def suggest(nets: Mapping[str, int]) -> tuple[Transfer, ...]:
    """The transfers that bring everybody to zero, in order of debtor and creditor.

    `nets` maps each uid to what the user is owed less what the user owes, in minor units of one currency; zeros are
    ignored. The values sum to zero, or AssertionError is raised.
    """
    debtors: list[str] = []
    debts: list[int] = []
    creditors: list[str] = []
    credits_: list[int] = []
    for uid, net_minor in sorted(nets.items()):
        if net_minor > 0:
            creditors.append(uid)
            credits_.append(net_minor)
        elif net_minor:
            debtors.append(uid)
            debts.append(-net_minor)
    total_minor = sum(debts)
    assert total_minor == sum(credits_), f"the nets do not sum to zero: {sum(credits_) - total_minor} minor units are left over"
    if len(debts) + len(credits_) <= EXACT_LIMIT:
        if len(debts) < 2 or len(credits_) < 2 or _is_one_block(debts, credits_):
            return _match(debtors, debts, creditors, credits_)
        return _fewest(debtors, debts, creditors, credits_)
    return _short(debtors, debts, creditors, credits_)


def _match(debtors: list[str], debts: list[int], creditors: list[str], credits_: list[int]) -> tuple[Transfer, ...]:
    """Debtors pay creditors in order along their cumulative sums: the best that one block can do."""
    transfers = []
    creditor = iter(zip(creditors, credits_, strict=True))
    credit = 0
    payee = ""
    for debtor, owed in zip(debtors, debts, strict=True):
        debt = owed
        while debt:
            if not credit:
                payee, credit = next(creditor)
            paid = debt if debt < credit else credit
            transfers.append(Transfer(debtor, payee, paid))
            debt -= paid
            credit -= paid
    return tuple(transfers)


def _subset_sums(amounts: list[int]) -> list[int]:
    """The sum of every subset: that of the subset with bits m is at index m."""
    sums = [0]
    for amount in amounts:
        sums += [total + amount for total in sums]
    return sums


def _is_one_block(debts: list[int], credits_: list[int]) -> bool:
    """Whether no proper subset sums to zero. Of a subset and its complement one leaves out the first creditor."""
    debt_sums = _subset_sums(debts)
    credit_sums = _subset_sums(credits_[1:])
    debt_sums[0] = -1  # the empty subset
    return set(debt_sums).isdisjoint(credit_sums)


class _Multisets:
    """Counts blocks. Members with equal nets are interchangeable in a count, so sets of them become multisets of nets.

    A multiset is one integer with a field of five bits per distinct net, debtors' first, and its size in a field above
    them. The highest bit of each field is spare, so one subtraction compares all fields of two multisets.
    """

    def __init__(self, debts: list[int], credits_: list[int]) -> None:
        unit = 1
        units = []
        for amounts in (debts, credits_):
            units.append(unit_of := {})
            for amount in amounts:
                if amount not in unit_of:
                    unit_of[amount] = unit + _SIZE_ONE
                    unit <<= _FIELD
        self.debtor_units = [units[0][amount] for amount in debts]
        self.creditor_units = [units[1][amount] for amount in credits_]
        self.everybody = sum(self.debtor_units) + sum(self.creditor_units)
        self.pairs = [one + units[1][amount] for amount, one in units[0].items() if amount in units[1]]
        multisets = _sub_multisets(debts, units[0])
        totals = {multiset >> _TOTAL_AT for multiset in multisets}
        totals.discard(0)
        by_total: dict[int, list[int]] = {}
        for other in _sub_multisets(credits_, units[1]):
            if (total := other >> _TOTAL_AT) in totals:
                by_total.setdefault(total, []).append(other & _MULTISET)
        self.blocks = [
            (multiset & _MULTISET, other)
            for multiset in multisets
            if (total := multiset >> _TOTAL_AT) in by_total
            for other in by_total[total]
        ]
        self.by_lowest: dict[int, list[int]] = {}
        for multiset, other in self.blocks:
            self.by_lowest.setdefault(_lowest(multiset), []).append(multiset + other)
        for blocks in self.by_lowest.values():
            blocks.sort()  # the smallest first: their size is on top
        self._most = {0: 0}

    def most(self, members: int) -> int:
        """The largest number of blocks into which members whose nets sum to zero can be partitioned."""
        known = self._most.get(members)
        if known is not None:
            return known
        spare = members | _SPARE
        for pair in self.pairs:
            if spare - pair & _SPARE == _SPARE:
                best = 1 + self.most(members - pair)
                break
        else:  # every block has three members at least
            best = 1
            size = members >> _SIZE_AT
            for block in self.by_lowest[_lowest(members)]:
                if (size - (block >> _SIZE_AT)) // 3 < best:
                    break
                if spare - block & _SPARE == _SPARE:
                    best = max(best, 1 + self.most(members - block))
        self._most[members] = best
        return best

    def useful_blocks(self) -> list[list[int]]:
        """The sets of members that are blocks of a partition into the most blocks, by their first member.

        A set is a bit mask: debtors hold the low bits, creditors the next.
        """
        number = self.most(self.everybody)
        largest = (self.everybody >> _SIZE_AT) - 2 * (number - 1)
        others_of: dict[int, list[int]] = {}
        for multiset, other in self.blocks:
            block = multiset + other
            if block >> _SIZE_AT <= largest and self.most(self.everybody - block) == number - 1:
                others_of.setdefault(multiset, []).append(other)
        creditor_sets: dict[int, list[int]] = {other: [] for others in others_of.values() for other in others}
        for members, other in enumerate(_subset_sums(self.creditor_units)):
            if other in creditor_sets:
                creditor_sets[other].append(members << len(self.debtor_units))
        useful: list[list[int]] = [[] for _ in self.debtor_units]
        for members, multiset in enumerate(_subset_sums(self.debtor_units)):
            if multiset in others_of:
                first = useful[(members & -members).bit_length() - 1]
                for other in others_of[multiset]:
                    first += [members | creditors for creditors in creditor_sets[other]]
        return useful


_FIELD = 5
_SIZE_AT = _FIELD * EXACT_LIMIT
_SIZE_ONE = 1 << _SIZE_AT
_TOTAL_AT = _SIZE_AT + _FIELD
_MULTISET = (1 << _TOTAL_AT) - 1
_SPARE = sum(1 << _FIELD * i + _FIELD - 1 for i in range(EXACT_LIMIT))


def _lowest(multiset: int) -> int:
    """The index of the first field in use."""
    return ((multiset & -multiset).bit_length() - 1) // _FIELD


def _sub_multisets(amounts: list[int], unit_of: dict[int, int]) -> list[int]:
    """Every multiset of these amounts, with its total above the other fields."""
    found = [0]
    for amount, unit in unit_of.items():
        one = (amount << _TOTAL_AT) + unit
        found += [multiset + many for many in range(one, amounts.count(amount) * one + 1, one) for multiset in found]
    return found


class _Search:
    """Finds partitions into the most blocks, among those that keep the chosen members together."""

    def __init__(self, useful: list[list[int]]) -> None:
        self.by_first = useful
        self.failed: set[tuple[int, int]] = set()

    def keep_together(self, members: int) -> None:
        """Only blocks with all of these members or with none of them are allowed from now on."""
        self.failed.clear()
        self.by_first = [
            [block for block in blocks if (kept := block & members) == members or not kept] for blocks in self.by_first
        ]

    def partition(self, members: int, number: int) -> list[int] | None:
        """A partition of the members into this number of allowed blocks, if there is any."""
        if not number:
            return None if members else []
        if members.bit_count() < 2 * number or (members, number) in self.failed:
            return None
        for block in self.by_first[(members & -members).bit_length() - 1]:
            if block & members == block:
                rest = self.partition(members ^ block, number - 1)
                if rest is not None:
                    rest.append(block)
                    return rest
        self.failed.add((members, number))
        return None

    def partition_joining(self, joined: int, members: int, number: int) -> list[int] | None:
        """The same, with one block that holds all of the joined members."""
        for blocks in self.by_first[: (joined & -joined).bit_length()]:
            for block in blocks:
                if block & joined == joined and block & members == block:
                    rest = self.partition(members ^ block, number - 1)
                    if rest is not None:
                        rest.append(block)
                        return rest
        return None


def _fewest(debtors: list[str], debts: list[int], creditors: list[str], credits_: list[int]) -> tuple[Transfer, ...]:
    """The canonical solution with the fewest transfers."""
    multisets = _Multisets(debts, credits_)
    number = multisets.most(multisets.everybody)
    if number == 1:
        return _match(debtors, debts, creditors, credits_)
    search = _Search(multisets.useful_blocks())
    left = (1 << (len(debts) + len(credits_))) - 1
    partition = search.partition(left, number)
    assert partition is not None
    debtor_bits = [1 << i for i in range(len(debts))]
    creditor_bits = [1 << (len(debts) + j) for j in range(len(credits_))]
    transfers = []
    credits_ = credits_[:]
    for i, debt in enumerate(debts):
        while debt:
            own = next(block for block in partition if block & (1 << i))
            for j, credit in enumerate(credits_):
                if not credit:
                    continue
                joined = debtor_bits[i] | creditor_bits[j]
                if joined & own == joined:
                    break
                better = search.partition_joining(joined, left, number)
                if better is not None:
                    partition = better
                    break
            paid = min(debt, credits_[j])
            debt -= paid
            credits_[j] -= paid
            transfers.append(Transfer(debtors[i], creditors[j], paid))
            if not debt and not credits_[j]:
                partition = [block for block in partition if not block & joined]
                left &= ~joined
                number -= 1
            else:
                debtor_bits[i] = creditor_bits[j] = joined
                search.keep_together(joined)
    return tuple(transfers)


def _short(debtors: list[str], debts: list[int], creditors: list[str], credits_: list[int]) -> tuple[Transfer, ...]:
    """A short solution for any number of members: opposite nets cancel, the others are matched in order."""
    transfers = []
    waiting: dict[int, list[int]] = {}
    for j in reversed(range(len(credits_))):
        waiting.setdefault(credits_[j], []).append(j)
    debtors_left = []
    debts_left = []
    paired = set()
    for debtor, debt in zip(debtors, debts, strict=True):
        candidates = waiting.get(debt)
        if candidates:
            j = candidates.pop()
            paired.add(j)
            transfers.append(Transfer(debtor, creditors[j], debt))
        else:
            debtors_left.append(debtor)
            debts_left.append(debt)
    creditors_left = [creditor for j, creditor in enumerate(creditors) if j not in paired]
    credits_left = [credit for j, credit in enumerate(credits_) if j not in paired]
    transfers += _match(debtors_left, debts_left, creditors_left, credits_left)
    return tuple(sorted(transfers))
