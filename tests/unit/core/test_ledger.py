"""The algebra by example: pairs, deltas, nets."""

from __future__ import annotations

import pytest

from balance.core.ledger import Ledger, Posting, add, added, check_invariants, delta, fold, nets, post


def owes(debtor: str, creditor: str, amount_minor: int, currency: str = "USD") -> Posting:
    return Posting(debtor=debtor, creditor=creditor, currency=currency, amount_minor=amount_minor)


def pays(payer: str, payee: str, amount_minor: int, currency: str = "USD") -> Posting:
    """Paying somebody is the reverse of owing them."""
    return owes(payee, payer, amount_minor, currency)


def test_a_pair_is_signed_by_the_order_of_its_uids() -> None:
    assert fold([owes("a", "b", 50)]) == {"USD": {("a", "b"): 50}}
    assert fold([owes("b", "a", 50)]) == {"USD": {("a", "b"): -50}}


def test_postings_between_two_users_add_up_in_both_directions() -> None:
    assert fold([owes("a", "b", 50), owes("b", "a", 20), owes("a", "b", 5)]) == {"USD": {("a", "b"): 35}}


def test_a_pair_at_zero_and_then_an_empty_currency_disappear() -> None:
    assert fold([owes("a", "b", 50), owes("b", "a", 50)]) == {}
    assert fold([owes("a", "b", 50), owes("b", "a", 50), owes("a", "c", 1)]) == {"USD": {("a", "c"): 1}}


def test_a_posting_to_oneself_is_nothing() -> None:
    assert fold([owes("a", "a", 50)]) == {}
    assert fold([owes("a", "b", 1), owes("a", "a", 50)]) == {"USD": {("a", "b"): 1}}


def test_a_posting_of_nothing_is_nothing() -> None:
    assert fold([owes("a", "b", 0)]) == {}


def test_postings_can_be_taken_back() -> None:
    ledger = fold([owes("a", "b", 50), owes("a", "c", 7, "EUR")])
    post(ledger, [owes("a", "b", 50)], sign=-1)
    assert ledger == {"EUR": {("a", "c"): 7}}


def test_a_delta_is_what_came_less_what_was() -> None:
    assert delta([owes("a", "b", 50)], [owes("a", "b", 80), owes("c", "b", 1)]) == {"USD": {("a", "b"): 30, ("b", "c"): -1}}
    assert delta([owes("a", "b", 50)], [owes("a", "b", 50)]) == {}
    assert delta([], []) == {}


def test_a_change_of_currency_takes_from_the_one_and_gives_to_the_other() -> None:
    assert delta([owes("b", "a", 100)], [owes("b", "a", 100, "EUR")]) == {"USD": {("a", "b"): 100}, "EUR": {("a", "b"): -100}}


def test_a_change_of_payer_is_a_delta_of_both_pairs() -> None:
    shares_when_a_paid = [owes("b", "a", 30), owes("c", "a", 30)]
    shares_when_b_paid = [owes("a", "b", 30), owes("c", "b", 30)]
    assert delta(shares_when_a_paid, shares_when_b_paid) == {"USD": {("a", "b"): 60, ("a", "c"): 30, ("b", "c"): -30}}


def test_adding_leaves_the_delta_alone_and_the_ledger_canonical() -> None:
    ledger: Ledger = {"USD": {("a", "b"): 50}}
    change: Ledger = {"USD": {("a", "b"): -50}, "EUR": {("a", "b"): 1}}
    add(ledger, change)
    assert ledger == {"EUR": {("a", "b"): 1}}
    assert change == {"USD": {("a", "b"): -50}, "EUR": {("a", "b"): 1}}
    add(ledger, change)
    assert change["EUR"] == {("a", "b"): 1}, "no pairs are shared"


def test_sums_by_key_leave_out_zeros_and_their_operands_alone() -> None:
    totals, changes = {"a": 5, "b": 1}, {"a": -5, "c": 2}
    assert added(totals, changes) == {"b": 1, "c": 2}
    assert (totals, changes) == ({"a": 5, "b": 1}, {"a": -5, "c": 2})


def test_a_net_is_what_one_is_owed_less_what_one_owes() -> None:
    assert nets({("a", "b"): 50, ("b", "c"): -20, ("a", "c"): 5}) == {"a": -55, "b": 70, "c": -15}


def test_the_nets_name_everybody_who_stands_in_a_pair_also_at_zero() -> None:
    assert nets({("a", "b"): 5, ("b", "c"): 5}) == {"a": -5, "b": 0, "c": 5}


@pytest.mark.parametrize(
    ("ledger", "message"),
    [
        ({"USD": {}}, "USD is empty"),
        ({"USD": {("b", "a"): 1}}, "not ascending"),
        ({"USD": {("a", "a"): 1}}, "not ascending"),
        ({"EUR": {("a", "b"): 1}, "USD": {("a", "b"): 0}}, "stand at zero"),
    ],
)
def test_a_ledger_that_is_not_canonical_is_noticed(ledger: Ledger, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_invariants(ledger)


# ------------------------------------------- what two-way debts, capped at the present debt, get wrong


def test_deleting_an_overpayment_leaves_the_whole_debt_and_nothing_else() -> None:
    expense, settlement = [owes("b", "a", 50)], [pays("b", "a", 70)]
    ledger = fold(expense)
    add(ledger, delta([], settlement))
    assert ledger == fold([owes("a", "b", 20)])
    add(ledger, delta(settlement, []))
    assert ledger == fold([owes("b", "a", 50)])


@pytest.mark.parametrize("settlement_first", [False, True])
def test_deleting_a_settled_expense_and_its_settlement_leaves_nothing(settlement_first: bool) -> None:
    expense, settlement = [owes("b", "a", 50)], [pays("b", "a", 50)]
    ledger = fold([*expense, *settlement])
    assert ledger == {}
    for document in (settlement, expense) if settlement_first else (expense, settlement):
        add(ledger, delta(document, []))
    assert ledger == {}


def test_a_settlement_before_its_expense_counts_as_much_as_after_it() -> None:
    expense, settlement = [owes("b", "a", 50)], [pays("b", "a", 20)]
    assert fold([*settlement, *expense]) == fold([*expense, *settlement]) == fold([owes("b", "a", 30)])


def test_currencies_never_mix() -> None:
    assert fold([owes("b", "a", 50), pays("b", "a", 50, "EUR")]) == fold([owes("b", "a", 50), owes("a", "b", 50, "EUR")])


def test_thirds_of_a_hundred_yen() -> None:
    ledger = fold([owes("b", "a", 33, "JPY"), owes("c", "a", 34, "JPY")])
    assert nets(ledger["JPY"]) == {"a": 67, "b": -33, "c": -34}
