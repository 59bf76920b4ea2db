"""Documents that are in no balance: told by every command that reads or has read them."""

from __future__ import annotations

from collections.abc import Iterable

from balance.adapter import GROUP_ID_FIELD
from balance.database.firestore import Directory, Query
from balance.documents.layout import IN_GROUP, Layout
from balance.documents.sources import Kind, Malformed, is_document_id
from balance.documents.tally import Tally
from scripts.deployed import some
from scripts.output import Cell, Section, counted

_SAMPLE = 100


def of_no_group(firestore: Directory, layout: Layout) -> Tally:
    """Those that name no usable group; their events have left a fault of each."""
    tally = Tally()
    for fault in firestore.query(Query(collection=layout.faults(None))):
        told = {name: str((fault.fields or {}).get(name)) for name in ("source", "field", "reason")}
        tally.count(told["source"], Malformed(told["field"], told["reason"], None))
    return tally


def unseen(firestore: Directory, layout: Layout) -> str:
    """What to say when groups were read and not one document: "" if there are none, or if they were written after the instant
    of which the groups were read. For top-level collections only."""
    collections = [layout.collection(kind) for kind in Kind]
    counts = {name: firestore.count(name) for name in collections if IN_GROUP not in name}
    if not sum(counts.values()) or _some_group_has_documents(firestore, layout, counts):
        return ""
    told = " and ".join(f"{counted(count, 'document')} in {name}" for name, count in counts.items() if count)
    return (
        f"there {'is' if sum(counts.values()) == 1 else 'are'} {told}, but not one belongs to a group that was read:"
        " does GROUP_ID_FIELD of balance/adapter.py name the"
        " field with the group's id? `balance doctor` shows how documents are read"
    )


def _some_group_has_documents(firestore: Directory, layout: Layout, collections: Iterable[str]) -> bool:
    """Whether a document of a sample names a group that exists, by the field that queries go by."""
    sample = [document.fields or {} for name in collections for document in some(firestore, name, _SAMPLE)]
    named = {group_id for fields in sample if is_document_id(group_id := fields.get(GROUP_ID_FIELD))}
    return any(group.fields is not None for group in firestore.get([layout.group(group_id) for group_id in sorted(named)]))


def section(tally: Tally) -> Section:
    """The tally as rows."""
    counts = {"parsed": tally.parsed, "deleted": tally.deleted, "ignored": tally.ignored, "malformed": tally.malformed}
    rows: list[tuple[Cell, ...]] = [
        (f"{count:,}", f"{'document' if count == 1 else 'documents'} {name}") for name, count in counts.items() if count
    ]
    rows += [
        (f"{alike.count:,}", f"of these: {alike.field} {alike.reason}, such as {alike.example}") for alike in tally.by_count()
    ]
    if tally.mismatches:
        rows.append((f"{tally.mismatches:,}", f"whose splits do not add up to their amount, such as {tally.mismatch}"))
    return Section("documents", "", ("", ""), rows or [("0", "documents")], frozenset())
