"""Tasks: one rebuild of one group each, on the queue of the function `rebuild-balance`.

The platform dispatches them at the queue's rate, and again when one fails. A task's data is
`{"groupId": ..., "force": true | false}`; without force a group that has a current balance is left alone, so that a task
that comes twice costs one read.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from balance.database import budget
from balance.documents.sources import is_document_id
from balance.functions import instance
from balance.operations.backfill import Filled, Step, fill, reason
from balance.operations.log import log

_IMPERSONATE: Final = (
    "Act as the account of the functions: gcloud auth application-default login "
    "--impersonate-service-account=balance@PROJECT.iam.gserviceaccount.com; "
    "that wants roles/iam.serviceAccountTokenCreator on it (deploy/README.md)"
)
_ROLES: Final = (
    "The account that sends tasks needs roles/cloudtasks.enqueuer on the queue and roles/iam.serviceAccountUser on itself; "
    "deploy/README.md has the commands"
)

ANSWER_S = 280.0
"""The latest answer: before the platform cuts the function off (`timeoutSeconds`: 300)."""

FUNCTION = "rebuild-balance"
"""Not rebuild_balance: the queue bears the function's name, and Cloud Tasks refuses underscores."""


class CannotEnqueue(Exception):
    """No task can be put on the queue, whichever group it is for; the message says what to do."""


class InvalidTask(ValueError):
    """A task's body is not what `sender` puts there; the message says where it departs."""


def handle(body: bytes) -> tuple[str, int]:
    """Do one task; returns the answer's text and HTTP status. The queue repeats what is not answered with 2xx."""
    started = time.perf_counter()
    try:
        group_id, force = _parse(body)
    except InvalidTask as error:
        # The queue would bring the same bytes again; so they are answered once, and told where the alert sees it.
        log("ERROR", f"task: dropped: {error}", metric="updateFailures")
        return f"dropped: {error}", 200
    keeper = instance.bookkeeper()
    with budget.within(ANSWER_S):
        (filled,) = fill(instance.firestore(), keeper, [group_id], force=force)
    log(
        "ERROR" if filled.step is Step.FAILED else "INFO",
        f"task: group {group_id} {filled.step}" + (f": {filled.error}" if filled.error else ""),
        groupId=group_id,
        step=filled.step,
        was=filled.was,
        metric={Step.REBUILT: "rebuilds", Step.FAILED: "updateFailures"}.get(filled.step),
        ms=round((time.perf_counter() - started) * 1000, 1),
    )
    return str(filled.step), 500 if filled.step is Step.FAILED else 200


def _parse(body: bytes) -> tuple[str, bool]:
    try:
        data = json.loads(body)["data"]
        group_id, force = data["groupId"], data.get("force", False)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InvalidTask('the body must be {"data": {"groupId": ..., "force": true | false}}') from None
    if not is_document_id(group_id):
        raise InvalidTask(f"data.groupId is {group_id!r}, which cannot be the id of a group")
    if not isinstance(force, bool):
        raise InvalidTask(f"data.force is {force!r}; it must be true or false")
    return group_id, force


def sender(
    project: str | None, region: str, *, url: str | None = None, rate_per_s: int, force: bool = False
) -> Callable[[str], Filled]:
    """A function that enqueues a task for a group, at no more than this rate; threads may share it.

    `url` is the function's, where it is not the usual one. CLOUD_TASKS_EMULATOR_HOST=host:port sends the tasks there.
    Raises CannotEnqueue, here or when the first task is sent.
    """
    # Only operators need it, and it costs a third of a second.
    import firebase_admin
    from firebase_admin import exceptions, functions
    from google.auth.exceptions import GoogleAuthError

    options = {"projectId": project} if project else {}
    app = firebase_admin.initialize_app(options=options, name=f"tasks-{time.monotonic_ns()}")
    if "CLOUD_TASKS_EMULATOR_HOST" not in os.environ:
        try:
            credential = app.credential.get_credential()
        except GoogleAuthError as error:
            raise CannotEnqueue(f"no credentials: {error}. {_IMPERSONATE}") from None
        if not hasattr(credential, "service_account_email"):
            raise CannotEnqueue(
                f"these credentials are a person's own, and a task is sent by a service account. {_IMPERSONATE}"
            )
    queue = functions.task_queue(f"locations/{region}/functions/{FUNCTION}", app=app)
    pace = _Pace(rate_per_s)

    def send(group_id: str) -> Filled:
        pace.wait()
        try:
            queue.enqueue({"data": {"groupId": group_id, "force": force}}, functions.TaskOptions(uri=url))
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise CannotEnqueue(f"{reason(error)}. {_ROLES}") from error
        except exceptions.NotFoundError as error:
            raise CannotEnqueue(f"{reason(error)}. Is {FUNCTION} deployed, in {region}? Another region: --region") from error
        except (exceptions.FirebaseError, ValueError) as error:
            return Filled(group_id, Step.FAILED, None, reason(error))
        return Filled(group_id, Step.ENQUEUED, None)

    return send


class _Pace:
    """Lets callers through at a steady rate."""

    def __init__(self, rate_per_s: int) -> None:
        self._interval_s = 1 / rate_per_s
        self._next_s = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now_s = time.monotonic()
            turn_s = max(self._next_s, now_s)
            self._next_s = turn_s + self._interval_s
        time.sleep(max(0.0, turn_s - now_s))
