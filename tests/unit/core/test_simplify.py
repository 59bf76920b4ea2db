"""Settle-up suggestions by example, each one checked by hand."""

from __future__ import annotations

from random import Random

import pytest

from balance.core.matching import Transfer
from balance.core.simplify import EXACT_LIMIT, suggest


def group(**nets: int) -> dict[str, int]:
    return nets


def pay(nets: dict[str, int], debtor: str, creditor: str, amount_minor: int) -> dict[str, int]:
    return {**nets, debtor: nets[debtor] + amount_minor, creditor: nets[creditor] - amount_minor}


@pytest.mark.parametrize("nets", [{}, {"ana": 0}, {"ana": 0, "bo": 0}])
def test_a_settled_group_gets_no_suggestions(nets: dict[str, int]) -> None:
    assert suggest(nets) == ()


def test_a_debtor_pays_their_creditor() -> None:
    (transfer,) = suggest(group(ana=50, bo=-50))
    assert transfer == Transfer(debtor="bo", creditor="ana", amount_minor=50)
    assert (transfer.debtor, transfer.creditor, transfer.amount_minor) == ("bo", "ana", 50)


def test_thirds_of_a_hundred_yen() -> None:
    assert suggest(group(a=67, b=-33, c=-34)) == (Transfer("b", "a", 33), Transfer("c", "a", 34))


def test_members_of_one_block_are_matched_in_order_of_uid() -> None:
    assert suggest(group(d1=-7, d2=-5, c1=3, c2=8, c3=1)) == (
        Transfer("d1", "c1", 3),
        Transfer("d1", "c2", 4),
        Transfer("d2", "c2", 4),
        Transfer("d2", "c3", 1),
    )


def test_two_blocks_are_better_than_matching_in_order() -> None:
    assert suggest(group(a=-3, b=-5, c=5, d=3)) == (Transfer("a", "d", 3), Transfer("b", "c", 5))


def test_two_blocks_of_three_where_largest_first_takes_one_transfer_more() -> None:
    # Largest first: 9 to 8, 7 to 5, 2 to 4, then 1 to 1 twice.
    assert suggest(group(a=-9, b=-7, c=-1, d=5, e=4, f=8)) == (
        Transfer("a", "d", 5),
        Transfer("a", "e", 4),
        Transfer("b", "f", 7),
        Transfer("c", "f", 1),
    )


def test_equally_short_solutions_are_decided_by_the_first_transfer_in_which_they_differ() -> None:
    assert suggest(group(a=-4, b=-4, x=4, y=4)) == (Transfer("a", "x", 4), Transfer("b", "y", 4))


def test_cancelling_opposite_nets_first_would_not_be_stable() -> None:
    """Four transfers with b to w and without, but once a has paid x, a would be w's opposite and take b's place."""
    nets = group(a=-7, b=-4, w=4, x=3, y=1, z=3)
    suggestions = suggest(nets)
    assert len(suggestions) == 4
    for transfer in suggestions:
        assert suggest(pay(nets, *transfer)) == tuple(other for other in suggestions if other != transfer)


def test_paying_in_the_middle_of_a_chain_parts_it() -> None:
    chain = group(a=-5, b=-6, x=3, y=4, z=4)
    first, middle, *others = suggest(chain)
    assert (first, middle, *others) == (
        Transfer("a", "x", 3),
        Transfer("a", "y", 2),
        Transfer("b", "y", 2),
        Transfer("b", "z", 4),
    )
    assert suggest(pay(chain, *middle)) == (first, *others)


