"""The folder of an app's functions: functions.yaml, the .env files with its parameters, and its adapter.

Whatever reads an app's documents must read them as the deployed functions do: by the same parameters and the same adapter. So
the folder is either named, or found from the working directory upwards; it is never taken for granted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Final

import balance
from runner import dotenv, manifest
from scripts.aliases import Project
from scripts.command import Refused

ROOT: Final = Path(__file__).resolve().parent.parent
VARIABLE: Final = "BALANCE_SOURCE"
ADAPTER: Final = Path("balance") / "adapter.py"


def find(given: str | None) -> Path:
    """The folder that was named, else the one of the working directory. Raises Refused."""
    if given:
        folder = Path(os.path.abspath(given))
        if not (folder / manifest.FILE_NAME).is_file():
            raise Refused(f"--source {given}: there is no {folder / manifest.FILE_NAME}")
        return folder
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / manifest.FILE_NAME).is_file():
            return folder
        if (named := _codebase(folder / "firebase.json")) is not None:
            return named
    raise Refused(
        f"whose functions? There is no {manifest.FILE_NAME} here or above: name the folder that holds it with --source DIR"
        f" (or {VARIABLE}=DIR), so that documents are read by its .env and its {ADAPTER}"
    )


def _codebase(path: Path) -> Path | None:
    """The source of the codebase `balance` that a firebase.json names."""
    try:
        functions = json.loads(path.read_text(encoding="utf-8"))["functions"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    for codebase in functions if isinstance(functions, list) else [functions]:
        if isinstance(codebase, dict) and codebase.get("codebase") == "balance":
            folder = path.parent / str(codebase.get("source", "functions"))
            if (folder / manifest.FILE_NAME).is_file():
                return folder
    return None


def load_adapter(arguments: Sequence[str]) -> None:
    """Make the adapter of the app's functions `balance.adapter`, for these arguments of a subcommand. Raises Refused.

    It must come before any module that uses the adapter is imported, hence before the subcommand's options are parsed. A
    folder that cannot be found is told by the subcommand, should it need one.
    """
    try:
        path = find(_named(arguments) or os.environ.get(VARIABLE)) / ADAPTER
    except Refused:
        return
    if "balance.adapter" in sys.modules or not path.is_file() or path.resolve() == ROOT / ADAPTER:
        return
    spec = spec_from_file_location("balance.adapter", path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "likewise"
    module = module_from_spec(spec)
    sys.modules["balance.adapter"] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - the app's code may raise anything
        raise Refused(f"{path} cannot be loaded: {type(error).__name__}: {error}") from None
    balance.adapter = module
    from balance.documents.sources import AdapterFailed, check_adapter

    try:
        check_adapter()
    except AdapterFailed as error:
        raise Refused(f"{path} {error}") from None


def try_adapter(folder: Path) -> None:
    """Refuse an adapter that no function could load: else each of them ends in a traceback of its own."""
    path = folder / ADAPTER
    if not path.is_file():
        return
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); from balance.documents.sources import check_adapter; check_adapter()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        *_, told = done.stderr.strip().splitlines() or [""]
        raise Refused(f"{path} cannot be loaded: {told}")


def adapter_of(folder: Path) -> Path:
    """The path of the loaded adapter, which must be that of the folder. Raises Refused."""
    from balance import adapter

    wanted, loaded = folder / ADAPTER, Path(str(adapter.__file__))
    if not wanted.is_file():
        raise Refused(f"{folder} holds no {ADAPTER}: these are not our functions; name their folder with --source DIR")
    if wanted.resolve() != loaded.resolve():
        raise Refused(f"this process has loaded {loaded} already: run `balance` anew for {wanted}")
    return wanted


def shadowed(folder: Path, project: Project) -> list[str]:
    """A warning when an emulator takes other values from `.env.local` than those that are deployed."""
    try:
        found = dotenv.shadowed(folder, project.id, project.alias)
    except dotenv.InvalidDotenv:
        return []  # told by who reads them in earnest
    by_file = {file: [name for name in found if found[name] == file] for file in found.values()}
    return [
        f"{', '.join(names)}: emulators take the value of {dotenv.LOCAL} instead of that of {file}, which is deployed"
        f" (both in {folder})"
        for file, names in by_file.items()
    ]


def look_alikes(folder: Path, project: Project, *, emulated: bool) -> list[str]:
    """A warning for each name in the .env files that looks like one of ours and is none: nobody would read it."""
    from balance.documents.settings import SWITCHES  # later than the adapter

    try:
        written = dotenv.load(folder, project.id, project.alias, local=emulated)
        values = {**written, "PROJECT_ID": project.id}
        known = {*manifest.read(folder / manifest.FILE_NAME, values).parameters, *SWITCHES}
    except (dotenv.InvalidDotenv, manifest.InvalidManifest):
        return []  # told by who reads them in earnest
    warnings = []
    for name in sorted(written.keys() - known):
        alike = get_close_matches(name.upper(), known, 1, cutoff=0.8)
        if alike or name.startswith("BALANCE_"):
            meant = f"; is {alike[0]} meant?" if alike else ""
            warnings.append(f"{name} in the .env files of {folder} is no parameter and no switch{meant}")
    return warnings


def _named(arguments: Sequence[str]) -> str | None:
    """What --source says."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument.startswith("--source="):
            return argument.partition("=")[2]
        if argument == "--source" and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def parameters(folder: Path, project: Project, over: Mapping[str, str], *, emulated: bool) -> dict[str, str]:
    """The parameters as the functions see them; `over` holds what was given with the command. Raises Refused.

    The defaults of functions.yaml, then .env, .env.PROJECT or .env.ALIAS and, for the emulator only, .env.local; over them the
    environment.
    """
    from balance.documents.settings import SWITCHES  # later than the adapter

    try:
        files = dotenv.load(folder, project.id, project.alias, local=emulated)
        values = {**files, **os.environ, **over, "PROJECT_ID": project.id}
        declared = manifest.read(folder / manifest.FILE_NAME, values).parameters
    except (dotenv.InvalidDotenv, manifest.InvalidManifest) as error:
        raise Refused(str(error)) from None
    for name in over:
        _check_name(name, [*declared, *SWITCHES])
    return {**values, **declared}


def _check_name(name: str, known: Sequence[str]) -> None:
    if name not in known:
        alike = get_close_matches(name.upper(), known, 1)
        meant = f"is {alike[0]} meant?" if alike else f"{manifest.FILE_NAME} lists them all"
        raise Refused(f"--param {name}: there is no such parameter; {meant}")
