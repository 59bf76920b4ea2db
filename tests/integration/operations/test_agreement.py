"""Scripts and functions read documents by the same rules, or are told that they do not."""

from collections.abc import Iterator

import pytest

from balance.core.money import Unit
from balance.documents import rules
from balance.documents.settings import Settings
from balance.operations.agreement import disagreement, last_written
from balance.protocol.bookkeeper import Bookkeeper
from tests.integration.deployment import Deployment, deployment

MINOR = Settings(unit=Unit.MINOR)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


def test_where_nothing_was_written_there_is_nothing_to_disagree_with(app: Deployment) -> None:
    assert disagreement(app.database, MINOR) is None
    app.group("g")
    assert disagreement(app.database, MINOR) is None
    app.set_balance("g", {"version": 1})
    assert disagreement(app.database, MINOR) is None


def test_the_balance_that_was_written_last_tells(app: Deployment) -> None:
    for group_id in ("a", "b", "c"):
        app.group(group_id)
        app.keeper.rebuild(group_id)
    assert disagreement(app.database, app.keeper.settings) is None
    Bookkeeper(app.database, MINOR, updates_on=lambda: True).rebuild("b")
    found = last_written(app.database, app.keeper.settings)
    assert found is not None
    assert (found.group_id, found.rules) == ("b", str(rules.current(MINOR)))
    message = disagreement(app.database, app.keeper.settings)
    assert message is not None
    for expected in (str(rules.current(MINOR)), str(rules.current(app.keeper.settings)), "group b", "AMOUNT_UNIT"):
        assert expected in message
    assert disagreement(app.database, MINOR) is None
