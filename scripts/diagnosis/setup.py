"""The folder of the functions: its parameters, and whether its code is this checkout's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from runner import dotenv
from scripts.aliases import Project
from scripts.diagnosis.findings import Finding, Level
from scripts.output import counted
from scripts.package import deployed_files
from scripts.source import ADAPTER, ROOT, look_alikes, shadowed
from scripts.target import Opened


def look(opened: Opened) -> Iterator[Finding]:
    """All findings."""
    emulated = opened.emulator is not None
    warnings = look_alikes(opened.folder, opened.meant, emulated=emulated)
    for warning in warnings:
        yield Finding(Level.WARNING, warning, "correct the name, or remove the line: nobody reads it")
    for warning in shadowed(opened.folder, opened.meant) if emulated else ():
        yield Finding(Level.WARNING, warning, f"remove {opened.folder / dotenv.LOCAL}: the emulators write it anew")
    yield from _overridden(opened.folder, opened.meant, emulated=emulated)
    differing = _differing(opened.folder)
    if differing:
        yield Finding(
            Level.WARNING,
            f"{counted(len(differing), 'file is', 'files are')} in {opened.folder} other than in this checkout, such as"
            f" {differing[0]}",
            f"bring both to one version: `balance package {opened.folder}`, deploy, then rebuild as docs/rollout.md says",
        )
    if not warnings and not differing:
        yield Finding(Level.OK, f"the parameters and the adapter of {opened.folder} are understood")


def _overridden(folder: Path, project: Project, *, emulated: bool) -> Iterator[Finding]:
    """Parameters that the shell's environment changes, for this command and not for the deployed functions."""
    for name, value in sorted(dotenv.load(folder, project.id, project.alias, local=emulated).items()):
        if os.environ.get(name, value) != value:
            yield Finding(
                Level.WARNING,
                f"{name} is {os.environ[name]!r} in your shell, but {value!r} in the .env files, which the functions go by",
                f"unset {name}",
            )


def _differing(folder: Path) -> list[Path]:
    """Files of the deployed code, the adapter apart, that are missing or other than here."""
    if folder.resolve() == ROOT:
        return []
    return [
        file
        for file in deployed_files()
        if file != ADAPTER and (not (folder / file).is_file() or (folder / file).read_bytes() != (ROOT / file).read_bytes())
    ]
