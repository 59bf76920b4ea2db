"""Settle-up suggestions settle, are the fewest, are the preferred ones of the fewest, and stay while others are paid.

The oracles know nothing of blocks or partitions, by which the product finds its answer: they try all ways to settle up in
which somebody always pays, or gets, all that is left of them. Any shortest solution can be put in such an order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import permutations, product
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from balance.core.matching import Transfer
from balance.core.simplify import EXACT_LIMIT, suggest

Payment = tuple[int, int, int]
"""Debtor and creditor by number, and the amount, negative: in the order in which solutions are preferred."""

LARGEST_TOTAL_MINOR = 10**15

HARD_GROUPS: list[tuple[int, ...]] = [
    # A block found first leaves more blocks than one found later.
    (-3, 4, 4, 2, 2, 2, -3, 1, 4, -7, 4, -7, 4, -7),
    (4, 7, 7, 7, 6, -5, 6, -5, -3, -41, -2, 6, 9, 4),
    (-7, -22, 34, -32, 29, 27, 45, -150, 13, 44, -6, -19, 17, 27),
    (5000, -6000, 8500, 10000, -42500, 3500, 7500, 2500, 10000, -9000, 6500, 7000, -3000),
    # What took longest of all that hill climbing came upon.
    (-3, -14, -13, -4, -12, -15, 61, -7, -5, -2, -11, -8, 34, -1),
    (-259, -23264, -263, -31616, -4055, 94771, -6577, -8875, -8415, -258, 33676, -6572, -24119, -14174),
    (-7, 4, -5, 2, 2, 2, 2, -7, 4, 2, -7, 2, 4, 2),
    (-1, 1, 1, 1, 1, -1, -1, -1, -1, -1, 1, -1, 1, 1),
    (2000, -1000, 10000, 2500, 7500, -10000, -3000, -8000, 1500, 500, -500, -5000, -6000, 7000, -7000, 9500),
    (13, -4, -9, -9, 38, -1, -5, -4, -1, -1, -3, -2, -1, -5, -3, -3),
    (-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 7, 7),  # the most that can have one net
]
"""Up to EXACT_LIMIT members, in few or very many blocks."""


def uid(number: int) -> str:
    return f"user-{number:03}"


def by_uid(nets: tuple[int, ...]) -> dict[str, int]:
    return {uid(number): net for number, net in enumerate(nets)}


def paid(nets: Mapping[str, int], transfer: Transfer) -> dict[str, int]:
    """The nets once the transfer is recorded as a settlement."""
    debtor, creditor, amount_minor = transfer
    return {**nets, debtor: nets[debtor] + amount_minor, creditor: nets[creditor] - amount_minor}


def members_not_at_zero(nets: Mapping[str, int]) -> int:
    return sum(1 for net in nets.values() if net)


def settled(nets: tuple[int, ...]) -> Iterator[tuple[Payment, tuple[int, ...]]]:
    """Each payment between a debtor and a creditor that brings one of them to zero, and the nets after it."""
    for debtor, creditor in permutations(range(len(nets)), 2):
        if nets[debtor] < 0 < nets[creditor]:
            amount = min(-nets[debtor], nets[creditor])
            after = list(nets)
            after[debtor] += amount
            after[creditor] -= amount
            yield (debtor, creditor, -amount), tuple(after)


@cache
def preferred(nets: tuple[int, ...]) -> tuple[Payment, ...]:
    """The solution with the fewest transfers; of several, the one that has the first transfer in which they differ."""
    if not any(nets):
        return ()
    solutions = [tuple(sorted((payment, *preferred(after)))) for payment, after in settled(nets)]
    return min(solutions, key=lambda solution: (len(solution), solution))


@cache
def fewest(nets: tuple[int, ...]) -> int:
    """How many transfers it takes: somebody settles all of their own with one other; `nets` ascend, without zeros."""
    if not nets:
        return 0
    first, rest = nets[0], nets[1:]
    counts = []
    for at, other in enumerate(rest):
        if other > 0:
            left = [first + other, *rest[:at], *rest[at + 1 :]]
            counts.append(1 + fewest(tuple(sorted(net for net in left if net))))
    return min(counts)


def largest_first(nets: Mapping[str, int]) -> int:
    """How many transfers it takes when the largest debtor always pays the largest creditor."""
    amounts = [net for net in nets.values() if net]
    count = 0
    while amounts:
        debt, claim = min(amounts), max(amounts)
        amounts.remove(debt)
        amounts.remove(claim)
        if debt + claim:
            amounts.append(debt + claim)
        count += 1
    return count


def random_nets(random: Random, members: int) -> tuple[int, ...]:
    """Nets with many blocks or few: small ones, round ones, those of a few kinds, those that expenses leave, any."""
    kind = random.randrange(5)
    nets = [0] * members
    if kind == 0:
        for _ in range(random.randint(1, 2 * members)):
            sharing = random.sample(range(members), random.randint(2, min(6, members)))
            for number in sharing[1:]:
                nets[number] -= 60
                nets[sharing[0]] += 60
        return tuple(nets)
    amounts = {
        1: list(range(1, random.choice([2, 3, 5, 9, 15]))),
        2: [500 * many for many in range(1, 21)],
        3: random.sample(range(1, 12), 4),
        4: list(range(1, 10_000)),
    }[kind]
    if kind == 3:  # nobody has an opposite
        choices = [amount * random.choice([-1, 1]) for amount in amounts]
    else:
        choices = amounts + [-amount for amount in amounts]
    nets = random.choices(choices, k=members)
    while excess := sum(nets):  # spread what is missing, so that no member stands out
        number = random.randrange(members)
        step = min(abs(excess), random.choice(amounts))
        nets[number] -= step if excess > 0 else -step
    return tuple(nets)


def nets_of(members: st.SearchStrategy[int], largest: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Nets that sum to zero, zeros among them."""

    def closed(nets: list[int]) -> tuple[int, ...]:
        return (*nets, -sum(nets))

    amounts = st.integers(-largest, largest)
    return members.flatmap(lambda count: st.lists(amounts, min_size=count - 1, max_size=count - 1)).map(closed)


