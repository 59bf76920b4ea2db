"""The bookkeeper: brings events into the balances and rebuilds balances, for one process.

It is the meeting point of the threads of a function's instance: what concerns one group goes through one line.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from balance.core.ledger import Ledger
from balance.database.firestore import Firestore, TransientError
from balance.database.retry import Retry
from balance.documents.changes import GroupChange, NewerVersion, Result
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.documents.writes import SourceWrite
from balance.protocol import faults, gaps, groups
from balance.protocol.apply import apply
from balance.protocol.events import Effect, MissingTime, SourceEvent
from balance.protocol.faults import Suspect
from balance.protocol.groupcommit import GroupCommit, Signal
from balance.protocol.rebuild import rebuild

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Well below the 10 MiB of a Firestore request: https://firebase.google.com/docs/firestore/quotas"""


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """Somebody wants a group's balance rebuilt; `force` overwrites one of a newer version."""

    force: bool = False


Member = GroupChange | Suspect | RebuildRequest
"""What may wait in a group's line."""


class Bookkeeper:
    """Processes events and rebuild requests; safe to share among threads."""

    def __init__(
        self,
        firestore: Firestore,
        settings: Settings,
        *,
        updates_on: Callable[[], bool],
        retry: Retry | None = None,
        new_signal: Callable[[], Signal] = threading.Event,
    ) -> None:
        self._firestore = firestore
        self.settings = settings
        self._updates_on = updates_on
        self._retry = retry or Retry()
        self._line: GroupCommit[Member, Result] = GroupCommit(
            self._run_batch,
            weigh=_weigh,
            max_weight=MAX_BATCH_BYTES,
            common_errors=(TransientError, NewerVersion),
            new_signal=new_signal,
        )

    def process(
        self, event: SourceEvent, consequences: Effect, on_result: Callable[[Result], None] = lambda result: None
    ) -> list[Result]:
        """Bring an event with its `effect` into every balance that it touches, exactly once.

        Returns a result per group, and one per group (or none) in which a malformed side may have a fault; `on_result` is told
        each at once. One group's failure does not keep the event from the others: all are tried, then the first error is
        raised: NewerVersion, TransientError or whatever Firestore refuses. The event must then be redelivered; the groups that
        are done by then answer DUPLICATE.
        """
        results: list[Result] = []
        errors: list[Exception] = []

        def attempt(work: Callable[[], Result]) -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - raised below, when the other groups have had their turn
                errors.append(error)
            else:
                results.append(result)
                on_result(result)

        for group_id in sorted(consequences.malformed_in or (), key=str):
            suspect = Suspect(event.kind, event.source)
            attempt(partial(self._settle, group_id, suspect))
        for group_id, delta in consequences.deltas.items():
            if delta:
                attempt(partial(self._change, group_id, event, delta))
            elif consequences.malformed_in is None:
                attempt(partial(Result, group_id, Outcome.NO_CHANGE))
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"in another group: {type(other).__name__}: {other}")
            raise errors[0]
        return results

    def rebuild(self, group_id: str, *, force: bool = False) -> Result:
        """Rebuild a group's balance: REBUILT or GROUP_GONE. Raises NewerVersion (unless forced), TransientError."""
        return self._line.submit(group_id, RebuildRequest(force))

    def group_created(self, group_id: str) -> Result:
        """A group's document was created: give it a balance unless it has a current one of its own.

        Returns REBUILT, NO_CHANGE, GROUP_GONE, or DISABLED while updates are off. Raises NewerVersion, TransientError.
        """
        if not self._updates_on():
            return Result(group_id, Outcome.DISABLED)
        if self._retry.run(lambda: groups.wants_rebuild(self._firestore, self.settings, group_id)):
            return self.rebuild(group_id)
        return Result(group_id, Outcome.NO_CHANGE)

    def group_deleted(self, group_id: str) -> Result:
        """A group's document was deleted: delete its balance and its faults, unless the group is there again.

        Returns GROUP_GONE, NO_CHANGE, or DISABLED while updates are off. Raises TransientError.
        """
        if not self._updates_on():
            return Result(group_id, Outcome.DISABLED)
        cleared = self._retry.run(lambda: groups.clear(self._firestore, self.settings, group_id))
        return Result(group_id, Outcome.GROUP_GONE if cleared else Outcome.NO_CHANGE)

    def _settle(self, group_id: str | None, suspect: Suspect) -> Result:
        if group_id is not None:
            return self._line.submit(group_id, suspect)
        self._retry.run(lambda: faults.settle(self._firestore, self.settings, None, [suspect]))
        return Result(None, Outcome.FAULT)

    def _change(self, group_id: str, event: SourceEvent, delta: Ledger) -> Result:
        try:
            write, is_dated = event.write, True
        except MissingTime:
            write, is_dated = self._written_by_now(event.source, group_id), False
        change = GroupChange(write=write, event_id=event.event_id, delta=delta, is_dated=is_dated)
        return replace(self._line.submit(group_id, change), delta=delta)

    def _written_by_now(self, source: str, group_id: str) -> SourceWrite:
        """Of a write whose time is not known: it was committed before its event came."""
        path = self.settings.layout.balance(group_id)
        (stored,) = self._retry.run(lambda: self._firestore.get([path]))
        return SourceWrite(source=source, update_time=stored.read_time)

    def _run_batch(self, group_id: str, members: Sequence[Member]) -> list[Result]:
        # Several deliveries of one write may meet here: the batch holds each write once.
        changes = {member.write.key: member for member in members if isinstance(member, GroupChange)}
        suspects = list(dict.fromkeys(member for member in members if isinstance(member, Suspect)))
        requests = [member for member in members if isinstance(member, RebuildRequest)]
        force = any(request.force for request in requests)

        def attempt() -> tuple[list[Result], Result | None]:
            return self._bring_in(group_id, list(changes.values()), suspects, is_requested=bool(requests), force=force)

        done, rebuilt = self._retry.run(attempt)
        by_key = dict(zip(changes, done, strict=True))
        results = []
        for member in members:
            if isinstance(member, RebuildRequest):
                assert rebuilt is not None, "a batch with a request was a rebuild"
                results.append(rebuilt)
            elif isinstance(member, Suspect):
                results.append(replace(rebuilt or Result(group_id, Outcome.FAULT), outcome=Outcome.FAULT))
            else:
                # The first of several deliveries gets the result; to the others it is a duplicate by now.
                first = by_key.pop(member.write.key, None)
                results.append(first or Result(group_id, Outcome.DUPLICATE))
        return results

    def _bring_in(
        self,
        group_id: str,
        changes: Sequence[GroupChange],
        suspects: Sequence[Suspect],
        *,
        is_requested: bool,
        force: bool,
    ) -> tuple[list[Result], Result | None]:
        """One attempt at a batch: a result per change, and that of the rebuild, if there was one."""
        firestore, settings, retry = self._firestore, self.settings, self._retry
        # All portions, even when the balance is found stale by the first.
        settled = [faults.settle(firestore, settings, group_id, each, force=force) for each in faults.in_portions(suspects)]
        updates_on = self._updates_on()
        must_rebuild = is_requested or (updates_on and not all(settled))
        if changes and not updates_on:
            done = gaps.leave(firestore, settings, group_id, changes)
            return done, rebuild(firestore, settings, group_id, force=force, retry=retry)[-1] if must_rebuild else None
        if must_rebuild:
            *done, rebuilt = rebuild(firestore, settings, group_id, changes, force=force, retry=retry)
            return done, rebuilt
        return apply(firestore, settings, group_id, changes, retry=retry) if changes else [], None


def _weigh(member: Member) -> int:
    """About how many bytes a member adds to the commit, or takes of what a batch may read."""
    if isinstance(member, RebuildRequest):
        return 0
    if isinstance(member, Suspect):
        return MAX_BATCH_BYTES // faults.PER_TRANSACTION
    pairs = (pair for changes in member.delta.values() for pair in changes)
    # UTF-8 takes up to four bytes a character; each pair stands in the record and in two rows of the balance.
    return 1_000 + sum(12 * (len(low) + len(high)) + 100 for low, high in pairs)
