"""Faults on demand: errors before or after an RPC took effect, and added latency. Off unless set."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Literal, get_args

import grpc

from emulator.errors import RpcError

Moment = Literal["before", "within", "after"]


@dataclass(slots=True)
class Fault:
    """One rule. An RPC named `rpc` (`"*"`: any) fails with `code`, with `probability`, `remaining` times.

    `moment` "after" lets the RPC take effect first, so that its outcome is unknown to the client; "within" breaks a stream
    after its first answer.
    `code` None is no error: only the latency. `remaining` None never runs out.
    """

    rpc: str
    code: grpc.StatusCode | None = None
    probability: float = 1.0
    moment: Moment = "before"
    remaining: int | None = None
    latency_ms: float = 0.0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Fault:
        """Read a rule from JSON. Raises ValueError that names the field at fault."""
        unknown = set(data) - {"rpc", "code", "probability", "moment", "count", "latencyMs"}
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
        rpc = data.get("rpc", "*")
        if not isinstance(rpc, str) or not rpc:
            raise ValueError("rpc: give the name of an RPC, such as 'Commit', or '*'")
        name = data.get("code")
        codes = {code.name: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}
        if name is not None and name not in codes:
            raise ValueError(f"code: {name!r} is none of {', '.join(codes)}")
        probability = data.get("probability", 1.0)
        if not _is_number(probability) or not 0 <= probability <= 1:
            raise ValueError("probability: give a number from 0 to 1")
        moment = data.get("moment", "before")
        if moment not in get_args(Moment):
            raise ValueError("moment: give 'before', 'within' or 'after'")
        count = data.get("count")
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ValueError("count: give a positive integer, or leave it out for no end")
        latency_ms = data.get("latencyMs", 0)
        if not _is_number(latency_ms) or not 0 <= latency_ms <= 600_000:
            raise ValueError("latencyMs: give a number from 0 to 600000")
        if name is None and not latency_ms:
            raise ValueError("code: a rule needs a code, or a latencyMs")
        return cls(rpc, codes[name] if name else None, probability, moment, count, latency_ms)

    def as_dict(self) -> dict[str, Any]:
        """The rule as JSON, as `from_dict` reads it."""
        return {
            "rpc": self.rpc,
            "code": self.code.name if self.code else None,
            "probability": self.probability,
            "moment": self.moment,
            "count": self.remaining,
            "latencyMs": self.latency_ms,
        }


@dataclass(frozen=True, slots=True)
class Injection:
    """What to do to one RPC at one moment: wait, then fail with `error` (if any)."""

    latency_ms: float
    error: RpcError | None


class Faults:
    """The rules in force. `random` decides, so that the same seed and the same RPCs give the same faults."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rules: list[Fault] = []

    @property
    def rules(self) -> list[Fault]:
        """The rules in force, in the order in which they are tried."""
        return list(self._rules)

    def replace(self, rules: list[Fault]) -> None:
        """Put these rules in the place of all others; an empty list ends the faults."""
        self._rules = list(rules)

    def draw(self, rpc: str, moment: Moment) -> Injection | None:
        """What befalls this RPC at this moment: all latencies that apply, and the first error."""
        if not self._rules:
            return None
        latency_ms = 0.0
        for rule in list(self._rules):
            if rule.moment != moment or rule.rpc not in ("*", rpc):
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            if rule.remaining is not None:
                rule.remaining -= 1
                if rule.remaining == 0:
                    self._rules.remove(rule)
            latency_ms += rule.latency_ms
            if rule.code is not None:
                message = f"injected fault: {rule.code.name} {moment} {rpc}{'' if moment == 'within' else ' took effect'}"
                return Injection(latency_ms, RpcError(rule.code, message))
        return Injection(latency_ms, None) if latency_ms else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
