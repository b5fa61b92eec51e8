"""An HTTP client for endpoints that can't be trusted to end: replies have a size and a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..errors import ChatError

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_REPLY = 1_000_000
"""Bytes. A verdict is a few; whoever sends millions sends no verdict."""
_ENCODED = {"content-encoding", "content-length", "transfer-encoding"}


class ReplyTooLargeError(ChatError):
    """More than is allowed: the same question would bring the same."""


def bounded_client(timeout: float, trust_env: bool, largest: int = LARGEST_REPLY) -> Any:
    """An `httpx.Client` as the official client wants it.

    Its own timeouts are between two bytes: a reply that drips would never end.

    Args:
        timeout: seconds, for connecting, for the wait, and from the start to the last byte.
        trust_env: whether the environment's proxy is used.
        largest: bytes of a reply.
    """
    from openai import DefaultHttpxClient

    class Bounded(DefaultHttpxClient):
        def send(self, request: Any, *, stream: bool = False, **settings: Any) -> Any:
            deadline = time.monotonic() + timeout
            response = super().send(request, stream=True, **settings)
            try:
                content = b"".join(_within(response.iter_bytes(), deadline, largest))
            finally:
                response.close()
            kept = [(k, v) for k, v in response.headers.items() if k.lower() not in _ENCODED]
            return type(response)(
                response.status_code, headers=kept, content=content, request=request
            )

    return Bounded(timeout=timeout, trust_env=trust_env)


def _within(chunks: Iterator[bytes], deadline: float, largest: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > largest:
            raise ReplyTooLargeError(f"the reply is larger than {largest:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the reply did not end in time")
        yield chunk
