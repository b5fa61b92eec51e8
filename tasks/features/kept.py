"""What is made again and again from the same few images, kept while it fits into memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

BYTES = 1 << 28
"""256 MiB: a thousand pictures of the testbed's and all of their masks, or a few of a camera's."""


class Kept(Generic[T]):
    """The things asked for last, at most so many bytes of them, whatever the number of images."""

    def __init__(self, size: Callable[[T], int], limit: int = BYTES) -> None:
        """`size` says how many bytes a thing has."""
        self._size, self._limit = size, limit
        self._things: OrderedDict[Hashable, T] = OrderedDict()
        self._total = 0

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of this key, made unless it is here."""
        if key in self._things:
            self._things.move_to_end(key)
            return self._things[key]
        thing = make()
        self._things[key] = thing
        self._total += self._size(thing)
        while self._total > self._limit and len(self._things) > 1:
            self._total -= self._size(self._things.popitem(last=False)[1])
        return thing
