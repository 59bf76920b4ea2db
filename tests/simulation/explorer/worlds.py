"""The table of worlds.

Each is as small as it can be and still show something: one group, one or two documents, one or two rebuilds. Every base is
explored as it is, with a process that dies after any of its calls, and with a commit of unknown outcome anywhere.
"""

from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.explorer import stated
from tests.simulation.explorer.world import (
    CRASH,
    GROUP,
    READ_FAILS,
    UNKNOWN_OUTCOME,
    Bend,
    Client,
    Code,
    DeleteGroup,
    DeleteRecords,
    Expire,
    NightlyCheck,
    Pause,
    Rebuild,
    Redeliver,
    Repair,
    State,
    Switch,
    World,
    Write,
)
from tests.simulation.product import LATER_CURRENCY
from tests.simulation.profile import DAY_US, HOUR_US, MINUTE_US, START_US

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
    return Write(_path(name, nested=nested), fields)


def no_expense(name: str = "e1", *, nested: bool = False) -> Write:
    """Deletes an expense."""
    return Write(_path(name, nested=nested), None)


def _path(name: str, *, nested: bool) -> str:
    return f"groups/{GROUP}/expenses/{name}" if nested else f"expenses/{name}"


EMPTY = (THE_GROUP,)
"""Before: a group without documents."""
SETTLED = (THE_GROUP, expense(4))
"""Before: a group with one expense, in its balance."""
REBUILDS = (Rebuild("rebuild 1"), Rebuild("rebuild 2"))
SWITCHED = frozenset({State.ABSENT, State.STALE})
OLD = {"the older code": Code()}
LATER = Code(is_later=True)


def app(*writes: Write, name: str = "app") -> Client:
    """A client."""
    return Client(writes, name)


_TWICE = app(expense(1), expense(3))
_TWO_DOCUMENTS = (app(expense(5)), app(expense(1, "e2"), name="app 2"))


def _writes() -> Iterator[World]:
    yield World(name="create and edit", about="an expense is created and edited", before=EMPTY, actors=(_TWICE,))
    yield World(name="two documents", about="an expense is edited, another created", before=SETTLED, actors=_TWO_DOCUMENTS)
    yield World(
        name="create, edit, rebuild", about="and a rebuild, where no balance was", before=EMPTY, actors=(_TWICE, Rebuild())
    )
    yield World(
        name="two documents, rebuild", about="and a rebuild, of a balance", before=SETTLED, actors=(*_TWO_DOCUMENTS, Rebuild())
    )
    yield World(
        name="create, two rebuilds",
        about="two rebuilds, where no balance was",
        before=EMPTY,
        actors=(app(expense(1)), *REBUILDS),
    )
    yield World(
        name="edit, two rebuilds", about="two rebuilds of a balance", before=SETTLED, actors=(app(expense(5)), *REBUILDS)
    )


def _deletes() -> Iterator[World]:
    yield World(name="delete", about="a hard delete", before=SETTLED, actors=(app(no_expense()),))
    yield World(
        name="delete, rebuild", about="a hard delete beside a rebuild", before=SETTLED, actors=(app(no_expense()), Rebuild())
    )
    yield World(
        name="create, delete, rebuild",
        about="created and deleted beside a rebuild",
        before=EMPTY,
        actors=(app(expense(1), no_expense()), Rebuild()),
    )
    yield World(
        name="delete, create, rebuild",
        about="deleted and created again beside a rebuild",
        before=SETTLED,
        actors=(app(no_expense(), expense(7)), Rebuild()),
    )
    yield World(
        name="soft and hard delete",
        about="created, deleted softly, then for good",
        before=EMPTY,
        actors=(app(expense(1), expense(3, deletedAt="2020-01-01"), no_expense()),),
    )
    for what, error_us in (("early", -MINUTE_US), ("late", MINUTE_US)):
        yield World(
            name=f"delete, rebuild, {what} event time",
            about=f"the delete's event tells a time a minute too {what}",
            before=SETTLED,
            actors=(app(no_expense()), Rebuild()),
            event_time_error_us=error_us,
        )


