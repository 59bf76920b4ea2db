"""Settle-up suggestions: from net balances to the transfers that bring everybody to zero. Pure: integers in, integers out.

Theory of operation
-------------------
A *solution* is a set of transfers in which only debtors pay, only creditors receive and everybody ends at zero. Its
transfers join members into components; each is a set of members whose nets sum to zero (a *block*), and k members need
k - 1 transfers to be joined. So the fewest transfers are the number of members who are not at zero, less the largest number
of blocks into which they can be partitioned.

*Counting, opposite nets may be cancelled first.* Let a owe exactly what b is owed, and take any partition. If a and b share
a block, it is {a, b}, or it can be split into {a, b} and its rest, which sums to zero too. If they lie in two blocks A and B,
then {a, b} and the rest of A and B together are two blocks as well. So some partition into the most blocks holds {a, b}.

*The canonical choice.* Transfers are ordered by debtor, then creditor, then largest amount first. Of all solutions with the
fewest transfers we suggest the one that holds the first transfer in which it differs from any other. It is built transfer
by transfer: the first debtor left pays the first creditor left who shares a block with them in some partition into the most
blocks, and pays as much as both allow: less would come later in the order, and so much never costs a block. Inside a block
this is the matching of debtors and creditors along their cumulative sums.

*Stability.* Let T be the suggestion for the nets x, t a transfer in T, and y the nets once t is paid. T without t solves y,
and no solution of y is shorter: together with t it would solve x in fewer transfers than T. Suppose that another solution
U of y were as short as T without t, and preferred to it. U with t solves x and is as short as T (would U hold a transfer
between the same two, it and t could be merged, and x be solved in fewer). It differs from T exactly where U differs from T
without t, so it would be preferred to T, which is the preferred one. Hence the suggestion for y is T without t, whichever
suggestion t is paid, and the others stay exactly as they were.

Above EXACT_LIMIT members, opposite nets are cancelled. When no more than EXACT_LIMIT are left, the cancelled pairs and the
canonical solution of the rest are the fewest transfers, too. So each payment makes the list shorter, though it may change other
suggestions: when what is left of a member is the opposite of somebody's net.

Otherwise members are matched along their cumulative sums while there is no sign of anything shorter; that is stable. Where
there is one, the shortest of three simple solutions is taken; then a payment may change the others, or leave as many (ADR 5).
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate

from balance.core.matching import Transfer, match

EXACT_LIMIT = 16
"""Up to this many members who are neither at zero nor cancelled by an opposite net, the suggestions are provably the fewest."""


def suggest(nets: Mapping[str, int]) -> tuple[Transfer, ...]:
    """The transfers that bring everybody to zero, in the order of debtor and creditor.

    `nets` gives for each uid what the user is owed less what the user owes, in minor units of one currency. Zeros are
    ignored. Raises AssertionError unless they sum to zero.
    """
    debtors = sorted([uid for uid, net in nets.items() if net < 0])
    creditors = sorted([uid for uid, net in nets.items() if net > 0])
    debts = [-nets[uid] for uid in debtors]
    claims = [nets[uid] for uid in creditors]
    left_over_minor = sum(claims) - sum(debts)
    assert not left_over_minor, f"nets must sum to zero, these sum to {left_over_minor} minor units"
    if len(debts) + len(claims) <= EXACT_LIMIT:
        return _exact(debtors, debts, creditors, claims)
    opposite = [] if set(debts).isdisjoint(claims) else _opposite(debts, claims)
    if len(debts) + len(claims) - 2 * len(opposite) > EXACT_LIMIT:
        return _short(debtors, debts, creditors, claims)
    cancelled = [Transfer(debtors[i], creditors[j], debts[i]) for i, j in opposite]
    owing = sorted(set(range(len(debts))).difference([i for i, _ in opposite]))
    owed = sorted(set(range(len(claims))).difference([j for _, j in opposite]))
    rest = _exact(
        [debtors[i] for i in owing], [debts[i] for i in owing], [creditors[j] for j in owed], [claims[j] for j in owed]
    )
    return tuple(sorted([*cancelled, *rest]))


# ---------------------------------------------------------------------------------------------- exact, up to EXACT_LIMIT


def _exact(debtors: list[str], debts: list[int], creditors: list[str], claims: list[int]) -> tuple[Transfer, ...]:
    """The canonical solution with the fewest transfers, for at most EXACT_LIMIT members."""
    if len(debts) < 2 or len(claims) < 2 or _is_one_block(debts, claims):
        return tuple(match(debtors, debts, creditors, claims))
    return _fewest(debtors, debts, creditors, claims)


def _opposite(debts: list[int], claims: list[int]) -> list[tuple[int, int]]:
    """Debtors and creditors with opposite nets, by their indexes; of more than can be cancelled, the first ones."""
    waiting = _holders(claims, 0)
    return [(i, waiting[debt].pop()) for i, debt in enumerate(debts) if waiting.get(debt)]


def _is_one_block(debts: list[int], claims: list[int]) -> bool:
    """Whether no proper subset of these members sums to zero: a quick answer for most groups."""
    few, many = (debts, claims) if len(debts) < len(claims) else (claims, debts)
    # Two halves, so that neither has many subsets: some of the many go over, with the other sign.
    moved = (len(many) - len(few)) // 2
    half = few + [-amount for amount in many[:moved]]
    # A zero-sum subset and its complement come together; one of them leaves out the first of the other half.
    return set(_subset_sums(half)[1:]).isdisjoint(_subset_sums(many[moved + 1 :]))


def _subset_sums(amounts: Iterable[int]) -> list[int]:
    """The sum of every subset; that of the subset with the bits m stands at index m."""
    sums = [0]
    for amount in amounts:
        sums += [total + amount for total in sums]
    return sums


def _fewest(debtors: list[str], debts: list[int], creditors: list[str], claims: list[int]) -> tuple[Transfer, ...]:
    """The canonical solution of members who are more than one block, built as the theory says."""
    blocks = _Blocks(debts, claims)
    search = _PartitionSearch(blocks.useful())
    number = blocks.most(blocks.everybody)
    left = (1 << len(debts) + len(claims)) - 1
    partition = search.partition(left, number)
    # Who has to share a block with each of the members, themselves included.
    debtor_joined = [1 << i for i in range(len(debts))]
    creditor_joined = [1 << len(debts) + j for j in range(len(claims))]
    claims = claims.copy()
    transfers = []
    for i, owed in enumerate(debts):
        debt = owed
        while debt:
            assert partition is not None
            own_block = next(block for block in partition if block >> i & 1)
            for j, claim in enumerate(claims):
                if not claim:
                    continue
                joined = debtor_joined[i] | creditor_joined[j]
                if joined & own_block == joined:
                    break
                other_partition = search.partition_joining(joined, left, number)
                if other_partition is not None:
                    partition = other_partition
                    break
            paid = min(debt, claims[j])
            transfers.append(Transfer(debtors[i], creditors[j], paid))
            debt -= paid
            claims[j] -= paid
            if debt or claims[j]:
                debtor_joined[i] = creditor_joined[j] = joined
                search.keep_together(joined)
            else:
                partition = [block for block in partition if block != joined]
                left ^= joined
                number -= 1
    return tuple(transfers)


_FIELD = 5  # bits: how many have one net is less than EXACT_LIMIT; and a spare one
_SIZE_AT = _FIELD * EXACT_LIMIT
_TOTAL_AT = _SIZE_AT + _FIELD
_MULTISET = (1 << _TOTAL_AT) - 1
_SPARE = sum(1 << at + _FIELD - 1 for at in range(0, _SIZE_AT, _FIELD))


class _Blocks:
    """Counts blocks and finds those that matter, for at most EXACT_LIMIT members.

    Members with equal nets are interchangeable in a count, so a set of members is counted as a multiset of nets. That is one
    integer: a field for each distinct net, debts first, with how many there are; then a field with the multiset's size; while
    multisets are being matched, above it all, their total. The highest bit of each net's field is spare: with it set in the
    minuend, one subtraction compares the fields of all nets of two multisets.
    """

    def __init__(self, debts: list[int], claims: list[int]) -> None:
        one = 1
        unit_of: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for units, amounts in zip(unit_of, (debts, claims), strict=True):
            for amount in amounts:
                if amount not in units:
                    units[amount] = (1 << _SIZE_AT) + one
                    one <<= _FIELD
        debt_units, claim_units = unit_of
        self.debtors = [debt_units[debt] for debt in debts]
        self.creditors = [claim_units[claim] for claim in claims]
        self.everybody = sum(self.debtors) + sum(self.creditors)
        self.pairs = [unit + claim_units[debt] for debt, unit in debt_units.items() if debt in claim_units]
        owing = _sub_multisets(debts, debt_units)
        totals = {multiset >> _TOTAL_AT for multiset in owing[1:]}
        owed_by_total: dict[int, list[int]] = {}
        for multiset in _sub_multisets(claims, claim_units):
            if (total := multiset >> _TOTAL_AT) in totals:
                owed_by_total.setdefault(total, []).append(multiset & _MULTISET)
        self.blocks = [
            (multiset & _MULTISET, owed)
            for multiset in owing
            if (total := multiset >> _TOTAL_AT) in owed_by_total
            for owed in owed_by_total[total]
        ]
        self.by_lowest: dict[int, list[int]] = {}
        for multiset, owed in self.blocks:
            self.by_lowest.setdefault(_lowest(multiset), []).append(multiset + owed)
        for blocks in self.by_lowest.values():
            blocks.sort()  # the smallest first, as the size is the highest field
        self.most_known = {0: 0}

    def most(self, members: int) -> int:
        """The largest number of blocks into which a multiset with the total zero can be partitioned."""
        known = self.most_known.get(members)
        if known is not None:
            return known
        minuend = members | _SPARE
        for pair in self.pairs:
            if minuend - pair & _SPARE == _SPARE:
                most = 1 + self.most(members - pair)
                break
        else:  # Without opposite nets a block has three members at least.
            most = 1
            size = members >> _SIZE_AT
            for block in self.by_lowest[_lowest(members)]:
                if (size - (block >> _SIZE_AT)) // 3 < most:
                    break
                if minuend - block & _SPARE == _SPARE:
                    most = max(most, 1 + self.most(members - block))
        self.most_known[members] = most
        return most

    def useful(self) -> list[list[int]]:
        """The sets of members that are a block in some partition into the most blocks, by their first member.

        A set is a bit mask: debtors have the low bits, creditors the next.
        """
        number = self.most(self.everybody)
        largest = (self.everybody >> _SIZE_AT) - 2 * (number - 1)
        owed_of: dict[int, list[int]] = {}
        for multiset, owed in self.blocks:
            block = multiset + owed
            if block >> _SIZE_AT <= largest and self.most(self.everybody - block) == number - 1:
                owed_of.setdefault(multiset, []).append(owed)
        creditor_sets: dict[int, list[int]] = {owed: [] for alternatives in owed_of.values() for owed in alternatives}
        for members, owed in enumerate(_subset_sums(self.creditors)):
            if owed in creditor_sets:
                creditor_sets[owed].append(members << len(self.debtors))
        useful: list[list[int]] = [[] for _ in self.debtors]
        for members, multiset in enumerate(_subset_sums(self.debtors)):
            if multiset in owed_of:
                first = useful[(members & -members).bit_length() - 1]
                for owed in owed_of[multiset]:
                    first += [members | creditors for creditors in creditor_sets[owed]]
        return useful


def _sub_multisets(amounts: list[int], units: Mapping[int, int]) -> list[int]:
    """Every multiset of these amounts with its total, the empty one first."""
    multisets = [0]
    for amount, unit in units.items():
        one = (amount << _TOTAL_AT) + unit
        multisets += [multiset + some for some in range(one, amounts.count(amount) * one + 1, one) for multiset in multisets]
    return multisets


def _lowest(multiset: int) -> int:
    """The index of the first field in use."""
    return ((multiset & -multiset).bit_length() - 1) // _FIELD


class _PartitionSearch:
    """Finds partitions of sets of members, as bit masks, into allowed blocks."""

    def __init__(self, blocks_by_first: list[list[int]]) -> None:
        self.blocks_by_first = blocks_by_first
        self.impossible: set[tuple[int, int]] = set()

    def keep_together(self, joined: int) -> None:
        """From now on only blocks that hold all of these members or none of them are allowed; what is impossible remains so."""
        self.blocks_by_first = [
            [block for block in blocks if (held := block & joined) == joined or not held] for blocks in self.blocks_by_first
        ]

    def partition(self, members: int, number: int) -> list[int] | None:
        """A partition of the members into so many allowed blocks, if there is one."""
        if not number:
            return None if members else []
        if members.bit_count() < 2 * number or (members, number) in self.impossible:
            return None
        for block in self.blocks_by_first[(members & -members).bit_length() - 1]:
            if block & members == block:
                others = self.partition(members ^ block, number - 1)
                if others is not None:
                    return [block, *others]
        self.impossible.add((members, number))
        return None

    def partition_joining(self, joined: int, members: int, number: int) -> list[int] | None:
        """Such a partition in which one block holds all of the joined members."""
        for blocks in self.blocks_by_first[: (joined & -joined).bit_length()]:
            for block in blocks:
                if block & joined == joined and block & members == block:
                    others = self.partition(members ^ block, number - 1)
                    if others is not None:
                        return [block, *others]
        return None


# ------------------------------------------------------------------------------------------- heuristic, above EXACT_LIMIT


def _short(debtors: list[str], debts: list[int], creditors: list[str], claims: list[int]) -> tuple[Transfer, ...]:
    """A short solution for any number of members; never longer than letting the largest debtor pay the largest creditor."""
    members = len(debts) + len(claims)
    largest_first_count = _count_largest_first(debts, claims)
    if largest_first_count == members - 1 and set(debts).isdisjoint(claims):
        return tuple(match(debtors, debts, creditors, claims))  # no sign of blocks
    shortest = _largest_first(debts, claims, look_ahead=True)
    if len(shortest) > largest_first_count:
        shortest = _largest_first(debts, claims, look_ahead=False)
    # Matched in order, a block ends wherever the debts and the claims so far are equal.
    blocks_in_order = len(set(accumulate(debts)).intersection(accumulate(claims)))
    if members - blocks_in_order <= len(shortest):
        return tuple(match(debtors, debts, creditors, claims))
    uids = debtors + creditors
    by_debtor = sorted([(one, other, paid) if one < other else (other, one, paid) for one, other, paid in shortest])
    return tuple([Transfer(uids[debtor], uids[creditor], paid) for debtor, creditor, paid in by_debtor])


def _count_largest_first(debts: list[int], claims: list[int]) -> int:
    """How many transfers it takes when the largest debtor left always pays the largest creditor left."""
    debts = sorted(debts)
    claims = sorted(claims)
    count = 0
    while debts:
        debt = debts.pop()
        claim = claims.pop()
        if debt > claim:
            insort(debts, debt - claim)
        elif claim > debt:
            insort(claims, claim - debt)
        count += 1
    return count


def _largest_first(debts: list[int], claims: list[int], look_ahead: bool) -> list[tuple[int, int, int]]:
    """The member with the most left settles with the largest on the other side, until nobody is left.

    With look-ahead, opposite nets cancel first, and whoever is next settles with one or two members that come out exactly,
    if there are any. Returns transfers as (one member, the other, amount); creditors are numbered after debtors.
    """
    transfers: list[tuple[int, int, int]] = []
    owing, owed = _holders(debts, 0), _holders(claims, len(debts))
    if look_ahead:
        for amount in owing.keys() & owed.keys():
            debtors, creditors = owing[amount], owed[amount]
            while debtors and creditors:
                transfers.append((debtors.pop(), creditors.pop(), amount))
    debts, claims = (sorted([amount for amount, held in side.items() for _ in held]) for side in (owing, owed))
    while debts:
        if debts[-1] >= claims[-1]:
            amounts, holders, other_amounts, other_holders = debts, owing, claims, owed
        else:
            amounts, holders, other_amounts, other_holders = claims, owed, debts, owing
        amount = amounts.pop()
        member = holders[amount].pop()
        if look_ahead and amount != other_amounts[-1]:
            halves = bisect_left(other_amounts, (amount + 1) // 2)
            for part in [part for part in other_amounts[halves:] if amount - part in other_holders]:
                rest = amount - part
                if len(other_holders[rest]) > (rest == part):
                    other_amounts.remove(part)
                    other_amounts.remove(rest)
                    transfers.append((member, other_holders[part].pop(), part))
                    transfers.append((member, other_holders[rest].pop(), rest))
                    amount = 0
                    break
        if amount:
            part = other_amounts.pop()
            transfers.append((member, other_holders[part].pop(), part))
            if amount > part:
                amount -= part
                insort(amounts, amount)
                holders[amount].append(member)
    return transfers


def _holders(amounts: list[int], first: int) -> defaultdict[int, list[int]]:
    """The numbers of the members who hold each amount, last come first."""
    holders = defaultdict(list)
    for index in range(len(amounts) - 1, -1, -1):
        holders[amounts[index]].append(first + index)
    return holders
