"""Between one copy of the product and the engine: requests, answers and errors, by the product's own sdk.

Whoever drives the engine in place of gRPC (the simulator, the explorer) decides when a call happens and whether it fails;
what is said and what comes back is the same as over the wire.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, NoReturn

import grpc
from google.api_core.exceptions import from_grpc_status

from emulator.errors import RpcError
from emulator.query import PreparedQuery
from tests.simulation.product import Product
from tests.simulation.values import EPOCH, Reader, to_time

DATABASE = "projects/demo/databases/(default)"
ROOT = f"{DATABASE}/documents/"


@cache
def codec(product: Product) -> Any:
    """The product's own sdk, of which only the requests and answers are used: its client is never called."""
    return product.sdk.SdkFirestore(lambda: grpc.insecure_channel("127.0.0.1:1"), DATABASE, is_emulator=True)


@lru_cache(maxsize=1_000)
def prepared(product: Product, query: Any) -> PreparedQuery:
    """The engine's form of a query; most are asked again and again, in every schedule."""
    request = codec(product).query_request(query)
    if query.where is not None and isinstance(query.where[2], datetime) and query.where[2] != EPOCH:
        # Asked with another time each time.
        template = prepared(product, replace(query, where=(*query.where[:2], EPOCH)))
        return template.with_value(request.structured_query.where.field_filter.value)
    return PreparedQuery(request.parent, request.structured_query)


class Translator:
    """Speaks for one copy of the product."""

    def __init__(
        self,
        product: Product,
        reader: Reader,
        arranged: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
        *,
        decodes: bool = False,
    ) -> None:
        """`decodes`: every document is decoded by the product's own codec; its maps then come in the order of `arranged`."""
        self._product = product
        self._reader = reader
        self._arranged = arranged
        self._decodes = decodes
        self._codec = codec(product)

    def write(self, write: Any) -> Any:
        """The engine's form of a write."""
        return self._codec.write(write)

    def query(self, query: Any) -> PreparedQuery:
        """The engine's form of a query."""
        return prepared(self._product, query)

    def snapshots(self, paths: Sequence[str], read: Any) -> list[Any]:
        """The answer to a get."""
        read_time = to_time(read.read_time_us)
        return [self._snapshot(*pair, read_time) for pair in zip(paths, read.documents, strict=True)]

    def matches(self, query: Any, result: Any) -> list[Any]:
        """The answer to a query."""
        read_time = to_time(result.read_time_us)
        if query.select is not None:
            project = self.query(query).project
            return [self._decoded(project(document), read_time) for document in result.value]
        return [self._snapshot(document.name[len(ROOT) :], document, read_time) for document in result.value]

    def fail(self, error: RpcError, *, commit: bool = False, past: bool = False, conditional: bool = False) -> NoReturn:
        """Raise the engine's error as the product's."""
        translated: AbstractContextManager[None] = self._product.sdk.translated(
            commit=commit, past=past, conditional=conditional
        )
        with translated:
            raise from_grpc_status(error.code, error.message) from error
        raise AssertionError("an error does not pass")

    def _snapshot(self, path: str, document: Any, read_time: datetime) -> Any:
        if document is None:
            return self._product.firestore.Snapshot(path, None, None, read_time)
        if self._decodes:
            return self._decoded(document, read_time)
        fields, updated, created, _ = self._reader.read(document)
        return self._product.firestore.Snapshot(path, fields, updated, read_time, created)

    def _decoded(self, document: Any, read_time: datetime) -> Any:
        snapshot = self._codec.snapshot(document, self._product.sdk.to_timestamp(read_time))
        return replace(snapshot, fields=self._arranged(snapshot.fields))
