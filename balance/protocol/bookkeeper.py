"""The bookkeeper: brings events into the balances and rebuilds balances, for one process.

It is the meeting point of the threads of a function's instance: what concerns one group goes through one line.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from balance.database.firestore import Firestore, TransientError
from balance.database.retry import Retry
from balance.documents.changes import GroupChange, NewerVersion, Result
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.protocol import faults, gaps
from balance.protocol.apply import apply
from balance.protocol.events import Effect, SourceEvent
from balance.protocol.groupcommit import GroupCommit, Signal
from balance.protocol.rebuild import rebuild

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Well below the 10 MiB of a Firestore request: https://firebase.google.com/docs/firestore/quotas"""


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """Somebody wants a group's balance rebuilt; `force` overwrites one of a newer version."""

    force: bool = False


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
        self._line: GroupCommit[GroupChange | RebuildRequest, Result] = GroupCommit(
            self._run_batch,
            weigh=_weigh,
            max_weight=MAX_BATCH_BYTES,
            common_errors=(TransientError, NewerVersion),
            new_signal=new_signal,
        )

    def process(self, event: SourceEvent, consequences: Effect) -> list[Result]:
        """Bring an event with its `effect` into every balance that it touches, exactly once.

        Returns a result per group, and one per group (or none) in which a malformed side may have a fault. Raises MissingTime,
        NewerVersion, TransientError and whatever Firestore refuses; the event must then be redelivered, and the groups that
        are done by then answer DUPLICATE.
        """
        results = []
        if consequences.malformed_in is not None:
            groups = consequences.malformed_in
            self._retry.run(lambda: faults.settle(self._firestore, self.settings, event.kind, event.source, groups))
            results += [Result(group_id, Outcome.FAULT) for group_id in sorted(groups, key=str)]
        for group_id, delta in consequences.deltas.items():
            if delta:
                change = GroupChange(write=event.write, event_id=event.event_id, delta=delta)
                results.append(replace(self._line.submit(group_id, change), delta=delta))
            elif consequences.malformed_in is None:
                results.append(Result(group_id, Outcome.NO_CHANGE))
        return results

    def rebuild(self, group_id: str, *, force: bool = False) -> Result:
        """Rebuild a group's balance: REBUILT or GROUP_GONE. Raises NewerVersion (unless forced), TransientError."""
        return self._line.submit(group_id, RebuildRequest(force))

    def _run_batch(self, group_id: str, members: Sequence[GroupChange | RebuildRequest]) -> list[Result]:
        requests = [member for member in members if isinstance(member, RebuildRequest)]
        # Several deliveries of one write may meet here: the batch holds each write once.
        changes = {member.write.key: member for member in members if isinstance(member, GroupChange)}
        distinct = list(changes.values())
        force = any(request.force for request in requests)

        def attempt() -> tuple[list[Result], Result | None]:
            arguments = (self._firestore, self.settings, group_id)
            if distinct and not self._updates_on():
                done = gaps.leave(*arguments, distinct, Outcome.DISABLED)
                return done, rebuild(*arguments, force=force, retry=self._retry)[-1] if requests else None
            if requests:
                *done, rebuilt = rebuild(*arguments, distinct, force=force, retry=self._retry)
                return done, rebuilt
            return apply(*arguments, distinct, retry=self._retry), None

        done, rebuilt = self._retry.run(attempt)
        by_key = dict(zip(changes, done, strict=True))
        results = []
        for member in members:
            if isinstance(member, RebuildRequest):
                assert rebuilt is not None, "a batch with a request was a rebuild"
                results.append(rebuilt)
            else:
                # The first of several deliveries gets the result; to the others it is a duplicate by now.
                first = by_key.pop(member.write.key, None)
                results.append(first or Result(group_id, Outcome.DUPLICATE))
        return results


def _weigh(member: GroupChange | RebuildRequest) -> int:
    """About how many bytes a member adds to the commit."""
    if isinstance(member, RebuildRequest):
        return 0
    pairs = (pair for changes in member.delta.values() for pair in changes)
    # UTF-8 takes up to four bytes a character; each pair stands in the record and in two rows of the balance.
    return 1_000 + sum(12 * (len(low) + len(high)) + 100 for low, high in pairs)
