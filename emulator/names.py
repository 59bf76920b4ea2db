"""Resource names: what a document, a parent or a database may be called.

Rules: https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields
"""

from __future__ import annotations

import re
from functools import lru_cache

import grpc

from emulator.errors import RpcError

MAX_NAME_BYTES = 6 * 1024
MAX_ID_BYTES = 1_500
MAX_DEPTH = 100
MAX_NUMERIC_ID_LENGTH = len("__id-9223372036854775808__")
_RESERVED = re.compile(r"__.+__", re.DOTALL)
# What Datastore had numbers for: such ids come into a database by an import.
_NUMERIC_ID = re.compile(r"__id(0|-?[1-9][0-9]*)__")


@lru_cache(maxsize=65_536)
def check_document_name(name: str, root: str) -> None:
    """Raise INVALID_ARGUMENT unless the name is one that a document below `root` may have."""
    ids = _ids(name, root)
    if not ids or len(ids) % 2:
        raise _invalid(f"{name!r} is no document's name: it must end with a collection's id and a document's id.")


def check_parent(parent: str, root: str) -> None:
    """Raise INVALID_ARGUMENT unless this is `root`, or the name of a document below it."""
    if parent != root:
        check_document_name(parent, root)


@lru_cache(maxsize=1_024)
def check_id(id_: str, what: str, *, is_document: bool = False) -> None:
    """Raise INVALID_ARGUMENT unless a collection, or a document, may have this id."""
    if is_document and numeric_id(id_) is not None:
        return
    if not id_ or "/" in id_ or id_ in (".", "..") or len(id_.encode()) > MAX_ID_BYTES or _RESERVED.fullmatch(id_):
        raise _invalid(
            f"{what} {id_[:100]!r} is not allowed: an id has 1 to {MAX_ID_BYTES} bytes, no slash, and is neither "
            "'.', '..' nor of the form '__.*__' (but a document's may be '__id<number>__')."
        )


def numeric_id(id_: str) -> int | None:
    """The number in an id of the form `__id7__` or `__id-2__`, if it is one of 64 bits; None for other ids."""
    found = _NUMERIC_ID.fullmatch(id_)
    number = int(found[1]) if found is not None and len(id_) <= MAX_NUMERIC_ID_LENGTH else None
    return number if number is not None and -(1 << 63) <= number < 1 << 63 else None


def database_of(name: str) -> str:
    """`projects/*/databases/*` out of the name of something in that database. Raises INVALID_ARGUMENT."""
    parts = name.split("/", 5)
    if len(parts) < 5 or parts[4] != "documents":
        raise _invalid(f"{name!r} is not of the form projects/*/databases/*/documents/...")
    return check_database("/".join(parts[:4]))


def check_database(name: str) -> str:
    """The name itself. Raises INVALID_ARGUMENT unless it is of the form `projects/*/databases/*`."""
    match name.split("/"):
        case ["projects", project, "databases", database] if project and database:
            return name
    raise _invalid(f"{name!r} is not of the form projects/*/databases/*.")


def _ids(name: str, root: str) -> list[str]:
    if not name.startswith(root + "/"):
        raise _invalid(f"{name!r} is not in {root}.")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise _invalid(f"{name[:100]!r}... has more than {MAX_NAME_BYTES} bytes.")
    ids = name[len(root) + 1 :].split("/")
    if len(ids) > 2 * MAX_DEPTH:
        raise _invalid(f"{name[:100]!r}... lies deeper than {MAX_DEPTH} collections.")
    for place, id_ in enumerate(ids):
        check_id(id_, "the id", is_document=place % 2 == 1)
    return ids


def _invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)
