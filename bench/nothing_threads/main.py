"""Ceiling on threads, which functions-framework serves by default: a function that does nothing with the event."""

import functions_framework
from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def on_expense_written(event: CloudEvent) -> None:
    """Nothing."""
