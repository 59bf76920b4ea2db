"""Costly answers are computed once for all who ask the same."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from balance.operations.shared_answers import Answers


class Question:
    """Counts how often it was answered; waits, when told to, until it may be."""

    def __init__(self) -> None:
        self.computed = 0
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def answer(self) -> str:
        self.computed += 1
        self.began.set()
        assert self.may_end.wait(10)
        return f"answer {self.computed}"


@pytest.fixture
def question() -> Question:
    return Question()


def test_ten_who_ask_at_once_are_answered_by_one_computation(question: Question) -> None:
    answers: Answers[str] = Answers(100, len)
    question.may_end.clear()
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(answers.get, "g", None, question.answer)
        assert question.began.wait(10)
        others = [pool.submit(answers.get, "g", None, question.answer) for _ in range(9)]
        question.may_end.set()
        assert {asked.result(10) for asked in [first, *others]} <= {"answer 1", "answer 2"}
    # A thread that came to ask only after the end is answered anew: without a version nothing is kept.
    assert question.computed <= 2


def test_an_answer_is_kept_until_its_version_is_another(question: Question) -> None:
    answers: Answers[str] = Answers(100, len)
    assert [answers.get("g", 1, question.answer) for _ in range(3)] == ["answer 1"] * 3
    assert answers.get("g", 2, question.answer) == "answer 2"
    assert answers.get("g", 1, question.answer) == "answer 3", "an older version is another, too"


def test_without_a_version_nothing_is_kept(question: Question) -> None:
    answers: Answers[str] = Answers(100, len)
    assert [answers.get("g", None, question.answer) for _ in range(2)] == ["answer 1", "answer 2"]


def test_questions_do_not_mix(question: Question) -> None:
    answers: Answers[str] = Answers(100, len)
    assert answers.get("g", 1, question.answer) != answers.get("h", 1, question.answer)


def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    answers: Answers[str] = Answers(100, len)
    began, may_end = threading.Event(), threading.Event()

    def fail() -> str:
        began.set()
        assert may_end.wait(10)
        raise ValueError("no")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(answers.get, "g", 1, fail)
        assert began.wait(10)
        second = pool.submit(answers.get, "g", 1, fail)
        may_end.set()
        for asked in (first, second):
            with pytest.raises(ValueError, match="no"):
                asked.result(10)
    assert answers.get("g", 1, lambda: "yes") == "yes"


def test_what_is_kept_is_bounded_and_the_least_recently_asked_goes_first() -> None:
    answers: Answers[str] = Answers(10, len)
    for name in ("a", "b"):
        answers.get(name, 1, lambda: "12345")
    answers.get("a", 1, lambda: "unused")
    answers.get("c", 1, lambda: "12345")
    assert answers.get("a", 1, lambda: "again") == "12345"
    assert answers.get("b", 1, lambda: "again") == "again"
    assert answers.get("huge", 1, lambda: "x" * 11) == "x" * 11
    assert answers.get("huge", 1, lambda: "again") == "again"
