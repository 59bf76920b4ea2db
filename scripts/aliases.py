"""Aliases of projects, as the Firebase CLI resolves them: by the `.firebaserc` beside the nearest firebase.json.

Source: `applyRC` in lib/command.js, lib/rc.js and lib/detectProjectRoot.js of firebase-tools.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.command import Refused

FILE: Final = ".firebaserc"


@dataclass(frozen=True, slots=True)
class Project:
    """A project, and the alias by which it was named."""

    id: str
    alias: str | None = None
    """The CLI reads `.env.ALIAS` for it, too."""
    file: Path | None = None
    """The `.firebaserc` that has the alias."""


def resolve(named: str, folder: Path | None) -> Project:
    """The project that is meant. `folder` is the folder of the functions where the user has named one. Raises Refused.

    A name that is no alias is a project's id.
    """
    root = (folder and _root(folder)) or _root(Path.cwd())
    project_id = None if root is None else _aliases(root / FILE).get(named)
    if root is None or not project_id:
        return Project(named)
    return Project(project_id, named, root / FILE)


def _root(start: Path) -> Path | None:
    return next((folder for folder in (start, *start.parents) if (folder / "firebase.json").is_file()), None)


def _aliases(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        projects = json.loads(path.read_text(encoding="utf-8")).get("projects", {})
        return {alias: project for alias, project in projects.items() if isinstance(project, str)}
    except (OSError, ValueError, AttributeError) as error:
        raise Refused(f"{path} cannot be read for the aliases of projects: {error}") from None
