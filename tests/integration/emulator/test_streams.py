"""Listen and Write over real gRPC: how streams begin, stay alive and end. What they say is tested elsewhere."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import document as document_types
from google.cloud.firestore_v1.types import firestore as rpc
from google.cloud.firestore_v1.types import write as write_types

from emulator.faults import Fault
from tests.integration.served import PROJECT, Served, served

DATABASE = f"projects/{PROJECT}/databases/(default)"
ROOT = f"{DATABASE}/documents"
NO_CHANGE = rpc.TargetChange.TargetChangeType.NO_CHANGE


@pytest.fixture
def server() -> Iterator[Served]:
    with served() as running:
        yield running


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class Call:
    """A stream that the test speaks on, request by request."""

    def __init__(self, server: Served, method: str) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        self._answers = getattr(server.stub(), method)(iter(self._requests.get, None))

    def say(self, request: Any) -> None:
        self._requests.put(request)

    def hear(self) -> Any:
        return next(self._answers)

    def end(self) -> list[Any]:
        """Say that there are no more requests; the answers until the end."""
        self._requests.put(None)
        return list(self._answers)

    def cancel(self) -> None:
        self._answers.cancel()
        self._requests.put(None)

    def fails(self) -> grpc.RpcError:
        """The error with which it ends."""
        with pytest.raises(grpc.RpcError) as caught:
            list(self._answers)
        self._requests.put(None)
        return caught.value


def listening(server: Served, *paths: str) -> Call:
    call = Call(server, "listen")
    for id_, path in enumerate(paths, 1):
        target = rpc.Target(target_id=id_, documents={"documents": [f"{ROOT}/{path}"]})
        call.say(rpc.ListenRequest(database=DATABASE, add_target=target))
    return call


def until_snapshot(call: Call) -> list[Any]:
    heard = []
    while True:
        heard.append(call.hear())
        change = heard[-1].target_change
        if "target_change" in heard[-1] and change.target_change_type == NO_CHANGE and not change.target_ids:
            return heard


def written(name: str = "a/1") -> write_types.Write:
    return write_types.Write(update=document_types.Document(name=f"{ROOT}/{name}"))


def writing(server: Served) -> tuple[Call, bytes]:
    """A Write stream after its greeting."""
    call = Call(server, "write")
    call.say(rpc.WriteRequest(database=DATABASE))
    greeting = call.hear()
    assert greeting.stream_id
    assert not greeting.write_results
    return call, greeting.stream_token


# Listen


def test_a_client_that_has_no_more_requests_gets_a_last_snapshot_and_a_clean_end(server: Served) -> None:
    server.client().document("a/1").set({})
    answers = listening(server, "a/1").end()
    assert "document_change" in answers[1]
    assert answers[-1].target_change.resume_token
    assert server.within(server.streams.counts) == {"listen": 0, "write": 0, "targets": 0}


def test_a_client_that_goes_away_is_forgotten(server: Served) -> None:
    call = listening(server, "a/1", "a/2")
    until_snapshot(call)
    until_snapshot(call)
    assert server.within(server.streams.counts) == {"listen": 1, "write": 0, "targets": 2}
    call.cancel()
    eventually(lambda: server.within(server.streams.counts)["listen"] == 0)
    assert server.within(server.streams.counts)["targets"] == 0


def test_databases_are_listened_to_each_by_itself(server: Served) -> None:
    call = listening(server, "a/1")
    until_snapshot(call)
    server.client("other").document("a/1").set({})
    server.client().document("a/1").set({"here": True})
    assert "here" in until_snapshot(call)[0].document_change.document.fields
    call.cancel()


def test_a_silent_stream_is_kept_alive() -> None:
    with served(heartbeat_seconds=0.2) as server:
        call = listening(server, "a/1")
        first = until_snapshot(call)[-1].target_change
        (beat,) = until_snapshot(call)
        assert beat.target_change.read_time > first.read_time
        assert beat.target_change.resume_token != first.resume_token
        call.cancel()


def test_all_streams_can_be_ended(server: Served) -> None:
    call, (write, _) = listening(server, "a/1"), writing(server)
    until_snapshot(call)
    assert server.within(server.streams.end_all) == 2
    assert call.fails().code() is grpc.StatusCode.UNAVAILABLE
    assert write.fails().code() is grpc.StatusCode.UNAVAILABLE
    assert server.within(server.streams.counts) == {"listen": 0, "write": 0, "targets": 0}


def test_a_server_that_stops_says_that_it_is_unavailable() -> None:
    """Rather than CANCELLED, after which the Python client gives up."""
    with served() as server:
        call = listening(server, "a/1")
        until_snapshot(call)
    assert call.fails().code() is grpc.StatusCode.UNAVAILABLE


def test_faults_befall_streams_when_they_open_and_after_a_snapshot(server: Served) -> None:
    server.within(lambda: server.faults.replace([Fault("Listen", grpc.StatusCode.INTERNAL, remaining=1)]))
    assert listening(server, "a/1").fails().code() is grpc.StatusCode.INTERNAL
    server.within(lambda: server.faults.replace([Fault("Listen", grpc.StatusCode.ABORTED, moment="after", remaining=1)]))
    call = listening(server, "a/1")
    until_snapshot(call)
    assert call.fails().code() is grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    "request_",
    [
        rpc.ListenRequest(database="nonsense", remove_target=1),
        rpc.ListenRequest(database=DATABASE),
        rpc.ListenRequest(database=DATABASE, add_target=rpc.Target(target_id=-1)),
    ],
)
def test_a_request_that_is_none_ends_the_stream_at_once(server: Served, request_: rpc.ListenRequest) -> None:
    call = Call(server, "listen")
    call.say(request_)
    error = call.fails()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.initial_metadata() is not None


def test_a_client_that_takes_no_answers_holds_up_nobody_and_misses_nothing(server: Served) -> None:
    """Its answers wait in the server no longer than the network takes them; changes of one document melt."""
    client = server.client()
    call = listening(server, "a/1")
    until_snapshot(call)
    padding = "x" * 100_000
    for number in range(200):  # 20 MB: more than the network holds
        client.document("a/1").set({"number": number, "padding": padding})
    heard: list[int] = []
    while not heard or heard[-1] != 199:
        for answer in until_snapshot(call):
            if "document_change" in answer:
                heard.append(answer.document_change.document.fields["number"].integer_value)
    assert heard == sorted(heard)
    assert len(heard) < 200
    call.cancel()


# Write


def test_writes_are_committed_in_order_each_with_its_results(server: Served) -> None:
    call, token = writing(server)
    call.say(rpc.WriteRequest(stream_token=token, writes=[written("a/1"), written("a/2")]))
    call.say(rpc.WriteRequest(stream_token=token, writes=[written("a/3")]))
    first, second = call.hear(), call.hear()
    assert [len(first.write_results), len(second.write_results)] == [2, 1]
    assert first.commit_time < second.commit_time
    call.say(rpc.WriteRequest(stream_token=second.stream_token))
    (last,) = call.end()
    assert last.stream_token != second.stream_token
    assert [found.id for found in server.client().collection("a").stream()] == ["1", "2", "3"]


def test_a_write_that_fails_ends_the_stream_with_its_error(server: Served) -> None:
    call, token = writing(server)
    bad = written()
    bad.current_document.exists = True
    call.say(rpc.WriteRequest(stream_token=token, writes=[bad]))
    assert call.fails().code() is grpc.StatusCode.NOT_FOUND


def test_what_a_write_stream_may_not_say(server: Served) -> None:
    call, token = writing(server)
    call.say(rpc.WriteRequest(stream_token=b"made up", writes=[written()]))
    assert call.fails().code() is grpc.StatusCode.INVALID_ARGUMENT
    call, token = writing(server)
    call.say(rpc.WriteRequest(stream_token=token, writes=[written()]))
    later = call.hear().stream_token
    call.say(rpc.WriteRequest(stream_token=later, writes=[written()]))
    call.say(rpc.WriteRequest(stream_token=token, writes=[written()]))
    assert call.fails().code() is grpc.StatusCode.INVALID_ARGUMENT, "an older token than the last"
    for request, code in (
        (rpc.WriteRequest(database=DATABASE, writes=[written()]), grpc.StatusCode.INVALID_ARGUMENT),
        (rpc.WriteRequest(database=DATABASE, stream_id="1"), grpc.StatusCode.UNIMPLEMENTED),
        (rpc.WriteRequest(database="nonsense"), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        call = Call(server, "write")
        call.say(request)
        assert call.fails().code() is code


def test_a_fault_after_a_write_leaves_it_committed(server: Served) -> None:
    server.within(lambda: server.faults.replace([Fault("Write", grpc.StatusCode.UNAVAILABLE, moment="after")]))
    call, token = writing(server)
    call.say(rpc.WriteRequest(stream_token=token, writes=[written()]))
    assert call.fails().code() is grpc.StatusCode.UNAVAILABLE
    assert server.client().document("a/1").get().exists
