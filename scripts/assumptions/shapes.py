"""Of documents: how large they may be, and which uids may be keys of a map."""

from __future__ import annotations

from typing import Any

from balance.core.ledger import Ledger
from balance.database.firestore import DELETE, Set, Update
from balance.documents import balances
from balance.documents.balances import Detail, is_updatable, of_ledger, size_bytes
from balance.documents.sources import uid_fault
from scripts.assumptions.laboratory import Laboratory, Refuted, accept, refusal

MAX_ID_BYTES = 1_500
ODD_UIDS = (
    *("a.b", "a/b", "a`b", "a\\b", "a\\", "`", ".", "..", "'", '"', "*", "~[]", "1", "0x", " ", "a b", "\n", "-", "$", "%2E"),
    *(
        "_",
        "__",
        "___",
        "__x",
        "x__",
        "é",
        "e\u0301",
        "日本",
        "🦄",
        "\u200b",
        "true",
        "null",
        "x" * MAX_ID_BYTES,
        "é" * (MAX_ID_BYTES // 2),
    ),
)
"""Each may be a key of a map; most must be quoted in the path of a field."""
REFUSED_UIDS = ("", "____", "__x__", "__a.b__", "__é__", "x" * (MAX_ID_BYTES + 1), "é" * (MAX_ID_BYTES // 2 + 1))


def the_largest_balance_is_accepted(laboratory: Laboratory) -> str:
    """Size limit and index entries: our estimate is never too low, and the two maps are exempt from indexing."""
    users = 40
    balance = larger = of_ledger(_circle(users))
    while larger.detail is Detail.PAIRS:
        users, balance = users + 4, larger
        larger = of_ledger(_circle(users))
    path = laboratory.settings.layout.balance(laboratory.group)
    now = laboratory.read(path).read_time
    fields = balances.document(laboratory.group, balances.Stored(balance, now, now), laboratory.settings)
    laboratory.write(Set(path, fields))
    return f"{size_bytes(balance):,} bytes by our estimate, {len(balance.ledger['USD']):,} pairs"


def _circle(users: int) -> Ledger:
    """Everybody owes the next 19: nobody is owed more than they owe, so that there is nothing to suggest."""
    names = [f"user-{number:06}-with-a-uid-as-long-as-firebases" for number in range(users)]
    pairs = {}
    for index, debtor in enumerate(names):
        for step in range(1, 20):
            creditor = names[(index + step) % users]
            pairs[min(debtor, creditor), max(debtor, creditor)] = 1 if debtor < creditor else -1
    return {"USD": pairs}


def a_document_above_1_mib_is_refused_for_good(laboratory: Laboratory) -> str:
    """No retry makes it smaller: such an error must not be taken for one that passes."""
    refused = refusal(laboratory, Set(laboratory.path("too-large"), {"text": "x" * 1_000_000, "more": "x" * 100_000}))
    if refused is None:
        raise Refuted("it was stored")
    return refused


def odd_uids_are_keys_like_others(laboratory: Laboratory) -> str:
    """A balance is set with uids as keys, and updated and thinned out at paths in which they are quoted."""
    path = laboratory.settings.layout.balance(laboratory.group)
    wrong = [uid for uid in ODD_UIDS if uid_fault(uid)]
    assert not wrong, f"by our own rules {wrong} are no uids"

    def stored() -> Any:
        return (laboratory.read(path).fields or {}).get("balancesByCurrency")

    rows = {uid: {"uid": uid, "owes": {uid: 1}} for uid in ODD_UIDS}
    accept(laboratory, "all of them as keys", Set(path, {"balancesByCurrency": {"USD": rows}}))
    if stored() != {"USD": rows}:
        raise Refuted("a document was not read as it was set")
    in_paths = [uid for uid in ODD_UIDS if is_updatable({"USD": {(uid, "x"): 1}})]
    for uid in in_paths:
        rows[uid] = {"uid": uid, "owes": {uid: 2}}
        accept(laboratory, f"{uid[:20]!r} in a path", Update(path, {("balancesByCurrency", "USD", uid): rows[uid]}))
        if stored() != {"USD": rows}:
            raise Refuted(f"the update at {uid[:20]!r} went elsewhere")
    accept(laboratory, "deletes", Update(path, {("balancesByCurrency", "USD", uid): DELETE for uid in in_paths[1:]}))
    if set(stored()["USD"]) != {uid for uid in ODD_UIDS if uid not in in_paths[1:]}:
        raise Refuted("deletes at quoted paths removed others, or not all")
    return f"{len(ODD_UIDS)} of them, {len(in_paths)} in paths"


def the_longest_uids_may_lie_within_each_other(laboratory: Laboratory) -> str:
    """A row of a balance holds uids below a uid: the limit of a path must not apply to what is set as a whole."""
    path = laboratory.settings.layout.balance(laboratory.group)
    debtor, creditor = "d" * MAX_ID_BYTES, "c" * MAX_ID_BYTES
    fields = {"balancesByCurrency": {"USD": {debtor: {"owes": {creditor: 1}}, creditor: {"owedBy": {debtor: 1}}}}}
    accept(laboratory, "two uids of 1,500 bytes below each other", Set(path, fields))
    if laboratory.read(path).fields != fields:
        raise Refuted("they were not read as they were set")
    longest = max(range(1, MAX_ID_BYTES + 1), key=lambda length: (is_updatable({"USD": {("." * length, "x"): 1}}), length))
    for letter in "x.`":
        uid = letter * longest
        accept(
            laboratory,
            f"a uid of {longest} times {letter!r} in a path",
            Update(path, {("balancesByCurrency", "USD", uid): {"owes": {creditor: 1}}}),
        )
        found: Any = laboratory.read(path).fields
        if found["balancesByCurrency"]["USD"].get(uid) != {"owes": {creditor: 1}}:
            raise Refuted(f"the update at {longest} times {letter!r} went elsewhere")
    return f"twice 1,500 bytes in a document; {longest:,} bytes in the path of an update"


def what_we_call_no_uid_firestore_refuses(laboratory: Laboratory) -> str:
    """Such a uid makes a fault of its document; were it accepted, the fault would be needless, but nothing would break."""
    for uid in REFUSED_UIDS:
        assert uid_fault(uid), f"by our own rules {uid!r} is a uid"
        if refusal(laboratory, Set(laboratory.path("refused"), {"USD": {uid: 1}})) is None:
            raise Refuted(f"{uid[:20]!r} ({len(uid.encode())} bytes) is accepted as a key")
    return f"{len(REFUSED_UIDS)} of them"
