"""The layout of the pictures."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from console.charts import MAX_RIBBONS, Debt, bars, flow

PEOPLE = st.sampled_from([f"user{number}" for number in range(50)])
DEBTS = st.lists(
    st.tuples(PEOPLE, PEOPLE, st.floats(0, 1e9)).filter(lambda debt: debt[0] != debt[1]).map(lambda debt: Debt(*debt, "")),
    max_size=150,
)


@given(DEBTS)
@example([Debt("user0", "user1", 5e-324, "")])
def test_nobody_lies_on_anybody_and_all_ribbons_meet_their_people(debts: list[Debt]) -> None:
    picture = flow(debts)
    for side in (picture.debtors, picture.creditors):
        assert len({node.uid for node in side}) == len(side)
        for above, below in pairwise(side):
            assert above.y + above.height < below.y
        assert all(node.y + node.height <= picture.height for node in side)
    assert len(picture.ribbons) == min(len(debts), MAX_RIBBONS)
    assert picture.left_out == len(debts) - len(picture.ribbons)
    places = {node.uid: node for node in picture.debtors}
    for ribbon in picture.ribbons:
        node = places[ribbon.debt.debtor]
        start = float(ribbon.path.split()[1])
        assert node.y <= start <= node.y + node.height
        assert ribbon.thickness > 0


def test_the_largest_debts_are_drawn() -> None:
    debts = [Debt(f"a{number}", "b", float(number), "") for number in range(100)]
    drawn = {ribbon.debt.weight for ribbon in flow(debts).ribbons}
    assert min(drawn) == 40


def test_ribbons_do_not_cross_where_they_need_not() -> None:
    picture = flow([Debt("a", "y", 5, ""), Debt("b", "x", 4, ""), Debt("c", "z", 3, "")])
    partners = {"a": "y", "b": "x", "c": "z"}
    assert [partners[node.uid] for node in picture.debtors] == [node.uid for node in picture.creditors]


def test_bars_are_in_scale_and_on_their_side_of_zero() -> None:
    owed, even, owes = bars([("bo", -5.0, ""), ("ana", 10.0, ""), ("chidi", 0.0, "")])
    assert (owed.uid, owed.x, owed.width) == ("ana", 100, 98)
    assert (even.uid, even.width) == ("chidi", 0)
    assert (owes.uid, owes.is_negative, owes.x + owes.width, owes.width) == ("bo", True, 100, 49)
