"""functions.yaml: which functions there are, what triggers them, and what they run with.

The format is the Firebase CLI's (`specVersion: v1alpha1`), with its parameters: `{{ params.NAME }}` stands for a value
from the environment, a `.env` file, or the parameter's default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from emulator.triggers import EventType, PathPattern

FILE_NAME = "functions.yaml"
_PARAMETER = re.compile(r"\{\{ params\.(\w+) \}\}")
_TRIGGERS = ("eventTrigger", "httpsTrigger", "callableTrigger", "scheduleTrigger", "taskQueueTrigger")
# Of Cloud Tasks: https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues
_QUEUE_ID = re.compile(r"[A-Za-z0-9-]{1,100}")


class InvalidManifest(ValueError):
    """The manifest cannot be used; the text names the place and the fault."""


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """Called for changes of documents."""

    event_type: EventType
    pattern: str
    database: str
    retry: bool


@dataclass(frozen=True, slots=True)
class HttpsTrigger:
    """Called by anybody."""


@dataclass(frozen=True, slots=True)
class ScheduleTrigger:
    """Called by the clock: `schedule` is a crontab line or an App Engine phrase, `time_zone` an IANA name."""

    schedule: str
    time_zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQueueTrigger:
    """Called for tasks of the queue that bears the function's name. The defaults are the Firebase CLI's."""

    max_concurrent_dispatches: int = 1_000
    max_dispatches_per_second: float = 500.0
    max_attempts: int = 3
    max_retry_s: float | None = None
    min_backoff_s: float = 0.1
    max_backoff_s: float = 3_600.0
    max_doublings: int = 16


Trigger = EventTrigger | HttpsTrigger | ScheduleTrigger | TaskQueueTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One endpoint of the manifest, all parameters resolved."""

    name: str
    entry_point: str
    trigger: Trigger
    region: str = "us-central1"
    concurrency: int = 80
    timeout_s: float = 60.0
    memory_mb: int = 256
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def signature_type(self) -> str:
        """What functions-framework calls the kind of its handler."""
        return "cloudevent" if isinstance(self.trigger, EventTrigger) else "http"

    @property
    def service(self) -> str:
        """The name of its Cloud Run service."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Manifest:
    """All functions, and the parameters' values, which reach the functions as environment variables."""

    functions: tuple[Function, ...]
    parameters: Mapping[str, str]


def read(path: Path, values: Mapping[str, str]) -> Manifest:
    """Read the manifest with these values for its parameters and for PROJECT_ID. Raises InvalidManifest."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidManifest(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"{path}: it is not UTF-8: {error}") from None
    try:
        return parse(yaml.safe_load(text), values)
    except yaml.YAMLError as error:
        raise InvalidManifest(f"{path}: it is no YAML: {error}") from None
    except InvalidManifest as error:
        raise InvalidManifest(f"{path}: {error}") from None


def parse(data: Any, values: Mapping[str, str]) -> Manifest:
    """The same from what the file holds."""
    node = _Node(data, "the manifest")
    if node.get("specVersion") != "v1alpha1":
        raise InvalidManifest(f"specVersion: {node.get('specVersion')!r} is not 'v1alpha1'")
    built_in = {"PROJECT_ID": values.get("PROJECT_ID", "")}  # not declared, and no variable of the functions
    parameters = _parameters(node.get("params") or [], values, built_in)
    endpoints = _Node(_resolve(node.get("endpoints"), built_in | parameters, "endpoints"), "endpoints")
    functions = tuple(_function(str(name), endpoints.child(name)) for name in endpoints.data)
    if not functions:
        raise InvalidManifest("endpoints: there is none")
    return Manifest(functions, parameters)


class _Node:
    """A mapping of the manifest that knows where it is."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise InvalidManifest(f"{where}: it must be a mapping")
        self.data: dict[str, Any] = data
        self.where = where

    def child(self, name: str) -> _Node:
        return _Node(self.data[name], f"{self.where}.{name}")

    def get(self, name: str) -> Any:
        return self.data.get(name)

    def fault(self, name: str, fault: str) -> InvalidManifest:
        return InvalidManifest(f"{self.where}.{name}: {fault}")

    def text(self, name: str, default: str | None = None) -> str:
        value = self.data.get(name, default)
        if not isinstance(value, str) or not value:
            raise self.fault(name, "it is missing" if value is None else f"{value!r} is no text")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.data.get(name)
        if value is None:
            return default
        try:
            number = float("nan" if isinstance(value, bool) else value)  # a resolved parameter is text
        except (TypeError, ValueError):
            number = float("nan")
        if not 0 <= number < 1e12:
            raise self.fault(name, f"{value!r} is no number that is not negative")
        return number

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.data.get(name, default)
        if value not in (True, False, "true", "false"):
            raise self.fault(name, f"{value!r} is neither true nor false")
        return value in (True, "true")


