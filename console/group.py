"""One group: its balance as it is stored, whatever that holds, its records and its faults. Nothing is recalculated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from balance.core.money import Unit
from balance.database.firestore import Fields, Query, Snapshot
from balance.documents.outcome import Outcome
from balance.documents.sources import Kind, Malformed, members, parse
from balance.operations.reconcile import Difference, Report
from console.charts import Bar, Debt, Flow, bars, flow
from console.deployment import Deployment
from console.groups import NAME_FIELD, Fault, condition_of, fault_of
from console.words import Words, delta_in_words, record_verb, source_in_words, uids_of
from scripts.output import items, moment, stored

MAX_FAULTS = 100
MAX_SOURCES = 200
RECORDS = 20
MAX_RECORDS = 500


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a group is looked at."""

    currency: str = ""
    pairs: bool = False
    """Pairs instead of suggestions."""
    who: str = ""
    """Only debts of this user."""
    records: int = RECORDS


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a record tells."""

    at: datetime | None
    outcome: str
    source: str
    said: str
    """The document and what became of it: "expense e1 edited"."""
    changes: list[Words]


@dataclass(frozen=True, slots=True)
class View:
    """Everything that is shown of a group."""

    group_id: str
    name: str
    exists: bool
    members: list[str]
    condition: str
    why: str
    fields: list[tuple[str, str]]
    """Of the balance document, without its amounts."""
    currencies: list[str]
    choice: Choice
    """With the currency that is shown."""
    bars: list[Bar]
    debts: list[Debt]
    """Pairs or suggestions of the currency."""
    flow: Flow
    faults: list[Fault]
    records: list[Sentence]
    version: tuple[datetime | None, ...]
    """Another one when the group or its balance was written."""


def view(deployment: Deployment, group_id: str, choice: Choice) -> View:
    """Read a group as it stands."""
    firestore, settings = deployment.firestore, deployment.settings
    layout, unit = settings.layout, settings.unit
    group, balance = firestore.get([layout.group(group_id), layout.balance(group_id)])
    newest = Query(collection=layout.records(group_id), newest_by="appliedAt", limit=choice.records)
    records = list(firestore.query(newest))
    faults = [fault_of(it) for it in firestore.query(Query(collection=layout.faults(group_id), limit=MAX_FAULTS))]
    fields = balance.fields or {}
    currencies = _currencies(fields)
    currency = choice.currency if choice.currency in currencies or not currencies else _busiest(fields, currencies)
    debts = list(_pairs(fields, currency, unit) if choice.pairs else _suggestions(fields, currency, unit))
    if choice.who:
        debts = [debt for debt in debts if choice.who in (debt.debtor, debt.creditor)]
    debts.sort(key=lambda debt: -debt.weight)
    nets = list(_nets(fields, currency, unit))
    everybody = members(group.fields or {})
    condition, why = (
        condition_of(deployment, group, balance) if group.fields is not None else ("gone", "there is no such group")
    )
    deltas = [(record.fields or {}).get("delta") for record in records]
    deployment.names.learn([*everybody, *(net[0] for net in nets), *(uid for delta in deltas for uid in uids_of(delta))])
    name = (group.fields or {}).get(NAME_FIELD)
    return View(
        group_id,
        name if isinstance(name, str) else "",
        group.fields is not None,
        everybody,
        condition,
        why,
        [(name, _value(fields.get(name))) for name in _SHOWN if name in fields],
        currencies,
        replace(choice, currency=currency),
        bars(nets),
        debts,
        flow(debts),
        sorted(faults, key=lambda fault: (fault.since is None, fault.since and fault.since.timestamp())),
        _sentences(deployment, records),
        (group.update_time, balance.update_time),
    )


_SHOWN = ("version", "rules", "asOf", "lastUpdatedAt", "detail", "faults", "incarnation")


def version(deployment: Deployment, group_id: str) -> tuple[datetime | None, ...]:
    """What View.version is now; two reads."""
    layout = deployment.settings.layout
    group, balance = deployment.firestore.get([layout.group(group_id), layout.balance(group_id)])
    return (group.update_time, balance.update_time)


def _value(value: Any) -> str:
    return moment(value) if isinstance(value, datetime) else str(value)


def _currencies(fields: Fields) -> list[str]:
    named = [currency for currency, _ in items(fields.get("balancesByCurrency"))]
    suggested = fields.get("simplifiedDebts")
    more = [str(it.get("currency")) for it in suggested if isinstance(it, Mapping)] if isinstance(suggested, list) else []
    return sorted({*named, *more})


def _busiest(fields: Fields, currencies: list[str]) -> str:
    rows = dict(items(fields.get("balancesByCurrency")))
    return max(currencies, key=lambda currency: len(items(rows.get(currency))))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _nets(fields: Fields, currency: str, unit: Unit) -> Iterator[tuple[str, float, str]]:
    for uid, row in items(dict(items(fields.get("balancesByCurrency"))).get(currency)):
        net = row.get("netBalance") if isinstance(row, Mapping) else None
        yield uid, _number(net), stored(net, currency, unit)


def _pairs(fields: Fields, currency: str, unit: Unit) -> Iterator[Debt]:
    for uid, row in items(dict(items(fields.get("balancesByCurrency"))).get(currency)):
        for creditor, amount in items(row.get("owes") if isinstance(row, Mapping) else None):
            yield Debt(uid, creditor, _number(amount), stored(amount, currency, unit))


def _suggestions(fields: Fields, currency: str, unit: Unit) -> Iterator[Debt]:
    suggestions = fields.get("simplifiedDebts")
    for suggestion in suggestions if isinstance(suggestions, list) else []:
        try:
            if suggestion["currency"] == currency:
                amount = suggestion["amount"]
                debtor, creditor = str(suggestion["from"]["uid"]), str(suggestion["to"]["uid"])
                yield Debt(debtor, creditor, _number(amount), stored(amount, currency, unit))
        except (TypeError, KeyError):
            continue


def _sentences(deployment: Deployment, records: list[Snapshot]) -> list[Sentence]:
    layout = deployment.settings.layout
    fields = [record.fields or {} for record in records]
    sources = [str(it.get("source")) for it in fields if str(it.get("source")).count("/") % 2 == 1]
    distinct = list(dict.fromkeys(sources))
    present = {it.path: it for it in deployment.firestore.get(distinct)} if distinct else {}
    found = []
    for it in fields:
        source = str(it.get("source", "?"))
        try:
            said = f"{source_in_words(source, layout)} {record_verb(it, present.get(source))}"
        except (IndexError, KeyError, TypeError):
            said = source
        delta = it.get("delta")
        told = delta_in_words(delta, deployment.settings, source)
        if it.get("outcome") == Outcome.DISABLED:
            told = [["updates were switched off"]]
        applied = it.get("appliedAt")
        at = applied if isinstance(applied, datetime) else None
        found.append(Sentence(at, str(it.get("outcome", "?")), source, said, told))
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """A value of the stored document beside its recalculation."""

    what: str
    users: tuple[str, ...]
    stored: str
    recalculated: str
    differs: bool


def compare(deployment: Deployment, group_id: str, report: Report) -> dict[str, list[Compared]]:
    """Every value as stored and as recalculated, by currency ("" for the others), those that differ first."""
    settings = deployment.settings
    (balance,) = deployment.firestore.get([settings.layout.balance(group_id)])
    differences = {(it.what, it.currency, it.users): it for it in report.differences}
    sides: dict[str, list[Compared]] = {}
    for key, value in _values(balance.fields or {}):
        difference = differences.pop(key, None)
        sides.setdefault(key[1] or "", []).append(_compared(key, value, difference, settings.unit))
    for key, difference in differences.items():
        sides.setdefault(key[1] or "", []).append(_compared(key, difference.stored, difference, settings.unit))
    deployment.names.learn([uid for rows in sides.values() for row in rows for uid in row.users])
    return {
        currency: sorted(rows, key=lambda row: not row.differs)
        for currency, rows in sorted(
            sides.items(), key=lambda side: (not any(row.differs for row in side[1]), not side[0], side[0])
        )
    }


Key = tuple[str, str | None, tuple[str, ...]]
"""As a Difference has it: what, currency, users."""


def _values(fields: Fields) -> Iterator[tuple[Key, Any]]:
    for name in _SHOWN:
        if name in fields:
            yield (name, None, ()), fields[name]
    for currency, rows in items(fields.get("balancesByCurrency")):
        for uid, row in items(rows):
            row = row if isinstance(row, Mapping) else {}
            yield ("netBalance", currency, (uid,)), row.get("netBalance")
            for creditor, amount in items(row.get("owes")):
                yield ("owes", currency, (uid, creditor)), amount
    for suggestion in fields.get("simplifiedDebts") or []:
        try:
            users = (str(suggestion["from"]["uid"]), str(suggestion["to"]["uid"]))
            yield ("suggestion", str(suggestion["currency"]), users), suggestion["amount"]
        except (TypeError, KeyError):
            continue


def _compared(key: Key, value: Any, difference: Difference | None, unit: Unit) -> Compared:
    what, currency, users = key

    def text(amount: Any) -> str:
        if amount is None:
            return "nothing"
        return stored(amount, currency, unit) if currency else _value(amount)

    if difference is None:
        return Compared(what, users, text(value), text(value), differs=False)
    return Compared(what, users, text(difference.stored), text(difference.recalculated), differs=True)


@dataclass(frozen=True, slots=True)
class Source:
    """An expense or settlement of a group."""

    path: str
    kind: Kind
    text: str
    """What it says, in short; or what is wrong with it."""
    is_deleted: bool
    is_faulty: bool
    update_time: datetime | None


def sources(deployment: Deployment, group_id: str) -> list[Source]:
    """The group's documents, the newest first; at most MAX_SOURCES of each kind are read."""
    settings = deployment.settings
    found = []
    for kind in Kind:
        query = replace(settings.layout.sources(kind, group_id), limit=MAX_SOURCES)
        for document in deployment.firestore.query(query):
            fields = document.fields or {}
            parsed = parse(kind, fields, settings.unit, settings.layout.group_in_path(document.path))
            faulty = isinstance(parsed, Malformed)
            text = (
                f"{parsed.field} {parsed.reason}" if isinstance(parsed, Malformed) else _in_short(kind, fields, settings.unit)
            )
            found.append(Source(document.path, kind, text, bool(fields.get("deletedAt")), faulty, document.update_time))
    return sorted(found, key=lambda source: source.update_time.timestamp() if source.update_time else 0, reverse=True)


def _in_short(kind: Kind, fields: Fields, unit: Unit) -> str:
    amount = stored(fields.get("amount"), str(fields.get("currency", "?")), unit)
    if kind is Kind.SETTLEMENT:
        return f"{fields.get('payerId', '?')} pays {fields.get('payeeId', '?')} {amount}"
    shares = fields.get("splits")
    among = f" for {len(shares)}" if isinstance(shares, list) else ""
    what = fields.get("description")
    return f"{_payers(fields.get('paidBy'))} paid {amount}{among}" + (f": {what}" if isinstance(what, str) and what else "")


def _payers(paid_by: Any) -> str:
    """One uid, or several payers."""
    if isinstance(paid_by, list):
        return " and ".join(str(payer.get("uid", "?")) if isinstance(payer, Mapping) else "?" for payer in paid_by) or "?"
    return str(paid_by)