def _duplicates() -> Iterator[World]:
    yield World(name="create twice at once", about="each event comes twice", before=EMPTY, actors=(app(expense(1)),), copies=2)
    yield World(name="edit twice at once", about="each event comes twice", before=SETTLED, actors=(app(expense(5)),), copies=2)
    yield World(
        name="edit twice at once, rebuild",
        about="each event comes twice, beside a rebuild",
        before=SETTLED,
        actors=(app(expense(5)), Rebuild()),
        copies=2,
    )


def _lines() -> Iterator[World]:
    yield World(
        name="two documents, one process",
        about="they meet in one process's line",
        before=SETTLED,
        actors=_TWO_DOCUMENTS,
        in_one_process=True,
    )
    yield World(
        name="edit twice at once, one process",
        about="each event comes twice to one process",
        before=SETTLED,
        actors=(app(expense(5)),),
        copies=2,
        in_one_process=True,
    )
    yield World(
        name="three events, one process",
        about="two edits that cancel, and another document",
        before=SETTLED,
        actors=(app(expense(5), expense(4)), app(expense(1, "e2"), name="app 2")),
        in_one_process=True,
    )
    yield World(
        name="two documents, rebuild, one process",
        about="a rebuild meets them in the line",
        before=SETTLED,
        actors=(*_TWO_DOCUMENTS, Rebuild()),
        in_one_process=True,
    )


def _switches() -> Iterator[World]:
    one = {"e1#1": "A"}
    yield World(
        name="create, switched on, rebuild",
        about="updates are off at first",
        before=EMPTY,
        actors=(app(expense(1)), Switch("A", (True,)), Rebuild()),
        delivered_to=one,
        processes={"A": Code(updates_on=False)},
        reads_switch=True,
        may_be=SWITCHED,
    )
    yield World(
        name="no balance, switched on, rebuild",
        about="updates are off at first, so that there is no balance to be marked",
        before=EMPTY,
        actors=(app(expense(1)), Switch("A", (True,)), Rebuild()),
        delivered_to={"group#1": "A", "e1#1": "A"},
        processes={"A": Code(updates_on=False)},
        reads_switch=True,
        may_be=SWITCHED,
    )
    yield World(
        name="edit, switched off, rebuild",
        about="updates are turned off where the edit goes",
        before=SETTLED,
        actors=(app(expense(5)), Switch("A", (False,)), Rebuild()),
        delivered_to={"e1#2": "A"},
        processes={"A": Code()},
        reads_switch=True,
        may_be=SWITCHED,
    )
    yield World(
        name="two edits, switched off, rebuild",
        about="one edit goes to a process that is switched off, the next to another",
        before=SETTLED,
        actors=(app(expense(5), expense(6)), Switch("A", (False,)), Rebuild()),
        delivered_to={"e1#2": "A"},
        processes={"A": Code()},
        reads_switch=True,
        may_be=SWITCHED,
    )
    yield World(
        name="two edits, switched off and on",
        about="both edits go to a process that is switched off and on",
        before=SETTLED,
        actors=(app(expense(5), expense(6)), Switch("A", (False, True))),
        delivered_to={"e1#2": "A", "e1#3": "A"},
        processes={"A": Code()},
        reads_switch=True,
        may_be=SWITCHED,
    )


def _faults() -> Iterator[World]:
    yield World(
        name="malformed, healed",
        about="created malformed, then healed",
        before=EMPTY,
        actors=(app(expense("x"), expense(3)),),
    )
    yield World(
        name="malformed, rebuild",
        about="created, then bent, beside a rebuild",
        before=EMPTY,
        actors=(app(expense(3), expense("x")), Rebuild()),
    )
    yield World(
        name="malformed, deleted, rebuild",
        about="bent and deleted beside a rebuild",
        before=SETTLED,
        actors=(app(expense("x"), no_expense()), Rebuild()),
    )
    yield World(
        name="bent, healed, bent",
        about="bent, healed and bent again",
        before=SETTLED,
        actors=(app(expense("x"), expense(3), expense("y")),),
    )


