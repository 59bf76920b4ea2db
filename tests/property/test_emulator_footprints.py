"""Calls whose footprints do not conflict may change places: the answers and what follows are the same.

From a random state, two calls are made in both orders, each time on an engine of its own. If that makes a difference
anywhere, their footprints must conflict. What the footprints leave out on purpose is taken away to see the check fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from emulator.engine import Engine, Settings
from emulator.errors import RpcError
from emulator.footprints import Footprint
from emulator.transactions import Waiting
from tests.property.test_emulator_serialisability import DATABASE, NAMES, Question, number_of, write_of

ELSEWHERE = f"{DATABASE}/documents/elsewhere/a/numbers/a"
EVERYTHING = [*NAMES, ELSEWHERE]
QUESTION = Question(0)


@dataclass(frozen=True)
class Call:
    """One call of the engine; `client` numbers the transaction, None is outside of one."""

    kind: str
    client: int | None
    names: tuple[str, ...] = ()
    question: Question = QUESTION
    number: int | None = 0

    def on(self, world: World) -> Any:
        engine, id_ = world.engine, world.id_of(self.client)
        if self.kind == "get":
            return engine.get(self.names, id_)
        if self.kind == "query":
            return engine.query(self.question.prepared(), id_)
        if self.kind == "commit":
            return engine.commit(self.writes(), id_)
        assert id_ is not None
        return engine.rollback(id_)

    def footprint(self, world: World) -> Footprint:
        engine, id_ = world.engine, world.id_of(self.client)
        if self.kind == "get":
            return engine.footprint_of_get(self.names, id_)
        if self.kind == "query":
            return engine.footprint_of_query(self.question.prepared(), id_)
        if self.kind == "commit":
            return engine.footprint_of_commit(self.writes(), id_)
        assert id_ is not None
        return engine.footprint_of_rollback(id_)

    def writes(self) -> list[Any]:
        return [write_of(name, self.number) for name in self.names]


class World:
    """An engine, in which some transactions have begun and some calls were made."""

    def __init__(self, settings: Settings, optimistic: list[bool]) -> None:
        self.engine = Engine(DATABASE, lambda: 1_000_000_000, settings=settings)
        self.engine.commit([write_of(name, 10 * index) for index, name in enumerate(NAMES[:4])])
        self.ids = [self.engine.begin(optimistic=mode) for mode in optimistic]
        self.answers: list[tuple[Call, Any]] = []
        self.footprints: list[Footprint] = []

    def id_of(self, client: int | None) -> bytes | None:
        return None if client is None else self.ids[client]

    def waits(self, client: int | None) -> bool:
        return any(call.client == client and is_waiting(answer) for call, answer in self.answers)

    def make(self, call: Call) -> Footprint:
        """Make the call; returns what it touched, with what was touched by those who waited for it."""
        touched = call.footprint(self)
        waited = [(number, answer) for number, (_, answer) in enumerate(self.answers) if is_waiting(answer)]
        try:
            answer = call.on(self)
        except RpcError as error:
            answer = error
        self.answers.append((call, answer))
        self.footprints.append(touched)
        for number, other in waited:
            if not is_waiting(other):
                touched = touched | self.footprints[number]
        return touched

    def described(self) -> dict[str, Any]:
        """All that is to be the same, whichever came first. Times are not, but what is seen at them is."""
        engine = self.engine
        found: dict[str, Any] = {repr(call): self.shown(answer) for call, answer in self.answers}
        found["documents"] = self.seen(None)
        for number, id_ in enumerate(self.ids):
            transaction = engine._transactions.get(id_)
            if transaction is None:
                found[f"transaction {number}"] = "ended"
                continue
            found[f"transaction {number}"] = (
                transaction.doomed,
                sorted(engine.locks_of(id_).items()),
                transaction.snapshot_us is not None and self.seen(transaction.snapshot_us),
            )
        found["queues"] = {
            name: [
                (request.owner.born[0] if request.owner in engine._transactions.values() else "outside", request.wants)
                for request in lock.queue
            ]
            for name, lock in sorted(engine._locks._locks.items())
        }
        found["contended"] = sorted(engine._contended_until_us)
        return found

    def seen(self, at_us: int | None) -> list[int | None]:
        documents = [self.engine._store.get(name, at_us) for name in EVERYTHING]
        return [None if document is None else number_of(document) for document in documents]

    def shown(self, answer: Any) -> Any:
        if isinstance(answer, Waiting):
            if is_waiting(answer):
                return "waits"
            try:
                answer = answer.result()
            except RpcError as error:
                answer = error
        if isinstance(answer, RpcError):
            return answer.code
        documents = getattr(answer, "documents", None) or getattr(answer, "value", None) or []
        return [None if document is None else (document.name, number_of(document)) for document in documents]


def is_waiting(answer: Any) -> bool:
    return isinstance(answer, Waiting) and not answer.is_done


def random_call(random: Random, client: int | None) -> Call:
    names = tuple(random.sample(EVERYTHING, random.randint(1, 2)))
    kind = random.choice(("get", "get", "query", "commit", "rollback"))
    if kind == "rollback" and client is None:
        kind = "commit"
    if kind == "commit" and random.random() < 0.2 and client is not None:
        names = ()
    number = None if random.random() < 0.2 else random.randrange(100)
    return Call(kind, client, names, Question(random.randrange(0, 80, 10)), number)


def differences(random: Random, weakened: Callable[[Footprint], Footprint] | None = None) -> tuple[int, int, list[str]]:
    """Two calls in both orders: whether they may change places, whether it made a difference, and what is wrong."""
    settings = Settings(contention_memory_us=random.choice((0, 1_000_000)))
    optimistic = [random.random() < 0.25 for _ in range(5)]
    history: list[Call] = []
    scratch = World(settings, optimistic)

    def next_call(others: tuple[int | None, ...] = ()) -> Call:
        free = [each for each in (None, *range(5)) if each is None or (each not in others and not scratch.waits(each))]
        free = [each for each in free if each is None or scratch.engine.is_active(scratch.ids[each])]
        return random_call(random, random.choice(free))

    for _ in range(random.randint(0, 9)):
        history.append(next_call())
        scratch.make(history[-1])
    first = next_call()
    second = next_call((first.client,))
    if first == second:
        return 0, 0, []
    worlds, footprints = [], []
    for order in ((first, second), (second, first)):
        world = World(settings, optimistic)
        for call in history:
            world.make(call)
        footprints.append(world.make(order[0]))
        world.make(order[1])
        worlds.append(world.described())
    a, b = map(weakened, footprints) if weakened is not None else footprints
    conflict = a.conflicts_with(b) or (a.fixes_instant and bool(b.writes)) or (b.fixes_instant and bool(a.writes))
    differs = worlds[0] != worlds[1]
    faults = []
    if differs and not conflict:
        changed = {key: (worlds[0].get(key), worlds[1].get(key)) for key in worlds[0] if worlds[0][key] != worlds[1].get(key)}
        faults.append(f"after {history}: {first} with {a} and {second} with {b}: {changed}")
    return not conflict, differs, faults


def test_calls_whose_footprints_do_not_conflict_commute() -> None:
    commuting = different = 0
    for seed in range(1_500):
        may_swap, differs, faults = differences(Random(seed))
        assert faults == [], f"seed {seed}"
        commuting += may_swap
        different += differs
    assert commuting > 500, "the footprints say too much"
    assert different > 120, "the calls hardly met: nothing was tested"


@pytest.mark.parametrize("part", ["reads", "writes", "queries", "changes", "takes", "shares", "fixes_instant"])
def test_no_part_of_a_footprint_could_be_left_out(part: str) -> None:
    def weakened(footprint: Footprint) -> Footprint:
        return Footprint(**footprint._asdict() | {part: Footprint._field_defaults[part]})

    assert any(differences(Random(seed), weakened)[2] for seed in range(3_000))
