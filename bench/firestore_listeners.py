"""What idle listeners cost the embedded Firestore: its memory, and its rate of commits with and without them.

Each listener has a connection of its own and listens to a document that nobody writes, as the clients of a balance do for
most of their lives. Runs with and without them alternate on one server; the clients that write are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import statistics
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.cloud.firestore_v1.types import firestore

from bench.firestore_calls import DATABASE, ROOT, client, serve
from emulator.server import PREFIX

_ListenRequest = firestore.ListenRequest.pb()
_ListenResponse = firestore.ListenResponse.pb()
_NO_CHANGE = firestore.TargetChange.TargetChangeType.NO_CHANGE.value
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def listen(port: int, count: int, pipe: Any) -> None:
    """Hold this many listeners from the first snapshot of each until told to stop."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def run() -> None:
        channels = []
        for number in range(count):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OWN_CONNECTION)
            channels.append(channel)
            call = channel.stream_stream(PREFIX + "Listen", _ListenRequest.SerializeToString, _ListenResponse.FromString)()
            request = _ListenRequest(database=DATABASE)
            request.add_target.target_id = 1
            request.add_target.documents.documents.append(f"{ROOT}/groups/g{number}/metadata/balance")
            await call.write(request)
            while True:
                change = (await call.read()).target_change
                if change.target_change_type == _NO_CHANGE and change.read_time.seconds:
                    break
        pipe.send("ready")
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await asyncio.gather(*(channel.close() for channel in channels))

    asyncio.run(run())


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1_048_576


def main() -> None:
    """Print one line for each pair of runs, and the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.firestore_listeners", description=__doc__)
    parser.add_argument("--listeners", type=int, default=2_000, help="how many (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=5, help="of runs with and without them (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each run (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.listeners < 1 or arguments.pairs < 1 or arguments.seconds <= 0:
        parser.error("--listeners, --pairs and --seconds must be positive")

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the server's too
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    assert server.pid is not None

    def commits() -> tuple[float, float]:
        """Commits per second, and the server's processor time for each, in microseconds."""
        ours.send("how much processor time so far?")
        before = float(ours.recv())
        results = context.Queue()
        clients = [
            context.Process(target=client, args=(port, "commits", worker, arguments.seconds, results), daemon=True)
            for worker in range(2)
        ]
        for process in clients:
            process.start()
        count = sum(len(results.get(timeout=arguments.seconds + 60)) for _ in clients)
        for process in clients:
            process.join()
        ours.send("how much processor time so far?")
        return count / arguments.seconds, (float(ours.recv()) - before) / count * 1_000_000

    commits()
    print(f"{os.cpu_count()} cores, {arguments.listeners} idle listeners on as many documents, each on its own connection")
    ratios, costs, grown = [], [], []
    for _ in range(arguments.pairs):
        without, cost_without_us = commits()
        before_mib = _resident_mib(server.pid)
        mine, its = context.Pipe()
        listeners = context.Process(target=listen, args=(port, arguments.listeners, its), daemon=True)
        listeners.start()
        mine.recv()
        grown.append(_resident_mib(server.pid) - before_mib)
        with_them, cost_with_us = commits()
        mine.send("stop")
        listeners.join()
        ratios.append(with_them / without)
        costs.append(cost_with_us / cost_without_us)
        print(
            f"commits {without:6.0f}/s without, {with_them:6.0f}/s with: {ratios[-1]:.2f}; the server's time for each"
            f" {cost_without_us:4.0f} and {cost_with_us:4.0f} us: {costs[-1]:.2f}; memory {grown[-1]:+6.1f} MiB"
        )
    print(
        f"medians: rate {statistics.median(ratios):.2f}, time for each {statistics.median(costs):.2f};"
        f" memory for the first {arguments.listeners}: {grown[0]:.0f} MiB,"
        f" {grown[0] * 1_024 / arguments.listeners:.0f} KiB for each"
    )
    ours.send("stop")
    ours.recv()
    server.join()


if __name__ == "__main__":
    main()