def _versions() -> Iterator[World]:
    older = dict.fromkeys(("group#1", "e1#1", "e1#2"), "the older code")
    yield World(
        name="older and newer code",
        about="one edit goes to older code, another document to newer code",
        before=SETTLED,
        actors=_TWO_DOCUMENTS,
        delivered_to=older,
        processes=OLD,
        final=LATER,
        may_be=frozenset({State.OLDER}),
    )
    yield World(
        name="older and newer code, older rebuild",
        about="and the older code is asked for a rebuild",
        before=SETTLED,
        actors=(*_TWO_DOCUMENTS, Rebuild(process="the older code")),
        delivered_to=older,
        processes=OLD,
        final=LATER,
        may_be=frozenset({State.OLDER}),
    )
    yield World(
        name="older and newer rules",
        about="the newer code understands a currency more",
        before=SETTLED,
        actors=(app(expense(5)), app(expense(1, "e2", currency=LATER_CURRENCY), name="app 2")),
        delivered_to=older,
        processes=OLD,
        final=Code(is_later=True, new_rules=True),
        may_be=frozenset({State.OLDER}),
    )

    yield World(
        name="other parameters",
        about="a deployment understands a currency more, by a parameter; one edit goes to an instance of the one before",
        before=SETTLED,
        actors=(app(expense(5)), app(expense(1, "e2", currency=LATER_CURRENCY), name="app 2")),
        delivered_to=older,
        processes=OLD,
        final=Code(is_later=True, new_rules=True, by_parameter=True),
        may_be=frozenset({State.OLDER}),
    )
    yield World(
        name="other parameters, rebuild",
        about="the one before processes an edit to the new currency, while the new one rebuilds",
        before=SETTLED,
        actors=(app(expense(5, currency=LATER_CURRENCY)), Rebuild()),
        delivered_to=older,
        processes=OLD,
        final=Code(is_later=True, new_rules=True, by_parameter=True),
        may_be=frozenset({State.OLDER}),
    )
    yield World(
        name="other parameters, malformed",
        about="an instance of the deployment before processes a malformed edit, while the new one rebuilds",
        before=SETTLED,
        actors=(app(expense("x")), Rebuild()),
        delivered_to=older,
        processes=OLD,
        final=Code(is_later=True, by_parameter=True),
        may_be=frozenset({State.OLDER}),
    )
    yield World(
        name="older and newer rules, rebuild",
        about="older code processes an edit to the new currency, while newer code rebuilds",
        before=SETTLED,
        actors=(app(expense(5, currency=LATER_CURRENCY)), Rebuild()),
        delivered_to=older,
        processes=OLD,
        final=Code(is_later=True, new_rules=True),
        may_be=frozenset({State.OLDER}),
    )


def _ages() -> Iterator[World]:
    yield World(
        name="redelivered after its record",
        about="an event comes again four days later, when its record is gone",
        before=(*SETTLED, expense(5), Pause(4 * DAY_US), Expire()),
        actors=(Redeliver("e1#2"), app(expense(1, "e2"))),
        may_rebuild=True,
    )
    yield World(
        name="redelivered after its record, rebuild",
        about="beside a rebuild",
        before=(*SETTLED, expense(5), Pause(4 * DAY_US), Expire()),
        actors=(Redeliver("e1#2"), Rebuild()),
        may_rebuild=True,
    )
    yield World(
        name="late delete",
        about="a delete's event comes two hours late, when its snapshot cannot be read any more",
        before=(*SETTLED, Repair(), no_expense(), Pause(2 * HOUR_US)),
        held_back=frozenset({"e1#2"}),
        actors=(Redeliver("e1#2"), app(expense(1, "e2"))),
        may_rebuild=True,
    )


def _nightly() -> Iterator[World]:
    yield World(
        name="two documents, nightly check",
        about="the nightly check amid edits finds nothing",
        before=SETTLED,
        actors=(*_TWO_DOCUMENTS, NightlyCheck()),
    )
    yield World(
        name="malformed, nightly check",
        about="amid a document that is bent and healed",
        before=SETTLED,
        actors=(app(expense("x"), expense(3)), NightlyCheck()),
    )
    yield World(
        name="delete, nightly check",
        about="amid a hard delete",
        before=SETTLED,
        actors=(app(no_expense()), NightlyCheck()),
    )


