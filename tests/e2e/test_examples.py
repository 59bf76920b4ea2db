"""The documented steps of the sample app, exactly as its README has them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_steps_of_the_households_example_lead_to_right_balances(tmp_path: Path) -> None:
    app = tmp_path / "households"
    shutil.copytree(ROOT / "examples" / "households", app)
    steps = re.findall(r"^ *```sh\n(.*?)^ *```$", (app / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(steps) == 4
    environment = {**os.environ, "APP": str(app), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for variable in ("FIRESTORE_EMULATOR_HOST", "FUNCTION_URLS"):
        environment.pop(variable, None)

    for step in steps:
        done = subprocess.run(
            ["bash", "-ec", step], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, step + done.stdout + done.stderr
