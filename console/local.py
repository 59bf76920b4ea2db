"""The runner and the embedded Firestore beside the console: what they tell, and what can be done to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from runner.session import call

WAIT_S = 20


@dataclass(frozen=True, slots=True)
class Local:
    """Their HTTP sides. Every method may raise CallFailed, or OSError when nobody answers."""

    runner_url: str
    admin_url: str

    def deliveries(self, after: int, wait_s: int = 0) -> dict[str, Any]:
        """The latest deliveries, with bodies; waits for news."""
        query = urlencode({"after": after, "waitSeconds": wait_s, "limit": 200, "bodies": "true"})
        found: dict[str, Any] = call("GET", f"{self.admin_url}/deliveries?{query}", timeout_s=wait_s + 30)
        return found

    def log_lines(self, after: int, wait_s: int = 0) -> dict[str, Any]:
        """What the processes have printed; waits for news."""
        query = urlencode({"after": after, "waitSeconds": wait_s, "limit": 1000})
        found: dict[str, Any] = call("GET", f"{self.runner_url}/log-lines?{query}", timeout_s=wait_s + 30)
        return found

    def functions(self) -> list[dict[str, Any]]:
        """Each function: name, pid, ready, restarts, trigger."""
        found: list[dict[str, Any]] = call("GET", self.runner_url + "/functions")["functions"]
        return found

    def variables(self, function: str, names: list[str]) -> dict[str, str | None]:
        """Some variables of a function's environment."""
        query = urlencode([("name", name) for name in names])
        found: dict[str, str | None] = call("GET", f"{self.runner_url}/functions/{quote(function)}/environment?{query}")
        return found

    def kill(self, function: str) -> None:
        """End a function's processes, as a crash would."""
        call("POST", f"{self.runner_url}/functions/{quote(function, safe='')}/kill")

    def run_schedule(self, function: str) -> str:
        """Call a scheduled function; what it answered."""
        return str(call("POST", f"{self.runner_url}/schedules/{quote(function, safe='')}/run")["body"])

    def statistics(self) -> dict[str, Any]:
        """What was delivered so far."""
        found: dict[str, Any] = call("GET", self.admin_url + "/statistics")["delivery"]
        return found

    def chaos(self) -> dict[str, Any]:
        """How delivery misbehaves."""
        found: dict[str, Any] = call("GET", self.admin_url + "/chaos")
        return found

    def set_chaos(self, chaos: Mapping[str, Any]) -> None:
        """Have delivery misbehave so."""
        call("PUT", self.admin_url + "/chaos", dict(chaos))

    def hold(self, holding: bool) -> None:
        """Hold new events, or send on those that are held."""
        call("PUT", self.admin_url + "/holding", {"holding": holding})

    def send(self, number: int, delay_ms: int = 0) -> None:
        """Send a delivery that is held or waits."""
        call("POST", f"{self.admin_url}/deliveries/{number}/send", {"delayMs": delay_ms})

    def copy(self, number: int, *, delay_ms: int = 0, other_id: bool = False) -> None:
        """Send a delivery once more."""
        call("POST", f"{self.admin_url}/deliveries/{number}/copy", {"delayMs": delay_ms, "otherId": other_id})

    def drop(self, number: int) -> None:
        """Lose a delivery that is held or waits."""
        call("POST", f"{self.admin_url}/deliveries/{number}/drop")
