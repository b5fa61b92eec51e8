"""What the askers of one run keep in memory, and how many questions fit into it at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from ...sae.batching import Batches, out_of_memory

if TYPE_CHECKING:
    from ...sae.lmm import Batch
    from ...sae.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
Shelf = OrderedDict[tuple[str, ...], "Batch"]
"""Prepared batches by the ids of their questions, the latest last."""

CHUNK = 64
"""Questions at a time, while they fit."""


class Memory:
    """Shared by askers, so that what one keeps makes room for another."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._batches = Batches(CHUNK, progress)
        self._shelves: list[Shelf] = []

    def shelf(self) -> Shelf:
        """A place for prepared batches: emptied when memory runs out."""
        self._shelves.append(OrderedDict())
        return self._shelves[-1]

    def over(self, items: Sequence[T], work: Callable[[Sequence[T]], R]) -> Iterator[R]:
        """The results of `work` on all items, `CHUNK` at a time, in order. When memory runs out,
        half as many from then on, which is said once. Raises `UsageError` when one alone is too
        much.
        """

        def tried(part: Sequence[T]) -> R:
            try:
                return work(part)
            except (MemoryError, RuntimeError) as error:
                if out_of_memory(error):
                    for shelf in self._shelves:
                        shelf.clear()
                raise

        return self._batches.over(items, tried)