def _groups() -> Iterator[World]:
    settled = (THE_GROUP, expense(4, nested=True))
    goes_on = app(expense(1, "e2", nested=True), name="app 2")
    edits = app(expense(5, nested=True), name="app 2")
    for listing, again in (("one listing", False), ("repeated listing", True)):
        for place, last in (("", True), (", group in any place", False)):
            delete = DeleteGroup(lists_again=again, group_last=last)
            comes_back = Client((delete, THE_GROUP))
            writes_again = Client((delete, THE_GROUP, expense(9, "e3", nested=True)))
            how = f"{listing}{place}"
            for name, about, actors in (
                ("group deleted", "the group goes with everything below it", (Client((delete,)),)),
                ("group deleted, rebuild", "under a rebuild", (Client((delete,)), Rebuild())),
                ("group deleted, write", "while a client goes on writing", (Client((delete,)), goes_on)),
                (
                    "group deleted, edit, rebuild",
                    "under a rebuild, while a client edits",
                    (Client((delete,)), edits, Rebuild()),
                ),
                ("group comes back", "it is deleted and created again", (comes_back,)),
                ("group comes back, rebuild", "under a rebuild", (comes_back, Rebuild())),
                ("group comes back, write", "while a client goes on writing", (comes_back, goes_on)),
                ("group comes back, edit, rebuild", "under a rebuild, while a client edits", (comes_back, edits, Rebuild())),
                ("group comes back and is written to", "and gets an expense", (writes_again,)),
                ("group comes back and is written to, rebuild", "under a rebuild", (writes_again, Rebuild())),
            ):
                yield World(name=f"{name} ({how})", about=about, before=settled, actors=actors, nested=True)
            yield World(
                name=f"group deleted under its first balance ({how})",
                about="the event of its creation is still under way",
                before=settled,
                held_back=frozenset({"group#1", "e1#1"}),
                actors=(Redeliver("group#1"), Redeliver("e1#1"), Client((delete,))),
                nested=True,
            )
            yield World(
                name=f"group comes back under its first balance ({how})",
                about="and is created again meanwhile",
                before=settled,
                held_back=frozenset({"group#1", "e1#1"}),
                actors=(Redeliver("group#1"), Redeliver("e1#1"), comes_back),
                nested=True,
            )


def _empty_groups() -> Iterator[World]:
    """Groups without documents, so small that more preemptions can be tried when something fails."""
    goes_on = app(expense(1, "e2", nested=True), name="app 2")
    for how, lists_again in (("one listing", False), ("repeated listing", True)):
        delete = DeleteGroup(lists_again=lists_again)
        leaves, comes_back = Client((delete,)), Client((delete, THE_GROUP))
        for name, about, actor in (
            ("deleted", "an empty group goes", leaves),
            ("comes back", "and is created again", comes_back),
        ):
            yield World(
                name=f"empty group {name}, rebuild ({how})",
                about=f"{about}, under a rebuild",
                before=EMPTY,
                actors=(actor, Rebuild()),
                nested=True,
            )
            yield World(
                name=f"empty group {name}, write ({how})",
                about=f"{about}, while a client writes to it",
                before=EMPTY,
                actors=(actor, goes_on),
                nested=True,
            )
            yield World(
                name=f"empty group {name} under its first balance ({how})",
                about=f"{about}, the event of its creation still being under way",
                before=EMPTY,
                held_back=frozenset({"group#1"}),
                actors=(Redeliver("group#1"), actor),
                nested=True,
            )


