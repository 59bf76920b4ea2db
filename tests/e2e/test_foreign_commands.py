"""Every call of the Firebase CLI and of gcloud in our documents is one that these tools know."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.documented import documents
from tests.e2e.foreign_commands import UnknownCall, calls_of, check_firebase, check_gcloud, gcloud_tree
from tests.e2e.node import node_with

ROOT = Path(__file__).resolve().parents[2]
# One process asks the tools, once for each command.
pytestmark = pytest.mark.xdist_group("foreign-commands")
FILES = [*documents(), "deploy/monitoring/apply.sh"]
TEXTS = {file: (ROOT / file).read_text() for file in FILES}
FIREBASE_CALLS = [(file, call) for file, text in TEXTS.items() for call in calls_of("npx firebase-tools", text)]
GCLOUD_CALLS = [
    (file, call.replace('"$verb"', verb).replace("$track ", ""))
    for file, text in TEXTS.items()
    for call in calls_of("gcloud", text)
    for verb in (("create", "update") if '"$verb"' in call else ("",))
]


@pytest.fixture(scope="module")
def _firebase_cli() -> None:
    node_with(ROOT / "tests" / "firebase")


@pytest.fixture(scope="module")
def tree() -> Mapping[str, Any]:
    found = gcloud_tree()
    if found is None:
        pytest.skip("gcloud, or its table of commands, is not installed")
    return found


def test_the_calls_are_found() -> None:
    assert {file for file, _ in FIREBASE_CALLS} >= {"docs/deploy.md", "docs/rollout.md", "deploy/README.md"}
    assert {file for file, _ in GCLOUD_CALLS} >= {"docs/deploy.md", "docs/rollout.md", "docs/runbook.md", *FILES[-1:]}
    assert any("functions:delete" in call and "--region" in call for _, call in FIREBASE_CALLS), "over more than one line"
    assert any("serviceAccountUser" in call for _, call in GCLOUD_CALLS), "likewise"


def test_the_firebase_cli_is_called_by_the_name_of_its_package() -> None:
    """`npx firebase` is the SDK, and `firebase` is there only once it was installed for all."""
    for file, text in TEXTS.items():
        called = re.findall(r"(?:^|[`(])\s*(?:npx )?firebase [a-z:]+(?: -| *`|$).*", text, re.MULTILINE)
        assert not called, f"{file}: {called}"


@pytest.mark.usefixtures("_firebase_cli")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("file", "call"), FIREBASE_CALLS)
def test_a_call_of_the_firebase_cli_is_one_that_it_knows(file: str, call: str) -> None:
    check_firebase(shlex.split(call)[2:])


@pytest.mark.usefixtures("_firebase_cli")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("deplay --only functions", "no command deplay"),
        ("deploy --olny functions", "no option --olny"),
        ("deploy --only function:balance", "no such target"),
        ("deploy --only", "its value is missing"),
        ("deploy everything", "does not take 1 arguments"),
        ("functions:remove a", "no command functions:remove"),
        ("functions:delete a b --regoin x", "no option --regoin"),
        ("firestore:indexes --project", "its value is missing"),
    ],
)
def test_a_call_that_the_firebase_cli_does_not_know_is_noticed(call: str, fault: str) -> None:
    with pytest.raises(UnknownCall, match=fault):
        check_firebase(call.split())


@pytest.mark.parametrize(("file", "call"), GCLOUD_CALLS)
def test_a_call_of_gcloud_is_one_that_it_knows(file: str, call: str, tree: Mapping[str, Any]) -> None:
    words = shlex.split(call)[1:]
    if words[:2] == ["monitoring", "policies"] and "policies" not in tree["commands"]["monitoring"]["commands"]:
        words.insert(0, "alpha")  # as apply.sh does with an old gcloud
    check_gcloud(words, tree)


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("run service update x", "has no command 'service'"),
        ("run services", "has no command"),
        ("run services update x --update-env-var A=b", "no flag --update-env-var"),
        ("run services update x --project", "its value is missing"),
        ("scheduler jobs run x --region=y", "no flag --region"),
    ],
)
def test_a_call_that_gcloud_does_not_know_is_noticed(call: str, fault: str, tree: Mapping[str, Any]) -> None:
    with pytest.raises(UnknownCall, match=fault):
        check_gcloud(call.split(), tree)
