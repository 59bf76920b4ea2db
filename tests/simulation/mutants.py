"""The ways in which the protocol could be weakened, each as edits to the product's source.

`killed_by` are seeds with which the simulator once caught it: the gate starts there, and goes on to others when the schedules
of these seeds have changed.
"""

from dataclasses import dataclass

from tests.simulation.product import Edit


@dataclass(frozen=True, slots=True)
class Mutant:
    """A weakened product."""

    name: str
    weakening: str
    edits: tuple[Edit, ...]
    killed_by: tuple[int, ...] = ()


_COMMIT = "    committed_at = attempt.commit([write, *creations])\n"

MUTANTS = (
    Mutant(
        "no-record",
        "no record is written",
        (Edit("protocol.apply", _COMMIT, "    committed_at = attempt.commit([write])\n"),),
        killed_by=(1, 2, 4),
    ),
    Mutant(
        "record-after",
        "the record is written outside the transaction, after it",
        (
            Edit(
                "protocol.apply",
                _COMMIT,
                "    committed_at = attempt.commit([write])\n"
                "    with transaction(attempt._firestore) as later:\n"
                "        later.get([stored.path])\n"
                "        later.commit(creations)\n",
            ),
        ),
        killed_by=(17, 21, 35),
    ),
    Mutant(
        "record-before",
        "the record is written outside the transaction, before it",
        (
            Edit(
                "protocol.apply",
                _COMMIT,
                "    with transaction(attempt._firestore) as earlier:\n"
                "        earlier.get([recorded[0].path + '-'])\n"
                "        earlier.commit(creations)\n"
                "    committed_at = attempt.commit([write])\n",
            ),
        ),
        killed_by=(2, 4, 8),
    ),
    Mutant(
        "record-by-event-id",
        "the record is keyed by the event's id",
        (
            Edit("protocol.apply", "{change.write.key}", "{change.event_id}"),
            Edit("protocol.rebuild", "{change.write.key}", "{change.event_id}"),
            Edit("protocol.gaps", "{change.write.key}", "{change.event_id}"),
            Edit("protocol.bookkeeper", "member.write.key: member", "member.event_id: member"),
            Edit("protocol.bookkeeper", "by_key.pop(member.write.key", "by_key.pop(member.event_id"),
        ),
        killed_by=(1, 2, 4),
    ),
    Mutant(
        "delta-beside-rebuild",
        "a batch adds a delta beside a rebuild",
        (
            Edit(
                "protocol.rebuild",
                "if found.fields is None and not change.write.held_given(as_of, history.versions.get(change.write.source)):",
                "if found.fields is None:",
            ),
        ),
        killed_by=(2, 4, 6),
    ),
    Mutant(
        "no-record-when-cancelled",
        "a batch writes no records when its deltas cancel",
        (
            Edit(
                "protocol.apply",
                "    after = balances.applied(",
                "    if not delta:\n"
                "        return [Result(group_id, outcome) for outcome in outcomes]\n"
                "    after = balances.applied(",
            ),
        ),
        killed_by=(659, 802, 929),
    ),
    Mutant(
        "as-of-behind",
        "asOf comes from a local clock, 20 ms behind",
        (
            Edit(
                "protocol.rebuild",
                "balances.document(group_id, balance, as_of, settings.unit)",
                "balances.document(group_id, balance, as_of - timedelta(milliseconds=20), settings.unit)",
            ),
        ),
        killed_by=(14, 16, 18),
    ),
    Mutant(
        "as-of-ahead",
        "asOf comes from a local clock, 20 ms ahead",
        (
            Edit(
                "protocol.rebuild",
                "balances.document(group_id, balance, as_of, settings.unit)",
                "balances.document(group_id, balance, as_of + timedelta(milliseconds=20), settings.unit)",
            ),
            Edit(
                "protocol.apply",
                "balance.as_of <= stored.read_time",
                "balance.as_of <= stored.read_time + (balance.as_of - balance.as_of)",
            ),
        ),
        killed_by=(38, 100, 101),
    ),
    Mutant(
        "as-of-after-snapshot",
        "asOf is read after the snapshot",
        (
            Edit(
                "protocol.rebuild",
                "balances.document(group_id, balance, as_of, settings.unit)",
                "balances.document(group_id, balance, stored.read_time, settings.unit)",
            ),
        ),
        killed_by=(20, 24, 38),
    ),
    Mutant(
        "snapshot-at-present",
        "the history is read as it is, not as of asOf",
        (
            Edit(
                "protocol.rebuild",
                "firestore.query(layout.sources(kind, group_id), read_time=as_of)",
                "firestore.query(layout.sources(kind, group_id))",
            ),
        ),
        killed_by=(24, 101, 121),
    ),
    Mutant(
        "strictly-before",
        "c < asOf",
        (Edit("documents.writes", "self.update_time <= as_of", "self.update_time < as_of"),),
        killed_by=(101, 139, 176),
    ),
    Mutant(
        "delete-by-event-time",
        "a hard delete is judged by the event's time alone",
        (
            Edit(
                "documents.writes",
                "        if self.update_time > as_of or self.deleted_at > as_of + EVENT_TIME_ERROR:\n",
                "        return Held.YES if self.deleted_at <= as_of else Held.NO\n"
                "        if self.update_time > as_of or self.deleted_at > as_of + EVENT_TIME_ERROR:\n",
            ),
        ),
        killed_by=(42, 75, 83),
    ),
    Mutant(
        "newer-records-ignored",
        "a rebuild ignores the records that are newer than its snapshot",
        (Edit("protocol.rebuild", "for document in attempt.query(since):", "for document in attempt.query(since)[:0]:"),),
        killed_by=(4, 45, 134),
    ),
    Mutant(
        "snapshot-used-up",
        "the second attempt of a rebuild's transaction adds the newer records once more",
        (Edit("protocol.rebuild", "{currency: dict(pairs) for currency, pairs in history.ledger.items()}", "history.ledger"),),
        killed_by=(769, 1014, 1622),
    ),
    Mutant(
        "no-later-as-of-stop",
        "a rebuild overwrites one from a later snapshot",
        (Edit("protocol.rebuild", "as_of < stored_as_of <= stored.read_time", "False"),),
        killed_by=(195, 287, 355),
    ),
    Mutant(
        "no-age-gate",
        "no age gate",
        (Edit("protocol.apply", "if change.write.time < oldest:", "if False:"),),
        killed_by=(68, 164, 178),
    ),
    Mutant(
        "newer-version-accepted",
        "no version check: a delta is added to a newer version's balance",
        (Edit("protocol.apply", "if version > VERSION:", "if False:"),),
        killed_by=(78, 86, 153),
    ),
    Mutant(
        "older-version-accepted",
        "no version check: a delta is added to an older version's balance",
        (Edit("protocol.apply", "if version < VERSION:", "if version == balances.STALE:"),),
        killed_by=(2, 20, 62),
    ),
    Mutant(
        "newer-version-overwritten",
        "no version check: a rebuild that nobody forces overwrites a newer version's balance",
        (
            Edit("protocol.apply", "        raise NewerVersion(", "        return None\n        raise NewerVersion("),
            Edit("protocol.rebuild", "if balances.stored_version(stored.fields) > VERSION and not force:", "if False:"),
        ),
        killed_by=(62, 78, 86),
    ),
    Mutant(
        "version-after-parse",
        "the version is checked after the parse: what a newer version wrote looks corrupt, and is rebuilt",
        (
            Edit(
                "protocol.apply",
                "    version = balances.stored_version(stored.fields)\n",
                "    try:\n"
                "        balances.parse(stored.fields, group_id, settings.unit)\n"
                "    except CorruptBalance:\n"
                "        return None\n"
                "    version = balances.stored_version(stored.fields)\n",
            ),
            Edit("protocol.rebuild", "if balances.stored_version(stored.fields) > VERSION and not force:", "if False:"),
        ),
        killed_by=(105, 329, 489),
    ),
    Mutant(
        "faults-by-event-order",
        "a fault is set by the event, not by the document's present state",
        (
            Edit("protocol.bookkeeper", "event.kind, event.source, groups)", "event.kind, event.source, groups, event)"),
            Edit("protocol.faults", "groups: Iterable[str | None]) ->", "groups: Iterable[str | None], event: Any = None) ->"),
            Edit(
                "protocol.faults",
                "        (present,) = attempt.get([source])\n",
                "        (present,) = attempt.get([source])\n"
                "        if event is not None:\n"
                "            told = event.after\n"
                "            present = Snapshot(source, told and told.fields, told and told.update_time, present.read_time)\n",
            ),
        ),
        killed_by=(9, 14, 20),
    ),
    Mutant(
        "gap-without-stale",
        "while updates are off, the balance is not marked stale",
        (Edit("protocol.gaps", "stale = [] if stored.fields is None else", "stale = [] if True else"),),
        killed_by=(278, 283, 513),
    ),
    Mutant(
        "gap-without-record",
        "while updates are off, no record is left",
        (Edit("protocol.gaps", "attempt.commit([*gaps, *stale])", "attempt.commit(stale)"),),
        killed_by=(416, 544, 644),
    ),
    Mutant(
        "gone-without-gap",
        "an event whose group is gone is acknowledged without trace",
        (
            Edit(
                "protocol.rebuild",
                "Outcome.GROUP_GONE) if changes else []",
                "Outcome.GROUP_GONE) if False else [Result(group_id, Outcome.GROUP_GONE)] * len(changes)",
            ),
        ),
        killed_by=(381, 544, 644),
    ),
    Mutant(
        "gross-pairs",
        "a pair of users may owe each other in both directions",
        (
            Edit(
                "core.ledger",
                "            _add(pairs, (creditor, debtor), -sign * amount_minor)\n",
                "            _add(pairs, (debtor, creditor), sign * amount_minor)\n",
            ),
            Edit("core.ledger", "            assert low < high,", "            assert low != high,"),
        ),
        killed_by=(2, 4, 6),
    ),
    Mutant(
        "batch-holds-key-twice",
        "a batch holds the same write twice",
        (
            Edit("protocol.bookkeeper", "{member.write.key: member for", "{id(member): member for"),
            Edit("protocol.bookkeeper", "by_key.pop(member.write.key, None)", "by_key.pop(id(member), None)"),
            Edit(
                "protocol.apply",
                "    committed_at = attempt.commit([write, *creations])",
                "    committed_at = attempt.commit([write, *{creation.path: creation for creation in creations}.values()])",
            ),
        ),
        killed_by=(100, 232, 286),
    ),
    Mutant(
        "read-without-lock",
        "balance and records are read outside of the transaction",
        (
            Edit(
                "protocol.apply",
                "    stored, *recorded = attempt.get(\n",
                "    attempt.get([layout.balance(group_id) + '-'])\n    stored, *recorded = attempt._firestore.get(\n",
            ),
        ),
        killed_by=(145, 423, 427),
    ),
    Mutant(
        "unreadable-past-applied",
        "a delete whose snapshot can no longer be read is applied",
        (
            Edit(
                "protocol.apply",
                "    except UnreadablePast:\n        return None",
                "    except UnreadablePast:\n        return {}",
            ),
        ),
        killed_by=(9, 209, 263),
    ),
    Mutant(
        "malformed-side-stops-delta",
        "a change with a malformed side posts nothing of its other side",
        (
            Edit(
                "protocol.events",
                "for group_id in sorted(groups)}",
                "for group_id in sorted(groups) if not malformed_in}",
            ),
        ),
        killed_by=(35, 92, 97),
    ),
)
