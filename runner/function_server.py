"""One function, served by functions-framework in a process of its own, as in production, and started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from runner.logs import Output
from runner.manifest import Function
from runner.processes import Process, free_port

START_ATTEMPTS = 3
START_S = 60.0
STOP_S = 10.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
# Who lived so long did not die of being started.
SETTLED_S = 10.0


class StartFailed(Exception):
    """A function or server does not come up; the text holds what it said last."""


def platform_environment(function: Function, project: str) -> dict[str, str]:
    """What Cloud Run functions set: https://cloud.google.com/run/docs/container-contract#env-vars and, for
    LOG_EXECUTION_ID and EVENTARC_CLOUD_EVENT_SOURCE, the Firebase CLI."""
    service = function.service
    return {
        "FUNCTION_TARGET": function.entry_point,
        "FUNCTION_SIGNATURE_TYPE": function.signature_type,
        "K_SERVICE": service,
        "K_CONFIGURATION": service,
        "K_REVISION": f"{service}-00001-loc",
        "GOOGLE_CLOUD_PROJECT": project,
        "GCLOUD_PROJECT": project,
        "FIREBASE_CONFIG": json.dumps({"projectId": project}),
        "EVENTARC_CLOUD_EVENT_SOURCE": f"projects/{project}/locations/{function.region}/services/{function.name}",
        "LOG_EXECUTION_ID": "true",
        "CLOUD_RUN_TIMEOUT_SECONDS": str(int(function.timeout_s)),
        "FUNCTIONS_EMULATOR": "true",
    }


class FunctionServer:
    """Serves one function on one URL, which stays the same when its process is another."""

    def __init__(
        self,
        function: Function,
        *,
        source: Path,
        environment: Mapping[str, str],
        output: Output,
        tell: Callable[[str], None],
        session: aiohttp.ClientSession,
    ) -> None:
        """`source` is the folder of main.py; `tell` gets what the user should know."""
        self.function = function
        self.restarts = 0
        self._source = source
        self._environment = dict(environment)
        self._output = output
        self._tell = tell
        self._session = session
        self._port = 0
        self._process: Process | None = None
        self._is_ready = False
        self._watching: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="function-")

    @property
    def name(self) -> str:
        """The function's."""
        return self.function.name

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"http://127.0.0.1:{self._port}"

    def as_dict(self) -> dict[str, Any]:
        """What is known of it, as JSON."""
        process = self._process
        return {
            "name": self.name,
            "url": self.url,
            "pid": process.pid if process is not None and not process.has_ended else None,
            "ready": self._is_ready,
            "restarts": self.restarts,
            "trigger": type(self.function.trigger).__name__,
        }

    def variable(self, name: str) -> str | None:
        """A variable of its environment; None when it is not set."""
        return self._environment.get(name)

    async def start(self) -> None:
        """Return when it answers. Raises StartFailed."""
        for _ in range(START_ATTEMPTS):
            # Another program may take a port between our finding it free and the function's listening on it.
            self._port = free_port()
            process = await self._launch()
            if await self._answers(process):
                self._watching = asyncio.create_task(self._watch())
                return
            await process.stop(0)
            if not any("in use" in line for line in process.last_lines):
                break
        said = "\n".join(f"  {line}" for line in process.last_lines)
        raise StartFailed(f"the function {self.name} does not start; it said last:\n{said}")

    async def stop(self) -> None:
        """End its process, in order if it can."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        self._is_ready = False
        if self._process is not None:
            await self._process.stop(STOP_S)

    def kill(self, number: int = signal.SIGKILL) -> int | None:
        """End it as a crash of its instance would; returns the id of the process, if there was one."""
        process = self._process
        if process is None or process.has_ended:
            return None
        self._is_ready = False
        process.signal(number)
        return process.pid

    async def deploy(self, changes: Mapping[str, str | None]) -> None:
        """Go on with another environment (None: without the variable), as a new revision would. Raises StartFailed."""
        async with self._changing:
            for name, value in changes.items():
                if value is None:
                    self._environment.pop(name, None)
                else:
                    self._environment[name] = value
            await self.stop()
            process = await self._launch()
            answers = await self._answers(process)
            self._watching = asyncio.create_task(self._watch())
            if not answers:
                raise StartFailed(f"the function {self.name} does not start with {dict(changes)}")

    async def _launch(self) -> Process:
        command = [
            *(sys.executable, "-m", "functions_framework"),
            *("--target", self.function.entry_point),
            *("--signature-type", self.function.signature_type),
            *("--source", "main.py"),
            *("--host", "127.0.0.1", "--port", str(self._port)),
        ]
        # gunicorn keeps a socket there, by which servers that share the folder get in each other's way.
        environment = {**self._environment, "XDG_RUNTIME_DIR": self._folder.name}
        environment |= {"PORT": str(self._port), "PYTHONUNBUFFERED": "1"}
        process = Process(command, environment=environment, folder=self._source, output=self._output)
        await process.start()
        # Not before: who asks in between for its id, or kills it, would meet a process that is none yet.
        self._process = process
        return process

    async def _answers(self, process: Process) -> bool:
        """Wait until it answers HTTP; False when it ends, or takes too long, instead."""
        end = time.monotonic() + START_S
        while not process.has_ended and time.monotonic() < end:
            # functions-framework answers this path itself, whatever the function.
            # gunicorn would wait for the end of a connection that is kept.
            headers, timeout = {"Connection": "close"}, aiohttp.ClientTimeout(total=5)
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with self._session.get(self.url + "/robots.txt", headers=headers, timeout=timeout):
                    self._is_ready = True
                    return True
            await asyncio.sleep(0.03)
        return False

    async def _watch(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            process = self._process
            assert process is not None, "start() has launched it"
            started = time.monotonic()
            code = await process.wait()
            self._is_ready = False
            # gunicorn's workers outlive their killed master for a moment, and hold its port.
            await process.stop(0)
            if time.monotonic() - started > SETTLED_S:
                pause_s = FIRST_PAUSE_S
            self._tell(f"{self.name} {_ending(code)}; it is started again")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self.restarts += 1
            await self._answers(await self._launch())


def _ending(code: int) -> str:
    return f"exited with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
