"""Events of documents whose ids hold control characters: what the HTTP servers of the functions make of such headers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from runner.session import Session, running
from tests.cloud_events import body, headers

PATHS = {"on_expense_written": "expenses/", "on_group_created": "groups/"}
"""Both kinds of server: the event loop's, and that with threads."""
REFUSED = [chr(code) for code in (*range(32), 127) if chr(code) != "\t"]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    only = [word for name in PATHS for word in ("--only", name)]
    with running(project="demo-control", logs=tmp_path_factory.mktemp("logs"), arguments=only) as started:
        yield started


def deliver(session: Session, function: str, document_id: str, header: str) -> int:
    """The status of the answer; no client would send such a header, so a socket does."""
    url = urlsplit(session.function_urls[function])
    path = PATHS[function] + document_id
    data = body(path, after={"x": 1})
    sent = headers(event_id=f"event-{ord(document_id[1])}") | {"host": url.netloc, "content-length": str(len(data))}
    sent |= {"connection": "close", header: path}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    with socket.create_connection((str(url.hostname), url.port or 80), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\n" + head.encode() + b"\r\n" + data)
        return int(connection.makefile("rb").readline().split()[1])


def of_ours(session: Session, function: str) -> list[str]:
    return [line for line in session.log_lines(function) if "eventId" in line]


@pytest.mark.parametrize("header", ["ce-document", "ce-subject"])
@pytest.mark.parametrize("function", PATHS)
def test_a_control_character_is_refused_before_any_code_of_ours(session: Session, function: str, header: str) -> None:
    before = of_ours(session, function)
    answers = {character: deliver(session, function, f"a{character}b", header) for character in REFUSED}
    assert answers == dict.fromkeys(REFUSED, 400)
    assert of_ours(session, function) == before


@pytest.mark.parametrize("document_id", ["a\tb", "a\x80b", "aéb", "a\r\nx-more: b"])
@pytest.mark.parametrize("function", PATHS)
def test_any_other_character_reaches_the_function(session: Session, function: str, document_id: str) -> None:
    """A tab is one that headers may hold. What follows a line's end and looks like a header is taken for one."""
    assert deliver(session, function, document_id, "ce-document") == 200
    assert any(f'"event-{ord(document_id[1])}"' in line for line in of_ours(session, function))
