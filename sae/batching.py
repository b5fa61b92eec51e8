"""As many prompts at a time as fit into memory: the number is halved until they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from ..errors import UsageError
from .progress import Progress, Quiet

T = TypeVar("T")
R = TypeVar("R")

_CPU_WORDS = ("can't allocate memory", "not enough memory", "out of memory")
"""What torch says in a plain RuntimeError where a CPU, or another accelerator, has no more."""


class Batches:
    """A batch size that is halved when memory runs out, and stays so: later calls start there."""

    def __init__(self, size: int, progress: Progress | None = None) -> None:
        if size < 1:
            raise ValueError(f"a batch has at least one prompt, not {size}")
        self.size = size
        self._say = (progress or Quiet()).say
        self._asked = size

    def over(self, items: Iterable[T], work: Callable[[Sequence[T]], R]) -> Iterator[R]:
        """The results of `work` on all items, some at a time, in order. What `work` gives is not
        kept. Raises `UsageError` when a single item is too much.
        """
        source = iter(items)
        while group := list(islice(source, self.size)):
            while group:
                part = group[: self.size]
                result = self._try(part, work)
                if result is not None:
                    group = group[len(part) :]
                    yield result[0]

    def _try(self, part: Sequence[T], work: Callable[[Sequence[T]], R]) -> tuple[R] | None:
        """None when memory ran out: by then the failed attempt, tensors and all, is forgotten."""
        try:
            return (work(part),)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:120]
        self._halve(len(part), reason)
        return None

    def _halve(self, size: int, reason: str) -> None:
        if size == 1:
            raise UsageError(
                f"one prompt alone does not fit into memory ({reason}); free some, use a smaller "
                "model or dtype, or smaller images"
            )
        if self.size == self._asked:
            self._say(f"out of memory with {size} prompts at a time; going on with fewer")
        self.size = size // 2
        _give_back()


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _CPU_WORDS)


def _give_back() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
