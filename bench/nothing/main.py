"""Ceiling: a function that takes the event and does nothing with it."""

import functions_framework
from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def on_expense_written(event: CloudEvent) -> None:
    """Nothing."""
