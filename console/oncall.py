"""What somebody on call wants to know: how late, what failed, what differs, by which code and switches, and what to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from balance.database.firestore import Query
from balance.documents import rules
from balance.documents.balances import VERSION
from balance.documents.settings import SWITCHES
from console.deployment import Deployment
from console.groups import Fault

ROOT = Path(__file__).resolve().parent.parent
RUNBOOK = ROOT / "docs" / "runbook.md"
ALERTS = ROOT / "deploy" / "monitoring" / "alerts"
CURSOR = "balanceReconcile/cursor"
SAMPLE = 50


@dataclass(frozen=True, slots=True)
class Written:
    """By what the balances were written that were looked at: the first SAMPLE groups'."""

    version: int
    rules: str
    found: Counter[tuple[str, str]]
    """How many balances by (version, rules)."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Faults of one kind."""

    field: str
    reason: str
    count: int
    groups: tuple[str, ...]
    oldest: datetime | None
    example: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert policy, and where the runbook speaks of it."""

    title: str
    anchor: str


def written(deployment: Deployment) -> Written:
    """Versions and rules at work."""
    firestore, settings = deployment.firestore, deployment.settings
    groups = firestore.query(Query(collection=settings.layout.groups, limit=SAMPLE, select=()))
    paths = [settings.layout.balance(group.path.rpartition("/")[2]) for group in groups]
    found: Counter[tuple[str, str]] = Counter()
    for balance in firestore.get(paths) if paths else ():
        if balance.fields is not None:
            found[str(balance.fields.get("version")), str(balance.fields.get("rules"))] += 1
    return Written(VERSION, str(rules.current(settings)), found)


def cursor(deployment: Deployment) -> dict[str, Any]:
    """Where the nightly check stands: updatedAt, afterId."""
    (found,) = deployment.firestore.get([CURSOR])
    return dict(found.fields or {})


def switches(deployment: Deployment, functions: Sequence[str]) -> dict[str, dict[str, str]]:
    """The switches of each function, as they are; only on the runner, which knows."""
    if deployment.local is None:
        return {}
    names = list(SWITCHES)
    return {
        function: {name: value or "not set" for name, value in found.items()}
        for function in functions
        for found in [deployment.local.variables(function, names)]
    }


def by_reason(faults: Sequence[Fault]) -> list[Reason]:
    """The faults grouped, those that have stood longest first."""
    alike: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        # Splits are numbered; the number is not the reason.
        alike.setdefault((re.sub(r"\[\d+\]", "[…]", fault.field), fault.reason), []).append(fault)
    found = [
        Reason(
            field,
            reason,
            len(those),
            tuple(dict.fromkeys(fault.group_id for fault in those if fault.group_id)),
            min((fault.since for fault in those if fault.since), default=None),
            those[0].source,
        )
        for (field, reason), those in alike.items()
    ]
    return sorted(found, key=lambda reason: (reason.oldest is None, reason.oldest and reason.oldest.timestamp()))


@cache
def alerts() -> list[Alert]:
    """Every alert policy; its documentation names its place in the runbook."""
    found = []
    for path in sorted(ALERTS.glob("*.yaml")):
        policy = yaml.safe_load(path.read_text(encoding="utf-8"))
        text = str(policy.get("documentation", {}).get("content", ""))
        named = re.search(r'section "([\w-]+)"', text)
        found.append(Alert(str(policy.get("displayName", path.stem)), named[1] if named else ""))
    return found


@cache
def runbook() -> str:
    """The runbook as HTML; headings bear the anchors that GitHub gives them."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(RUNBOOK.read_text(encoding="utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", re.sub(r"[^\w\- ]", "", inline.content.lower()).replace(" ", "-"))
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    # Other pages of the documents are not served here.
    return re.sub(r'<a href="(?!#)[^"]*">(.*?)</a>', r"\1", html)
