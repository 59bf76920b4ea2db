"""What the clients of the rehearsal were told, and whether it was true: each answer is a recalculation no older than OLDEST."""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from balance.core.ledger import Ledger
from balance.documents import balances
from balance.documents.settings import Settings
from scripts.developing.rollout.traffic import MEMBERS, Timeline
from scripts.unsigned_token import unsigned_token

OLDEST = timedelta(seconds=30)
"""How old an answer may be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told, and when."""

    group_id: str
    asked: datetime
    answered: datetime
    essence: Any
    phase: str


class Clients:
    """Poll the read API as members of the groups."""

    def __init__(self, url: str, project: str, groups: list[str]) -> None:
        self.answers: list[Answer] = []
        self.unavailable = 0
        self.phase = "start"
        self._url = url.rstrip("/")
        self._groups = groups
        self._headers = {"Authorization": f"Bearer {unsigned_token(MEMBERS[0], project)}"}

    def poll(self, chance: random.Random) -> None:
        """Ask once for some group."""
        group_id = chance.choice(self._groups)
        phase, asked = self.phase, datetime.now(UTC)
        try:
            essence = self.ask(group_id)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            # The local runner restarts a function to change its environment; Cloud Run would keep the old one until then.
            self.unavailable += 1
            time.sleep(0.2)
            return
        self.answers.append(Answer(group_id, asked, datetime.now(UTC), essence, phase))
        time.sleep(0.05)

    def ask(self, group_id: str) -> Any:
        """The essence of a group's balance as the API tells it."""
        request = urllib.request.Request(f"{self._url}/groups/{group_id}/balance", headers=self._headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return essence(json.loads(response.read()))


def essence(document: dict[str, Any]) -> Any:
    """What of a balance must be right: who owes whom, the nets, the suggestions; rows of zeros left out."""
    rows = {
        currency: {uid: row for uid, row in rows.items() if row["owes"] or row["owedBy"] or row["netBalance"]}
        for currency, rows in document["balancesByCurrency"].items()
    }
    return {currency: users for currency, users in rows.items() if users}, document["simplifiedDebts"]


def essence_of(ledger: Ledger) -> Any:
    """The same of a recalculation."""
    now = datetime.now(UTC)
    return essence(balances.document("", balances.Stored(balances.of_ledger(ledger), now, now), Settings()))


def age_of(answer: Answer, timeline: Timeline) -> timedelta | None:
    """How long before it was given an answer was last true; None when it was not within OLDEST."""
    for ledger, until in timeline.between(answer.asked - OLDEST, answer.answered):
        if essence_of(ledger) == answer.essence:
            return max(timedelta(), answer.asked - until) if until else timedelta()
    return None