any_nets = st.one_of(
    nets_of(st.integers(1, 40), 5),
    nets_of(st.integers(1, 40), 1000),
    nets_of(st.integers(1, 40), LARGEST_TOTAL_MINOR),
    st.builds(random_nets, st.randoms(use_true_random=False), st.integers(2, 60)),
)


@given(nets=any_nets)
@settings(deadline=None, max_examples=150)
def test_suggestions_settle_the_group_and_only_debtors_pay(nets: tuple[int, ...]) -> None:
    left = by_uid(nets)
    suggestions = suggest(left)
    for transfer in suggestions:
        assert transfer.amount_minor > 0
        assert left[transfer.debtor] <= -transfer.amount_minor, "a debtor pays more than they owe"
        assert left[transfer.creditor] >= transfer.amount_minor, "a creditor gets more than they are owed"
        left = paid(left, transfer)
    assert not any(left.values())
    assert list(suggestions) == sorted(suggestions)
    assert len({(transfer.debtor, transfer.creditor) for transfer in suggestions}) == len(suggestions)
    assert len(suggestions) <= max(members_not_at_zero(by_uid(nets)) - 1, 0)


@given(nets=any_nets, random=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_suggestions_depend_on_the_nets_alone(nets: tuple[int, ...], random: Random) -> None:
    group = by_uid(nets)
    suggestions = suggest(group)
    shuffled = list(group.items())
    random.shuffle(shuffled)
    assert suggest(dict(shuffled)) == suggestions, "the order of the members matters"
    assert suggest({number: net for number, net in group.items() if net}) == suggestions, "members at zero matter"

    renamed = {uid(number): f"{number:03}" + random.choice(["", "é", "/x", "😀"]) for number in range(len(nets))}
    assert suggest({renamed[number]: net for number, net in group.items()}) == tuple(
        Transfer(renamed[debtor], renamed[creditor], amount_minor) for debtor, creditor, amount_minor in suggestions
    ), "the names matter, and not only their order"

    assert suggest({number: net * 10 for number, net in group.items()}) == tuple(
        Transfer(debtor, creditor, amount_minor * 10) for debtor, creditor, amount_minor in suggestions
    ), "the unit matters"


@given(
    nets=st.one_of(nets_of(st.integers(2, 8), 6), st.builds(random_nets, st.randoms(use_true_random=False), st.integers(2, 8)))
)
@settings(deadline=None, max_examples=150)
def test_suggestions_are_the_fewest(nets: tuple[int, ...]) -> None:
    assert len(suggest(by_uid(nets))) == fewest(tuple(sorted(net for net in nets if net)))


@given(nets=nets_of(st.integers(2, 6), 6))
@settings(deadline=None, max_examples=100)
def test_suggestions_are_the_preferred_ones_of_the_fewest(nets: tuple[int, ...]) -> None:
    assert suggest(by_uid(nets)) == tuple(
        Transfer(uid(debtor), uid(creditor), -amount) for debtor, creditor, amount in preferred(nets)
    )


@pytest.mark.parametrize(("members", "largest"), [(2, 4), (3, 4), (4, 4), (5, 2)])
def test_suggestions_of_every_small_group_are_the_preferred_ones(members: int, largest: int) -> None:
    groups = 0
    for nets in product(range(-largest, largest + 1), repeat=members):
        if not sum(nets):
            expected = tuple(Transfer(uid(debtor), uid(creditor), -amount) for debtor, creditor, amount in preferred(nets))
            assert suggest(by_uid(nets)) == expected, nets
            groups += 1
    assert groups > members


def most_blocks(nets: tuple[int, ...]) -> int:
    """The same for up to 16 members, where trying everything takes too long: by sets of members, growing one by one."""
    totals, most = [0], [0]
    for members in range(1, 1 << len(nets)):
        lowest = members & -members
        totals.append(totals[members ^ lowest] + nets[lowest.bit_length() - 1])
        fewer = [most[members ^ (1 << number)] for number in range(len(nets)) if members >> number & 1]
        most.append(max(fewer) + (totals[members] == 0))
    return most[-1]


@pytest.mark.parametrize("seed", range(4))
def test_suggestions_of_the_largest_exact_groups_are_the_fewest(seed: int) -> None:
    random = Random(seed)
    groups = [random_nets(random, random.randint(10, EXACT_LIMIT)) for _ in range(12)] + HARD_GROUPS[seed::4]
    for nets in groups:
        members = tuple(net for net in nets if net)
        assert len(suggest(by_uid(nets))) == len(members) - most_blocks(members), nets


@pytest.mark.parametrize("blocks", [2, 3, 4, 5])
def test_the_largest_exact_groups_fall_apart_into_the_blocks_they_were_made_of(blocks: int) -> None:
    """Brute force cannot follow to 16 members. Blocks of members that no others can stand in for are known beforehand."""
    random = Random(blocks)
    for _ in range(50):
        cuts = sorted(random.sample(range(1, EXACT_LIMIT // 2), blocks - 1))
        sizes = [2 * (end - start) for start, end in zip([0, *cuts], [*cuts, EXACT_LIMIT // 2], strict=True)]
        nets: list[int] = []
        for size in sizes:
            amounts = [random.choice([-1, 1]) * random.randrange(1, 10**12) for _ in range(size - 1)]
            nets += [*amounts, -sum(amounts)]
        random.shuffle(nets)
        assert len(suggest(by_uid(tuple(nets)))) == EXACT_LIMIT - blocks


@given(nets=st.one_of(nets_of(st.integers(2, 5), 4), nets_of(st.integers(2, 5), 20)))
@settings(deadline=None, max_examples=150)
def test_paying_in_any_order_leaves_the_other_suggestions_as_they_were(nets: tuple[int, ...]) -> None:
    group = by_uid(nets)
    suggestions = suggest(group)
    for order in permutations(suggestions):
        left, expected = group, set(suggestions)
        for transfer in order:
            left = paid(left, transfer)
            expected.remove(transfer)
            assert set(suggest(left)) == expected


def opposites(nets: tuple[int, ...]) -> Counter[int]:
    """How many debtors have the opposite of a creditor's net, by amount."""
    return Counter(-net for net in nets if net < 0) & Counter(net for net in nets if net > 0)


def with_opposites(random: Random, rest: int) -> tuple[int, ...]:
    """Nets of more than EXACT_LIMIT members, of whom no more than `rest` are left when opposite nets are cancelled."""
    nets = list(random_nets(random, rest))
    own = [abs(net) for net in nets if net]
    while members_not_at_zero(by_uid(tuple(nets))) <= EXACT_LIMIT or random.random() < 0.8:
        amount = random.choice([*own, 1, 60, random.randrange(1, 10_000)])
        nets += [amount, -amount]
    random.shuffle(nets)
    return tuple(nets)


@pytest.mark.parametrize("seed", range(3))
def test_suggestions_of_large_groups_are_the_fewest_when_opposite_nets_leave_few_members(seed: int) -> None:
    random = Random(seed)
    for _ in range(200):
        nets = with_opposites(random, random.randint(2, 8))
        cancelled = opposites(nets)
        left = Counter(net for net in nets if net) - cancelled - Counter({-amount: n for amount, n in cancelled.items()})
        expected = cancelled.total() + fewest(tuple(sorted(left.elements())))
        assert len(suggest(by_uid(nets))) == expected, (seed, nets)


@pytest.mark.parametrize("seed", range(3))
def test_each_payment_makes_the_list_shorter_when_opposite_nets_leave_few_members(seed: int) -> None:
    random = Random(seed)
    for _ in range(40):
        group = by_uid(with_opposites(random, EXACT_LIMIT))
        suggestions = suggest(group)
        for transfer in suggestions:
            assert len(suggest(paid(group, transfer))) == len(suggestions) - 1, (seed, group, transfer)


@pytest.mark.parametrize("seed", range(4))
def test_paying_one_suggestion_leaves_the_others_as_they_were_up_to_the_exact_limit(seed: int) -> None:
    random = Random(seed)
    for _ in range(150):
        group = by_uid(random_nets(random, random.randint(6, EXACT_LIMIT)))
        suggestions = suggest(group)
        for transfer in suggestions:
            others = tuple(other for other in suggestions if other != transfer)
            assert suggest(paid(group, transfer)) == others, (seed, group, transfer)
        left, expected = group, list(suggestions)
        while expected:
            transfer = expected.pop(random.randrange(len(expected)))
            left = paid(left, transfer)
            assert list(suggest(left)) == expected, (seed, group, transfer)


def test_paying_one_suggestion_leaves_the_others_as_they_were_in_large_groups_of_arbitrary_amounts() -> None:
    random = Random(1)
    for members in [EXACT_LIMIT + 1, 20, 30, 50]:
        amounts = [random.choice([-1, 1]) * random.randrange(1, 10**12) for _ in range(members - 1)]
        left = by_uid((*amounts, -sum(amounts)))
        expected = list(suggest(left))
        assert len(expected) == members - 1
        while expected:
            transfer = expected.pop(random.randrange(len(expected)))
            left = paid(left, transfer)
            assert list(suggest(left)) == expected


@given(nets=any_nets)
@settings(deadline=None, max_examples=100)
def test_suggestions_are_never_more_than_when_opposite_nets_cancel(nets: tuple[int, ...]) -> None:
    pairs, members = opposites(nets).total(), members_not_at_zero(by_uid(nets))
    assert len(suggest(by_uid(nets))) <= pairs + max(members - 2 * pairs - 1, 0)


@given(nets=any_nets)
@settings(deadline=None, max_examples=150)
def test_suggestions_are_never_more_than_with_the_largest_first(nets: tuple[int, ...]) -> None:
    assume(members_not_at_zero(by_uid(nets)) > 2)
    assert len(suggest(by_uid(nets))) <= largest_first(by_uid(nets))


@pytest.mark.parametrize("seed", range(3))
def test_suggestions_of_large_groups_are_never_more_than_with_the_largest_first(seed: int) -> None:
    random = Random(seed)
    fewer = 0
    for _ in range(200):
        group = by_uid(random_nets(random, random.randint(EXACT_LIMIT + 1, 60)))
        suggested, largest_first_count = len(suggest(group)), largest_first(group)
        assert suggested <= largest_first_count, (seed, group)
        fewer += suggested < largest_first_count
    assert fewer > 50, "the heuristic finds no more blocks than largest-first does"
