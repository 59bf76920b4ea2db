"""Retries: of transient errors only, so many, with growing and jittered pauses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balance.database.firestore import TransientError
from balance.database.retry import Retry
from balance.documents.changes import NewerVersion, Overtaken


class Attempts:
    """Fails so often, then succeeds."""

    def __init__(self, failures: int, error: Callable[[], Exception] = TransientError) -> None:
        self.failures, self.error, self.made = failures, error, 0

    def __call__(self) -> int:
        self.made += 1
        if self.made <= self.failures:
            raise self.error()
        return self.made


class Pauses(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def retry(pauses: Pauses, jitter: float = 1.0) -> Retry:
    return Retry(attempts=8, first_delay_s=0.05, max_delay_s=3.0, sleep=pauses, jitter=lambda: jitter)


def test_what_succeeds_is_done_once_without_a_pause() -> None:
    pauses = Pauses()
    assert retry(pauses).run(Attempts(0)) == 1
    assert pauses == []


def test_pauses_double_up_to_the_longest() -> None:
    pauses = Pauses()
    assert retry(pauses).run(Attempts(7)) == 8
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0])


def test_after_the_last_attempt_the_error_is_raised_without_another_pause() -> None:
    pauses, attempts = Pauses(), Attempts(8)
    with pytest.raises(TransientError):
        retry(pauses).run(attempts)
    assert attempts.made == 8
    assert len(pauses) == 7


def test_a_pause_is_anything_up_to_the_whole() -> None:
    none, half = Pauses(), Pauses()
    retry(none, jitter=0.0).run(Attempts(3))
    retry(half, jitter=0.5).run(Attempts(3))
    assert none == [0, 0, 0]
    assert half == pytest.approx([0.025, 0.05, 0.1])


def test_by_default_rivals_pause_for_different_times() -> None:
    pauses = Pauses()
    Retry(sleep=pauses).run(Attempts(7))
    Retry(sleep=pauses).run(Attempts(7))
    assert len(set(pauses)) == 14


def test_a_rebuild_that_was_overtaken_is_tried_again() -> None:
    attempts = Attempts(1, Overtaken)
    assert retry(Pauses()).run(attempts) == 2


@pytest.mark.parametrize("error", [NewerVersion, ValueError, AssertionError, KeyError])
def test_other_errors_are_raised_at_once(error: Callable[[], Exception]) -> None:
    pauses, attempts = Pauses(), Attempts(1, error)
    with pytest.raises(error):  # type: ignore[call-overload]
        retry(pauses).run(attempts)
    assert (attempts.made, pauses) == (1, [])


def test_a_single_attempt_is_allowed() -> None:
    attempts = Attempts(1)
    with pytest.raises(TransientError):
        Retry(attempts=1, sleep=Pauses()).run(attempts)
    assert attempts.made == 1


def test_an_excepted_error_is_raised_at_once() -> None:
    pauses, attempts = Pauses(), Attempts(1, lambda: Overtaken("a later snapshot is needed"))
    with pytest.raises(Overtaken):
        retry(pauses).run(attempts, unless=(Overtaken,))
    assert (attempts.made, pauses) == (1, [])
