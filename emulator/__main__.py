"""`python -m emulator`: serve until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from random import Random
from typing import Any

from emulator.admin import VERSION, Admin
from emulator.chaos import Chaos
from emulator.databases import Databases
from emulator.delivery import Backoff, Dispatcher
from emulator.engine import Settings
from emulator.faults import Faults
from emulator.indexes import Indexes
from emulator.server import Server, collect_garbage_less_often
from emulator.settable import InvalidField
from emulator.triggers import Trigger

EPILOG = """\
The first line of the standard output is JSON, once everything listens:
  {"firestoreHost": "127.0.0.1:8080", "adminUrl": "http://127.0.0.1:8081/TOKEN", "project": ..., "pid": ...}
Then export FIRESTORE_EMULATOR_HOST=127.0.0.1:8080 and use any server client of Firestore.
GET on the admin URL lists what can be done there.

exit codes: 0 stopped by SIGINT or SIGTERM, 1 a port is taken, 2 wrong usage

example:
  python -m emulator --port 8080 --trigger 'users/{userId}=http://127.0.0.1:9000/'
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m emulator",
        description="An embedded, Firestore-compatible server: gRPC for the official clients, HTTP for everything around it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s; there is no security)")
    made.add_argument("--port", type=_port, default=8080, help="gRPC; 0: any that is free (default: %(default)s)")
    made.add_argument("--admin-port", type=_port, help="HTTP; 0: any that is free (default: --port + 1, or 0)")
    made.add_argument(
        "--token", type=_token, help="the part of the admin URL that keeps web pages out (default: a new one at each start)"
    )
    made.add_argument("--project", default="demo-project", help="what to tell people to use; every project is served")
    made.add_argument("--location", default="us-central1", help="where events say the database is (default: %(default)s)")

    transactions = made.add_argument_group("transactions")
    transactions.add_argument(
        "--mode",
        choices=("pessimistic", "optimistic"),
        default="pessimistic",
        help="concurrency control of transactions that do not choose (default: %(default)s)",
    )
    transactions.add_argument(
        "--contention-memory",
        type=_seconds_or_none,
        default=1.0,
        metavar="SECONDS",
        help="how long readers stand in line for a document that a transaction has lost to another; 0: never (default: 1)",
    )
    transactions.add_argument("--lock-timeout", type=_seconds, default=20.0, metavar="SECONDS", help="default: 20")
    transactions.add_argument("--transaction-timeout", type=_seconds, default=270.0, metavar="SECONDS", help="default: 270")
    transactions.add_argument("--idle-timeout", type=_seconds, default=60.0, metavar="SECONDS", help="default: 60")
    transactions.add_argument(
        "--retention", type=_seconds, default=3_600.0, metavar="SECONDS", help="how long the past can be read (default: 3600)"
    )

    queries = made.add_argument_group("queries")
    queries.add_argument(
        "--indexes",
        type=_indexes,
        metavar="FILE",
        help="the app's firestore.indexes.json: refuse queries that need an index which is not in it (default: refuse none)",
    )

    events = made.add_argument_group("events")
    events.add_argument(
        "--trigger",
        action="append",
        default=[],
        type=_trigger,
        metavar="PATTERN=URL",
        help="deliver each write of a matching document to this URL; may be repeated. "
        "POST /triggers offers more (type of event, database, concurrency, no retry)",
    )
    events.add_argument(
        "--chaos", type=int, metavar="SEED", help="duplicate, reorder and delay events; PUT /chaos changes how (default: off)"
    )
    events.add_argument(
        "--seed", type=int, help="of document ids, event ids and injected faults (default: --chaos, or at random)"
    )
    events.add_argument(
        "--backoff", type=_seconds, default=0.1, metavar="SECONDS", help="first pause before a redelivery (0.1)"
    )
    events.add_argument("--backoff-longest", type=_seconds, default=10.0, metavar="SECONDS", help="longest pause (10)")
    events.add_argument(
        "--retry-window", type=_seconds, default=86_400.0, metavar="SECONDS", help="then it is a dead letter (86400)"
    )
    events.add_argument("--attempts", type=_positive, help="or after so many (default: no limit)")
    return made


async def serve(arguments: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)

    seed = arguments.seed if arguments.seed is not None else arguments.chaos
    random = Random(seed)
    databases = Databases(settings=_settings(arguments))
    faults = Faults(Random(random.getrandbits(64)))
    dispatcher = Dispatcher(
        Random(random.getrandbits(64)),
        backoff=Backoff(
            first_s=arguments.backoff,
            longest_s=max(arguments.backoff, arguments.backoff_longest),
            window_s=arguments.retry_window,
            attempts=arguments.attempts,
        ),
        chaos=Chaos() if arguments.chaos is None else Chaos.hostile(),
        location=arguments.location,
    )
    server = Server(databases, faults, Random(random.getrandbits(64)))
    admin = Admin(databases, dispatcher, faults, server.streams, arguments.token)
    await dispatcher.start()
    databases.subscribe(dispatcher.publish)
    for trigger in arguments.trigger:
        dispatcher.add(trigger)
    try:
        port = await server.start(arguments.port, arguments.host)
        admin_port = arguments.admin_port
        if admin_port is None:
            admin_port = arguments.port + 1 if arguments.port else 0
        admin_port = await admin.start(admin_port, arguments.host)
        _tell(admin, arguments, port, admin_port)
        await stopped.wait()
    except OSError as error:
        print(f"emulator: {error}", file=sys.stderr)
        return 1
    finally:
        await admin.stop()
        await dispatcher.stop()
        await server.stop()
    return 0


def _tell(admin: Admin, arguments: argparse.Namespace, port: int, admin_port: int) -> None:
    admin.description = {
        "firestoreHost": f"{arguments.host}:{port}",
        "adminUrl": f"http://{arguments.host}:{admin_port}/{admin.token}",
        "project": arguments.project,
        "mode": arguments.mode,
        "pid": os.getpid(),
    }
    print(json.dumps(admin.description), flush=True)
    print(
        f"embedded Firestore {VERSION}: export FIRESTORE_EMULATOR_HOST={arguments.host}:{port}"
        f" GOOGLE_CLOUD_PROJECT={arguments.project}; admin: {admin.description['adminUrl']}; stop with Ctrl-C",
        file=sys.stderr,
        flush=True,
    )


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        optimistic=arguments.mode == "optimistic",
        contention_memory_us=_us(arguments.contention_memory),
        lock_wait_us=_us(arguments.lock_timeout),
        transaction_total_us=_us(arguments.transaction_timeout),
        transaction_idle_us=_us(arguments.idle_timeout),
        retention_us=_us(arguments.retention),
        indexes=arguments.indexes,
    )


def _indexes(path: str) -> Indexes:
    try:
        return Indexes.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"cannot read {path}: {error}") from None
    except InvalidField as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_534:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65534)")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return seconds


def _seconds_or_none(text: str) -> float:
    return 0.0 if text.strip("0") in ("", ".") and text else _seconds(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _token(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{8,}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no token: at least 8 letters, digits, _ or -")
    return text


def _trigger(text: str) -> Trigger:
    try:
        return Trigger.from_argument(text)
    except InvalidField as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments: list[str] | None = None) -> Any:
    """Run; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="emulator: %(message)s")
    collect_garbage_less_often()
    return asyncio.run(serve(parser().parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
