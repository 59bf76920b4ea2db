"""Which functions the CLI's functions emulator has loaded, and having the embedded Firestore deliver to them.

The CLI tells a Firestore emulator of the triggers only when it has started it. The embedded one it has not: so the functions
emulator is asked (`GET /backends`), and each event goes where the official emulator would send it, to
`POST /functions/projects/PROJECT/triggers/REGION-NAME-0`, the body in base64.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.triggers import EventType
from runner.session import CallFailed, call

LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class FunctionsEmulator:
    """The functions emulator of the Firebase CLI."""

    url: str
    project: str
    source: Path
    """Of our functions: theirs are the only events that are delivered until they are acknowledged, as functions.yaml says."""

    def functions(self) -> Iterator[tuple[Mapping[str, Any], bool]]:
        """What it has loaded so far, and whether it is ours. Raises OSError, CallFailed."""
        for backend in call("GET", f"{self.url}/backends")["backends"]:
            ours = Path(backend["directory"]).resolve() == self.source.resolve()
            for function in backend["functionTriggers"]:
                yield function, ours

    def urls(self) -> dict[str, str]:
        """Where to call each function, by its name. Raises OSError, CallFailed."""
        return {function["name"]: self._url(function) for function, _ in self.functions()}

    def triggers(self) -> list[dict[str, Any]]:
        """The triggers on documents, as the embedded Firestore takes them. Raises OSError, CallFailed."""
        found = []
        for function, ours in self.functions():
            event = function.get("eventTrigger") or {}
            filters, patterns = event.get("eventFilters") or {}, event.get("eventFilterPathPatterns") or {}
            pattern = patterns.get("document") or filters.get("document")
            if pattern is not None and event["eventType"] in tuple(EventType):
                found.append(
                    {
                        "name": function["id"],
                        "pattern": pattern,
                        "url": self._url(function),
                        "eventType": event["eventType"],
                        "project": self.project,
                        "database": filters.get("database", "(default)"),
                        "retry": ours,
                        "base64Body": True,
                    }
                )
        return found

    def left_out(self) -> list[str]:
        """Functions on documents that the embedded Firestore cannot call. Raises OSError, CallFailed."""
        called = {trigger["name"] for trigger in self.triggers()}
        return [
            function["name"]
            for function, _ in self.functions()
            if "firestore" in (function.get("eventTrigger") or {}).get("eventType", "") and function["id"] not in called
        ]

    def _url(self, function: Mapping[str, Any]) -> str:
        if function.get("eventTrigger"):
            return f"{self.url}/functions/projects/{self.project}/triggers/{function['id']}-0"
        return f"{self.url}/{self.project}/{function['region']}/{function['name']}"


@dataclass(slots=True)
class Wiring:
    """The triggers that the embedded Firestore has been told of."""

    functions: FunctionsEmulator
    admin_url: str
    tell: Callable[[str], None]
    _wired: list[dict[str, Any]] = field(default_factory=list)
    _left_out: set[str] = field(default_factory=set)

    def bring_up_to_date(self) -> None:
        """Register what is new, or other than before. Raises OSError, CallFailed."""
        for trigger in self.functions.triggers():
            if trigger not in self._wired:
                call("POST", f"{self.admin_url}/triggers", trigger)
                self._wired = [*(each for each in self._wired if each["name"] != trigger["name"]), trigger]
                self.tell(f"{trigger['name']} gets the events of {trigger['pattern']}")
        for name in set(self.functions.left_out()) - self._left_out:
            self._left_out.add(name)
            self.tell(
                f"{name} gets no events: the embedded Firestore calls functions of the 2nd generation only, and those"
                " without the author of the change"
            )

    async def follow(self) -> None:
        """Do so again and again: codebases are loaded one after the other, and again when their code changes."""
        while True:
            with contextlib.suppress(OSError, CallFailed):  # not up yet, or about to end
                await asyncio.to_thread(self.bring_up_to_date)
            await asyncio.sleep(LOOK_AGAIN_S)
