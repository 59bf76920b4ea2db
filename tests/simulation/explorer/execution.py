"""One execution of a world: actors as greenlets that stop before each step until they are told to take it.

A step is one call of the database by a process or a client, joining a group's line, or reading or turning a switch. Whoever
drives the execution asks which actors are enabled, lets one of them take its step, perhaps with a failure, and is told the
step's footprint. Everything is decided by these choices: times come from a clock that advances with each step.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

from google.cloud.firestore_v1 import types
from greenlet import getcurrent, greenlet

from emulator.changes import Change
from emulator.engine import Engine
from emulator.engine import Settings as EngineSettings
from emulator.errors import RpcError
from emulator.footprints import Footprint as EngineFootprint
from emulator.locks import Owner
from emulator.transactions import Waiting
from tests.simulation.app import write_of
from tests.simulation.audit import Audit
from tests.simulation.auditor import Discrepancy
from tests.simulation.explorer.database import ExploredFirestore
from tests.simulation.explorer.footprint import NOTHING, Footprint, Resources
from tests.simulation.explorer.state import Instants, States, digest
from tests.simulation.explorer.world import (
    BALANCE,
    GROUP,
    Actor,
    Bend,
    Client,
    Code,
    DeleteGroup,
    DeleteRecords,
    Expire,
    Failure,
    NightlyCheck,
    Pause,
    Rebuild,
    Redeliver,
    Repair,
    Step,
    Switch,
    World,
    Write,
)
from tests.simulation.product import LATER_CURRENCY, Edit, product, settings_of
from tests.simulation.profile import SECOND_US, START_US
from tests.simulation.translation import DATABASE, ROOT
from tests.simulation.values import Reader, to_time

TICK_US = 1_000
"""Between two steps."""
_MOST_ATTEMPTS = 12


class Killed(BaseException):
    """Thrown into an actor whose process dies, or when the execution is over."""


@dataclass(slots=True, eq=False)
class Thread:
    """An actor on its way."""

    name: str
    process: "Process | None"
    again: Callable[[], None] | None
    """What is to be done when its process dies."""
    of: str
    """Whose step it takes: its own, or that of a client who makes several calls at once."""
    greenlet: Any = None
    label: str | None = None
    """The step that it is about to take; None while it waits, and when it is done."""
    last_label: str = ""
    failures: frozenset[Failure] = frozenset()
    """What may go wrong with that step."""
    failure: Failure | None = None
    """What goes wrong with the step that it has begun to take, perhaps only when it has its locks."""
    enablers: int = 0
    """The steps that brought it here, by bits of their position."""
    is_done: bool = False
    transaction: bytes | None = None
    """The last that it began and did not commit."""
    knows: str = ""
    """A digest of all that it was answered: where it is follows from that. Kept when states are told apart."""
    balance: Any = None
    """The version of the balance that it has seen last; None when it saw none."""

    def asks(self) -> str:
        """A digest of the call that it has made: what it asks for follows from what it knows."""
        return digest((self.knows, self.last_label))


class Signal:
    """What a thread that waits in the product's line sleeps on."""

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution
        self._is_set = False
        self._waiter: Thread | None = None

    def set(self) -> None:
        """Wake the waiter, now or as soon as it waits."""
        self._is_set = True
        if self._waiter is not None:
            self._execution.wake(self._waiter)

    def wait(self, timeout: float | None = None) -> None:
        """Sleep until set. Nobody here is in a hurry."""
        assert timeout is None
        if not self._is_set:
            self._waiter = self._execution.running
            self._execution.park()


