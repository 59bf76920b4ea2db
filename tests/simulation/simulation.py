"""One schedule: a seed, what it makes happen, and the verdict.

The app writes; each change of an expense or settlement becomes an event; events are delivered to processes that run the
product, late, twice, in another order, until they are acknowledged; processes and calls fail. Then the faults stop, everything
drains, the auditor compares every balance and fault with the documents, and every event is delivered once more.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from random import Random
from typing import Any

from google.cloud.firestore_v1 import types
from google.events.cloud.firestore_v1 import DocumentEventData
from greenlet import getcurrent

from balance.documents.balances import VERSION
from emulator.changes import Change
from emulator.engine import Engine
from emulator.engine import Settings as EngineSettings
from emulator.values import document_bytes
from tests.indexes import DEPLOYED_INDEXES
from tests.simulation.app import App, Log, scene
from tests.simulation.audit import Audit
from tests.simulation.auditor import Discrepancy
from tests.simulation.database import Network, SimulatedFirestore
from tests.simulation.hands import Hands
from tests.simulation.product import LATER_CURRENCY, LATER_VERSION, SMALL_DOCUMENT_BYTES, Edit, Product, product, settings_of
from tests.simulation.profile import DAY_US, HOUR_US, MINUTE_US, SECOND_US, START_US, Roll, draw
from tests.simulation.scheduler import Scheduler, Signal, kill
from tests.simulation.translation import DATABASE, ROOT
from tests.simulation.values import Reader, to_time, to_us

MAX_STEPS = 60_000
MOST_ATTEMPTS_AT_REST = 12
RECORD_TTL_US = 7 * DAY_US
LAG_ALLOWED_US = 50 * MINUTE_US

_WritePb = types.Write.pb()
_EventDataPb = DocumentEventData.pb()


class Failure(AssertionError):
    """A schedule in which something was wrong."""


@dataclass(slots=True)
class Figures:
    """What happened in one schedule, or several."""

    schedules: int = 0
    writes: int = 0
    events: int = 0
    deliveries: int = 0
    crashes: int = 0
    failures: int = 0
    """Deliveries that raised, to be redelivered."""
    outcomes: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    """What happened to calls of Firestore."""
    commits_of_several: int = 0
    """Commits of more than one group's balance."""
    schedules_with_them: int = 0

    def add(self, other: "Figures") -> None:
        """Add up."""
        self.schedules += other.schedules
        self.writes += other.writes
        self.events += other.events
        self.deliveries += other.deliveries
        self.crashes += other.crashes
        self.failures += other.failures
        self.outcomes += other.outcomes
        self.fates += other.fates
        self.commits_of_several += other.commits_of_several
        self.schedules_with_them += other.schedules_with_them


@dataclass(slots=True)
class Process:
    """An instance of the function: one copy of the product's bookkeeper with a line of its own."""

    name: str
    product: Product
    updates_on: bool
    is_later: bool
    keeper: Any = None
    firestore: Any = None
    is_alive: bool = True
    is_retired: bool = False
    """Gets no new work."""
    actors: dict[Any, Callable[[], None]] = field(default_factory=dict)
    """Each with what is to be done when it dies."""


@dataclass(slots=True, eq=False)
class Event:
    """One write of a source document, or a group's creation or deletion; to be delivered."""

    number: int
    change: Change
    source: str
    was_lost: bool = False
    known: dict[tuple[Product, Any], tuple[Any, Any]] = field(default_factory=dict)
    """To each copy of the product and its settings: the event as first delivered, and its effect."""


