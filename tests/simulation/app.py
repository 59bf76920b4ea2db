"""The app: what its clients write to expenses, settlements and groups, without any idea of balances."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Protocol, TypeVar

from google.cloud.firestore_v1 import types

from tests.simulation.product import LATER_CURRENCY
from tests.simulation.profile import Profile
from tests.simulation.translation import ROOT
from tests.simulation.values import Read, fields_of

T = TypeVar("T")

Log = Callable[[str, str], None]
"""(who, what)"""

_WritePb = types.Write.pb()

AMOUNTS: tuple[object, ...] = (1, 1, 1, 2, 3, 5, 10, 2.5, 0.1, "4", "3.335", 0)
SHARES: tuple[object, ...] = (*AMOUNTS, 10 / 3, 10 / 3, 4.285714285714286, "0.005", 0.0005, -1, -2, -2.5, -10 / 3, "-0.005")
"""Of an expense: thirds, sevenths and refunds, too."""
MALFORMED: tuple[tuple[str, object], ...] = (
    ("amount", None),
    ("amount", True),
    ("amount", -1),
    ("amount", "1,5"),
    ("amount", float("nan")),
    ("amount", 10**16),
    ("currency", "XXX"),
    ("currency", 7),
    ("groupId", ""),
    ("groupId", "a/b"),
    ("groupId", 5),
    ("deletedAt", "2020-01-01"),
    ("deletedAt", 0),
)
DELETED: tuple[object, ...] = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), True)


class Database(Protocol):
    """Where the app writes to."""

    def post(self, writes: Sequence[Any]) -> None:
        """Commit `google.firestore.v1.Write` messages."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The names that a schedule uses."""

    groups: list[str]
    users: list[str]
    sources: list[str]
    """Paths of expenses and settlements; each comes and goes."""


def scene(random: Random, profile: Profile, prefix: str = "") -> Scene:
    """The names, few enough that everything meets everything; those of groups and documents begin with `prefix`."""
    groups = [f"{prefix}g{number}" for number in range(profile.groups)]
    users = ["ana", "bo.b", "cy`s", "Dée"][: profile.users]
    sources = []
    for number in range(profile.documents):
        kind, letter = ("expenses", "e") if number == 0 or random.random() < 0.65 else ("settlements", "s")
        parent = f"groups/{groups[number % len(groups)]}/" if profile.nested else ""
        sources.append(f"{parent}{kind}/{prefix}{letter}{number}")
    return Scene(groups, users, sources)


