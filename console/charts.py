"""Where things stand in the pictures: bars of net balances, and the flow of debts. Templates draw them as SVG.

Debts are drawn as a flow: who owes on the left, who is owed on the right, a ribbon for each debt, as thick as it is large.
Whoever does both is on both sides. So the picture grows by one line a person, and stays readable with fifty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MAX_RIBBONS = 60
WIDTH = 600
LEFT, RIGHT = 180, 420
_BAR = 7
_TOP = 12
_LINE = 24
"""A line of text: nobody takes less."""
_FLOW = 220
"""How thick all ribbons of one side are together, at most."""
_PASSES = 3


@dataclass(frozen=True, slots=True)
class Debt:
    """Somebody owes somebody; `weight` is how much, for the eye only."""

    debtor: str
    creditor: str
    weight: float
    text: str


@dataclass(frozen=True, slots=True)
class Node:
    """A person on one side."""

    uid: str
    y: float
    height: float
    text: str = ""

    @property
    def middle(self) -> float:
        """Where the name stands."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A debt."""

    debt: Debt
    path: str
    thickness: float


@dataclass(frozen=True, slots=True)
class Flow:
    """The picture."""

    debtors: list[Node]
    creditors: list[Node]
    ribbons: list[Ribbon]
    height: float
    left_out: int
    """Debts that are not drawn: the smallest."""


Ends = Callable[[Debt], tuple[str, str]]
"""The two ends of a debt: one's own side's, then the other's."""


def flow(debts: Iterable[Debt]) -> Flow:
    """The layout of some debts of one currency; the largest MAX_RIBBONS are drawn."""
    largest = sorted(debts, key=lambda debt: -debt.weight)
    drawn = largest[:MAX_RIBBONS]
    total = sum(debt.weight for debt in drawn) or 1.0
    left = list(dict.fromkeys(debt.debtor for debt in drawn))
    right = list(dict.fromkeys(debt.creditor for debt in drawn))
    # Each side in turn is put in the order of the middle of what it is joined to: so fewer ribbons cross.
    for _ in range(_PASSES):
        right = _untangled(right, drawn, left, lambda debt: (debt.creditor, debt.debtor))
        left = _untangled(left, drawn, right, lambda debt: (debt.debtor, debt.creditor))
    debtors = _column(left, drawn, total, lambda debt: debt.debtor)
    creditors = _column(right, drawn, total, lambda debt: debt.creditor)
    height = max((node.y + node.height for node in [*debtors, *creditors]), default=0) + _TOP
    return Flow(debtors, creditors, _ribbons(drawn, debtors, creditors, total), height, len(largest) - len(drawn))


def _untangled(side: list[str], debts: Sequence[Debt], other: list[str], ends: Ends) -> list[str]:
    place = {uid: index for index, uid in enumerate(other)}
    weight: dict[str, float] = {}
    moment: dict[str, float] = {}
    for debt in debts:
        mine, theirs = ends(debt)
        weight[mine] = weight.get(mine, 0) + debt.weight
        moment[mine] = moment.get(mine, 0) + debt.weight * place[theirs]
    return sorted(side, key=lambda uid: moment[uid] / weight[uid] if weight[uid] else 0)


def _column(uids: list[str], debts: Sequence[Debt], total: float, side: Callable[[Debt], str]) -> list[Node]:
    nodes = []
    y = float(_TOP)
    for uid in uids:
        thick = sum(_thickness(debt, total) for debt in debts if side(debt) == uid)
        height = max(_LINE, thick + 6)
        nodes.append(Node(uid, y, height))
        y += height + 2
    return nodes


def _thickness(debt: Debt, total: float) -> float:
    return max(1.5, _FLOW * (debt.weight / total))


def _ribbons(debts: Sequence[Debt], debtors: list[Node], creditors: list[Node], total: float) -> list[Ribbon]:
    left, right = {node.uid: node for node in debtors}, {node.uid: node for node in creditors}
    starts = _edges(debts, left, right, total, lambda debt: (debt.debtor, debt.creditor))
    ends = _edges(debts, right, left, total, lambda debt: (debt.creditor, debt.debtor))
    x0, x1 = LEFT + _BAR, RIGHT - _BAR
    bend = (x1 - x0) * 0.5
    ribbons = []
    for index, debt in enumerate(debts):
        thickness = _thickness(debt, total)
        (a, b), (c, d) = ((middle - thickness / 2, middle + thickness / 2) for middle in (starts[index], ends[index]))
        path = (
            f"M{x0} {a:.1f} C{x0 + bend:.0f} {a:.1f} {x1 - bend:.0f} {c:.1f} {x1} {c:.1f}"
            f" V{d:.1f} C{x1 - bend:.0f} {d:.1f} {x0 + bend:.0f} {b:.1f} {x0} {b:.1f} Z"
        )
        ribbons.append(Ribbon(debt, path, round(thickness, 1)))
    return ribbons


def _edges(debts: Sequence[Debt], side: dict[str, Node], other: dict[str, Node], total: float, ends: Ends) -> dict[int, float]:
    """Where the middle of each ribbon meets its node, by index: stacked in the order of the other side."""
    found: dict[int, float] = {}
    of_node: dict[str, list[int]] = {}
    for index, debt in enumerate(debts):
        of_node.setdefault(ends(debt)[0], []).append(index)
    for uid, indexes in of_node.items():
        thick = sum(_thickness(debts[index], total) for index in indexes)
        y = side[uid].middle - thick / 2
        for index in sorted(indexes, key=lambda index: other[ends(debts[index])[1]].y):
            found[index] = y + _thickness(debts[index], total) / 2
            y += _thickness(debts[index], total)
    return found


@dataclass(frozen=True, slots=True)
class Bar:
    """A net balance; `width` and `x` are of a picture that is 200 wide, with zero in the middle."""

    uid: str
    text: str
    is_negative: bool
    x: float
    width: float


def bars(nets: Sequence[tuple[str, float, str]]) -> list[Bar]:
    """(uid, amount, text), those who are owed most first, those who owe most last."""
    longest = max((abs(amount) for _, amount, _ in nets), default=0) or 1
    found = []
    for uid, amount, text in sorted(nets, key=lambda net: (-net[1], net[0])):
        width = round(abs(amount) / longest * 98, 2)
        found.append(Bar(uid, text, amount < 0, 100 - width if amount < 0 else 100, width))
    return found
