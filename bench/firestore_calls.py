"""How fast the embedded Firestore is, over real gRPC: operations per second, with several client processes.

The clients send what the official client would send, without its cost of encoding and decoding, so that the server
is what is measured; on a machine with few cores they still take their share of it.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.cloud.firestore_v1.types import firestore, write

from emulator.databases import Databases
from emulator.server import PREFIX, Server, collect_garbage_less_often

DATABASE = "projects/demo-bench/databases/(default)"
ROOT = f"{DATABASE}/documents"
IN_FLIGHT = 16

BatchGetRequest = firestore.BatchGetDocumentsRequest.pb()
BatchGetResponse = firestore.BatchGetDocumentsResponse.pb()
BeginRequest = firestore.BeginTransactionRequest.pb()
BeginResponse = firestore.BeginTransactionResponse.pb()
CommitRequest = firestore.CommitRequest.pb()
CommitResponse = firestore.CommitResponse.pb()
Write = write.Write.pb()


class Caller:
    """The few RPCs that are measured, on one channel."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._get = self.channel.unary_stream(
            PREFIX + "BatchGetDocuments", BatchGetRequest.SerializeToString, BatchGetResponse.FromString
        )
        self._begin = self.channel.unary_unary(
            PREFIX + "BeginTransaction", BeginRequest.SerializeToString, BeginResponse.FromString
        )
        self._commit = self.channel.unary_unary(PREFIX + "Commit", CommitRequest.SerializeToString, CommitResponse.FromString)

    async def get(self, name: str, **how: Any) -> Any:
        request = BatchGetRequest(database=DATABASE, documents=[name], **how)
        (answer,) = [answer async for answer in self._get(request)]
        return answer

    async def commit(self, name: str, number: int, transaction: bytes = b"") -> None:
        made = Write()
        made.update.name = name
        made.update.fields["number"].integer_value = number
        made.update.fields["text"].string_value = "a document of modest size, as many are" * 3
        await self._commit(CommitRequest(database=DATABASE, writes=[made], transaction=transaction))

    async def begin(self, retry_of: bytes = b"") -> bytes:
        request = BeginRequest(database=DATABASE)
        request.options.read_write.retry_transaction = retry_of
        answer: bytes = (await self._begin(request)).transaction
        return answer


async def one_get(caller: Caller, worker: str, number: int) -> None:
    await caller.get(f"{ROOT}/bench/{worker}-{number % 100}")


async def one_commit(caller: Caller, worker: str, number: int) -> None:
    await caller.commit(f"{ROOT}/bench/{worker}-{number % 100}", number)


async def one_transaction(caller: Caller, worker: str, number: int) -> None:
    await _transact(caller, f"{ROOT}/bench/{worker}-{number % 100}", number)


async def one_short_transaction(caller: Caller, worker: str, number: int) -> None:
    name = f"{ROOT}/bench/{worker}-{number % 100}"
    answer = await caller.get(name, new_transaction={"read_write": {}})
    await caller.commit(name, number, answer.transaction)


async def one_hot_transaction(caller: Caller, worker: str, number: int) -> None:
    await _transact(caller, f"{ROOT}/bench/hot", number)


async def _transact(caller: Caller, name: str, number: int) -> None:
    transaction = b""
    for _ in range(5):
        transaction = await caller.begin(transaction)
        await caller.get(name, transaction=transaction)
        try:
            await caller.commit(name, number, transaction)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ABORTED:
                raise
    raise RuntimeError("five attempts were not enough")


Operation = Callable[[Caller, str, int], Awaitable[None]]
BENCHMARKS: dict[str, tuple[str, Operation]] = {
    "gets": ("one document", one_get),
    "commits": ("one document set", one_commit),
    "transactions": ("begin, get, commit; each its own document", one_transaction),
    "short-transactions": ("get that begins, commit; each its own document", one_short_transaction),
    "hot-transactions": ("begin, get, commit; all the same document", one_hot_transaction),
}


def client(port: int, name: str, worker: int, seconds: float, results: Any) -> None:
    """Run one benchmark from this process, and report the operations and the longest latencies."""
    operation = BENCHMARKS[name][1]

    async def run() -> None:
        caller = Caller(port)
        await caller.commit(f"{ROOT}/bench/hot", 0)
        latencies: list[float] = []
        end = time.perf_counter() + seconds

        async def loop(slot: int) -> None:
            number = 0
            while (start := time.perf_counter()) < end:
                await operation(caller, f"{worker}-{slot}", number)
                latencies.append(time.perf_counter() - start)
                number += 1

        await asyncio.gather(*map(loop, range(IN_FLIGHT)))
        await caller.channel.close()
        results.put(sorted(latencies))

    asyncio.run(run())


def serve(ready: Any) -> None:
    """Run the server until told to stop; tell its processor time whenever asked, and in the end what it did."""

    collect_garbage_less_often()

    async def run() -> None:
        databases = Databases()
        server = Server(databases)
        ready.send(await server.start())
        while True:
            while not ready.poll():
                await asyncio.sleep(0.05)
            if ready.recv() == "stop":
                break
            ready.send(time.process_time())
        usage = resource.getrusage(resource.RUSAGE_SELF)
        ready.send((usage.ru_maxrss // 1024, databases.statistics.as_dict()))
        await server.stop(0)

    asyncio.run(run())


def main() -> None:
    """Print one line for each benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.firestore_calls", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--clients", type=int, default=2, help="client processes (default: 2)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each benchmark (default: 5)")
    arguments = parser.parse_args()
    unknown = set(arguments.benchmarks) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {sorted(unknown)[0]!r}; known: {', '.join(BENCHMARKS)}")
    if arguments.clients < 1 or arguments.seconds <= 0:
        parser.error("--clients and --seconds must be positive")

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    started = time.perf_counter()
    server.start()
    port = ours.recv()
    print(f"{os.cpu_count()} cores, {arguments.clients} client processes with {IN_FLIGHT} operations under way each")
    print(f"ready after {time.perf_counter() - started:.1f} s")

    def server_seconds() -> float:
        ours.send("how much processor time so far?")
        return float(ours.recv())

    for name in arguments.benchmarks or BENCHMARKS:
        before = server_seconds()
        results = context.Queue()
        clients = [
            context.Process(target=client, args=(port, name, worker, arguments.seconds, results), daemon=True)
            for worker in range(arguments.clients)
        ]
        for process in clients:
            process.start()
        latencies = sorted(latency for _ in clients for latency in results.get(timeout=arguments.seconds + 60))
        for process in clients:
            process.join()
        per_second = len(latencies) / arguments.seconds
        cost_us = (server_seconds() - before) / len(latencies) * 1_000_000
        median_ms = latencies[len(latencies) // 2] * 1_000
        p99_ms = latencies[len(latencies) * 99 // 100] * 1_000
        print(
            f"{name:20}{per_second:7.0f}/s  median {median_ms:5.1f} ms  p99 {p99_ms:5.1f} ms"
            f"  {cost_us:5.0f} us of the server each  ({BENCHMARKS[name][0]})"
        )
    ours.send("stop")
    peak_mib, statistics = ours.recv()
    server.join()
    print(f"server: {peak_mib} MiB at most, {statistics['commits']} commits, {statistics['aborts']} aborts")


if __name__ == "__main__":
    main()
