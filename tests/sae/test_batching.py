"""Memory that runs out: batches get smaller, once said, and nothing is lost."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.batching import Batches
from lmmsae_eval.sae.progress import Quiet

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("MPS backend out of memory"),
    MemoryError(),
]


class Heard(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def holding(most: int, error: BaseException) -> Callable[[Sequence[int]], list[int]]:
    """Work that fits into memory up to `most` items."""

    def work(part: Sequence[int]) -> list[int]:
        if len(part) > most:
            raise error
        return [2 * item for item in part]

    return work


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda e: type(e).__name__)
def test_a_batch_that_is_too_large_is_halved_and_said_once(error: BaseException) -> None:
    heard = Heard()
    batches = Batches(16, heard)
    done = list(batches.over(range(40), holding(3, error)))
    assert [item for part in done for item in part] == [2 * i for i in range(40)]
    assert batches.size == 2
    assert heard.said == ["out of memory with 16 prompts at a time; going on with fewer"]


def test_the_size_that_fits_is_kept_for_later_calls() -> None:
    batches = Batches(8)
    list(batches.over(range(8), holding(4, MemoryError())))
    tried: list[int] = []
    list(batches.over(range(8), lambda part: tried.append(len(part))))
    assert tried == [4, 4]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 20))
def test_whatever_fits_every_item_is_done_once_and_in_order(n: int, size: int, most: int) -> None:
    done = Batches(size).over(range(n), holding(most, MemoryError()))
    assert [item for part in done for item in part] == [2 * i for i in range(n)]


def test_one_prompt_that_is_too_much_ends_in_one_line() -> None:
    with pytest.raises(UsageError, match="one prompt alone does not fit into memory") as error:
        list(Batches(4).over(range(4), holding(0, NO_MEMORY[0])))
    assert "\n" not in str(error.value)


def test_any_other_failure_is_not_taken_for_it() -> None:
    batches = Batches(4)
    with pytest.raises(RuntimeError, match="shapes"):
        list(batches.over(range(4), holding(0, RuntimeError("shapes don't fit"))))
    assert batches.size == 4


def test_a_failed_attempt_holds_no_memory_while_the_next_one_runs() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def work(part: Sequence[int]) -> int:
        assert all(tensor() is None for tensor in alive)
        large = torch.zeros(10)
        alive.append(weakref.ref(large))
        if len(part) > 1:
            raise MemoryError
        return len(part)

    assert list(Batches(4).over(range(2), work)) == [1, 1]
