"""How the library's errors become the protocol's."""

import pytest
from google.api_core import exceptions

from balance.database.firestore import TransientError, UnreadablePast
from balance.database.sdk import translated


@pytest.mark.parametrize(
    "refusal",
    [
        # Beyond the hour; and where point-in-time recovery is on, which keeps whole minutes of what lies beyond it.
        exceptions.FailedPrecondition("The requested snapshot version is too old."),
        exceptions.InvalidArgument("the read time of the transaction is not a whole minute"),
    ],
)
def test_a_read_of_the_past_that_is_refused_is_told_as_such(refusal: Exception) -> None:
    with pytest.raises(UnreadablePast), translated(past=True):
        raise refusal


@pytest.mark.parametrize("refusal", [exceptions.FailedPrecondition("no index"), exceptions.InvalidArgument("a bad path")])
def test_what_no_retry_can_cure_stays_as_it_is_when_the_present_is_read(refusal: Exception) -> None:
    with pytest.raises(type(refusal)), translated():
        raise refusal


def test_a_transaction_that_has_ended_is_run_again() -> None:
    with pytest.raises(TransientError), translated(commit=True):
        raise exceptions.InvalidArgument("The referenced transaction has expired or is no longer valid.")


def test_a_transaction_that_is_too_big_is_not_run_again() -> None:
    with pytest.raises(exceptions.InvalidArgument), translated(commit=True):
        raise exceptions.InvalidArgument("Transaction too big. Decrease transaction size.")
