"""Commands that run beside the functions on this machine: outside of the runner they start it, with themselves inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from runner import serving
from runner.stack import Options
from scripts.source import ROOT

PROJECT = "demo-balance"
_NEEDED = ("FIRESTORE_ADMIN_URL", "FIRESTORE_EMULATOR_HOST", "FUNCTION_URLS", "GOOGLE_CLOUD_PROJECT", "RUNNER_URL")


def is_inside() -> bool:
    """Whether a runner has started this process."""
    return all(os.environ.get(name) for name in _NEEDED)


def run(*, chaos: int | None = None, logs: Path | None = None) -> int:
    """Run this very command inside of a runner; returns its exit code."""
    command = [sys.executable, str(ROOT / "scripts")]
    options = Options(source=ROOT, project=PROJECT, chaos_seed=chaos)
    return serving.run(options, [*command, *sys.argv[1:]], logs_folder=logs, quiet=True)
