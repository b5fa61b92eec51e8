"""Memory that runs out: batches get smaller, once said, and nothing is lost."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.answering import answers, margins
from lmmsae_eval.sae.batching import Batches
from lmmsae_eval.sae.latents import encode_images
from lmmsae_eval.sae.lmm import LMM, Batch, Prompt
from lmmsae_eval.sae.progress import Quiet
from lmmsae_eval.sae.residual import yes_no
from lmmsae_eval.sae.topk import TopK, TrainedSae
from PIL import Image

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


@pytest.fixture
def short_of_memory(tiny_lmm: LMM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has room for two prompts."""

    def small(whole: Callable[..., object]) -> Callable[..., object]:
        def act(batch: Batch, *args: object, **kwargs: object) -> object:
            if len(batch) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(batch, *args, **kwargs)

        return act

    for name in ("forward", "generate"):
        monkeypatch.setattr(tiny_lmm, name, small(getattr(tiny_lmm, name)))


PROMPTS = [Prompt(text) for text in ("is it red ?", "what colour", "no", "is this a boat ?", "yes")]


def test_answers_are_the_same_when_memory_is_short(
    tiny_lmm: LMM, request: pytest.FixtureRequest
) -> None:
    with torch.no_grad():
        wanted = yes_no(tiny_lmm, tiny_lmm.prepare(PROMPTS))
    said = tiny_lmm.generate(tiny_lmm.prepare(PROMPTS), 3)
    request.getfixturevalue("short_of_memory")
    heard = Heard()
    torch.testing.assert_close(margins(tiny_lmm, PROMPTS, progress=heard), wanted)
    assert heard.said == ["out of memory with 5 prompts at a time; going on with fewer"]
    assert answers(tiny_lmm, PROMPTS, 3) == said


def test_latents_are_the_same_when_memory_is_short(
    tiny_lmm: LMM, request: pytest.FixtureRequest
) -> None:
    sae = TrainedSae("mine", tiny_lmm.hookpoint(1), TopK.random(32, tiny_lmm.d_model, 4, seed=0))
    prompts = [Prompt("is it red ?", Image.new("RGB", (96, 96), (50 * i, 0, 0))) for i in range(4)]
    whole = list(encode_images(tiny_lmm, [sae], prompts, batch_size=1))
    request.getfixturevalue("short_of_memory")
    parts = list(encode_images(tiny_lmm, [sae], prompts))
    assert [image.index for image in parts] == [0, 1, 2, 3]
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one.latents[0].values, other.latents[0].values)


def test_no_prompts_have_no_answers(tiny_lmm: LMM) -> None:
    assert margins(tiny_lmm, []).shape == (0,)
    assert answers(tiny_lmm, [], 3) == []
