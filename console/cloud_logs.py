"""The functions' log lines in production, from Cloud Logging, for those who may read them.

https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.auth.exceptions import GoogleAuthError

from console.feed import Line, Unseen

URL = "https://logging.googleapis.com"
TIMEOUT_S = 20
PAGE = 1_000
LOOK_BACK = timedelta(hours=1)
_LATE = timedelta(seconds=30)
"""Entries come in a little out of order."""


class CloudLogs:
    """The lines of some services of a project, read on from where it was."""

    def __init__(self, session: Any, project: str, services: Sequence[str], url: str = URL) -> None:
        """`session` is a requests.Session with credentials."""
        self._session = session
        self._project = project
        self._services = services
        self._url = url
        self._since = datetime.now(UTC) - LOOK_BACK
        self._seen: deque[str] = deque(maxlen=10 * PAGE)

    def read(self) -> list[Line]:
        """Those since the last time, oldest first. Raises Unseen."""
        names = " OR ".join(json.dumps(name) for name in self._services)
        since = (self._since - _LATE).isoformat()
        question = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": f'resource.type="cloud_run_revision" resource.labels.service_name=({names}) jsonPayload.message:*'
            f' timestamp>="{since}"',
            "orderBy": "timestamp asc",
            "pageSize": PAGE,
        }
        try:
            answer = self._session.post(f"{self._url}/v2/entries:list", json=question, timeout=TIMEOUT_S)
        except (OSError, GoogleAuthError) as error:
            raise Unseen(f"The logs cannot be read: {error}") from None
        if answer.status_code == 403:
            raise Unseen(
                f"You may not read the logs of {self._project}, so neither events nor figures show here: the role"
                " roles/logging.viewer lets you."
            )
        if answer.status_code != 200:
            raise Unseen(f"The logs cannot be read: HTTP status {answer.status_code}")
        return [line for entry in answer.json().get("entries", ()) if (line := self._line(entry)) is not None]

    def _line(self, entry: dict[str, Any]) -> Line | None:
        payload, key = entry.get("jsonPayload"), str(entry.get("insertId"))
        at = datetime.fromisoformat(entry["timestamp"])
        self._since = max(self._since, at)
        if not isinstance(payload, dict) or key in self._seen:
            return None
        self._seen.append(key)
        service = str(entry.get("resource", {}).get("labels", {}).get("service_name", "?"))
        return Line(service, {"severity": entry.get("severity", "DEFAULT"), **payload}, at.timestamp())
