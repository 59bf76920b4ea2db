"""The app's documents as the functions would read them: what posts, what is left out and why, what looks wrong."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from balance import adapter
from balance.core.money import Unit
from balance.database.firestore import Fields, Firestore, Snapshot
from balance.documents import sources
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, members, parse
from scripts.diagnosis.findings import Finding, Level
from scripts.diagnosis.sample import Sample
from scripts.output import counted

MANY = 0.1
"""Of so large a part of the documents something is no exception any more."""
ENOUGH = 10
"""From so few amounts nothing is concluded."""
LARGE = 1_000
"""Who writes 12.50 for a coffee has amounts below; who counts cents has not."""


@dataclass(slots=True)
class Tally:
    """What the documents of one kind are."""

    posts: int = 0
    posts_nothing: int = 0
    deleted: int = 0
    ignored: int = 0
    malformed: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """By field and reason: the documents."""
    mismatches: list[str] = field(default_factory=list)
    """Their splits do not add up to their amount."""
    strangers: list[tuple[str, str]] = field(default_factory=list)
    """(document, uid that is no member of its group)"""
    homeless: list[str] = field(default_factory=list)
    """Their group does not exist."""
    currencies: Counter[str] = field(default_factory=Counter)
    amounts: list[float] = field(default_factory=list)
    """Numbers of the documents whose currency has minor units, as they stand there."""

    @property
    def malformed_count(self) -> int:
        """How many."""
        return sum(map(len, self.malformed.values()))

    @property
    def total(self) -> int:
        """All of them."""
        return self.posts + self.posts_nothing + self.deleted + self.ignored + self.malformed_count


def look(firestore: Firestore, settings: Settings, sample: Sample) -> Iterator[Finding]:
    """All findings."""
    layout = settings.layout
    if not sample.chosen:
        yield Finding(
            Level.ERROR,
            f"the collection {layout.groups!r} holds no groups",
            "set GROUPS_COLLECTION in .env to your app's collection; is it the right project and database?",
        )
    else:
        yield from _of_groups(settings, sample)
    for kind in Kind:
        collection = layout.collection(kind)
        documents = sample.documents[kind]
        if not documents:
            yield Finding(
                Level.NOTE if sample.chosen else Level.ERROR,
                f"{collection}: no documents were found",
                f"if your app has any, set {kind.parameter} in .env to where they are",
            )
            continue
        tally = tally_of(firestore, settings, kind, documents, sample.groups)
        yield from _of_kind(kind, collection, tally)
        yield from _of_unit(settings, collection, tally)


def tally_of(
    firestore: Firestore, settings: Settings, kind: Kind, documents: list[Snapshot], groups: dict[str, Snapshot]
) -> Tally:
    """Read documents as the functions do; groups that they name and that are not known yet are added to `groups`."""
    tally = Tally()
    parsed = {
        document.path: parse(kind, document.fields, settings.unit, settings.layout.group_in_path(document.path))
        for document in documents
    }
    named = {found.group_id for found in parsed.values() if found.group_id is not None} - groups.keys()
    for group_id, group in zip(
        named, firestore.get([settings.layout.group(group_id) for group_id in named]) if named else [], strict=True
    ):
        groups[group_id] = group
    for document in documents:
        found = parsed[document.path]
        if isinstance(found, Malformed):
            tally.malformed.setdefault((found.field, found.reason), []).append(document.path)
            continue
        if found.group_id is None:
            if renamed(kind, document.fields or {}) is None:
                tally.ignored += 1
            else:
                tally.deleted += 1
            continue
        if found.postings:
            tally.posts += 1
        else:
            tally.posts_nothing += 1
        if found.split_mismatch:
            tally.mismatches.append(document.path)
        uids = {uid for posting in found.postings for uid in (posting.debtor, posting.creditor)}
        _look_closer(kind, document, uids, groups[found.group_id], tally, settings.unit)
    return tally


def _look_closer(kind: Kind, document: Snapshot, uids: set[str], group: Snapshot, tally: Tally, unit: Unit) -> None:
    if group.fields is None:
        tally.homeless.append(document.path)
    else:
        # A group that the adapter cannot read has been told before.
        with contextlib.suppress(sources.AdapterFailed):
            known = set(members(group.fields))
            tally.strangers += [(document.path, uid) for uid in sorted(uids - known)]
    fields = renamed(kind, document.fields or {}) or {}
    currency = str(fields.get("currency")).upper()
    tally.currencies[currency] += 1
    if unit.exponent(currency):
        splits = fields.get("splits")
        shares = [split.get("amount") for split in splits if isinstance(split, Mapping)] if isinstance(splits, list) else []
        tally.amounts += [amount for amount in (fields.get("amount"), *shares) if type(amount) in (int, float) and amount]


def renamed(kind: Kind, fields: Fields) -> Fields | None:
    """A document after the adapter; None when that says that it is not ours."""
    rename = getattr(adapter, kind.value)
    found: Fields | None = rename(fields)
    return found


def _of_groups(settings: Settings, sample: Sample) -> Iterator[Finding]:
    groups = [sample.groups[group_id] for group_id in sample.chosen]
    try:
        for at_fault in groups:
            sources.group(at_fault.fields or {})
    except sources.AdapterFailed as error:
        yield Finding(
            Level.ERROR,
            f"the adapter cannot read groups, such as {at_fault.path}: {error}",
            "correct `group` in balance/adapter.py: the read API answers members only",
        )
        return
    without = [group.path for group in groups if not members(group.fields or {})]
    shape = "map keyed by uid" if settings.members_as_map else "list of uids"
    other = [
        group.path
        for group in groups
        if isinstance(_members(group), Mapping) != settings.members_as_map and members(group.fields or {})
    ]
    if without:
        yield Finding(
            Level.WARNING if len(without) < len(groups) else Level.ERROR,
            f"{len(without)} of {counted(len(groups), 'group has', 'groups have')} no members that we can read, such as"
            f" {without[0]}",
            "name the field in balance/adapter.py (group, MEMBERS_FIELD): the read API answers members only",
        )
    if other:
        yield Finding(
            Level.ERROR,
            f"GROUP_MEMBERS says that members are a {shape}; in {len(other)} of {counted(len(groups), 'group')} they are not,"
            f" such as {other[0]}",
            f"set GROUP_MEMBERS={'list' if settings.members_as_map else 'map'} in .env: else nobody's groups are found",
        )
    if not without and not other:
        yield Finding(
            Level.OK, f"{settings.layout.groups}: {counted(len(groups), 'group has', 'groups have')} members, as a {shape}"
        )


def _members(group: Snapshot) -> Any:
    return sources.group(group.fields or {}).get("members")


def _of_kind(kind: Kind, collection: str, tally: Tally) -> Iterator[Finding]:
    counts = {
        ("posts", "post"): tally.posts,
        ("posts nothing", "post nothing"): tally.posts_nothing,
        ("is deleted", "are deleted"): tally.deleted,
        ("is ignored", "are ignored"): tally.ignored,
        ("is malformed", "are malformed"): tally.malformed_count,
    }
    told = ", ".join(counted(count, *what) for what, count in counts.items() if count)
    currencies = ", ".join(f"{code} ({count})" for code, count in tally.currencies.most_common(8))
    yield Finding(
        Level.OK,
        f"{collection}: of {counted(tally.total, 'document')} {told}" + (f"; currencies {currencies}" if currencies else ""),
    )
    for (name, reason), paths in sorted(tally.malformed.items(), key=lambda item: -len(item[1])):
        yield Finding(
            Level.LEFT_OUT,
            f"{collection}: {len(paths)} of {counted(tally.total, 'document is', 'documents are')} malformed: {name}"
            f" {reason}, such as {paths[0]}",
            f"correct them in your app, or rename the field in balance/adapter.py ({kind}); until then they are in no balance",
        )
    if tally.malformed_count == tally.total:
        yield Finding(
            Level.ERROR,
            f"{collection}: not one document is understood, so every balance would be empty",
            "the adapter does not fit: compare a document before and after it with --before-after",
        )
    elif tally.deleted == tally.total:
        yield Finding(
            Level.WARNING,
            f"{collection}: every document counts as deleted, so every balance would be empty",
            "does the adapter pass on as deletedAt what is no time of deletion? See --before-after",
        )
    if tally.mismatches:
        yield Finding(
            _if_many(len(tally.mismatches), tally),
            f"{collection}: the splits of {counted(len(tally.mismatches), 'document')} do not add up to their amount, such as"
            f" {tally.mismatches[0]}",
            "the splits count; look whether the app means something else by its amount",
        )
    if tally.strangers:
        path, uid = tally.strangers[0]
        yield Finding(
            _if_many(len({path for path, _ in tally.strangers}), tally),
            f"{collection}: {counted(len(tally.strangers), 'debt is', 'debts are')} of users that are no members of"
            " their group,"
            f" such as {uid!r} in {path}",
            "fine for members that have left; else the adapter takes something else for a uid",
        )
    if tally.homeless:
        yield Finding(
            _if_many(len(tally.homeless), tally),
            f"{collection}: {counted(len(tally.homeless), 'document names', 'documents name')} a group that does not exist,"
            f" such as {tally.homeless[0]}",
            "fine for deleted groups; else GROUPS_COLLECTION or the adapter's groupId is wrong",
        )


def _if_many(count: int, tally: Tally) -> Level:
    """A warning, if it is more than an exception."""
    return Level.WARNING if count >= MANY * tally.total and tally.total >= ENOUGH else Level.NOTE


def _of_unit(settings: Settings, collection: str, tally: Tally) -> Iterator[Finding]:
    amounts = tally.amounts
    fractions = [amount for amount in amounts if amount != int(amount)]
    is_minor = settings.unit.is_minor
    if is_minor and fractions:
        yield Finding(
            Level.ERROR,
            f"{collection}: AMOUNT_UNIT is minor, but {len(fractions)} of"
            f" {counted(len(amounts), 'amount has', 'amounts have')} fractions,"
            f" such as {fractions[0]}",
            "set AMOUNT_UNIT=major in .env, or have the adapter convert them: else balances are wrong a hundredfold",
        )
    elif not is_minor and len(amounts) >= ENOUGH and not fractions and median(amounts) >= LARGE:
        yield Finding(
            Level.ERROR,
            f"{collection}: AMOUNT_UNIT is major, but all {len(amounts)} amounts are whole and large"
            f" (median {median(amounts):,.0f})",
            "if they count cents, set AMOUNT_UNIT=minor in .env: else balances are wrong a hundredfold",
        )
    elif fractions or len(amounts) >= ENOUGH:
        yield Finding(Level.OK, f"{collection}: amounts look like {settings.unit} units (median {median(amounts):,g})")
    elif amounts:
        yield Finding(
            Level.NOTE,
            f"{collection}: {counted(len(amounts), 'whole amount is', 'whole amounts are')} too few to tell whether they count"
            f" {settings.unit} units, as AMOUNT_UNIT says (median {median(amounts):,g})",
            "compare one in your app: a wrong AMOUNT_UNIT makes balances wrong a hundredfold",
        )


def before_and_after(sample: Sample) -> Iterator[Finding]:
    """One document of each kind, and one group, before and after the adapter."""
    for name, document in (
        ("group", next(iter(sample.groups.values()), None)),
        *((kind.value, next(iter(sample.documents[kind]), None)) for kind in Kind),
    ):
        if document is not None:
            before = document.fields or {}
            try:
                after = getattr(adapter, name)(before)
            except Exception as error:  # noqa: BLE001 - the app's code may raise anything
                after = f"{type(error).__name__}: {error}"
            yield Finding(Level.NOTE, f"{document.path} is {_shown(before)}; after the adapter {_shown(after)}")


def _shown(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