def _more_groups() -> Iterator[World]:
    leaves = Write(f"groups/{GROUP}", None)
    yield World(
        name="first balance",
        about="a group is created and written to at once",
        actors=(app(THE_GROUP, expense(1), expense(3)),),
    )
    yield World(name="first balance, rebuild", about="beside a rebuild", actors=(app(THE_GROUP, expense(1)), Rebuild()))
    yield World(
        name="expenses before their group",
        about="a group is created after its first expense",
        actors=(app(expense(1), THE_GROUP), app(expense(2, "e2"), name="app 2")),
    )
    yield World(
        name="only the document comes back",
        about="nothing below the group is deleted",
        before=SETTLED,
        actors=(app(leaves, THE_GROUP), app(expense(5), name="app 2")),
    )
    yield World(
        name="only the document comes back, rebuild",
        about="beside a rebuild",
        before=SETTLED,
        actors=(app(leaves, THE_GROUP), app(expense(5), name="app 2"), Rebuild()),
    )
    yield World(
        name="balance deleted by hand, rebuild",
        about="somebody deletes the balance while an event comes, under a rebuild",
        before=SETTLED,
        actors=(app(expense(5)), app(Write(f"groups/{GROUP}/metadata/balance", None), name="hand"), Rebuild()),
        may_be=frozenset({State.ABSENT}),
    )


def _hands() -> Iterator[World]:
    balance = f"groups/{GROUP}/metadata/balance"
    yield World(
        name="records and balance deleted by hand, rebuild",
        about="somebody deletes the records, then the balance, while an event comes, under a rebuild",
        before=SETTLED,
        # In the other order a rebuild may come first, and lose its records: then a redelivery counts twice, until night.
        actors=(app(expense(5)), Client((DeleteRecords(), Write(balance, None)), name="hand"), Rebuild()),
        may_be=frozenset({State.ABSENT}),
    )
    yield World(
        name="asOf bent into the future",
        about="somebody sets asOf to a time to come, then an edit's event comes",
        before=(*SETTLED, Bend("asOf", START_US + 30 * DAY_US)),
        actors=(app(expense(5)),),
        may_be=frozenset({State.OLDER}),
    )


def _epochs() -> Iterator[World]:
    missed = (*SETTLED, expense(5))
    yield World(
        name="reinstalled",
        about="the functions were away and missed an edit; they come back in a higher epoch",
        before=missed,
        held_back=frozenset({"e1#2"}),
        delivered_to=dict.fromkeys(("group#1", "e1#1"), "the older code"),
        processes=OLD,
        final=Code(epoch=1),
        actors=(app(expense(1, "e2")), app(expense(2, "e3"), name="app 2")),
    )
    yield World(
        name="lower and higher epoch",
        about="one edit goes to code of the lower epoch, another document to code of the higher one",
        before=SETTLED,
        delivered_to=dict.fromkeys(("group#1", "e1#1", "e1#2"), "the older code"),
        processes=OLD,
        final=Code(epoch=1),
        actors=_TWO_DOCUMENTS,
        may_be=frozenset({State.OLDER}),
    )


def _all() -> Iterator[World]:
    plain = (*_writes(), *_deletes(), *_duplicates(), *_lines(), *_switches(), *_faults(), *_versions(), *_ages(), *_nightly())
    groups = (*_empty_groups(), *_groups())
    yield from (*plain, *_more_groups(), *_epochs(), *_hands(), *groups)
    # The failures come last: what is simple is explored first.
    with_failures = [
        world for world in (*plain, *_more_groups(), *_epochs(), *groups) if not (_is_variant(world) or _is_large(world))
    ]
    yield from (world.failing("crash", CRASH) for world in with_failures)
    yield from (world.failing("unknown outcome", UNKNOWN_OUTCOME) for world in with_failures)
    yield from (world.failing("a failing read", READ_FAILS) for world in (*_writes(), *_deletes()) if not _is_variant(world))


def _is_variant(world: World) -> bool:
    """Whether it differs from another only in something that no failure has to do with."""
    return world.event_time_error_us != 0 or "any place" in world.name


def _is_large(world: World) -> bool:
    """Whether so many are at work that a failure among them would take days."""
    return world.nested and len(world.actors) == 3 and Rebuild() in world.actors


_STATED = stated.all_worlds()
_NOT_STATED = stated.Stated(preemptions=2, executions=0, reached=0)

WORLDS = {world.name: replace(world, preemptions=_STATED.get(world.name, _NOT_STATED).preemptions) for world in _all()}
