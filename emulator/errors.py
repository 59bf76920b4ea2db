"""The one exception of the server: a gRPC status code and a message that says what was wrong."""

from __future__ import annotations

import grpc


class RpcError(Exception):
    """What the client gets instead of an answer.

    `code` has the meaning that https://cloud.google.com/firestore/docs/understand-error-codes gives it.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
