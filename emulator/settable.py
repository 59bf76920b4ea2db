"""What somebody may set from outside, read from JSON: every fault names its field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class InvalidField(ValueError):
    """A field holds what it must not. Its text is `field: fault`."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field}: {fault}")
        self.field = field
        self.fault = fault


_MISSING: Any = object()


class Fields:
    """The fields of a JSON object, each taken once by its reader; what is left over is refused."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)

    def text(self, name: str, default: str = _MISSING) -> str:
        """A string; required unless there is a default."""
        value = self._take(name, default)
        if not isinstance(value, str) or (default is _MISSING and not value):
            raise InvalidField(name, f"give a string, not {value!r}")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of the strings."""
        value = self._take(name, default)
        if value not in choices:
            raise InvalidField(name, f"{value!r} is none of {', '.join(choices)}")
        return str(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise InvalidField(name, f"give true or false, not {value!r}")
        return value

    def number(self, name: str, low: float, high: float, default: float) -> float:
        """A number within the bounds."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise InvalidField(name, f"give a number from {low:g} to {high:g}, not {value!r}")
        return float(value)

    def integer(self, name: str, low: int, high: int, default: int) -> int:
        """A whole number within the bounds."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidField(name, f"give a whole number from {low} to {high}, not {value!r}")
        return value

    def refuse_others(self) -> None:
        """To be called when all known fields have been read."""
        if self._data:
            raise InvalidField(next(iter(self._data)), "there is no such field")

    def _take(self, name: str, default: Any) -> Any:
        value = self._data.pop(name, default)
        if value is _MISSING:
            raise InvalidField(name, "it is missing")
        return value


def whole(query: Mapping[str, str], name: str, most: int, default: int) -> int:
    """A parameter of a query, from 0 to `most`. Raises InvalidField."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 17 and int(text) <= most):
        raise InvalidField(name, f"give a whole number from 0 to {most}, not {text!r}")
    return int(text)
