"""What a step reads and writes: two steps that touch nothing of each other's may change places.

The engine tells what a call touches (emulator/footprints.py): documents, collections and locks. Here these become bits of two
masks, what is read and what is written, so that the dependence of two steps is two ANDs. To them come

- the *instant*: a read outside a transaction may become the snapshot of a rebuild. What it finds later depends on every source
  written before it, and which of two snapshots is the later one on their order. So it reads all sources and writes the
  instant. A read of the past depends on nothing else and is no step;
- the age of transactions: of two that collide the older one wins, so it matters which begins first;
- what an execution adds: a switch, a process (a crash ends all its actors), the line of a group in a process.
"""

from collections.abc import Iterable
from typing import NamedTuple

from emulator.footprints import Footprint as EngineFootprint
from tests.simulation.translation import ROOT


class Footprint(NamedTuple):
    """Masks of what is read and what is written."""

    reads: int = 0
    writes: int = 0

    def __or__(self, other: "Footprint") -> "Footprint":
        return Footprint(self[0] | other[0], self[1] | other[1])


NOTHING = Footprint()


def dependent(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Not zero when the two steps may not change places."""
    return one[1] & (other[0] | other[1]) or one[0] & other[1]


class Resources:
    """The bits, given out as names come up."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._known: dict[EngineFootprint, Footprint] = {}
        self._sources = 0
        self._instant = self("the instant of a snapshot")
        self._everything = self("any document")
        self.age = self("the age of transactions")

    def __call__(self, name: str) -> int:
        """The bit of a resource."""
        bit = self._bits.get(name)
        if bit is None:
            bit = self._bits[name] = 1 << len(self._bits)
        return bit

    def source(self, path: str) -> None:
        """Make known, before any step, that there is such an expense or settlement."""
        self._sources |= self._all("document ", [ROOT + path])

    def of(self, call: EngineFootprint) -> Footprint:
        """What a call of the engine touches."""
        found = self._known.get(call)
        if found is None:
            reads = (
                self._all("document ", call.reads) | self._all("collection ", call.queries) | self._all("lock ", call.shares)
            )
            writes = (
                self._all("document ", call.writes) | self._all("collection ", call.changes) | self._all("lock ", call.takes)
            )
            if call.writes:
                writes |= self._everything
            if call.fixes_instant:
                # Of a transaction that has lost its locks: whatever it reads from now on, it reads as of this instant.
                reads |= self._everything
            found = self._known[call] = Footprint(reads, writes)
        return found

    def of_instant(self, call: EngineFootprint) -> Footprint:
        """What a read of the present touches that may become the instant of a snapshot."""
        return self.of(call) | Footprint(self._sources, self._instant)

    def _all(self, kind: str, names: Iterable[str]) -> int:
        mask = 0
        for name in names:
            mask |= self(kind + name)
        return mask
