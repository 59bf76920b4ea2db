"""The table of worlds."""

from collections.abc import Iterable

from tests.simulation.explorer.world import (
    GROUP,
    Client,
    Rebuild,
    State,
    World,
    Write,
)

THE_GROUP = Write(f"groups/{GROUP}", {"members": ["ana", "bo"]})


def expense(amount: object, name: str = "e1", *, nested: bool = False, **more: object) -> Write:
    """Sets an expense: ana paid, bo owes."""
    fields = {
        "groupId": GROUP,
        "currency": "USD",
        "amount": amount,
        "paidBy": "ana",
        "splits": [{"uid": "bo", "amount": amount}],
        **more,
    }
    return Write(f"groups/{GROUP}/expenses/{name}" if nested else f"expenses/{name}", fields)


def no_expense(name: str = "e1", *, nested: bool = False) -> Write:
    """Deletes an expense."""
    return Write(f"groups/{GROUP}/expenses/{name}" if nested else f"expenses/{name}", None)


EMPTY = (THE_GROUP,)
"""Before: a group without documents."""
SETTLED = (THE_GROUP, expense(4))
"""Before: a group with one expense, in its balance."""
SWITCHED = frozenset({State.ABSENT, State.STALE})


def app(*writes: Write, name: str = "app") -> Client:
    """A client."""
    return Client(writes, name)


def _bases() -> Iterable[World]:
    one = app(expense(1), expense(3))
    two = (app(expense(5)), app(expense(1, "e2"), name="app2"))
    yield World(name="two writes", about="an expense is created and edited", before=EMPTY, actors=(one,))
    yield World(name="two documents", about="two clients write two documents", before=SETTLED, actors=two)
    yield World(name="two writes, rebuild", about="beside a rebuild", before=EMPTY, actors=(one, Rebuild()))
    yield World(name="two documents, rebuild", about="beside a rebuild", before=SETTLED, actors=(*two, Rebuild()))
    rebuilds = (Rebuild("rebuild 1"), Rebuild("rebuild 2"))
    yield World(name="first write, two rebuilds", about="", before=EMPTY, actors=(app(expense(1)), *rebuilds))
    yield World(name="edit, two rebuilds", about="", before=SETTLED, actors=(app(expense(5)), *rebuilds))


WORLDS = {world.name: world for world in _bases()}