def test_sixteen_members_of_one_cent_each_settle_in_pairs() -> None:
    nets = {f"{number:02}": -1 if number % 2 else 1 for number in range(EXACT_LIMIT)}
    assert suggest(nets) == tuple(Transfer(f"{2 * pair + 1:02}", f"{2 * pair:02}", 1) for pair in range(EXACT_LIMIT // 2))


def test_sixteen_members_without_opposite_nets_settle_in_four_blocks() -> None:
    # {-10, 3, 7}, {-20, 8, 12}, {-30, 9, 4, 17}, {-40, 1, 14, 19, 5, 1}: each block needs a debtor.
    amounts = [-10, -20, -30, -40, 3, 7, 8, 12, 9, 4, 17, 1, 14, 19, 5, 1]
    assert len(amounts) == EXACT_LIMIT
    suggestions = suggest({f"{number:02}": amount for number, amount in enumerate(amounts)})
    assert len(suggestions) == EXACT_LIMIT - 4


def test_one_debtor_among_two_hundred_members_pays_them_all() -> None:
    nets = {f"{number:03}": number for number in range(1, 200)} | {"000": -199 * 100}
    assert suggest(nets) == tuple(Transfer("000", f"{number:03}", number) for number in range(1, 200))


def test_opposite_nets_cancel_in_order_of_uid_in_a_group_of_two_hundred() -> None:
    nets = {f"{number:03}": (number // 2 % 50 + 1) * (1 if number < 100 else -1) for number in range(200)}
    assert suggest(nets) == tuple(Transfer(f"{number + 100:03}", f"{number:03}", number // 2 + 1) for number in range(100))


def test_opposite_nets_cancel_where_largest_first_would_part_them() -> None:
    random = Random(1)
    amounts = [sign * random.randrange(1, 10**12) for sign in [-1, 1] * 8]
    nets = {f"{number:02}": amount for number, amount in enumerate([*amounts, -sum(amounts)])}
    opposite = 5 * 10**11  # somewhere in the middle
    assert Transfer("bo", "!", opposite) in suggest(nets | {"!": opposite, "bo": -opposite})


def test_a_large_group_settles_in_triples_that_come_out_exactly() -> None:
    random = Random(5)
    uids = [f"{number:02}" for number in range(30)]
    random.shuffle(uids)
    triples = [uids[at : at + 3] for at in range(0, 30, 3)]
    nets: dict[str, int] = {}
    for at, (one, other, third) in enumerate(triples):
        sign = 1 if at % 2 else -1
        half, rest = random.randrange(10**9, 10**10), random.randrange(10**9, 10**10)
        nets |= {one: sign * (half + rest), other: -sign * half, third: -sign * rest}
    # A sign that nets come out exactly is needed, or the group is matched in order: here it is a pair.
    suggestions = suggest(nets | {"ana": 7, "bo": -7})
    assert suggestions[-1] == Transfer("bo", "ana", 7)
    assert len(suggestions) == 21
    for debtor, creditor, _ in suggestions[:-1]:
        assert any({debtor, creditor} < set(triple) for triple in triples)


def test_blocks_of_neighbours_are_found_in_a_large_group() -> None:
    random = Random(6)
    nets = {"y": 7, "z": -7}  # a sign to look for something shorter than matching in order, which is the shortest here
    for block in range(5):
        first, second, part = (random.randrange(10**9, 10**10) for _ in range(3))
        nets |= {f"{block}a": -first, f"{block}b": -second, f"{block}c": first - part, f"{block}d": second + part}
    suggestions = suggest(nets)
    assert len(suggestions) == len(nets) - 6
    assert all(transfer.debtor[0] == transfer.creditor[0] for transfer in suggestions[:-1])


def test_the_largest_total_a_balance_stores_is_exact() -> None:
    assert suggest(group(a=10**15, b=-(10**15 - 1), c=-1)) == (Transfer("b", "a", 10**15 - 1), Transfer("c", "a", 1))


def test_uids_are_opaque() -> None:
    uids = ["", " ", "a.b/c", "`", "__x__", "é", "'\"", "日本", "😀", "\x00"]
    nets = {uid: 1 if number % 2 else -1 for number, uid in enumerate(uids)}
    suggestions = suggest(nets)
    assert {transfer.debtor for transfer in suggestions} == set(uids[::2])
    assert {transfer.creditor for transfer in suggestions} == set(uids[1::2])
    assert [transfer.debtor for transfer in suggestions] == sorted(uids[::2])


def test_the_nets_are_left_alone() -> None:
    nets = group(a=-3, b=-5, c=5, d=3)
    suggest(nets)
    assert nets == group(a=-3, b=-5, c=5, d=3)


@pytest.mark.parametrize("others", [0, 2 * EXACT_LIMIT])
def test_nets_that_do_not_sum_to_zero_are_refused_with_what_is_left_over(others: int) -> None:
    settled = {f"{number:02}": -1 if number % 2 else 1 for number in range(others)}
    with pytest.raises(AssertionError, match=r"^nets must sum to zero, these sum to -3 minor units$"):
        suggest({**settled, "ana": 5, "bo": -8})
