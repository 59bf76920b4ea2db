"""Entry points of the functions: decode, one call. functions.yaml says what is deployed and how it is triggered."""

import os
from datetime import datetime

import flask
import functions_framework
from cloudevents.http import CloudEvent

from balance.documents import settings
from balance.documents.sources import Kind
from balance.functions import triggers
from balance.functions.identity import refuse_unsigned_tokens

refuse_unsigned_tokens(os.environ)
settings.check(os.environ)


@functions_framework.cloud_event
def on_expense_written(event: CloudEvent) -> None:
    """A document of the expenses collection was created, changed or deleted."""
    _on_written(Kind.EXPENSE, event)


@functions_framework.cloud_event
def on_settlement_written(event: CloudEvent) -> None:
    """A document of the settlements collection was created, changed or deleted."""
    _on_written(Kind.SETTLEMENT, event)


@functions_framework.cloud_event
def on_group_created(event: CloudEvent) -> None:
    """A group's document was created, perhaps again: it gets a balance of its own."""
    triggers.handle_group(event.data or b"", event_id=event["id"], is_created=True)


@functions_framework.cloud_event
def on_group_deleted(event: CloudEvent) -> None:
    """A group's document was deleted: its balance goes, too."""
    triggers.handle_group(event.data or b"", event_id=event["id"], is_created=False)


@functions_framework.http
def balance_api(request: flask.Request) -> flask.Response:
    """The read API: a group's balance, the caller's groups, why a debt exists."""
    from balance.functions import api  # here and below: a trigger, loaded for every burst, does not wait for what it never uses

    return api.handle(request)


@functions_framework.http
def rebuild_balance(request: flask.Request) -> tuple[str, int]:
    """A task of the queue: rebuild one group's balance, unless it has a current one."""
    from balance.functions import tasks

    return tasks.handle(request.get_data())


@functions_framework.http
def reconcile_balances(request: flask.Request) -> tuple[str, int]:
    """Every night: compare all groups' balances with a recalculation, and repair."""
    from balance.functions import nightly

    return nightly.handle()


def _on_written(kind: Kind, event: CloudEvent) -> None:
    triggers.handle(kind, event.data or b"", event_id=event["id"], event_time=_event_time())


def _event_time() -> datetime | None:
    # From the header: the cloudevents library puts now() in the place of a missing time.
    try:
        time = datetime.fromisoformat(flask.request.headers.get("ce-time", ""))
    except ValueError:
        return None
    return time if time.tzinfo else None
