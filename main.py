"""Entry points of the functions: decode, one call. functions.yaml says what is deployed and how it is triggered."""

import os
from datetime import datetime

import flask
import functions_framework
import functions_framework.aio
from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http
from starlette.exceptions import HTTPException
from starlette.requests import Request

from balance.documents import settings
from balance.documents.sources import Kind, check_adapter
from balance.functions import triggers
from balance.functions.identity import refuse_unsigned_tokens
from balance.operations.log import of_request

refuse_unsigned_tokens(os.environ)
settings.check(os.environ)
check_adapter()

# For the functions that work on threads, as many as an instance gets requests at once (`concurrency` in functions.yaml).
# functions-framework, which would take four per CPU, looks for it after it has loaded this file.
os.environ.setdefault("THREADS", "80")


@functions_framework.aio.http
async def on_expense_written(request: Request) -> str:
    """A document of the expenses collection was created, changed or deleted."""
    return await _on_written(Kind.EXPENSE, request)


@functions_framework.aio.http
async def on_settlement_written(request: Request) -> str:
    """A document of the settlements collection was created, changed or deleted."""
    return await _on_written(Kind.SETTLEMENT, request)


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


async def _on_written(kind: Kind, request: Request) -> str:
    with of_request(request.headers):
        # By default bytes of any type that happen to be JSON would come parsed.
        is_json = "json" in request.headers.get("content-type", "")
        try:
            event = from_http(request.headers, await request.body(), None if is_json else _as_it_is)
        except (GenericException, ValueError) as error:
            # Nothing that Eventarc sends: an attribute is missing.
            raise HTTPException(400, f"this is no CloudEvent: {error}") from None
        await triggers.handle(kind, event.data or b"", event_id=event["id"], event_time=_time(request.headers.get("ce-time")))
    return "OK"


def _as_it_is(data: bytes) -> bytes:
    return data


def _time(text: str | None) -> datetime | None:
    # From the header: the cloudevents library puts now() in the place of a missing time.
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else None