class Simulation:
    """A schedule."""

    def __init__(self, seed: int, *, edits: tuple[Edit, ...] = (), trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.edits = edits
        self.profile, self.chaos = draw(self.random, later=Random(f"later {seed}"))
        self.scheduler = Scheduler(START_US, grain_us=10_000 if self.profile.coarse_clock else 1)
        self._print = trace
        self.log: Log | None = None if trace is None else self._trace
        error_us = self.profile.server_time_error_us
        settings = EngineSettings(
            optimistic=self.profile.optimistic,
            indexes=DEPLOYED_INDEXES,
            request_time_error_us=(lambda: int((2 * self.random.random() - 1) * error_us)) if error_us else None,
        )
        self.engine = Engine(DATABASE, self.scheduler.clock, settings=settings)
        self.engine.subscribe(self._on_commit)
        reader = Reader()
        self.network = Network(self.engine, self.scheduler, self.random, self.profile, self.chaos, reader, order=Random(seed))
        self.scene = scene(self.random, self.profile)
        self.audit = Audit(self.profile, reader.fields)
        self.app = App(self.network, self.audit.documents, self.random, self.profile, self.scene, self.log, reader.fields)
        self.hands = Hands(self)
        self.figures = Figures(schedules=1)
        self.events: list[Event] = []
        self.processes: list[Process] = []
        self.violation: Exception | None = None
        self.updates_on = True
        self.is_later = False
        """Which version, or which rules, are launched."""
        self.was_gone: set[str] = set()
        """Groups that did not exist at some time."""
        self.tampered: set[str] = set()
        self._to_forget: set[str] = set()
        """Groups that count as tampered with until they are gone."""
        self.forced: set[str] = set()
        """Groups of which somebody wanted a forced rebuild."""
        self._bent: Any = None
        """What a hand made of a balance."""
        self.is_calm = False
        """Nothing fails any more."""
        self._is_redelivering = False
        self.may_rebuild: set[str] = set()
        """Groups for which a redelivery may be answered by a rebuild."""
        self._is_expiring = False
        """Records are being deleted because they have outlived their time."""
        self.epoch = 0
        self.is_away = False
        """The system has been taken away: there are no triggers."""
        self._lost_records: set[tuple[str, datetime | None]] = set()
        """Groups, each with its creation, of which somebody deleted records. Until a rebuild a redelivery may count twice."""
        self._launched = 0

    def run(self) -> Figures:
        """Run the schedule; raises Failure."""
        try:
            self._plan()
            self._drain("the faults stopped")
            self._check_at_rest()
            self._check_nightly()
            self._drain("the nightly check")
            self.audit.check_repaired(self._final_version())
            self._redeliver()
            self._drain("the redelivery")
            self.audit.check_repaired(self._final_version())
        except Exception as error:
            what = str(error) if isinstance(error, Discrepancy) else f"{type(error).__name__}: {error}"
            raise Failure(f"seed {self.seed}: {what}\nreplay: balance simulate --seed {self.seed} --trace") from error
        self.figures.fates.update(map(str, self.network.met.elements()))
        self.figures.commits_of_several = self.network.commits_of_several
        self.figures.schedules_with_them = int(self.network.commits_of_several > 0)
        return self.figures

    # The plan

    def _plan(self) -> None:
        profile, random, at = self.profile, self.random, self.scheduler.at
        self.updates_on = not profile.off_at_first
        self.app.set_up()
        for _ in range(profile.instances):
            self._launch()
        time_us = START_US + SECOND_US
        times = []
        for _ in range(profile.writes):
            time_us += self._gap_us()
            times.append(time_us)
            at(time_us, self.app.write)
        self.figures.writes = profile.writes
        end_us = time_us

        def some_time() -> int:
            """Most likely about the time of a write, when things are in motion."""
            if random.random() < 0.2:
                return START_US + int(random.random() * (end_us - START_US))
            return times[int(random.random() * len(times))] + int(random.random() ** 3 * SECOND_US)

        for _ in range(profile.rebuilds):
            at(some_time() - SECOND_US // 20, self._request_rebuild)
        storm_us = times[-1 - int(random.random() * min(3, len(times)))]
        if profile.storm:
            for _ in range(random.choice((1, 4, 6))):
                at(storm_us + int((random.random() - 0.6) * SECOND_US / 10), self._request_rebuild)
            for _ in range(2):
                at(storm_us + int(random.random() ** 2 * 2 * SECOND_US), self.app.write)
        if profile.deletes_groups:
            for _ in range(2):
                gone_us = some_time()
                at(gone_us, self.app.toggle_group)
                at(gone_us + int(random.random() ** 2 * 5 * SECOND_US), self.app.toggle_group)
                at(gone_us + int(random.random() ** 2 * SECOND_US), self._request_rebuild)
        if profile.deletes_below:
            gone_us = some_time()
            at(gone_us - int(random.random() ** 2 * SECOND_US / 5), self._request_rebuild)
            at(gone_us, self.hands.delete_group)
        if profile.deletes_by_hand:
            at(some_time(), self.hands.delete_by_hand)
        if profile.reinstalls:
            at(some_time(), self.hands.reinstall)
        if profile.nightly:
            for _ in range(3):
                at(some_time(), lambda: self._check_group(random.choice(self.scene.groups)))
        if profile.off_at_first:
            at(storm_us + int((random.random() - 0.3) * SECOND_US), lambda: self._switch(on=True))
        elif profile.switches_off:
            off_us = storm_us - int(random.random() ** 2 * SECOND_US)
            on_us = some_time() if random.random() < 0.3 else storm_us + int(random.random() ** 2 * 10 * SECOND_US)
            off_us, on_us = sorted((off_us, on_us))
            at(off_us, lambda: self._switch(on=False))
            at(on_us, lambda: self._switch(on=True))
        if profile.tampers:
            at(some_time(), self._tamper)
        if profile.expires:
            for _ in range(2):
                at(some_time(), self._expire)
        if profile.roll is not Roll.NONE:
            out_us, back_us = sorted((some_time(), some_time()))
            at(out_us, self._roll_out)
            if profile.roll is Roll.BACK:
                at(back_us, self._roll_back)
        at(end_us + int(random.random() ** 3 * HOUR_US), self._stop_faults)

    def _gap_us(self) -> int:
        roll = self.random.random()
        if self.profile.bulk and self.random.random() < 0.7:
            return 0
        if self.profile.pauses and roll > 0.7:
            return int(self.random.random() * self.random.choice((MINUTE_US, HOUR_US, 2 * HOUR_US, DAY_US, 5 * DAY_US)))
        if roll < 0.25:
            return 0
        if roll < 0.8:
            return int(self.random.random() ** 2 * SECOND_US / 10)
        return int(self.random.random() ** 2 * 5 * SECOND_US)

    def _stop_faults(self) -> None:
        if self.log:
            self.log("fate", "the faults stop")
        self.chaos.stop()
        self.is_calm = True
        self._switch(on=True)
        if self.profile.roll is Roll.OUT:
            for process in self.processes:
                if not process.is_later:
                    process.is_retired = True
            if not self._available():
                self._launch()

    def _switch(self, *, on: bool) -> None:
        """Turn updates off or on, in one process after the other."""
        self.updates_on = on
        for process in self.processes:
            self.scheduler.after(int(self.random.random() ** 3 * 5 * SECOND_US), partial(self._switch_one, process))

    def _switch_one(self, process: Process) -> None:
        if self.log and process.updates_on != self.updates_on:
            self.log(process.name, f"updates {'on' if self.updates_on else 'off'}")
        process.updates_on = self.updates_on

    def _tamper(self) -> None:
        group = self.random.choice(self.scene.groups)
        name = f"{ROOT}groups/{group}/metadata/balance"
        document = self.audit.documents.get(f"groups/{group}/metadata/balance")
        if document is None:
            return
        self.tampered.add(group)
        write = _WritePb()
        bend = self.random.randrange(4)
        if bend == 0:
            write.delete = name
        else:
            write.update.CopyFrom(document)
            if bend == 1:
                write.update.fields["version"].string_value = "1"
            elif bend == 2:
                write.update.fields["asOf"].timestamp_value.seconds += 10 * 86_400
            else:
                del write.update.fields["detail"]
            self._bent = write.update
        if self.log:
            self.log("hand", f"bends the balance of {group}: {('deleted', 'version', 'asOf', 'detail')[bend]}")
        self.network.post([write])

    def _expire(self) -> None:
        """Delete some of the records that have outlived their time."""
        now_s = self.scheduler.now_us // SECOND_US
        self._is_expiring = True
        for path, document in self.audit.collection("balanceEvents"):
            if document.fields["expireAt"].timestamp_value.seconds < now_s and self.random.random() < 0.7:
                if self.log:
                    self.log("ttl", f"deletes {path}, the record of {document.fields['source'].string_value}")
                self.network.post([_WritePb(delete=document.name)])
        self._is_expiring = False

    def _has_lost_records(self, group: str) -> bool:
        """Whether somebody has deleted records of the group as it stands."""
        return (group, self.audit.created(group)) in self._lost_records

    # Processes

    def _launch(self) -> None:
        self._launched += 1
        profile = self.profile
        is_later, by_parameter = self.is_later, self.is_later and profile.by_parameter
        copy = product(
            later=is_later and not by_parameter, new_rules=profile.new_rules, small=profile.small_documents, edits=self.edits
        )
        settings = settings_of(
            copy,
            nested=profile.nested,
            minor_units=profile.minor_units,
            epoch=self.epoch,
            currencies=f"{LATER_CURRENCY}:2" if by_parameter else "",
        )
        if by_parameter:
            self.audit.later_fingerprint = copy.rules.current(settings).fingerprint
        process = Process(f"{'later' if is_later else 'process'}-{self._launched}", copy, self.updates_on, is_later)
        firestore = SimulatedFirestore(self.network, copy, partial(self._die, process), lambda: process.is_alive)
        process.firestore = firestore
        process.keeper = copy.bookkeeper.Bookkeeper(
            firestore,
            settings,
            updates_on=lambda: process.updates_on,
            retry=copy.retry.Retry(sleep=self._sleep_s, jitter=self.random.random),
            start=partial(self._start_job, process),
            new_signal=partial(Signal, self.scheduler),
            clock=lambda: self.scheduler.now_us / SECOND_US,
        )
        self.processes.append(process)
        if self.log:
            self.log(process.name, "starts")

    def _start_job(self, process: Process, job: Callable[[], None]) -> None:
        """What the product's pool of threads does."""

        def spawn() -> None:
            if process.is_alive:
                self.scheduler.spawn(body)

        def body() -> None:
            actor = getcurrent()
            process.actors[actor] = lambda: None
            job()
            del process.actors[actor]

        self.scheduler.after(0, spawn)

    def _sleep_s(self, seconds: float) -> None:
        self.scheduler.sleep(int(seconds * SECOND_US))

    def _die(self, process: Process) -> None:
        if not process.is_alive:
            return
        if self.log:
            self.log(process.name, "DIES")
        self.figures.crashes += 1
        process.is_alive = False
        self.processes.remove(process)
        actors, process.actors = process.actors, {}
        for actor, on_death in actors.items():
            kill(actor)
            on_death()
        self.scheduler.after(int(self.random.random() * SECOND_US), self._replace)

    def take_away(self) -> None:
        """The system is removed: its processes end, and there are no triggers."""
        self.is_away = True
        for process in list(self.processes):
            self._die(process)

    def bring_back(self) -> None:
        """It is installed again, in a higher epoch."""
        self.is_away = False
        self.epoch += 1
        for _ in range(self.profile.instances):
            self._launch()

    def _replace(self) -> None:
        if self.is_away:
            return
        if len(self._available()) < self.profile.instances:
            self._launch()

    def _available(self) -> list[Process]:
        return [process for process in self.processes if not process.is_retired]

    def _start(self, body: Callable[[Process], None], on_death: Callable[[], None]) -> None:
        """Give a process something to do."""
        available = self._available()
        if not available:
            self.scheduler.after(SECOND_US, on_death)
            return
        process = available[int(self.random.random() * len(available))]

        def main() -> None:
            actor = getcurrent()
            process.actors[actor] = on_death
            body(process)
            del process.actors[actor]

        self.scheduler.spawn(main)

    def _roll_out(self) -> None:
        """From now on the later version is launched; what runs is replaced bit by bit."""
        self.is_later = True
        self._launch()
        for process in self.processes[:-1]:
            self.scheduler.after(int(self.random.random() ** 2 * 10 * MINUTE_US), partial(self._retire, process))

    def _retire(self, process: Process) -> None:
        process.is_retired = True
        self._replace()

    def _roll_back(self) -> None:
        self.is_later = False
        for process in list(self.processes):
            if process.is_later:
                self._die(process)
        if not self._available():
            self._launch()
        for group in self.scene.groups:
            self._rebuild(group, force=True)

    def _final_version(self) -> int:
        return LATER_VERSION if self.is_later else VERSION

    # Work

    def _request_rebuild(self) -> None:
        self._rebuild(self.random.choice(self.scene.groups), force=self.random.random() < 0.4)

    def _rebuild(self, group: str, *, force: bool) -> None:
        if force:
            self.forced.add(group)
        again = partial(self._rebuild, group, force=force)

        def body(process: Process) -> None:
            try:
                result = process.keeper.rebuild(group, force=force)
            except process.product.changes.NewerVersion as error:
                result = error
            except process.product.firestore.TransientError as error:
                result = error
                self._later(again, 0)
            if self.log:
                self.log(
                    process.name, f"rebuild of {group}{' (forced)' if force else ''}: {getattr(result, 'outcome', result)}"
                )

        self._start(body, on_death=partial(self._later, again, 0))

    def _later(self, action: Callable[[], None], attempts: int) -> None:
        """With the platform's back-off."""
        longest_us = min(10 * MINUTE_US, 10 * SECOND_US * 2**attempts)
        self.scheduler.after(int(longest_us * (0.5 + self.random.random())), action)

    def _on_commit(self, changes: Sequence[Change]) -> None:
        """What the commit means to triggers, and whether the balances in it hold together."""
        for change in changes:
            self.audit.follow(change.name[len(ROOT) :], change.after)
        for change in changes:
            path = change.name[len(ROOT) :]
            segments = path.split("/")
            if segments[-2] in ("expenses", "settlements"):
                self._emit(change, path)
            elif segments[-2] == "balanceEvents" and change.after is None and not self._is_expiring:
                self._lost_records.add((segments[1], self.audit.created(segments[1])))
            elif segments[-2] == "metadata":
                self._on_balance(segments[1], change, changes)
            elif len(segments) == 2 and segments[0] == "groups" and (change.before is None or change.after is None):
                self._emit(change, path)
                if change.after is None:
                    self.was_gone.add(segments[1])
                    if segments[1] in self._to_forget:
                        self._to_forget.remove(segments[1])
                        self.tampered.discard(segments[1])

    def forget_when_gone(self, group: str) -> None:
        """What was done to a group counts until its deletion is committed, which may have to wait for a lock."""
        if group in self.audit.existing_groups():
            self._to_forget.add(group)
        else:
            self.tampered.discard(group)

    def _on_balance(self, group: str, change: Change, together: Sequence[Change]) -> None:
        if change.after is None or (self._bent is not None and change.after.fields == self._bent.fields):
            return
        try:
            if self.profile.small_documents and document_bytes(change.after) > SMALL_DOCUMENT_BYTES:
                raise Discrepancy(f"the balance of {group} has {document_bytes(change.after)} bytes, more than are allowed")
            stored = self.audit.check_commit(group, change.after)
            if stored.version and self.profile.roll is Roll.NONE and group not in self.tampered:
                self.audit.check_count(group, stored)
            self.audit.check_writer(group, change, together, may_lower=group in self.forced)
        except Discrepancy as error:
            self.violation = self.violation or error

    def _emit(self, change: Change, source: str) -> None:
        random, profile = self.random, self.profile
        is_lost = self.is_away or (profile.loses_events and random.random() < 0.2)
        event = Event(len(self.events) + 1, change, source, is_lost)
        self.events.append(event)
        self.figures.events += 1
        if event.was_lost:
            if self.log:
                self.log(f"event {event.number}", f"{source}: LOST")
            return
        id_ = str(event.number)
        copies = [id_]
        while random.random() < profile.duplicates:
            copies.append(f"{id_}.{len(copies)}" if profile.other_ids and random.random() < 0.5 else id_)
        for copy in copies:
            self.scheduler.after(self._delay_us(), partial(self._deliver, event, copy, self._event_time_us(event), 0))

    def _delay_us(self) -> int:
        roll = self.random.random()
        if self.profile.bulk and roll < 0.7:
            return 1_000
        if roll < 0.5:
            return int(roll * SECOND_US / 10)
        return int(self.random.random() ** 2 * self.profile.longest_delay_us)

    def _event_time_us(self, event: Event) -> int:
        return event.change.commit_time_us + int((2 * self.random.random() - 1) * self.profile.time_error_us)

    def _deliver(self, event: Event, id_: str, time_us: int, attempts: int) -> None:
        self.figures.deliveries += 1
        if self.is_calm and attempts > MOST_ATTEMPTS_AT_REST:
            self.violation = self.violation or Discrepancy(f"event {event.number} is not acknowledged though nothing fails")
            return
        again = partial(self._deliver, event, id_, time_us, attempts + 1 if self.is_calm else 0)
        redeliver = partial(self._later, again, attempts)

        def body(process: Process) -> None:
            errors = (process.product.firestore.TransientError, process.product.changes.NewerVersion)
            try:
                results = self._processed(event, process, id_, time_us)
            except errors as error:
                self.figures.failures += 1
                if self.log:
                    self.log(process.name, f"event {id_}, {event.source}: {type(error).__name__}: {error}")
                redeliver()
                return
            if self.log:
                shown = ", ".join(f"{result.outcome} in {result.group_id}" for result in results) or "nothing to do"
                self.log(process.name, f"event {id_}, {event.source}: {shown}")
            for result in results:
                self._answered(event, result.group_id, str(result.outcome))

        self._start(body, on_death=redeliver)

    def _processed(self, event: Event, process: Process, id_: str, time_us: int) -> list[Any]:
        """What the product's triggers make of a delivery."""
        keeper = process.keeper
        if event.source.startswith("groups/") and event.source.count("/") == 1:
            group = event.source.split("/")[1]
            return [keeper.group_deleted(group) if event.change.after is None else keeper.group_created(group)]
        copy = process.product
        known = None if self.profile.real_codec else event.known.get((copy, keeper.settings))
        if known is None:
            delivered = self._source_event(event, copy, id_, time_us)
            known = event.known[copy, keeper.settings] = (delivered, copy.events.effect(delivered, keeper.settings))
        else:
            # The documents, and so what the change does, are the same in each delivery.
            delivered = replace(known[0], event_id=id_, time=to_time(time_us))
        results: list[Any] = keeper.process(delivered, known[1])
        return results

    def _source_event(self, event: Event, copy: Product, id_: str, time_us: int) -> Any:
        """The event as the product's trigger would have it."""
        kind = next(kind for kind in copy.sources.Kind if event.source.split("/")[-2] == kind.collections)
        before, after = event.change.before, event.change.after
        if self.profile.real_codec:
            data = _EventDataPb()
            for side, document in (("old_value", before), ("value", after)):
                if document is not None:
                    getattr(data, side).ParseFromString(document.SerializeToString())
            decoded = copy.events.decode(data.SerializeToString(), kind=kind, event_id=id_, time=to_time(time_us))
            sides = {side: version for side in ("before", "after") if (version := getattr(decoded, side)) is not None}
            arranged = {side: replace(it, fields=self.network.arranged(it.fields)) for side, it in sides.items()}
            return replace(decoded, **arranged)
        version, read = copy.events.Version, self.network.reader.version
        return copy.events.SourceEvent(
            event_id=id_,
            time=to_time(time_us),
            source=event.source,
            kind=kind,
            before=None if before is None else version(*read(before)),
            after=None if after is None else version(*read(after)),
        )

    def _answered(self, event: Event, group: str | None, outcome: str) -> None:
        self.figures.outcomes[outcome] += 1
        if not self._is_redelivering or outcome in ("DUPLICATE", "ALREADY_INCLUDED", "NO_CHANGE", "FAULT", "GROUP_GONE"):
            return
        # Every existing group holds it, unless it comes for the first time: a balance may be right without two lost events that
        # cancel each other. Where it can no longer be told whether it does, the answer may be a rebuild. What is left of a gone
        # group's balance was not repaired: an earlier version may have seen no money in an event.
        if event.was_lost or (outcome == "REBUILT" and group in self.may_rebuild):
            return
        is_left_over = group not in self.audit.existing_groups()
        if is_left_over and (self.profile.new_rules or self.profile.loses_events or self.profile.switches_off):
            return
        # Of such a balance nobody reads the sums, so it may be right without an event that the earlier version acknowledged.
        stored = None if group is None or is_left_over else self.audit.balance(group)
        if self.profile.new_rules and stored is not None and stored.detail == "none":
            return
        self.violation = self.violation or Discrepancy(f"event {event.number} was redelivered, and {outcome} in {group}")

    # The end

    def _drain(self, since: str) -> None:
        is_empty = self.scheduler.run(lambda: self.violation or self.network.violation, MAX_STEPS)
        if self.violation is not None:
            raise self.violation
        if self.network.violation is not None:
            raise Discrepancy(self.network.violation)
        if not is_empty:
            raise Discrepancy(f"after {MAX_STEPS} steps there is still something to do; {since}")

    def _check_at_rest(self) -> None:
        """Without any repair: right, or known not to be."""
        profile = self.profile
        for group in self.audit.existing_groups():
            if profile.loses_events or group in self.tampered or self._has_lost_records(group):
                continue
            stored = self.audit.balance(group)
            if profile.reinstalls and (stored is None or self.audit.epoch(group) < self.epoch or group in self.was_gone):
                continue  # nothing has happened to it since
            if profile.switches_off and group in self.was_gone:
                continue  # it may have come back unnoticed
            if stored is None:
                if not profile.switches_off:
                    raise Discrepancy(f"{group} has no balance")
            elif stored.version == 0:
                if not profile.switches_off:
                    raise Discrepancy(f"the balance of {group} is stale, but updates were never off")
            elif stored.version == VERSION or not profile.new_rules:
                # By other rules the earlier version may have acknowledged what moves no money by its own, and the later one
                # what is malformed to the earlier.
                self.audit.check(group, stored, with_faults=not profile.new_rules)
        came_back_unnoticed = (profile.switches_off or profile.reinstalls) and self.was_gone
        if not (profile.loses_events or self.tampered or profile.new_rules or profile.reinstalls or came_back_unnoticed):
            self.audit.check_faults(later=False, everywhere=True)

    def _check_nightly(self) -> None:
        """The nightly check of every group, when what was lost is old enough to be missed. It repairs, but forces nothing."""
        pause_us = int((2 + self.random.random()) * HOUR_US)
        if self.log:
            self.log("fate", f"in {pause_us / HOUR_US:.1f} h every group is checked")
        for group in self.scene.groups:
            self.scheduler.after(pause_us, partial(self._check_group, group, is_last=True))

    def _check_group(self, group: str, *, is_last: bool = False) -> None:
        again = partial(self._later, partial(self._check_group, group, is_last=is_last), 0)

        def body(process: Process) -> None:
            reconcile = process.product.reconcile
            is_right = is_last and self._is_right(group)
            try:
                report = reconcile.check(process.firestore, process.keeper.settings, group)
                self._judge_report(group, report, is_right=is_right, is_last=is_last)
                if report.state in reconcile.REPAIRABLE or (is_last and self._has_lost_records(group)):
                    reconcile.repair(process.firestore, process.keeper, group)
            except (process.product.firestore.TransientError, process.product.changes.NewerVersion) as error:
                if self.log:
                    self.log(process.name, f"nightly check of {group}: {type(error).__name__}: {error}")
                again()

        self._start(body, on_death=again)

    def _is_right(self, group: str) -> bool:
        """Whether the auditor finds nothing wrong with a group's balance, faults included."""
        try:
            stored = self.audit.balance(group) if group in self.audit.existing_groups() else None
            if stored is None or stored.version != self._final_version():
                return False
            self.audit.check(group, stored)
        except Discrepancy:
            return False
        return True

    def _judge_report(self, group: str, report: Any, *, is_right: bool, is_last: bool) -> None:
        """The nightly check must not miss what is wrong at rest, nor find drift where nobody made any."""
        state = str(report.state)
        if self.log:
            self.log("nightly", f"{group}: {state}, {'; '.join(map(str, report.differences))}")
        excused = (
            group in self.tampered
            or self._has_lost_records(group)
            or self.profile.loses_events
            or self.profile.new_rules
            or self.profile.reinstalls
            or self.profile.switches_off
            # An event that is later than anybody promised is drift until it comes.
            or (not is_last and self.profile.longest_delay_us >= LAG_ALLOWED_US)
            # It may have begun amid the deletion of what is below a group, and end after it.
            or (not is_last and self.profile.deletes_below and group in self.was_gone)
        )
        if state == "drift" and not excused:
            self.violation = self.violation or Discrepancy(
                f"the nightly check finds drift in {group}: {report.differences[:2]}"
            )
        if is_last and state == "true" and not is_right:
            self.violation = self.violation or Discrepancy(
                f"the nightly check finds nothing wrong with {group}, but it is not right"
            )

    def _redeliver(self) -> None:
        """Deliver everything once more, at once or days later."""
        roll = self.random.random()
        if self.profile.expires:
            pause_us = int((3 + 7 * roll) * DAY_US)
        else:
            pause_us = int(self.random.choice((0, 0, HOUR_US, 3 * DAY_US)) * roll)
        start_us = self.scheduler.now_us + pause_us
        if self.log:
            self.log("fate", f"in {pause_us / HOUR_US:.1f} h everything is delivered once more")
        self._is_redelivering = True
        self.may_rebuild = {group for group in self.scene.groups if self._may_rebuild(group, start_us)}
        if self.profile.expires:
            self.scheduler.at(start_us, self._expire)
        for event in self.events:
            time_us = start_us + int(self.random.random() * SECOND_US / 10)
            self.scheduler.at(time_us, partial(self._deliver, event, f"{event.number}.r", self._event_time_us(event), 0))

    def _may_rebuild(self, group: str, now_us: int) -> bool:
        """Whether, for some event, it can no longer be told that the group's balance holds it."""
        if group not in self.audit.existing_groups():
            return False
        stored = self.audit.balance(group)
        assert stored is not None, "it was repaired"
        as_of_us = to_us(stored.as_of)
        is_unreadable = now_us - as_of_us > HOUR_US - MINUTE_US
        return any(
            now_us - event.change.commit_time_us > RECORD_TTL_US // 2 - HOUR_US
            or (is_unreadable and event.change.after is None and abs(event.change.commit_time_us - as_of_us) < 2 * HOUR_US)
            for event in self.events
        )

    def _trace(self, who: str, what: str) -> None:
        assert self._print is not None
        days, rest_us = divmod(self.scheduler.now_us - START_US, DAY_US)
        hours, rest_us = divmod(rest_us, HOUR_US)
        minutes, rest_us = divmod(rest_us, MINUTE_US)
        self._print(f"{days}d {hours:02}:{minutes:02}:{rest_us / SECOND_US:09.6f}  {who:<12} {what}")
