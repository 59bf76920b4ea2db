"""Entry points of the functions: decode, one call. functions.yaml says what is deployed and how it is triggered."""

import gc
import os

import flask
import functions_framework
import functions_framework.aio
from starlette.exceptions import HTTPException
from starlette.requests import Request

from balance.documents import settings
from balance.documents.sources import Kind, check_adapter
from balance.functions import envelope, triggers
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


@functions_framework.http
def on_group_created(request: flask.Request) -> tuple[str, int]:
    """A group's document was created, perhaps again: it gets a balance of its own."""
    return _on_group(request, is_created=True)


@functions_framework.http
def on_group_deleted(request: flask.Request) -> tuple[str, int]:
    """A group's document was deleted: its balance goes, too."""
    return _on_group(request, is_created=False)


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
    # By items: each look into starlette's own headers goes through all of them.
    headers = dict(request.headers.items())
    with of_request(headers):
        raw = envelope.Raw(headers, await request.body())
        try:
            delivery = envelope.opened(raw)
        except envelope.NotAnEvent as error:
            triggers.log_unreadable(error, raw)
            raise HTTPException(400, str(error)) from None
        await triggers.handle(kind, delivery.data, event_id=delivery.event_id, event_time=delivery.time, raw=raw)
    return "OK"


def _on_group(request: flask.Request, *, is_created: bool) -> tuple[str, int]:
    raw = envelope.Raw(dict(request.headers), request.get_data())
    try:
        delivery = envelope.opened(raw)
    except envelope.NotAnEvent as error:
        triggers.log_unreadable(error, raw)
        return str(error), 400
    triggers.handle_group(delivery.data, event_id=delivery.event_id, is_created=is_created, raw=raw)
    return "OK", 200


# What is loaded by now stays: the collector need not go through it again with every few hundred events.
gc.freeze()
