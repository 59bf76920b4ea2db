"""What a client can listen to: documents by their names, or the result of a query.

Source: https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#target
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from emulator.engine import Engine
from emulator.errors import RpcError
from emulator.names import check_document_name, check_parent
from emulator.query import PreparedQuery

Document = Any


class DocumentsTarget:
    """Documents by their names; those that exist match."""

    # Whether a document can come to match, or stop doing so, because another one changed.
    is_window = False
    is_projected = False

    def __init__(self, names: Sequence[str], root: str) -> None:
        """Raises INVALID_ARGUMENT unless all are names of documents below the root."""
        if not names:
            raise _invalid("documents: give the name of one document at least.")
        for name in names:
            check_document_name(name, root)
        self.names = tuple(dict.fromkeys(names))

    def find(self, engine: Engine, at_us: int | None = None) -> dict[str, Document]:
        """The documents that match, by name, as of an instant (None: the present)."""
        found = ((name, engine.document(name, at_us)) for name in self.names)
        return {name: document for name, document in found if document is not None}

    def covers(self, name: str) -> bool:
        """Whether a document of this name could match."""
        return name in self.names

    def matches(self, _: Document) -> bool:
        """Whether an existing document, of which the name fits, matches."""
        return True

    def project(self, document: Document) -> Document:
        """What the listener is shown of it."""
        return document


class QueryTarget:
    """The result of a query."""

    def __init__(self, query: PreparedQuery) -> None:
        self.query = query
        self.is_window = query.is_window
        self.is_projected = query.is_projected

    def find(self, engine: Engine, at_us: int | None = None) -> dict[str, Document]:
        """The documents that match, by name, as of an instant (None: the present)."""
        return {document.name: document for document in engine.find(self.query, at_us)}

    def covers(self, name: str) -> bool:
        """Whether a document of this name could match."""
        query, collection = self.query, name.rpartition("/")[0]
        if not query.all_descendants:
            parent, _, id_ = collection.rpartition("/")
            return parent == query.parent and query.collection_id in ("", id_)
        return name.startswith(query.parent + "/") and query.collection_id in ("", collection.rpartition("/")[2])

    def matches(self, document: Document) -> bool:
        """Whether an existing document of the query's collections matches, apart from offset and limit."""
        return self.query.matches(document)

    def project(self, document: Document) -> Document:
        """What the listener is shown of it."""
        return self.query.project(document)


def parse_target(target: Any, root: str) -> DocumentsTarget | QueryTarget:
    """Read a `Target`. Raises INVALID_ARGUMENT if it is none, UNIMPLEMENTED for what is not there."""
    kind = target.WhichOneof("target_type")
    if kind == "documents":
        return DocumentsTarget(target.documents.documents, root)
    if kind == "query":
        if target.query.WhichOneof("query_type") != "structured_query":
            raise _invalid("query: it needs a structured_query.")
        check_parent(target.query.parent, root)
        query = PreparedQuery(target.query.parent, target.query.structured_query)
        if query.all_descendants and not query.collection_id:  # this and the next one in production's words
            raise _invalid("All-collection queries are not supported by real-time queries.")
        if query.all_descendants and query.parent != root:
            raise _invalid(
                "'all_descendants' in CollectionSelector with document parent is not supported by real-time queries."
            )
        return QueryTarget(query)
    if kind is None and not _has_unknown_fields(target):
        raise _invalid("add_target: it needs documents or a query.")
    raise RpcError(grpc.StatusCode.UNIMPLEMENTED, "Only documents and structured queries can be listened to here.")


def _has_unknown_fields(message: Any) -> bool:
    """Whether it holds what this version of the protocol does not know, such as a pipeline."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return bool(known.ByteSize() != message.ByteSize())


def _invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)
