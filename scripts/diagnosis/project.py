"""What a project's own APIs tell of the deployment: region, indexes, TTL, and the variables of the running services.

All by GET: https://cloud.google.com/firestore/docs/reference/rest and https://cloud.google.com/run/docs/reference/rest
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import google.auth
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from balance.documents.settings import SWITCHES
from scripts.diagnosis.findings import Finding, Level

FIRESTORE, RUN = "https://firestore.googleapis.com", "https://run.googleapis.com"
TIMEOUT_S = 15
NEAR = {
    "nam5": ("us-central1",),
    "nam7": ("us-central1", "us-east4"),
    "eur3": ("europe-west1", "europe-west4"),
}
"""Regions within the multi-regions: https://cloud.google.com/firestore/docs/locations"""
EXEMPT = (("metadata", "balancesByCurrency"), ("metadata", "simplifiedDebts"), ("balanceEvents", "delta"))
"""The fields that deploy/firestore.indexes.json exempts from indexing."""
SERVICES = (
    "on-expense-written",
    "on-settlement-written",
    "on-group-created",
    "on-group-deleted",
    "balance-api",
    "rebuild-balance",
    "reconcile-balances",
)


class Unreachable(Exception):
    """An API does not answer what was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Api:
    """The project's APIs, with the caller's credentials."""

    session: Any
    firestore: str = FIRESTORE
    run: str = RUN

    def get(self, url: str) -> dict[str, Any] | None:
        """The answer; None when there is no such thing. Raises Unreachable."""
        try:
            response = self.session.get(url, timeout=TIMEOUT_S)
        except (OSError, GoogleAuthError) as error:
            raise Unreachable(str(error)) from None
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise Unreachable(f"HTTP status {response.status_code}: {_message(response)}")
        found: dict[str, Any] = response.json()
        return found


def _message(response: Any) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.text)[:200]


def connect() -> Api:
    """With the application-default credentials. Raises google.auth's error when there are none."""
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    return Api(AuthorizedSession(credentials))


def look(api: Api, project: str, database: str, parameters: Mapping[str, str], names: frozenset[str]) -> Iterator[Finding]:
    """All findings; `names` are those of the parameters."""
    base = f"{api.firestore}/v1/projects/{quote(project)}/databases/{quote(database, safe='()')}"
    region = parameters["BALANCE_REGION"]
    for looking in (
        _of_database(api, base, region),
        _of_fields(api, base),
        _of_services(api, project, region, parameters, names),
    ):
        try:
            yield from looking
        except Unreachable as error:
            yield Finding(
                Level.UNKNOWN,
                f"what the project's own APIs tell could not be asked: {error}",
                "run it as somebody with the roles datastore.viewer, datastore.indexAdmin and run.viewer",
            )


def _of_database(api: Api, base: str, region: str) -> Iterator[Finding]:
    found = api.get(base)
    if found is None:
        yield Finding(Level.ERROR, "the database does not exist", "set FIRESTORE_DATABASE in .env, or give --database")
        return
    location = str(found.get("locationId"))
    if region == location or region in NEAR.get(location, ()):
        yield Finding(Level.OK, f"the functions run in {region}, the database lies in {location}")
    else:
        better = NEAR.get(location, (location,))[0]
        yield Finding(
            Level.WARNING,
            f"the functions run in {region}, but the database lies in {location}: each call crosses regions",
            f"set BALANCE_REGION={better} in .env and deploy again (delete the functions of the old region)",
        )


def _of_fields(api: Api, base: str) -> Iterator[Finding]:
    indexed = []
    for group, name in EXEMPT:
        found = api.get(f"{base}/collectionGroups/{group}/fields/{name}")
        # An exempt field has a configuration of its own, without indexes; the others go by their ancestor's.
        config = {} if found is None else found.get("indexConfig", {})
        if found is None or config.get("usesAncestorConfig") or config.get("indexes"):
            indexed.append(f"{group}.{name}")
    merge = "merge deploy/firestore.indexes.json into your indexes and deploy them"
    if indexed:
        yield Finding(
            Level.ERROR, f"{', '.join(indexed)} are indexed: a group of some 70 members exceeds what Firestore indexes", merge
        )
    else:
        yield Finding(Level.OK, "the large maps are exempt from indexing")
    ttl = (api.get(f"{base}/collectionGroups/balanceEvents/fields/expireAt") or {}).get("ttlConfig", {}).get("state")
    if ttl == "ACTIVE":
        yield Finding(Level.OK, "records have a TTL")
    elif ttl == "CREATING":
        yield Finding(Level.NOTE, "the TTL of records is being created", "nothing: it takes a while")
    else:
        yield Finding(Level.ERROR, "records have no TTL: they stay for ever", merge)


def _of_services(
    api: Api, project: str, region: str, parameters: Mapping[str, str], names: frozenset[str]
) -> Iterator[Finding]:
    missing = []
    for service in SERVICES:
        found = api.get(f"{api.run}/v2/projects/{quote(project)}/locations/{quote(region)}/services/{service}")
        if found is None:
            missing.append(service)
            continue
        yield from _of_service(service, found, parameters, names)
    if len(missing) == len(SERVICES):
        yield Finding(Level.NOTE, f"none of our functions is deployed in {region}", "deploy them: docs/deploy.md")
    elif missing:
        yield Finding(
            Level.ERROR, f"not deployed in {region}: {', '.join(missing)}", "deploy again, and read what the CLI says"
        )
    else:
        yield Finding(Level.OK, f"all functions are deployed in {region}")


def _of_service(
    service: str, found: Mapping[str, Any], parameters: Mapping[str, str], names: frozenset[str]
) -> Iterator[Finding]:
    containers = found.get("template", {}).get("containers") or [{}]
    deployed = {str(item.get("name")): str(item.get("value", "")) for item in containers[0].get("env", [])}
    for name in sorted(names & deployed.keys()):
        if deployed[name] != parameters.get(name, ""):
            yield Finding(
                Level.ERROR,
                f"{service} runs with {name}={deployed[name]!r}, but the .env files say {parameters.get(name, '')!r}",
                "deploy again, or correct .env; if it changes how documents are read, rebuild everything afterwards",
            )
    for switch in sorted(set(SWITCHES) & deployed.keys()):
        if deployed[switch] == "off" and switch.startswith("BALANCE_"):
            yield Finding(Level.WARNING, f"{service}: the switch {switch} is off", "turn it on when you can: docs/rollout.md")
