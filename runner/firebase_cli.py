"""The Firebase CLI: where it is, what it can start on this machine, and the configuration that it is given.

What is said here of the CLI is from the sources of firebase-tools 15.34.2, below `lib/emulator`; a test compares.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

MIN_JAVA: Final = 21
"""`MIN_SUPPORTED_JAVA_MAJOR_VERSION` in commandUtils.js: with an older one the CLI starts no emulator that needs Java."""

MIN_VERSION: Final = (15, 34)
"""Older ones do not know our functions.yaml, and ask for parameters that have a default: without a terminal they would hang."""

FIRESTORE_ARCHIVE, UI_ARCHIVE = "cloud-firestore-emulator-*.jar", "ui-*.zip"
DOWNLOAD_S = 900.0
CONFIGURATION: Final = ".firebase.emulators.json"
"""Beside the app's firebase.json, since the CLI looks for the codebases from there."""

DEFAULT_PORTS: Final = {"firestore": 8080, "functions": 5001}
"""`DEFAULT_PORTS` in constants.js. Where one of these is taken, the CLI takes no other."""


class InvalidConfiguration(Exception):
    """A firebase.json that cannot be used; the text says why."""


def find(app: Path) -> Path | None:
    """The CLI that the app has installed, else the one on the PATH."""
    own = app / "node_modules" / ".bin" / "firebase"
    if own.exists():
        return own
    found = shutil.which("firebase")
    return None if found is None else Path(found)


def version(cli: Path) -> tuple[int, int] | None:
    """Which one it is, as its package says; None when it does not."""
    for folder in cli.resolve().parents:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
            if package["name"] == "firebase-tools":
                major, minor, *_ = package["version"].split(".")
                return int(major), int(minor)
    return None


def obstacle_to_official_firestore(cli: Path) -> str | None:
    """What the official Firestore emulator lacks on this machine; None when it can be started. It may be downloaded here."""
    java = shutil.which("java")
    if java is None:
        return f"Java {MIN_JAVA} or later is needed, and there is no Java"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', told.stderr + told.stdout)
    if version is None or int(version[1]) < MIN_JAVA:
        return f"Java {MIN_JAVA} or later is needed, and this is {f'Java {version[1]}' if version else 'of an unknown version'}"
    if not obtained(cli, "firestore", FIRESTORE_ARCHIVE):
        return "its program (a jar of 130 MB) is neither on this machine nor to be downloaded"
    return None


def cache() -> Path:
    """Where the CLI keeps what it has downloaded: `CACHE_DIR` in downloadableEmulators.js."""
    return Path(os.environ.get("FIREBASE_EMULATORS_PATH") or Path.home() / ".cache" / "firebase" / "emulators")


def obtained(cli: Path, name: str, archive: str) -> bool:
    """Whether the archive of an emulator is in the CLI's cache, or could be downloaded into it just now."""
    if any(cache().glob(archive)):
        return True
    with suppress(subprocess.TimeoutExpired):
        command = [str(cli), f"setup:emulators:{name}"]
        return subprocess.run(command, check=False, timeout=DOWNLOAD_S, capture_output=True).returncode == 0
    return False


def read(path: Path) -> dict[str, Any]:
    """An app's firebase.json. Raises InvalidConfiguration."""
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error}") from None
    if not isinstance(configuration, dict):
        raise InvalidConfiguration(f"{path} holds no JSON object")
    return configuration


def address(configuration: Mapping[str, Any], name: str) -> tuple[str, int]:
    """Host and port of an emulator."""
    told = configuration.get("emulators", {}).get(name, {})
    return str(told.get("host", "127.0.0.1")), int(told.get("port", DEFAULT_PORTS[name]))


def url(configuration: Mapping[str, Any], name: str) -> str:
    """Where to call an emulator."""
    host, port = address(configuration, name)
    if host in ("0.0.0.0", "localhost"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def index_file(configuration: Mapping[str, Any], app: Path) -> Path | None:
    """The app's indexes, if it has one database with indexes."""
    firestore = configuration.get("firestore", {})
    named = firestore.get("indexes") if isinstance(firestore, dict) else None
    return app / named if named and (app / named).is_file() else None


def wants_ui(configuration: Mapping[str, Any]) -> bool:
    """Whether the CLI would start the Emulator UI."""
    return configuration.get("emulators", {}).get("ui", {}).get("enabled") is not False


def adapted(
    configuration: Mapping[str, Any], *, app: Path, source: Path, runtime: str, official_firestore: bool, ui: bool
) -> dict[str, Any]:
    """The app's configuration for this machine: another runtime for the codebase in `source`, and what is there to be started.

    Raises InvalidConfiguration when it does not name that codebase.
    """
    changed: dict[str, Any] = json.loads(json.dumps(configuration))
    told = changed.get("functions", [])
    ours = [
        codebase
        for codebase in (told if isinstance(told, list) else [told])
        if (app / str(codebase.get("source", "functions"))).resolve() == source.resolve()
    ]
    if not ours:
        raise InvalidConfiguration(f"{app / 'firebase.json'} names no codebase with the source {source} (docs/quickstart.md)")
    for codebase in ours:
        codebase["runtime"] = runtime
    emulators = changed.setdefault("emulators", {})
    if official_firestore:
        # Named, an emulator is started; the app may have named it for deploying its rules only.
        emulators.setdefault("firestore", {})
    else:
        changed.pop("firestore", None)
        emulators.pop("firestore", None)
    if not ui:
        emulators["ui"] = {"enabled": False}
    return changed


@contextmanager
def written(configuration: Mapping[str, Any], app: Path) -> Iterator[Path]:
    """The configuration as a file, for the time of the block."""
    path = app / CONFIGURATION
    path.write_text(json.dumps(configuration), encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def parameters_kept(source: Path) -> Iterator[None]:
    """The CLI writes the parameters' defaults to .env.local, which stands before .env: it must not stay where it was not."""
    file = source / ".env.local"
    before = file.read_bytes() if file.exists() else None
    try:
        yield
    finally:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(before)