def _parameters(declared: Any, values: Mapping[str, str], built_in: dict[str, str]) -> dict[str, str]:
    if not isinstance(declared, list):
        raise InvalidManifest("params: it must be a list")
    resolved: dict[str, str] = {}
    for index, item in enumerate(declared):
        parameter = _Node(item, f"params[{index}]")
        name = parameter.text("name")
        value = values.get(name)
        if value is None:
            default = parameter.get("default")
            if default is None:
                raise InvalidManifest(f"params.{name}: it has no default; set it in the environment or in .env")
            value = str(default).lower() if isinstance(default, bool) else str(default)
            value = _replace(value, built_in | resolved, f"params.{name}.default")
        _check_type(name, str(parameter.get("type") or "string"), value)
        resolved[name] = value
    return resolved


def _check_type(name: str, type_: str, value: str) -> None:
    match type_:
        case "int" | "float":
            try:
                float(value)
            except ValueError:
                raise InvalidManifest(f"params.{name}: {value!r} is no number") from None
        case "boolean":
            if value not in ("true", "false"):
                raise InvalidManifest(f"params.{name}: {value!r} is neither true nor false")


def _resolve(data: Any, parameters: Mapping[str, str], where: str) -> Any:
    """The same data with the parameters' values in it."""
    if isinstance(data, dict):
        return {key: _resolve(value, parameters, f"{where}.{key}") for key, value in data.items()}
    if isinstance(data, list):
        return [_resolve(value, parameters, f"{where}[{index}]") for index, value in enumerate(data)]
    return _replace(data, parameters, where) if isinstance(data, str) else data


def _replace(text: str, parameters: Mapping[str, str], where: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in parameters:
            raise InvalidManifest(f"{where}: there is no parameter {found[1]!r}")
        return parameters[found[1]]

    replaced = _PARAMETER.sub(value, text)
    if "{{" in replaced and _PARAMETER.sub("", text).count("{{"):
        raise InvalidManifest(f"{where}: the expression in {text!r} is not understood; only {{{{ params.NAME }}}} is")
    return replaced


def _function(name: str, node: _Node) -> Function:
    if node.text("platform", "gcfv2") != "gcfv2":
        raise node.fault("platform", f"{node.get('platform')!r} is not 'gcfv2'")
    given = [trigger for trigger in _TRIGGERS if trigger in node.data]
    if len(given) != 1:
        raise InvalidManifest(f"{node.where}: it needs one trigger of {', '.join(_TRIGGERS)}")
    environment = {} if node.get("environmentVariables") is None else node.get("environmentVariables")
    if not isinstance(environment, dict):
        raise node.fault("environmentVariables", "it must be a mapping")
    region = node.get("region") or ["us-central1"]
    return Function(
        name=name,
        entry_point=node.text("entryPoint"),
        trigger=_trigger(name, given[0], node.child(given[0])),
        region=str(region[0] if isinstance(region, list) else region),
        concurrency=max(1, int(node.number("concurrency", 80))),
        timeout_s=node.number("timeoutSeconds", 60.0),
        memory_mb=int(node.number("availableMemoryMb", 256)),
        environment={str(key): str(value) for key, value in environment.items()},
    )


def _trigger(name: str, kind: str, node: _Node) -> Trigger:
    match kind:
        case "eventTrigger":
            return _event_trigger(node)
        case "scheduleTrigger":
            zone = node.get("timeZone")
            return ScheduleTrigger(node.text("schedule"), zone if isinstance(zone, str) else "UTC")
        case "taskQueueTrigger":
            if not _QUEUE_ID.fullmatch(name):
                raise InvalidManifest(f"{node.where}: Cloud Tasks wants the queue's name {name!r} to be letters, digits and -")
            return _task_queue_trigger(node)
        case _:
            return HttpsTrigger()


def _event_trigger(node: _Node) -> EventTrigger:
    event_type = node.text("eventType")
    if event_type not in tuple(EventType):
        raise node.fault("eventType", f"{event_type!r} is none of {', '.join(EventType)}")
    filters = node.child("eventFilters") if "eventFilters" in node.data else _Node({}, f"{node.where}.eventFilters")
    patterns = node.child("eventFilterPathPatterns") if "eventFilterPathPatterns" in node.data else filters
    pattern = patterns.text("document")
    try:
        PathPattern.parse(pattern)
    except ValueError as error:
        raise patterns.fault("document", str(error)) from None
    return EventTrigger(
        EventType(event_type), pattern, filters.text("database", "(default)"), node.flag("retry", default=False)
    )


def _task_queue_trigger(node: _Node) -> TaskQueueTrigger:
    limits = _Node(node.get("rateLimits") or {}, f"{node.where}.rateLimits")
    retry = _Node(node.get("retryConfig") or {}, f"{node.where}.retryConfig")
    default = TaskQueueTrigger()
    return TaskQueueTrigger(
        max_concurrent_dispatches=max(1, int(limits.number("maxConcurrentDispatches", default.max_concurrent_dispatches))),
        max_dispatches_per_second=max(0.001, limits.number("maxDispatchesPerSecond", default.max_dispatches_per_second)),
        max_attempts=int(retry.number("maxAttempts", default.max_attempts)),
        max_retry_s=retry.number("maxRetrySeconds", 0) or None,
        min_backoff_s=retry.number("minBackoffSeconds", default.min_backoff_s),
        max_backoff_s=retry.number("maxBackoffSeconds", default.max_backoff_s),
        max_doublings=int(retry.number("maxDoublings", default.max_doublings)),
    )
