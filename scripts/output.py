"""How the subcommands tell what they found: tables for people, plain columns for a pipe, in the same words everywhere.

On a terminal long uids are shortened in the middle, or replaced by names. In a pipe nothing is shortened: each line is a row,
its cells are separated by tabs, and its first cell says of what it is a row.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from balance.core.money import InvalidAmount, Unit, from_stored, scale
from balance.database.firestore import Firestore
from scripts.command import Refused

LONGEST_UID = 16
"""Firebase's own have 28 characters."""
NAME_FIELDS = ("displayName", "name")


def moment(value: Any) -> str:
    """A time, always in this form: 2026-01-31 08:15:00Z."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return "-" if value is None else str(value)


def counted(count: int, one: str, more: str | None = None) -> str:
    """A number with what it counts: "1 group", "1,200 groups"; `more` where that is not `one` with an s."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def minor(amount_minor: Any, currency: str, unit: Unit) -> str:
    """Minor units as an amount in major units: "1,234.50 USD"."""
    decimals = unit.exponent(currency)
    if type(amount_minor) is not int or decimals is None:
        return f"? {currency}"
    return f"{Decimal(amount_minor).scaleb(-decimals):,.{decimals}f} {currency}"


def stored(amount: Any, currency: str, unit: Unit) -> str:
    """A number of a stored document, which counts units of the app, as an amount in major units."""
    minor_per_unit = scale(currency, unit)
    try:
        return minor(from_stored(amount, minor_per_unit or 1), currency, unit)
    except InvalidAmount:
        return f"{amount}? {currency}"


def shortened(uid: str, longest: int = LONGEST_UID) -> str:
    """A long uid, shortened in the middle: "Xy3kPq1n…8dLw2Zt"."""
    if len(uid) <= longest:
        return uid
    front = longest // 2
    return f"{uid[:front]}…{uid[len(uid) - (longest - 1 - front) :]}"


@dataclass(frozen=True, slots=True)
class User:
    """A cell, or a part of one, that is a user."""

    uid: str


Cell = str | User | tuple["str | User", ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one kind. `name` is the first cell of each in a pipe."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    right: frozenset[str] = frozenset()
    """Columns that are aligned to the right."""


@dataclass(slots=True)
class Names:
    """Users by the names that the app has for them: documents `COLLECTION/{uid}` with the name in a field."""

    firestore: Firestore | None = None
    collection: str | None = None
    name_field: str | None = None
    known: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, firestore: Firestore, option: str | None) -> Names:
        """As --names COLLECTION[:FIELD] has it. Raises Refused."""
        collection, _, name = (option or "").partition(":")
        if option is not None and collection.count("/") % 2 + (not collection):
            raise Refused(f"--names {option}: it must be COLLECTION or COLLECTION:FIELD")
        return cls(firestore, collection or None, name or None)

    def learn(self, uids: Sequence[str]) -> None:
        """Look up names, in one call; a user without one stays a uid."""
        unknown = [uid for uid in dict.fromkeys(uids) if uid not in self.known and "/" not in uid]
        if not self.collection or not unknown or self.firestore is None:
            return
        for snapshot in self.firestore.get([f"{self.collection}/{uid}" for uid in unknown]):
            fields = snapshot.fields or {}
            names = (fields.get(name) for name in ((self.name_field,) if self.name_field else NAME_FIELDS))
            uid = snapshot.path.rpartition("/")[2]
            self.known[uid] = next((name for name in names if isinstance(name, str) and name), shortened(uid))

    def __getitem__(self, uid: str) -> str:
        """What to call a user on a terminal."""
        return self.known.get(uid) or shortened(uid)


names_option = click.option("--names", metavar="COLLECTION[:FIELD]", help="Names instead of uids: COLLECTION/{uid}.")


def is_terminal() -> bool:
    """Whether people read standard output."""
    return Console().is_terminal


def print_row(*cells: str) -> None:
    """A row for a pipe."""
    sys.stdout.write("\t".join(_plain(cell) for cell in cells) + "\n")
    sys.stdout.flush()


def print_sections(sections: Sequence[Section], names: Names, console: Console) -> None:
    """Tables on a terminal, tab-separated lines elsewhere."""
    if console.is_terminal:
        console.print(tables(sections, names))
        return
    for section in sections:
        for row in section.rows:
            print_row(section.name, *(_plain(cell) for cell in row))


def tables(sections: Sequence[Section], names: Names) -> Group:
    """For a terminal."""
    cells = [cell for section in sections for row in section.rows for cell in row]
    names.learn([part.uid for cell in cells for part in _parts(cell) if isinstance(part, User)])
    return Group(*(_table(section, names) for section in sections))


def _table(section: Section, names: Names) -> RenderableType:
    if not section.rows:
        return Text(f"{section.title}: none\n")
    titled = any(section.columns)
    table = Table(
        title=section.title or None,
        title_justify="left",
        title_style="bold",
        show_header=titled,
        box=SIMPLE_HEAD if titled else None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for column in section.columns:
        table.add_column(column, justify="right" if column in section.right else "left", overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(_named(cell, names)) for cell in row))
    return table


def _named(cell: Cell, names: Names) -> str:
    return "".join(names[part.uid] if isinstance(part, User) else part for part in _parts(cell))


def _parts(cell: Cell) -> tuple[str | User, ...]:
    return cell if isinstance(cell, tuple) else (cell,)


def _plain(cell: Cell) -> str:
    text = "".join(part.uid if isinstance(part, User) else part for part in _parts(cell))
    return " ".join(text.split("\n")).replace("\t", " ")


def change(debtor: str, creditor: str, amount_minor: Any, currency: str, unit: Unit) -> Cell:
    """By how much somebody now owes somebody more, in words; owing less is the same as being owed more."""
    if type(amount_minor) is not int:
        return (User(debtor), " owes ", User(creditor), f" ? {currency} more")
    word = "more" if amount_minor >= 0 else "less"
    return (User(debtor), " owes ", User(creditor), f" {minor(abs(amount_minor), currency, unit)} {word}")


def changes(delta: Any, unit: Unit) -> list[Cell]:
    """A record's delta, whatever it holds."""
    try:
        return [
            change(debtor, creditor, amount_minor, currency, unit)
            for currency, debtors in delta.items()
            for debtor, creditors in debtors.items()
            for creditor, amount_minor in creditors.items()
        ]
    except AttributeError:
        return ["?"]


def items(value: Any) -> list[tuple[str, Any]]:
    """The items of a map, sorted; nothing of anything else."""
    return sorted(value.items()) if isinstance(value, Mapping) else []
