"""What became of an event in one group."""

from enum import StrEnum


class Outcome(StrEnum):
    """The rows of the decision table, in no particular order; apply.py holds the table."""

    APPLIED = "APPLIED"
    """The delta and its record were committed together."""
    DUPLICATE = "DUPLICATE"
    """The write's record exists: an earlier delivery did it."""
    ALREADY_INCLUDED = "ALREADY_INCLUDED"
    """The write is in the snapshot from which the balance was last rebuilt."""
    REBUILT = "REBUILT"
    """An incremental step was not certainly right, so everything was recalculated."""
    NO_CHANGE = "NO_CHANGE"
    """The change moves no money in this group."""
    DISABLED = "DISABLED"
    """Updates are switched off: recorded as a gap, the balance marked stale."""
    GROUP_GONE = "GROUP_GONE"
    """The group's document does not exist, so neither does a balance. Should the group come back, it is rebuilt."""
    FAULT = "FAULT"
    """A side of the change could not be understood; its fault was set or removed."""
    UNREADABLE = "UNREADABLE"
    """The event itself could not be decoded, which no redelivery can cure."""
