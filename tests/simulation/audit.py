"""What stands in the database, and what is wrong with it by the auditor's judgement."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from balance.documents.balances import VERSION
from emulator.changes import Change
from tests.simulation import auditor
from tests.simulation.auditor import EXPONENTS, LATER_EXPONENTS, Discrepancy, Reading, Rules, StoredBalance
from tests.simulation.values import EPOCH, Fields, Read, fields_of, time_of

_STALE = StoredBalance(0, "", EPOCH, {}, {}, EPOCH, 0)


class Traits(Protocol):
    """What the audit must know of a schedule or a world."""

    @property
    def nested(self) -> bool:
        """Expenses lie below their group."""

    @property
    def minor_units(self) -> bool:
        """Amounts are in minor units."""

    @property
    def small_documents(self) -> bool:
        """Even small groups may have lower levels of detail."""

    @property
    def misses_events(self) -> bool:
        """Some writes make no event: faults of groups that do not exist may be wrong."""

    @property
    def new_rules(self) -> bool:
        """So may they when two versions understand documents differently."""

    @property
    def switches_off(self) -> bool:
        """Updates may have been off when a group was deleted."""


class Audit:
    """Follows the commits: what stands in the database now."""

    def __init__(self, profile: Traits, read: Read = fields_of) -> None:
        self._profile = profile
        self._read = read
        self._rules = Rules(EXPONENTS, profile.minor_units, profile.nested)
        self._later_rules = Rules(LATER_EXPONENTS, profile.minor_units, profile.nested)
        self.later_fingerprint: str | None = None
        """Of the rules that a deployment's parameters change to, while the version stays."""
        self.documents: dict[str, Any] = {}
        """By path, as stored."""
        self._collections: dict[str, dict[str, Any]] = {}
        """The same by the id of their collection."""
        self._repaired: int | None = None
        """The version of which everything was found right; None when something was written since."""
        self.details: set[str] = set()
        """The levels of detail that occurred."""
        self._readings: dict[tuple[int, bool], tuple[Any, Reading]] = {}
        self._balances: dict[int, tuple[Any, StoredBalance]] = {}

    def follow(self, path: str, document: Any | None) -> None:
        """A document was written, or deleted (None)."""
        self._repaired = None
        collection = self._collections.setdefault(path.split("/")[-2], {})
        if document is None:
            del self.documents[path], collection[path]
        else:
            self.documents[path] = collection[path] = document

    def rules(self, version: int) -> Rules:
        """The rules of a version of the code; what other parameters decide counts as the next version here."""
        return self._rules if version <= VERSION else self._later_rules

    def collection(self, collection_id: str) -> list[tuple[str, Any]]:
        """The paths and documents of all collections of this name, by path."""
        return sorted(self._collections.get(collection_id, {}).items())

    def existing_groups(self) -> list[str]:
        """The groups whose document exists."""
        return [path.split("/")[1] for path, _ in self.collection("groups")]

    def balance(self, group: str) -> StoredBalance | None:
        """The balance of a group, judged for itself; None when there is none. Of a stale one only the version counts."""
        document = self.documents.get(f"groups/{group}/metadata/balance")
        return None if document is None else self.check_commit(group, document)

    def check_commit(self, group: str, document: Any) -> StoredBalance:
        """A balance just written; raises Discrepancy when it contradicts itself."""
        known = self._balances.get(id(document))
        if known is not None:
            return known[1]
        fields = self._read(document)
        version = self._version(fields)
        if version == 0:
            return _STALE
        try:
            stored = replace(auditor.check_balance(group, fields, self.rules(version)), version=version)
        except Discrepancy as error:
            raise Discrepancy(f"the balance of {group}: {error}") from None
        if stored.detail != "pairs" and not self._profile.small_documents:
            raise Discrepancy(f"the balance of {group} is small, and yet stored as {stored.detail!r}")
        self._balances[id(document)] = (document, stored)
        self.details.add(stored.detail)
        return stored

    def check_writer(self, group: str, change: Change, together: Sequence[Change], *, may_lower: bool) -> None:
        """Raises Discrepancy when a balance was not written by the code of its version, or replaces a newer one's."""
        was, is_now = (self._read(side) if side is not None else {} for side in (change.before, change.after))
        version = _version(is_now)
        if version == 0:
            return
        if (version, _epoch(is_now)) < (_version(was), _epoch(was)) and not may_lower:
            raise Discrepancy(
                f"the balance of {group}: version {_version(was)} of epoch {_epoch(was)} was overwritten by version {version} "
                f"of epoch {_epoch(is_now)}"
            )
        for other in together:
            record = other.after if "/balanceEvents/" in other.name else None
            if record is not None and self._version(self._read(record)) != self._version(is_now):
                raise Discrepancy(f"the balance of {group} is of version {version}, but its record of another, or other rules")

    def check(self, group: str, stored: StoredBalance, *, with_faults: bool = True) -> None:
        """Raises Discrepancy when a balance is not what the documents say, by the rules of the version that wrote it."""
        created = self.created(group)
        if stored.incarnation != created:
            raise Discrepancy(f"the balance of {group} is of {stored.incarnation}, the group of {created}")
        try:
            auditor.compare(stored, self._read_all(stored.version).values(), group, with_faults=with_faults)
        except Discrepancy as error:
            raise Discrepancy(f"the balance of {group}: {error}") from None

    def check_repaired(self, version: int) -> None:
        """Every existing group has the right balance of this version, and every fault is right."""
        if self._repaired == version:
            return
        for group in self.existing_groups():
            stored = self.balance(group)
            if stored is None or stored.version != version:
                raise Discrepancy(f"{group} has {'no balance' if stored is None else f'one of version {stored.version}'}")
            self.check(group, stored)
        self.check_faults(later=version > VERSION, everywhere=not (self._profile.misses_events or self._profile.new_rules))
        self._repaired = version

    def created(self, group: str) -> datetime | None:
        """When the group's document was created; None when it is gone."""
        document = self.documents.get(f"groups/{group}")
        return None if document is None else time_of(document.create_time)

    def epoch(self, group: str) -> int:
        """The epoch in which a group's balance was written; -1 when there is none, or it says none."""
        document = self.documents.get(f"groups/{group}/metadata/balance")
        return -1 if document is None else _epoch(self._read(document))

    def check_count(self, group: str, stored: StoredBalance) -> None:
        """Raises Discrepancy when a balance of the group as it stands does not count the faults that stand."""
        faults = sum(path.startswith(f"groups/{group}/") for path in self._collections.get("balanceFaults", ()))
        if stored.incarnation == self.created(group) and stored.faults != faults:
            raise Discrepancy(f"the balance of {group} counts {stored.faults} faults, but {faults} stand")

    def check_faults(self, *, later: bool, everywhere: bool) -> None:
        """The faults are exactly those of the documents as they are; everywhere, or only in existing groups.

        A group that does not exist has none, unless it was deleted while updates were off.
        """
        expected = {
            (reading.fault.group, path): reading.fault
            for path, reading in self._read_all(VERSION + later).items()
            if reading.fault is not None
        }
        stored = {}
        for fault_path, document in self.collection("balanceFaults"):
            data = self._read(document)
            key = (fault_path.split("/")[1] if fault_path.startswith("groups/") else None, data["source"])
            if key in stored:
                raise Discrepancy(f"there are two faults of {key}")
            stored[key] = data
        groups = self.existing_groups()
        expected = {key: fault for key, fault in expected.items() if key[0] is None or key[0] in groups}
        if not everywhere:
            expected = {key: fault for key, fault in expected.items() if key[0] in groups}
        if not everywhere or self._profile.switches_off:
            stored = {key: data for key, data in stored.items() if key[0] in groups or (everywhere and key[0] is None)}
        if set(stored) != set(expected):
            raise Discrepancy(f"faults are stored for {sorted(stored, key=str)}, but should be for {sorted(expected, key=str)}")
        for key, data in stored.items():
            if data["field"] not in expected[key].fields:
                raise Discrepancy(f"the fault of {key[1]} names {data['field']}, not {sorted(expected[key].fields)}")
            update_time = time_of(self.documents[key[1]].update_time)
            if data["since"] != update_time:
                raise Discrepancy(f"the fault of {key[1]} is since {data['since']}, not {update_time}")

    def _version(self, fields: Fields) -> int:
        """The version of the code that wrote something, by which it is to be judged."""
        rules = fields.get("rules")
        fingerprint = rules.partition(":")[2] if isinstance(rules, str) else None
        is_later = fingerprint is not None and fingerprint == self.later_fingerprint
        return _version(fields) + (is_later and _version(fields) == VERSION)

    def _read_all(self, version: int) -> dict[str, Reading]:
        """What every expense and settlement says, by path."""
        rules, is_later = self.rules(version), version > VERSION
        readings = {}
        for path, document in (*self.collection("expenses"), *self.collection("settlements")):
            _, reading = self._readings.get((id(document), is_later), (None, None))
            if reading is None:
                reading = auditor.read(path, self._read(document), rules)
                self._readings[id(document), is_later] = (document, reading)
            readings[path] = reading
        return readings


def _version(fields: Fields) -> int:
    version = fields.get("version")
    return version if type(version) is int else 0


def _epoch(fields: Fields) -> int:
    rules = fields.get("rules")
    return int(rules.partition(":")[0]) if isinstance(rules, str) else -1
