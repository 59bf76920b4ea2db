"""The deployment package, as the Firebase CLI builds it: complete, and nothing more. Run by `make test-firebase`."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.events.cloud.firestore_v1 import DocumentEventData

from runner import firebase_cli, manifest
from runner.processes import free_port
from scripts.package import deployed_files
from scripts.source import ROOT
from tests.integration.served import served

HERE = Path(__file__).resolve().parent

# The CLI's own listing of what it would upload.
LIST = """
const { readdirRecursive } = require("firebase-tools/lib/fsAsync");
const ignore = require(process.argv[1] + "/firebase.json").functions[0].ignore;
readdirRecursive({ path: process.argv[1], ignoreStrings: ignore }).then((files) =>
  console.log(JSON.stringify(files.map((file) => file.name))));
"""


def test_the_cli_loads_every_function_that_it_can_call_here() -> None:
    # A scheduled function needs the Pub/Sub emulator, another Java program.
    scheduled = {"reconcile_balances"}
    named = {function.name for function in manifest.read(ROOT / manifest.FILE_NAME, {"PROJECT_ID": "demo"}).functions}
    assert named - scheduled <= json.loads(os.environ["FUNCTION_URLS"]).keys()


def test_what_we_take_for_granted_of_the_cli_is_so() -> None:
    said = """
    const { MIN_SUPPORTED_JAVA_MAJOR_VERSION: java } = require("firebase-tools/lib/emulator/commandUtils");
    const { DEFAULT_PORTS: ports } = require("firebase-tools/lib/emulator/constants");
    const { getDownloadDetails: of } = require("firebase-tools/lib/emulator/downloadableEmulators");
    const archives = [of("firestore").downloadPath, of("ui").downloadPath];
    console.log(JSON.stringify({ java, ports, archives }));
    """
    done = subprocess.run(["node", "-e", said], cwd=HERE, capture_output=True, text=True, check=True)
    cli = json.loads(done.stdout)
    assert cli["java"] == firebase_cli.MIN_JAVA
    assert {name: cli["ports"][name] for name in firebase_cli.DEFAULT_PORTS} == firebase_cli.DEFAULT_PORTS
    for path, pattern in zip(cli["archives"], (firebase_cli.FIRESTORE_ARCHIVE, firebase_cli.UI_ARCHIVE), strict=True):
        assert Path(path).match(str(firebase_cli.cache() / pattern))


@pytest.fixture(scope="module")
def listed() -> list[Path]:
    done = subprocess.run(["node", "-e", LIST, str(ROOT)], cwd=HERE, capture_output=True, text=True, check=True)
    return [Path(name).relative_to(ROOT) for name in json.loads(done.stdout)]


def test_the_cli_uploads_what_is_deployed_and_nothing_else(listed: list[Path]) -> None:
    # .env files hold an app's parameters: the CLI reads them, and they hold no secret.
    uploaded = sorted(path for path in listed if not path.name.startswith(".env"))
    assert uploaded == deployed_files()


def test_the_runtime_is_the_newest_that_the_cli_supports() -> None:
    table = 'console.log(require("firebase-tools/lib/deploy/functions/runtimes/supported").latest("python"))'
    newest = subprocess.run(["node", "-e", table], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    for file in ("firebase.json", "examples/households/firebase.json"):
        codebases = json.loads((ROOT / file).read_text())["functions"]
        assert [each["runtime"] for each in codebases if each["codebase"] == "balance"] == [newest]


@pytest.fixture(scope="module")
def deployed(listed: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The package in a folder of its own, and the Python of an environment with nothing but its requirements."""
    folder = tmp_path_factory.mktemp("package")
    for file in listed:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(folder / "requirements.txt")]
    subprocess.run(install, check=True)
    yield folder, python
    shutil.rmtree(environment)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("target", "signature", "method", "expected"),
    [
        ("on_expense_written", "cloudevent", "POST", 200),
        ("on_settlement_written", "cloudevent", "POST", 200),
        ("on_group_created", "cloudevent", "POST", 200),
        ("on_group_deleted", "cloudevent", "POST", 200),
        ("balance_api", "http", "GET", 401),
        ("rebuild_balance", "http", "POST", 200),
        ("reconcile_balances", "http", "POST", 200),
    ],
)
def test_every_function_answers_from_the_package_alone(
    deployed: tuple[Path, Path], target: str, signature: str, method: str, expected: int
) -> None:
    folder, python = deployed
    port = free_port()
    command = [str(python), "-m", "functions_framework", "--target", target, "--signature-type", signature]
    with served() as firestore:
        environment = {
            "PATH": os.environ["PATH"],
            "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{firestore.port}",
            "GOOGLE_CLOUD_PROJECT": "demo-test",
        }
        command += ["--host", "127.0.0.1", "--port", str(port)]
        with subprocess.Popen(command, cwd=folder, env=environment, stderr=sys.stderr) as process:
            try:
                status = _ask(port, method, signature, target)
            finally:
                process.terminate()
    assert status == expected


def _ask(port: int, method: str, signature: str, target: str) -> int:
    event = DocumentEventData.pb()()
    event.value.name = "projects/demo-test/databases/(default)/documents/expenses/e1"
    event.value.update_time.seconds = 1
    bodies = {"cloudevent": event.SerializeToString(), "http": b'{"data": {"groupId": "gone"}}'}
    path = "/groups/g1/balance" if target == "balance_api" else "/"
    headers = {"content-type": "application/json"}
    if signature == "cloudevent":
        headers = {
            "content-type": "application/protobuf",
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-source": "//firestore.googleapis.com/projects/demo-test/databases/(default)",
            "ce-type": "google.cloud.firestore.document.v1.written",
            "ce-time": "2026-01-01T00:00:00Z",
        }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=bodies[signature] if method == "POST" else None, headers=headers, method=method
    )
    for _ in range(600):
        try:
            with urllib.request.urlopen(request) as response:
                status: int = response.status
                return status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            time.sleep(0.1)
    raise TimeoutError(f"{target} does not answer")
