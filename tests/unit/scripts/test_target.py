"""Which database a subcommand talks to."""

import pytest

from scripts.command import Refused
from scripts.target import Target


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:8080", "localhost", "127.0.0.1:", "127.0.0.1:8080/", "local host:8080", "[::1]:65536"]
)
def test_an_emulator_is_named_by_host_and_port(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)
    with pytest.raises(Refused, match="it must be HOST:PORT"):
        Target(project="demo-app").open(writes=False)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:9", "[::1]:8080"])
def test_any_host_will_do(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)
    assert Target(project="demo-app").open(writes=False).emulator == host
