"""What a step reads and writes: two steps that touch nothing of each other's may change places.

Resources are bits of two masks, so that the dependence of two steps is two ANDs. What counts as a resource:

- a document, its lock, and the membership of a collection (for queries);
- the *instant*: a read outside a transaction may become the snapshot of a rebuild. What it finds later depends on every
  source written before it, and which of two snapshots is the later one on their order. So it reads all sources and writes the
  instant. A read of the past depends on nothing and is no step;
- a transaction: others may abort it. Its age: who begins first may win;
- a switch, a process (a crash ends all its actors), the line of a group in a process.
"""

from typing import NamedTuple


class Footprint(NamedTuple):
    """Masks of what is read and what is written."""

    reads: int = 0
    writes: int = 0

    def __or__(self, other: "Footprint") -> "Footprint":  # type: ignore[override]
        return Footprint(self[0] | other[0], self[1] | other[1])


NOTHING = Footprint()


def dependent(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Not zero when the two steps may not change places."""
    return one[1] & (other[0] | other[1]) or one[0] & other[1]


class Resources:
    """The bits, given out as names come up."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self.sources = 0
        """All expenses and settlements."""
        self.instant = self("the instant of a snapshot")
        self.age = self("the age of transactions")

    def __call__(self, name: str) -> int:
        """The bit of a resource."""
        bit = self._bits.get(name)
        if bit is None:
            bit = self._bits[name] = 1 << len(self._bits)
        return bit

    def source(self, path: str) -> None:
        """Make known, before any step, that there is such an expense or settlement."""
        self.sources |= self.document(path)

    def document(self, path: str) -> int:
        """A document."""
        return self("document " + path)

    def lock(self, path: str) -> int:
        """A document's lock."""
        return self("lock " + path)

    def members(self, collection: str) -> int:
        """Which documents a collection has, and what they hold."""
        return self("collection " + collection)
