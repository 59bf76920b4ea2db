"""How the commands put numbers into sentences."""

import pytest

from scripts.output import counted


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 groups have"), (1, "1 group has"), (2, "2 groups have"), (1_200, "1,200 groups have")]
)
def test_a_number_and_its_noun_agree(count: int, told: str) -> None:
    assert counted(count, "group has", "groups have") == told


def test_a_regular_plural_need_not_be_given() -> None:
    assert [counted(count, "document") for count in (1, 3)] == ["1 document", "3 documents"]