class _LineLock:
    """Stands in for the lock of a process's line: nobody contends for it, but whoever takes it touches the line."""

    def __init__(self, execution: "Execution", line: int) -> None:
        self._execution = execution
        self._line = line

    def __enter__(self) -> None:
        self._execution.touch(Footprint(0, self._line))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class Process:
    """An instance of the functions."""

    def __init__(self, execution: "Execution", name: str, code: Code) -> None:
        self.name = name
        self.is_alive = True
        self.updates_on = code.updates_on
        self.threads: list[Thread] = []
        self.resource = execution.resources("process " + name)
        self.switch = execution.resources("switch of " + name)
        later_version = code.is_later and not code.by_parameter
        self.product = copy = product(later=later_version, new_rules=code.new_rules, edits=execution.edits)
        currencies = f"{LATER_CURRENCY}:2" if code.by_parameter else ""
        settings = settings_of(copy, nested=execution.world.nested, epoch=code.epoch, currencies=currencies)
        if code.by_parameter:
            execution.audit.later_fingerprint = copy.rules.current(settings).fingerprint
        self.firestore = ExploredFirestore(execution, name, copy)
        self._execution = execution
        self.keeper = copy.bookkeeper.Bookkeeper(
            self.firestore,
            settings,
            updates_on=self._read_switch,
            retry=copy.retry.Retry(sleep=lambda s: None, jitter=lambda: 0.0),
            start=self._start,
            new_signal=lambda: Signal(execution),
            clock=lambda: 0.0,
        )
        self.keeper._combiner._lock = _LineLock(execution, execution.resources("line of " + name))
        self._jobs = 0

    def _start(self, job: Callable[[], None]) -> None:
        """What the product's pool of threads does. A process that gets one event needs no second thread."""
        if not self.is_alive or self._execution.is_over:
            return
        if not self._execution.world.in_one_process:
            job()
            return
        self._jobs += 1
        name = f"job {self._jobs} of {self.name}"

        # A common job takes what waits when it begins, a lone one what it is given.
        given = job.args[1] if isinstance(job, partial) else ()
        label = " ".join(["begins", *(f"with {self._execution.member(place.member)}" for place in given)])

        def body() -> None:
            # It begins some time: what arrives until then comes along.
            self._execution.step(label, lambda: None)
            job()

        self._execution.spawn(name, body, self)

    def waiting(self) -> tuple[object, ...]:
        """Who waits in the group's line and what is under way, in names; whether the group goes alone."""
        queues = self.keeper._combiner._queues
        places = [self._execution.member(place.member) for place in queues._waiting.get(GROUP, ())]
        is_busy, is_ready = GROUP in queues._busy, GROUP in queues._ready
        return places, is_busy, is_ready, GROUP in queues._suspect_until, self.keeper._combiner._common_jobs

    def remembered(self) -> Any:
        """The balance that the product remembers, and its update time."""
        return self.keeper._memory.get(GROUP)

    def _read_switch(self) -> bool:
        if self._execution.world.reads_switch:
            return bool(self._execution.step("reads the switch", lambda: [self.updates_on], Footprint(self.switch))[0])
        return self.updates_on


@dataclass(frozen=True, slots=True)
class Event:
    """One write of a source document, or the coming or going of a group's."""

    name: str
    source: str
    change: Change

    @property
    def is_of_group(self) -> bool:
        """The group's document came or went."""
        return self.source == f"groups/{GROUP}"


@dataclass(frozen=True, slots=True)
class _Traits:
    """What the audit wants to know of a world."""

    nested: bool
    new_rules: bool
    minor_units: bool = False
    small_documents: bool = False
    misses_events: bool = False
    switches_off: bool = False


@dataclass(slots=True)
class _Touched:
    """The footprint of the step that is being taken."""

    reads: int = 0
    writes: int = 0