class App:
    """Writes by chance."""

    def __init__(
        self,
        database: Database,
        documents: Mapping[str, Any],
        random: Random,
        profile: Profile,
        scene: Scene,
        log: Log | None,
        read: Read = fields_of,
    ) -> None:
        """`documents` are those that exist, by path."""
        self._database = database
        self._documents = documents
        self._fields = read
        self._random = random
        self._profile = profile
        self._scene = scene
        self._log = log
        self._currencies = ["USD", "USD", "EUR", "JPY", "KWD"]
        if profile.new_rules:
            self._currencies += [LATER_CURRENCY, LATER_CURRENCY]

    def set_up(self) -> None:
        """Create the groups."""
        self._commit([self._set(f"groups/{group}", {"members": self._scene.users}) for group in self._scene.groups])

    def write(self) -> None:
        """Change one document, sometimes two at once."""
        sources = self._scene.sources
        chosen = [sources[int(self._random.random() * len(sources))]]
        if self._random.random() < 0.1:
            chosen = list({*chosen, sources[0]})
            chosen.sort()
        self._commit([self._change(path) for path in chosen])

    def toggle_group(self) -> None:
        """Delete a group, or create it again."""
        path = f"groups/{self._one_of(self._scene.groups)}"
        if self._read(path) is None:
            self._commit([self._set(path, {"members": self._scene.users})])
        else:
            self._commit([_WritePb(delete=ROOT + path)])

    def restore_group(self) -> None:
        """Create one of the groups that are deleted again, if there is any."""
        gone = [path for group in self._scene.groups if self._read(path := f"groups/{group}") is None]
        if gone:
            self._commit([self._set(self._one_of(gone), {"members": self._scene.users})])

    def create_group(self, group: str) -> None:
        """Create a group, unless it exists."""
        path = f"groups/{group}"
        if self._read(path) is None:
            self._commit([self._set(path, {"members": self._scene.users})])

    def below(self, group: str) -> list[str]:
        """The paths of all documents below a group, or that an app would delete with it, in some order."""
        prefix = f"groups/{group}/"
        found = sorted(
            path
            for path in self._documents
            if path.startswith(prefix)
            or (path.split("/")[0] in ("expenses", "settlements") and (self._read(path) or {}).get("groupId") == group)
        )
        return sorted(found, key=lambda _: self._random.random())

    def delete(self, path: str) -> None:
        """Delete a document, if it exists."""
        if path in self._documents:
            self._commit([_WritePb(delete=ROOT + path)])

    def _change(self, path: str) -> Any:
        present = self._read(path)
        random = self._random
        roll = random.random()
        if present is None:
            return self._set(path, self._malformed(path) if roll < 0.05 else self._document(path))
        changed = dict(present)
        if roll < 0.22:
            return _WritePb(delete=ROOT + path)
        if present.get("deletedAt"):
            if roll < 0.75:
                if random.random() < 0.5:
                    changed["deletedAt"] = False
                else:
                    del changed["deletedAt"]
            elif roll < 0.9:
                changed["amount"] = self._one_of(AMOUNTS)
            return self._set(path, changed)
        if roll < 0.36:
            changed["deletedAt"] = self._one_of(DELETED)
        elif roll < 0.41:
            changed = self._malformed(path)
        elif roll < 0.51:
            changed["groupId"] = self._one_of(self._scene.groups)
        elif roll < 0.57:
            changed["currency"] = self._one_of(self._currencies)
        elif roll < 0.61:
            changed["note"] = random.randrange(3)
        elif roll >= 0.64:
            changed = self._document(path)
            if random.random() < 0.7:
                changed["groupId"] = present.get("groupId")
        return self._set(path, changed)

    def _document(self, path: str) -> dict[str, Any]:
        users, one_of = self._scene.users, self._one_of
        data: dict[str, Any] = {
            "groupId": one_of(self._scene.groups),
            "currency": one_of(self._currencies),
            "amount": one_of(AMOUNTS),
        }
        if self._random.random() < 0.2:
            data["currency"] = data["currency"].lower()
        if self._random.random() < 0.5:
            data["deletedAt"] = one_of((None, False))
        if path.split("/")[-2] == "expenses":
            sharers = [user for user in users if self._random.random() < 0.7] or users
            amounts = one_of((AMOUNTS, SHARES))
            splits = [{"uid": user, "amount": one_of(amounts)} for user in sharers]
            data |= {"paidBy": one_of(users) if self._random.random() < 0.7 else self._payers(splits), "splits": splits}
        else:
            payer = one_of(users)
            others = [user for user in users if user != payer] if self._random.random() < 0.9 else users
            data |= {"payerId": payer, "payeeId": one_of(others)}
        return data

    def _payers(self, splits: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Several payers who add up to the splits, now and then not."""
        paid = [{"uid": self._one_of(self._scene.users), "amount": split["amount"]} for split in splits]
        roll = self._random.random()
        if roll < 0.1:
            paid[0]["amount"] = self._one_of(SHARES)
        elif roll < 0.5:
            lent = self._one_of((1, 3, 2.5))
            paid += [{"uid": self._one_of(self._scene.users), "amount": amount} for amount in (lent, -lent)]
        return paid

    def _malformed(self, path: str) -> dict[str, Any]:
        name, value = self._one_of(MALFORMED)
        data = self._document(path)
        if name == "groupId" and self._profile.nested:
            name, value = "currency", None
        data[name] = value
        if self._random.random() < 0.1:
            del data[name]
        return data

    def _one_of(self, choices: Sequence[T]) -> T:
        return choices[int(self._random.random() * len(choices))]

    def _read(self, path: str) -> dict[str, Any] | None:
        document = self._documents.get(path)
        return None if document is None else self._fields(document)

    def _set(self, path: str, data: dict[str, Any]) -> Any:
        return write_of(ROOT + path, data)

    def _commit(self, writes: Sequence[Any]) -> None:
        if self._log is not None:
            self._log("app", ", ".join(_shown(write) for write in writes))
        self._database.post(writes)


def write_of(name: str, fields: Mapping[str, Any] | None) -> Any:
    """The `google.firestore.v1.Write` message that sets a document, by its full name, or deletes it (None)."""
    if fields is None:
        return _WritePb(delete=name)
    write = _WritePb()
    write.update.name = name
    for key, value in fields.items():
        _encode(write.update.fields[key], value)
    return write


def _encode(message: Any, value: Any) -> None:
    match value:
        case None:
            message.null_value = 0
        case bool():
            message.boolean_value = value
        case int():
            message.integer_value = value
        case float():
            message.double_value = value
        case str():
            message.string_value = value
        case datetime():
            message.timestamp_value.FromDatetime(value)
        case list():
            message.array_value.SetInParent()
            for item in value:
                _encode(message.array_value.values.add(), item)
        case dict():
            message.map_value.SetInParent()
            for key, item in value.items():
                _encode(message.map_value.fields[key], item)


def _shown(write: Any) -> str:
    if write.delete:
        return f"delete {write.delete[len(ROOT) :]}"
    return f"set {write.update.name[len(ROOT) :]} {fields_of(write.update)}"
