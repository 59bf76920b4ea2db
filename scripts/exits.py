"""The exit codes that every subcommand of `balance` keeps."""

from enum import IntEnum


class Exit(IntEnum):
    """What became of a command."""

    DONE = 0, "done, and nothing is wrong"
    WRONG = 1, "something is wrong or has failed: the output says what"
    REFUSED = 2, "not begun: called wrongly, not confirmed, or out of reach"
    LEFT_OUT = 3, "nothing is wrong, but documents were left out of the sums"
    INTERRUPTED = 130, "interrupted by Ctrl-C or SIGTERM: run it again"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "Exit":
        """A number that knows its meaning."""
        made = int.__new__(cls, value)
        made._value_ = value
        made.meaning = meaning
        return made


TABLE = "Exit codes:\n" + "\n".join(f"  {code:<4} {code.meaning}" for code in Exit)
