"""The ways in which the protocol could be weakened, each as edits to the product's source.

What catches it: `worlds` of the explorer, where every interleaving is tried; `killed_by`, seeds with which the random simulator
once caught it (the gate starts there, and goes on to others when the schedules of these seeds have changed); or `tests`, where
neither runs the code in question.
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
    worlds: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()

    @property
    def caught_by(self) -> str:
        """What catches it, for the documentation."""
        if self.worlds:
            return "explorer: " + "; ".join(self.worlds)
        if self.tests:
            return "tests: " + ", ".join(f"`{test}`" for test in self.tests)
        return "random: " + (", ".join(map(str, self.killed_by)) or "searched")


_WRITES = "    return [write, *creations], after\n"
_ALONE = "    committed_at = attempt.commit(writes) if writes else None\n"
_TOGETHER = "    committed_at = patience.call(lambda: _commit(firestore, writes, patience.timeout_s)) if writes else None\n"
_SPLIT = "    creations, others = ([w for w in writes if isinstance(w, Create) is is_record] for is_record in (True, False))\n"
"""The records apart from the balances."""

_IMPORTS = (
    Edit("protocol.apply", "import Firestore, Set,", "import Create, Firestore, Set,"),
    Edit("protocol.optimistic", "import Conflict, Firestore,", "import Conflict, Create, Firestore, Set,"),
)

MUTANTS = (
    Mutant(
        "no-record",
        "no record is written",
        (Edit("protocol.apply", _WRITES, "    return [write], after\n"),),
        worlds=("edit twice at once",),
    ),
    Mutant(
        "record-after",
        "the record is written outside the transaction, after it",
        (
            *_IMPORTS,
            Edit(
                "protocol.apply",
                _ALONE,
                f"{_SPLIT}    committed_at = attempt.commit(others) if writes else None\n"
                "    if creations:\n"
                "        attempt._firestore.commit(creations)\n",
            ),
            Edit(
                "protocol.optimistic",
                _TOGETHER,
                f"{_SPLIT}    committed_at = firestore.commit(others) if writes else None\n"
                "    if creations:\n"
                "        firestore.commit(creations)\n",
            ),
        ),
        worlds=("edit twice at once",),
    ),
    Mutant(
        "record-before",
        "the record is written outside the transaction, before it",
        (
            *_IMPORTS,
            Edit(
                "protocol.apply",
                _ALONE,
                f"{_SPLIT}    if creations:\n"
                "        attempt._firestore.commit(creations)\n"
                "    committed_at = attempt.commit(others) if writes else None\n",
            ),
            Edit(
                "protocol.optimistic",
                _TOGETHER,
                f"{_SPLIT}    if creations:\n"
                "        firestore.commit(creations)\n"
                "    committed_at = firestore.commit(others) if writes else None\n",
            ),
        ),
        worlds=("two documents, crash",),
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
        worlds=("edit twice at once",),
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
        worlds=("redelivered after its record",),
    ),
    Mutant(
        "no-record-when-cancelled",
        "a batch writes no records when its deltas cancel",
        (
            Edit(
                "protocol.apply",
                "    after = replace(before,",
                "    if not delta:\n        return [], before\n    after = replace(before,",
            ),
        ),
        worlds=("three events, one process",),
    ),
    Mutant(
        "as-of-behind",
        "asOf comes from a local clock, 20 ms behind",
        (
            Edit(
                "protocol.rebuild",
                "Stored(balance, as_of, present",
                "Stored(balance, as_of - timedelta(milliseconds=20), present",
            ),
        ),
        worlds=("delete, rebuild",),
    ),
    Mutant(
        "as-of-ahead",
        "asOf comes from a local clock, 20 ms ahead",
        (
            Edit(
                "protocol.rebuild",
                "Stored(balance, as_of, present",
                "Stored(balance, as_of + timedelta(milliseconds=20), present",
            ),
        ),
        worlds=("two documents, rebuild",),
    ),
    Mutant(
        "as-of-after-snapshot",
        "asOf is read after the snapshot",
        (
            Edit(
                "protocol.rebuild",
                "Stored(balance, as_of, present",
                "Stored(balance, stored.read_time, present",
            ),
        ),
        worlds=("two documents, rebuild",),
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
        worlds=("two documents, rebuild",),
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
        worlds=("delete, rebuild, early event time",),
    ),
    Mutant(
        "newer-records-ignored",
        "a rebuild ignores the records that are newer than its snapshot",
        (Edit("protocol.rebuild", "for document in query(since):", "for document in query(since)[:0]:"),),
        worlds=("delete, rebuild",),
    ),
    Mutant(
        "snapshot-used-up",
        "the second attempt of a rebuild's transaction adds the newer records once more",
        (Edit("protocol.rebuild", "{currency: dict(pairs) for currency, pairs in history.ledger.items()}", "history.ledger"),),
        killed_by=(2027, 3271, 3342),
    ),
    Mutant(
        "no-later-as-of-stop",
        "a rebuild overwrites one from a later snapshot",
        (Edit("protocol.rebuild", "as_of < stored_as_of <= stored.read_time", "False"),),
        worlds=("edit, two rebuilds",),
    ),
    Mutant(
        "no-age-gate",
        "no age gate",
        (Edit("protocol.apply", "if change.write.time < oldest:", "if False:"),),
        worlds=("redelivered after its record",),
    ),
    Mutant(
        "newer-version-accepted",
        "no version check: a delta is added to a newer version's balance",
        (Edit("documents.judgement", "if version > VERSION:", "if False:"),),
        worlds=("older and newer code",),
    ),
    Mutant(
        "older-version-accepted",
        "no version check: a delta is added to an older version's balance",
        (Edit("documents.judgement", "if version < VERSION:", "if False:"),),
        worlds=("older and newer code",),
    ),
    Mutant(
        "newer-version-overwritten",
        "no version check: a rebuild that nobody forces overwrites a newer version's balance",
        (
            Edit("protocol.apply", "if judgement.condition is Condition.NEWER:", "if False:"),
            Edit("protocol.optimistic", "if judgement.condition is Condition.NEWER:", "if False:"),
            Edit("protocol.rebuild", "if judgement.condition is Condition.NEWER and not force:", "if False:"),
            Edit("protocol.faults", "if judgement.condition is Condition.NEWER and not force:", "if False:"),
        ),
        worlds=("older and newer code, older rebuild",),
    ),
    Mutant(
        "version-after-parse",
        "the version is checked after the parse: what a newer version wrote looks corrupt, and is rebuilt",
        (
            Edit(
                "documents.judgement",
                "    version, epoch = ",
                "    try:\n"
                "        balances.parse(fields, group_id, settings.unit)\n"
                "    except CorruptBalance as error:\n"
                "        return Judgement(Condition.CORRUPT, str(error))\n"
                "    version, epoch = ",
            ),
        ),
        worlds=("older and newer rules, rebuild",),
    ),
    Mutant(
        "other-rules-added-to",
        "a delta is added to a balance by other rules",
        (Edit("documents.judgement", 'return "" if theirs == mine else', 'return "" if theirs else'),),
        worlds=("other parameters",),
    ),
    Mutant(
        "parameters-no-rules",
        "the parameters do not count as rules",
        (Edit("documents.rules", "[*_parameters(settings), *_sources(adapter)]", "_sources(adapter)"),),
        worlds=("other parameters", "other parameters, rebuild"),
    ),
    Mutant(
        "record-of-other-rules",
        "a rebuild adds what a record of other rules says",
        (Edit("documents.records", "(self.version, self.rules) == mine", "self.version == VERSION"),),
        worlds=("other parameters, rebuild",),
    ),
    Mutant(
        "fault-under-other-rules",
        "a fault that comes or goes leaves a balance by other rules, with a wrong count, as it was",
        (Edit("protocol.faults", "if more and balance.fields is not None:", "if False:"),),
        tests=(
            "tests/integration/protocol/test_protocol.py::test_a_fault_that_goes_under_a_balance_of_other_code_marks_it_stale",
        ),
    ),
    Mutant(
        "faults-by-event-order",
        "a fault is set by the event, not by the document's present state",
        (
            Edit("protocol.bookkeeper", "Suspect(event.kind, event.source)", "Suspect(event.kind, event.source, event)"),
            Edit(
                "protocol.bookkeeper",
                "list(dict.fromkeys(member for member in members if isinstance(member, Suspect)))",
                "[member for member in members if isinstance(member, Suspect)][:1]",
            ),
            Edit(
                "protocol.faults",
                "    kind: Kind | None\n    source: str\n",
                "    kind: Kind | None\n    source: str\n    event: Any = None\n",
            ),
            Edit(
                "protocol.faults",
                "            wanted = _wanted(settings, group_id, suspect.kind, source) if exists else None\n",
                "            if suspect.event is not None:\n"
                "                told = suspect.event.after\n"
                "                source = Snapshot(\n"
                "                    source.path, told and told.fields, told and told.update_time, source.read_time\n"
                "                )\n"
                "            wanted = _wanted(settings, group_id, suspect.kind, source) if exists else None\n",
            ),
        ),
        worlds=("malformed, healed",),
    ),
    Mutant(
        "gap-without-stale",
        "while updates are off, the balance is not marked stale",
        (Edit("protocol.gaps", "stale = [] if stored.fields is None else", "stale = [] if True else"),),
        worlds=("edit, switched off, rebuild",),
    ),
    Mutant(
        "gap-without-record",
        "while updates are off, no record is left",
        (Edit("protocol.gaps", "attempt.commit([*gaps, *stale])", "attempt.commit(stale)"),),
        worlds=("no balance, switched on, rebuild",),
    ),
    Mutant(
        "created-unnoticed",
        "a group that is created gets no balance",
        (Edit("protocol.groups", "return group.fields is not None and judge", "return False and judge"),),
        worlds=("group comes back (one listing)",),
    ),
    Mutant(
        "incarnation-unnoticed",
        "a group that comes back keeps the balance of the one before it",
        (Edit("protocol.groups", "judge(stored, group_id, settings, group)", "judge(stored, group_id, settings)"),),
        worlds=("only the document comes back",),
    ),
    Mutant(
        "cleared-unlooked",
        "a group's balance is deleted though the group is back",
        (Edit("protocol.groups", "if group.fields is not None:", "if False:"),),
        worlds=("only the document comes back",),
    ),
    Mutant(
        "faults-not-counted",
        "a fault is set or removed without changing the balance's count",
        (Edit("protocol.faults", "    if more:\n", "    if False:\n"),),
        worlds=("malformed, rebuild",),
    ),
    Mutant(
        "faults-counted-at-the-snapshot",
        "a rebuild counts the documents that were malformed at its snapshot",
        (
            Edit(
                "protocol.rebuild",
                "len(attempt.query(Query(collection=layout.faults(group_id), select=())))",
                "len(history.malformed)",
            ),
        ),
        worlds=("malformed, rebuild",),
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
                _WRITES,
                "    return [write, *{creation.path: creation for creation in creations}.values()], after\n",
            ),
        ),
        worlds=("edit twice at once, one process",),
    ),
    Mutant(
        "read-without-lock",
        "balance and records are read outside of the transaction",
        (
            Edit(
                "protocol.apply",
                "        stored, *recorded = attempt.get(",
                "        attempt.get([settings.layout.balance(group_id) + '-'])\n"
                "        stored, *recorded = attempt._firestore.get(",
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
        worlds=("late delete",),
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
        worlds=("bent, healed, bent",),
    ),
    Mutant(
        "no-update-time",
        "a commit without locks does not ask that the balance stands as it was read",
        (Edit("protocol.optimistic", "balance, update_time=update_time)", "balance, update_time=None)"),),
        worlds=("two documents",),
    ),
    Mutant(
        "records-may-exist",
        "a commit without locks does not ask that no record exists",
        (
            *_IMPORTS[1:],
            Edit(
                "protocol.optimistic",
                "[write for plan in plans.values() for write in plan.writes]",
                "[Set(w.path, w.fields) if isinstance(w, Create) else w for plan in plans.values() for w in plan.writes]",
            ),
        ),
        killed_by=(3, 9, 24),
    ),
    Mutant(
        "failed-commit-done",
        "a commit without locks that failed counts as done",
        (
            Edit(
                "protocol.optimistic",
                _TOGETHER,
                f"    try:\n    {_TOGETHER}"
                "    except TransientError:\n"
                "        committed_at = next(iter(plans.values())).after.as_of\n",
            ),
        ),
        worlds=("two documents",),
    ),
    Mutant(
        "memory-trusted",
        "a remembered balance is taken for the present one",
        (
            Edit(
                "protocol.optimistic",
                "kept.stored, kept.update_time, kept.update_time)",
                "kept.stored, None, kept.update_time)",
            ),
        ),
        killed_by=(3, 6, 55),
    ),
    Mutant(
        "memory-kept",
        "a remembered balance is used again after a conflict",
        (
            Edit(
                "protocol.optimistic",
                "        for group_id in batch:\n            memory.forget(group_id)\n    except (TransientError",
                "        pass\n    except (TransientError",
            ),
        ),
        killed_by=(3, 6, 24),
    ),
    Mutant(
        "records-read-outside",
        "a rebuild reads the newer records outside its transaction",
        (Edit("protocol.rebuild", "records_since(attempt.query, ", "records_since(attempt._firestore.query, "),),
        worlds=("no balance, switched on, rebuild",),
    ),
    Mutant(
        "group-not-read-again",
        "a rebuild does not look at the group again at its end",
        (
            Edit(
                "protocol.rebuild",
                "if present.create_time is None or present.create_time != group.create_time:",
                "if False:",
            ),
            Edit("protocol.rebuild", "as_of, present.create_time, fault_count", "as_of, group.create_time, fault_count"),
        ),
        worlds=("group deleted, rebuild (one listing)",),
    ),
    Mutant(
        "balance-not-missed",
        "a rebuild does not notice that the balance that stood at its snapshot is gone",
        (Edit("protocol.rebuild", "if stood.fields is not None and stored.fields is None:", "if False:"),),
        worlds=("records and balance deleted by hand, rebuild",),
    ),
    Mutant(
        "gap-read-outside",
        "while updates are off, the balance is read outside the transaction",
        (
            Edit(
                "protocol.gaps",
                "        stored, *recorded = attempt.get(",
                "        attempt.get([record_paths[0] + '-'])\n        stored, *recorded = attempt._firestore.get(",
            ),
        ),
        worlds=("no balance, switched on, rebuild",),
    ),
    Mutant(
        "record-of-any-version",
        "a rebuild adds what a record of another version says",
        (Edit("documents.records", "(self.version, self.rules) == mine", "True"),),
        worlds=("older and newer rules, rebuild",),
    ),
    Mutant(
        "future-as-of-current",
        "a balance whose asOf is a time to come is added to",
        (Edit("documents.judgement", "if stored.as_of > document.read_time:", "if False:"),),
        worlds=("asOf bent into the future",),
    ),
    Mutant(
        "detail-never-lowered",
        "a balance that no longer fits its document keeps its level of detail",
        (
            Edit(
                "documents.balances", "return after if _fits_as_before(balance, after, delta) else", "return after if True else"
            ),
        ),
        killed_by=(365, 1549),
    ),
    Mutant(
        "no-applied-at-margin",
        "a rebuild takes the server's time in a record for that of its commit",
        (Edit("protocol.rebuild", "APPLIED_AT_MARGIN = timedelta(minutes=1)", "APPLIED_AT_MARGIN = timedelta(0)"),),
        killed_by=(40, 88),
    ),
    Mutant(
        "lower-epoch-accepted",
        "a delta is added to a balance of a lower epoch",
        (Edit("documents.judgement", 'return "" if theirs == mine else', 'return "" if True else'),),
        worlds=("reinstalled",),
    ),
    Mutant(
        "higher-epoch-accepted",
        "code of a lower epoch does not stand back",
        (Edit("documents.judgement", "if epoch is not None and epoch > settings.epoch:", "if False:"),),
        worlds=("lower and higher epoch",),
    ),
    Mutant(
        "reconcile-at-present",
        "the nightly check reads the records as they are, not as of its instant",
        (
            Edit(
                "operations.reconcile",
                "lambda query: firestore.query(query, read_time=now)",
                "lambda query: firestore.query(query)",
            ),
        ),
        worlds=("two documents, nightly check",),
    ),
    Mutant(
        "reconcile-without-margin",
        "the nightly check takes the server's time in a record for that of its commit",
        (
            Edit(
                "operations.reconcile",
                "firestore.query(query, read_time=now), settings, group_id, history.as_of)",
                "firestore.query(query, read_time=now), settings, group_id, history.as_of + timedelta(minutes=1))",
            ),
        ),
        killed_by=(29, 156, 259),
    ),
    Mutant(
        "fault-read-outside",
        "a fault is settled by a read of its document outside the transaction",
        (
            Edit(
                "protocol.faults",
                "[*beside, *(suspect.source for suspect in suspects), *(layout.fault(group_id, it.source) for it in suspects)]",
                "[*beside, *(layout.fault(group_id, it.source) for it in suspects)]",
            ),
            Edit(
                "protocol.faults",
                "present, stored = read[len(beside) : -len(suspects)], read[-len(suspects) :]",
                "present, stored = attempt._firestore.get([it.source for it in suspects]), read[-len(suspects) :]",
            ),
        ),
        worlds=("malformed, healed",),
    ),
    Mutant(
        "future-as-of-stands",
        "a rebuild does not overwrite a balance whose asOf is a time to come",
        (Edit("protocol.rebuild", "as_of < stored_as_of <= stored.read_time", "as_of < stored_as_of"),),
        worlds=("asOf bent into the future",),
    ),
    Mutant(
        "orphan-backwards",
        "what is left of a deleted group is removed in reverse order: the records before the balance",
        (
            Edit(
                "operations.orphans",
                "paths = list(_paths(firestore, settings, orphan.group_id))",
                "paths = list(_paths(firestore, settings, orphan.group_id))[::-1]",
            ),
        ),
        tests=(
            "tests/integration/operations/test_verify.py::test_what_is_removed_half_way_has_lost_its_balance_before_its_records",
        ),
    ),
    Mutant(
        "backfill-skips-the-future",
        "a backfill takes a balance whose asOf is a time to come for current",
        (
            Edit(
                "operations.backfill",
                "from dataclasses import dataclass\n",
                "from dataclasses import dataclass, replace\nfrom datetime import timedelta\n",
            ),
            Edit(
                "operations.backfill",
                "judge(stored, group_id, settings, group)",
                "judge(replace(stored, read_time=stored.read_time + timedelta(days=3650)), group_id, settings, group)",
            ),
        ),
        tests=("tests/integration/operations/test_backfill.py::test_a_balance_of_a_time_to_come_is_rebuilt",),
    ),
)