class Execution:
    """A world under way. To be closed: its actors are greenlets that would wait for ever."""

    def __init__(self, world: World, resources: Resources, edits: tuple[Edit, ...] = (), *, tells_states: bool = False) -> None:
        """`tells_states`: keep what is needed to tell the states that it comes to."""
        self.world = world
        self.tells_states = tells_states
        self.edits = edits
        self.resources = resources
        self.threads: list[Thread] = []
        self.by_name: dict[str, Thread] = {}
        self.processes: dict[str, Process] = {}
        self.events: list[Event] = []
        self.answers: list[tuple[str, str]] = []
        """What each delivery and request was answered."""
        self.violation: Exception | None = None
        self.failures_left = 0
        self.repaired: list[str] = []
        """What the nightly check found, other than fine."""
        self._clock_us = START_US
        self._position = 0
        # Without the engine's memory of contention, which spares retries: more can happen.
        self.engine = Engine(DATABASE, lambda: self._clock_us, settings=EngineSettings(contention_memory_us=0))
        self.engine.subscribe(self._on_commit)
        self.reader = Reader()
        self.audit = Audit(_Traits(world.nested, world.final.new_rules, switches_off=world.reads_switch), self.reader.fields)
        self.names: dict[str, str] = {}
        """Of documents whose path is a hash: a record by the name of its write."""
        self.waiting: dict[Owner, tuple[Thread, str]] = {}
        """The actors that wait for locks, or have waited, and what they knew then: what they want may outlive them."""
        self.instants = Instants()
        self.states = States(self)
        self.running: Thread
        self._hub = getcurrent()
        self._ready: deque[Thread] = deque()
        self._touched = _Touched()
        self._writes: Counter[str] = Counter()
        self._dying: list[Thread] = []
        self._bent: Any = None
        """What somebody has made of a balance."""
        self.is_over = False
        """The actors are ended where they stand."""
        self._may_lower = any(isinstance(actor, Rebuild) and actor.force for actor in world.actors)
        self._set_up()

    # Driving

    def enabled(self) -> list[Thread]:
        """Who could take a step now."""
        return [thread for thread in self.threads if thread.label is not None]

    def take(self, thread: Thread, failure: Failure | None, position: int) -> Footprint:
        """Let an actor take its step, the one at this position, and go on to its next; returns the step's footprint."""
        self._clock_us += TICK_US
        self._position = position
        touched = self._touched
        touched.reads = touched.writes = 0
        self._resume(thread, failure)
        if self._dying:
            self._bury()
        self._drain(1 << position)
        return Footprint(touched.reads, touched.writes)

    def settle(self) -> None:
        """Without choice: one actor after the other. Raises what went wrong."""
        self._drain(0)
        while enabled := self.enabled():
            self.take(enabled[0], None, 0)
        self.check_progress()

    def check_progress(self) -> None:
        """Raises what went wrong, or Discrepancy when somebody waits for ever."""
        if self.violation is not None:
            raise self.violation
        stuck = [thread.name for thread in self.threads if not thread.is_done]
        if stuck:
            raise Discrepancy(f"stuck: {', '.join(stuck)}")

    def start_over(self) -> None:
        """Forget the actors, who are all done, for others of the same names."""
        self.threads, self.by_name = [], {}

    def close(self) -> None:
        """End the actors where they stand."""
        self.is_over = True
        for thread in self.threads:
            if not thread.is_done and thread.greenlet:
                self.running = thread
                thread.greenlet.throw(Killed)

    def _resume(self, thread: Thread, failure: Failure | None) -> None:
        self.running = thread
        thread.label = None
        thread.greenlet.switch(failure)

    def _drain(self, position_bit: int) -> None:
        """Whoever was started or woken by this step goes on to his next."""
        while self._ready:
            thread = self._ready.popleft()
            thread.enablers |= position_bit
            if not thread.is_done:
                self._resume(thread, None)

    # For actors

    def spawn(
        self,
        name: str,
        body: Callable[[], object],
        process: Process | None = None,
        again: Callable[[], None] | None = None,
        *,
        of: str | None = None,
    ) -> Thread:
        """Start an actor; it goes on to its first step when the step that starts it is over."""
        assert name not in self.by_name, f"two actors are named {name}"
        thread = Thread(name, process, again, of or name)
        self.threads.append(thread)
        self.by_name[name] = thread
        if process is not None:
            process.threads.append(thread)

        def main(_: object = None) -> None:
            try:
                body()
            except Killed:
                pass
            except Discrepancy as error:
                self.violation = self.violation or error
            finally:
                thread.is_done = True
                thread.label = None
                if process is not None:
                    process.threads.remove(thread)

        thread.greenlet = greenlet(main, self._hub)
        self._ready.append(thread)
        return thread

    def spawn_late(self, name: str, body: Callable[[], object]) -> None:
        """Start what the running actor has sent off, to take effect later: what it is follows from what that actor knows."""
        sender = self.running
        thread = self.spawn(name, body)
        thread.knows, thread.balance = sender.asks(), sender.balance

    def park(self) -> None:
        """Wait until woken."""
        self._hub.switch()
        if self.is_over:
            raise Killed

    def wake(self, thread: Thread) -> None:
        """Have a waiting actor go on, as part of this step."""
        self._ready.append(thread)

    def touch(self, footprint: tuple[int, int]) -> None:
        """The step that is being taken reads and writes this as well."""
        self._touched.reads |= footprint[0]
        self._touched.writes |= footprint[1]

    def step(
        self,
        label: str,
        action: Callable[[], Any],
        footprint: Footprint | Callable[[], Footprint] = NOTHING,
        failures: frozenset[Failure] = frozenset(),
        late: Callable[[], None] | None = None,
    ) -> Any:
        """Stop until told to go on, then act; the engine's errors are raised as they are.

        A failure without effect is raised before the action, any other after it. `late` has the action happen later.
        """
        thread = self.running
        thread.label = thread.last_label = label
        thread.failures = failures
        failure: Failure | None = self._hub.switch()
        if self.is_over:
            raise Killed
        thread.failure = failure
        process = thread.process
        if process is not None:
            self.touch((process.resource, 0))
        if failure is not None:
            self.failures_left -= 1
        if failure in (Failure.LOST, Failure.LATE):
            if failure is Failure.LATE:
                assert late is not None, "only a commit comes late"
                late()
            self._learn(thread, failure, None)
            raise self._transient(thread, failure)
        answer = self._act(thread, action, footprint() if callable(footprint) else footprint, failure)
        if failure in (Failure.UNKNOWN, Failure.READ_FAILS):
            raise self._transient(thread, failure)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def _act(self, thread: Thread, action: Callable[[], Any], footprint: Footprint, failure: Failure | None) -> Any:
        self.touch(footprint)
        answer = _outcome(action)
        if isinstance(answer, Waiting):
            self.waiting[answer.request.owner] = thread, thread.asks()
        if failure is Failure.CRASH:
            if isinstance(answer, Waiting):
                answer.on_ready(partial(self.touch, footprint))
            self._die(thread)
        if isinstance(answer, Waiting):
            answer.on_ready(partial(self._on_granted, thread, footprint))
            self.park()
            answer = _outcome(answer.result)
        self._learn(thread, failure, answer)
        return answer

    def _learn(self, thread: Thread, failure: Failure | None, answer: Any) -> None:
        if self.tells_states:
            thread.knows = digest((thread.knows, thread.last_label, failure, self.states.answer(answer)))
            for document in getattr(answer, "documents", ()):
                if document is not None and document.name == ROOT + BALANCE:
                    thread.balance = document

    def _on_granted(self, thread: Thread, footprint: Footprint) -> None:
        # What a woken actor does is done in the step of whoever released the lock.
        self.touch(footprint)
        process = thread.process
        if process is None or process.is_alive:
            self.wake(thread)

    def _transient(self, thread: Thread, failure: Failure) -> Exception:
        assert thread.process is not None, "clients do not fail"
        error: Exception = thread.process.product.firestore.TransientError(failure)
        return error

    def _die(self, thread: Thread) -> NoReturn:
        """The process of this actor dies. The step's end is the end of all its actors."""
        process = thread.process
        assert process is not None, "clients do not die"
        process.is_alive = False
        self.touch((0, process.resource))
        self._dying.extend(process.threads)
        for number, id_ in enumerate(process.firestore.transactions):
            if self.engine.is_active(id_):
                self.spawn(f"expiry {number} of {process.name}", partial(self._expire, id_, number, process))
        raise Killed

    def _bury(self) -> None:
        """End the actors of a process that has died in this step; what they did will be done again."""
        dying, self._dying = self._dying, []
        for thread in dying:
            if not thread.is_done:
                self.running = thread
                thread.greenlet.throw(Killed)
            if thread.again is not None:
                thread.again()

    def _expire(self, id_: bytes, number: int, process: Process) -> None:
        """The locks of a dead process's transaction expire."""
        engine = self.engine

        def expire() -> None:
            if engine.is_active(id_):
                engine.rollback(id_)

        own = Footprint(0, self.resources(f"transaction {number} of {process.name}"))
        self.step("its transaction expires", expire, lambda: self.resources.of(engine.footprint_of_rollback(id_)) | own)

    def process(self, name: str) -> Process:
        """The process of this name; it starts when it is first needed, and again when it has died."""
        found = self.processes.get(name)
        if found is not None:
            # Whether the work comes before a crash or after it makes a difference.
            self.touch(Footprint(found.resource))
            if not found.is_alive:
                return self.process(name + "'")
        if found is None:
            code = self.world.processes.get(name.rstrip("'"), self.world.final)
            found = self.processes[name] = Process(self, name, code)
        return found

    def transactions(self) -> Iterator[tuple[str, int, bytes]]:
        """All that processes have begun: the process's name, a number, the id."""
        for process in self.processes.values():
            for number, id_ in enumerate(process.firestore.transactions):
                yield process.name, number, id_

    def last_transactions(self) -> Iterator[bytes]:
        """The last that each actor began and did not commit: a retry may keep its age."""
        return (thread.transaction for thread in self.threads if thread.transaction is not None and not thread.is_done)

    # Names, for traces

    def member(self, member: Any) -> str:
        """What waits in a line, in short."""
        write = getattr(member, "write", None)
        if write is None:
            return repr(member)
        return f"{self.names.get(f'groups/{GROUP}/balanceEvents/{write.key}', write.key)} by {member.event_id}"

    def shown(self, paths: Sequence[str]) -> str:
        """Paths in short, records by the name of their write."""
        return ", ".join(
            self.names.get(path) or path.removeprefix(f"groups/{GROUP}/").removeprefix("metadata/") for path in paths
        )

    # The world

    def _set_up(self) -> None:
        for step in (*self.world.before, *(step for actor in self.world.actors for step in getattr(actor, "steps", ()))):
            if isinstance(step, Write) and step.path.split("/")[-2] in ("expenses", "settlements"):
                self.resources.source(step.path)
        for number, step in enumerate(self.world.before):
            self._prepare(step, f"before {number}")
            self.settle()
            self.start_over()
        self.answers.clear()
        self.failures_left = self.world.most_failures if self.world.failures else 0
        for actor in self.world.actors:
            self._begin(actor)
        self._drain(0)

    def _prepare(self, step: Step, name: str) -> None:
        match step:
            case Write() | DeleteGroup() | DeleteRecords():
                self.spawn(name, partial(self._do, step))
            case Bend(field, us):
                message = types.Write.pb()()
                message.update.CopyFrom(self.audit.documents[BALANCE])
                message.update.fields[field].timestamp_value.seconds = us // SECOND_US
                self._bent = message.update.fields
                self.engine.commit([message])
            case Pause(us):
                self._clock_us += us
            case Expire():
                for path, _ in self.audit.collection("balanceEvents"):
                    self.spawn(f"{name} {path}", partial(self._write, Write(path, None)))
            case Repair():
                self.rebuild(name)

    def _begin(self, actor: Actor) -> None:
        match actor:
            case Client(steps, name):
                self.spawn(name, partial(self._do_all, steps))
            case Rebuild(name, process, force):
                self.rebuild(name, process, force=force)
            case Switch(process, turns):
                self._turn(self.process(process), turns)
            case Redeliver(name, process):
                self.deliver(next(event for event in self.events if event.name == name), f"{name} again", process)
            case NightlyCheck(process):
                self._check(process_name=process)

    def _do_all(self, steps: Sequence[Write | DeleteGroup | DeleteRecords]) -> None:
        for step in steps:
            self._do(step)

    def _do(self, step: Write | DeleteGroup | DeleteRecords) -> None:
        if isinstance(step, Write):
            self._write(step)
        elif isinstance(step, DeleteGroup):
            self._delete_group(step)
        else:
            for path in self._list_below(f"groups/{GROUP}"):
                if "/balanceEvents/" in path:
                    self._write(Write(path, None))

    def _write(self, write: Write) -> None:
        document = ROOT + write.path
        message = write_of(document, write.fields)
        verb = "delete" if write.fields is None else "set"

        def commit() -> Any:
            answer = self.engine.commit([message])
            if isinstance(answer, Waiting):
                # It is as old as this, among those that wait and begin.
                self.touch(Footprint(0, self.resources.age))
            return answer

        self.step(
            f"{verb} {self.shown([write.path])}",
            commit,
            lambda: self.resources.of(self.engine.footprint_of_commit([message])),
        )

    def _delete_group(self, delete: DeleteGroup) -> None:
        group = f"groups/{GROUP}"
        name = self.running.name
        round_ = 0
        while (found := self._list_below(group)) and (delete.lists_again or not round_):
            round_ += 1
            paths = [*found, *([] if delete.group_last else [group])]
            self._in_parallel({f"{name} deletes {self.shown([path])} ({round_})": Write(path, None) for path in paths})
        if delete.group_last or not round_:
            self._write(Write(group, None))

    def _in_parallel(self, writes: Mapping[str, Write]) -> None:
        """Make these writes in actors of their own, and wait for all of them."""
        waiter, missing = self.running, set(writes)

        def body(name: str) -> None:
            self._write(writes[name])
            # What the waiter does next happens after all of these, whichever is the last.
            waiter.enablers |= 1 << self._position
            missing.remove(name)
            if not missing:
                self.wake(waiter)

        for name in writes:
            self.spawn(name, partial(body, name), of=waiter.name)
        self.park()

    def _list_below(self, document: str) -> list[str]:
        """The paths of all documents below one, as listed at once."""
        kinds = ("metadata", "balanceEvents", "balanceFaults", "expenses", "settlements")
        call = EngineFootprint(queries=frozenset(f"{ROOT}{document}/{kind}" for kind in kinds))

        def paths() -> list[str]:
            return sorted(path for path in self.audit.documents if path.startswith(document + "/"))

        listed: list[str] = self.step("lists what is below the group", paths, self.resources.of(call))
        return listed

    def _turn(self, process: Process, turns: Sequence[bool]) -> None:
        def turn(on: bool) -> None:
            process.updates_on = on

        def body() -> None:
            for on in turns:
                self.step(f"turns updates {'on' if on else 'off'}", partial(turn, on), Footprint(0, process.switch))

        self.spawn(f"switch of {process.name}", body)

    # Work for processes

    def deliver(self, event: Event, name: str, process_name: str | None = None) -> None:
        """Have an event processed, and again until it is acknowledged."""
        process = self.process(process_name or ("P" if self.world.in_one_process else name))

        def handle() -> list[str]:
            copy, keeper = process.product, process.keeper
            if event.is_of_group:
                handler = keeper.group_deleted if event.change.after is None else keeper.group_created
                return [str(handler(GROUP).outcome)]
            delivered = self._source_event(event, name, copy)
            consequences = copy.events.effect(delivered, keeper.settings)
            return [str(result.outcome) for result in keeper.process(delivered, consequences)]

        def newer() -> None:
            self.deliver(event, name + "+", "the newer code")

        self._work(
            name, process, handle, again=lambda: self.deliver(event, name + "'", self._successor(process, name)), newer=newer
        )

    def rebuild(self, name: str = "rebuild", process_name: str | None = None, *, force: bool = False) -> None:
        """Have the group's balance rebuilt."""
        process = self.process(process_name or ("P" if self.world.in_one_process else name))

        def handle() -> list[str]:
            return [str(process.keeper.rebuild(GROUP, force=force).outcome)]

        def again() -> None:
            self.rebuild(name + "'", self._successor(process, name), force=force)

        self._work(name, process, handle, again=again)

    def _check(self, name: str = "nightly check", process_name: str | None = None) -> None:
        process = self.process(process_name or name)

        def handle() -> list[str]:
            copy = process.product
            report = copy.reconcile.check(process.firestore, process.keeper.settings, GROUP)
            state = str(report.state)
            if state not in map(str, copy.reconcile.FINE):
                self.repaired.append(state)
            if state in map(str, copy.reconcile.REPAIRABLE):
                return [state, str(copy.reconcile.repair(process.firestore, process.keeper, GROUP))]
            return [state]

        self._work(name, process, handle, again=lambda: self._check(name + "'", self._successor(process, name)))

    def _successor(self, process: Process, name: str) -> str:
        """Where what a dead process did is done again: it starts anew, or did only this."""
        return process.name if process.name.rstrip("'") in ("P", *self.world.processes) else name + "'"

    def _work(
        self,
        name: str,
        process: Process,
        handle: Callable[[], list[str]],
        again: Callable[[], None],
        newer: Callable[[], None] | None = None,
    ) -> None:
        def body() -> None:
            copy = process.product
            for _ in range(_MOST_ATTEMPTS):
                if self.world.in_one_process:
                    self.step("joins the line", lambda: None)
                try:
                    outcomes = handle()
                except copy.firestore.TransientError:
                    continue
                except copy.changes.NewerVersion:
                    self.answers.append((name, "NewerVersion"))
                    if newer is not None:
                        newer()
                    return
                self.answers.append((name, " ".join(outcomes)))
                return
            raise Discrepancy(f"{name} does not end though little fails")

        self.spawn(name, body, process, again)

    # Events

    def _on_commit(self, changes: Sequence[Change]) -> None:
        paths = [change.name[len(ROOT) :] for change in changes]
        for path, change in zip(paths, changes, strict=True):
            self.audit.follow(path, change.after)
        for path, change in zip(paths, changes, strict=True):
            segments = path.split("/")
            if segments[-2] in ("expenses", "settlements"):
                self._writes[path] += 1
                self._emit(Event(f"{segments[-1]}#{self._writes[path]}", path, change))
            elif segments[-2] == "groups" and (change.before is None or change.after is None):
                self._writes[path] += 1
                self._emit(Event(f"group#{self._writes[path]}", path, change))
            elif segments[-2] == "metadata" and change.after is not None:
                self._check_balance(change, changes)

    def _check_balance(self, change: Change, together: Sequence[Change]) -> None:
        if change.after is None or change.after.fields == self._bent:
            return
        try:
            stored = self.audit.check_commit(GROUP, change.after)
            if stored.version and not self.world.processes and self.audit.existing_groups():
                self.audit.check_count(GROUP, stored)
            self.audit.check_writer(GROUP, change, together, may_lower=self._may_lower)
        except Discrepancy as error:
            self.violation = self.violation or error

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        fields = None if event.change.after is None else self.reader.fields(event.change.after)
        self.instants.write(event.change.commit_time_us, f"{event.name} {digest(fields)[:8]}")
        if not event.is_of_group:
            for copy in {process.product for process in self.processes.values()} or {product(edits=self.edits)}:
                write = self._source_event(event, event.name, copy).write
                self.names[f"groups/{GROUP}/balanceEvents/{write.key}"] = f"record of {event.name}"
        if event.name in self.world.held_back:
            return
        for number in range(self.world.copies):
            name = event.name + (f".{number}" if number else "")
            self.deliver(event, name, self.world.delivered_to.get(event.name))

    def _source_event(self, event: Event, id_: str, copy: Any) -> Any:
        version, read, change = copy.events.Version, self.reader.version, event.change
        kind = copy.sources.Kind.EXPENSE if "expenses/" in event.source else copy.sources.Kind.SETTLEMENT
        return copy.events.SourceEvent(
            event_id=id_,
            time=to_time(change.commit_time_us + self.world.event_time_error_us),
            source=event.source,
            kind=kind,
            before=None if change.before is None else version(*read(change.before)),
            after=None if change.after is None else version(*read(change.after)),
        )


def _outcome(action: Callable[[], Any]) -> Any:
    """What an action returns, or the engine's error."""
    try:
        return action()
    except RpcError as error:
        return error


@contextmanager
def execution(
    world: World, resources: Resources, edits: tuple[Edit, ...] = (), *, tells_states: bool = False
) -> Iterator[Execution]:
    """One execution, closed at the end."""
    run = Execution(world, resources, edits, tells_states=tells_states)
    try:
        yield run
    finally:
        run.close()
