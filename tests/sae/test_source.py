"""The activation source: which tokens, in which order, from how many forwards."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.lmm import LMM, Hookpoint, Prompt, TokenKind
from lmmsae_eval.sae.residual import capture
from lmmsae_eval.sae.source import Feed, Share, Shuffled, TokenBatch, activations, endless
from PIL import Image

HERE = Hookpoint("model.layers.0", 0, "blocks.0")


def chunk(values: range, kind: TokenKind = TokenKind.TEXT) -> TokenBatch:
    column = torch.tensor(values, dtype=torch.float32)[:, None]
    return TokenBatch({HERE: column}, torch.full((len(values),), kind, dtype=torch.int8))


def values(batch: TokenBatch) -> list[int]:
    return [int(value) for value in batch.activations[HERE][:, 0]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_padding_and_bos_are_left_out_and_kinds_kept(linear_lmm: LMM) -> None:
    [found] = activations(linear_lmm, [Prompt("1"), Prompt("2")], [linear_lmm.hookpoint(1)])
    kinds = [TokenKind.IMAGE] * 3 + [TokenKind.TEXT] * 2
    assert found.kinds.tolist() == kinds * 2
    assert len(found) == 10


def test_a_token_set_is_chosen(linear_lmm: LMM) -> None:
    [found] = activations(linear_lmm, [Prompt("1")], [linear_lmm.hookpoint(1)], "image")
    assert found.kinds.tolist() == [TokenKind.IMAGE] * 3


def test_one_forward_feeds_all_hookpoints(linear_lmm: LMM) -> None:
    prompts = [Prompt(str(seed)) for seed in range(5)]
    hookpoints = [linear_lmm.hookpoint(layer) for layer in (1, 2, 4)]
    found = list(activations(linear_lmm, prompts, hookpoints, prompts_per_forward=2))
    assert linear_lmm.forwards == 3  # type: ignore[attr-defined]
    assert all(list(part.activations) == hookpoints for part in found)


def test_activations_are_the_residual_stream_at_those_tokens(linear_lmm: LMM) -> None:
    hookpoint = linear_lmm.hookpoint(2)
    [found] = activations(linear_lmm, [Prompt("1")], [hookpoint])
    x = capture(linear_lmm, linear_lmm.prepare([Prompt("1")]), [hookpoint])[hookpoint]
    torch.testing.assert_close(found.activations[hookpoint], x[0, 2:].float())


def test_activations_that_are_not_finite_are_one_line(linear_lmm: LMM) -> None:
    linear_lmm.streams = {"broken": torch.full((7, 8), float("inf"))}  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"NaN or infinity at model\.layers\.1"):
        list(activations(linear_lmm, [Prompt("broken")], [linear_lmm.hookpoint(2)]))


def test_shuffling_loses_and_repeats_no_token() -> None:
    chunks = [chunk(range(start, start + 7)) for start in range(0, 210, 7)]
    batches = list(Shuffled(chunks, 16, 64, generator()))
    assert sorted(value for batch in batches for value in values(batch)) == list(range(210))
    assert all(len(batch) == 16 for batch in batches[:-1])


def test_shuffling_mixes_tokens_of_different_images() -> None:
    chunks = [chunk(range(start, start + 10)) for start in range(0, 400, 10)]
    first = next(Shuffled(chunks, 32, 128, generator()))
    assert len({value // 10 for value in values(first)}) > 8


def test_hookpoints_stay_together_when_shuffled() -> None:
    other = Hookpoint("model.layers.1", 1, "blocks.1")
    pair = chunk(range(100))
    pair.activations[other] = pair.activations[HERE] + 1000
    for batch in Shuffled([pair], 10, 50, generator()):
        assert torch.equal(batch.activations[other], batch.activations[HERE] + 1000)


def test_the_order_depends_on_the_seed_alone() -> None:
    def order(seed: int) -> list[int]:
        batches = Shuffled([chunk(range(100))], 10, 50, generator(seed))
        return [value for batch in batches for value in values(batch)]

    assert order(1) == order(1)
    assert order(1) != order(2)


class Passes:
    """Counts how often the LMM would run."""

    def __init__(self, n: int | None = None) -> None:
        self.runs = 0
        self.n = n

    def __call__(self, skip: int) -> list[TokenBatch]:
        self.runs += 1
        return (
            []
            if self.n is not None and self.runs > self.n
            else [chunk(range(5)), chunk(range(5, 9))][skip:]
        )


def test_a_pass_that_fits_in_memory_runs_the_model_once() -> None:
    passes = Passes()
    source = endless(passes, keep_bytes=1000)
    assert [len(next(source)) for _ in range(7)] == [5, 4, 5, 4, 5, 4, 5]
    assert passes.runs == 1


def test_a_pass_that_does_not_fit_runs_the_model_each_time() -> None:
    passes = Passes()
    source = endless(passes, keep_bytes=8 * 4)
    assert [len(next(source)) for _ in range(7)] == [5, 4, 5, 4, 5, 4, 5]
    assert passes.runs == 4


def test_an_iterator_that_does_not_fit_ends_after_its_pass() -> None:
    assert len(list(endless(Passes(1), keep_bytes=0))) == 2


def test_an_empty_source_ends() -> None:
    assert list(endless(Passes(0), keep_bytes=1000)) == []


def test_a_share_is_every_second_forward_and_skips_its_own(linear_lmm: LMM) -> None:
    prompts = [Prompt(str(seed)) for seed in range(7)]
    here = [linear_lmm.hookpoint(1)]

    def found(prompts: object, **which: object) -> list[torch.Tensor]:
        chunks = activations(linear_lmm, prompts, here, prompts_per_forward=1, **which)  # type: ignore[arg-type]
        return [chunk.activations[here[0]] for chunk in chunks]

    whole = found(prompts)
    for source in (prompts, iter(prompts)):
        half = found(source, share=Share(1, 2), skip=1)
        assert len(half) == 2
        assert all(torch.equal(a, b) for a, b in zip(half, whole[3::2], strict=True))


def test_a_feed_made_from_a_state_gives_the_same_batches(linear_lmm: LMM) -> None:
    def one_pass(skip: int) -> list[TokenBatch]:
        return [chunk(range(start, start + 70)) for start in range(0, 700, 70)][skip:]

    for taken in range(0, 60, 7):
        feed = Feed(one_pass, 16, seed=3)
        for _ in range(taken):
            feed.next()
        again = Feed(one_pass, 16, 3, [HERE], {k: x.clone() for k, x in feed.state().items()})
        for _ in range(60):
            a, b = feed.next(), again.next()
            assert a is not None
            assert b is not None
            assert values(a) == values(b)


def test_images_of_different_sizes_in_a_batch_are_as_one_by_one(tiny_lmm: LMM) -> None:
    sizes = [(96, 96), (40, 150), (200, 64)]
    prompts = [
        Prompt("is there a boat ?"[: 8 + 4 * i], Image.new("RGB", size, (80 * i, 90, 9)))
        for i, size in enumerate(sizes)
    ]
    here = [tiny_lmm.hookpoint(3)]
    [together] = activations(tiny_lmm, prompts, here)
    alone = list(activations(tiny_lmm, prompts, here, prompts_per_forward=1))
    assert together.kinds.tolist() == [kind for one in alone for kind in one.kinds.tolist()]
    rows = torch.cat([one.activations[here[0]] for one in alone])
    torch.testing.assert_close(together.activations[here[0]], rows, rtol=1e-4, atol=1e-4)


def test_an_answer_is_read_after_the_question_and_known_as_one(tiny_lmm: LMM) -> None:
    prompts = [Prompt("is it red ?", answer="yes it red"), Prompt("what colour is the boat ?")]
    batch = tiny_lmm.prepare(prompts)
    answers = (batch.kinds == TokenKind.ANSWER).sum(1).tolist()
    assert answers == [3, 0]
    assert batch.kinds[0, -3:].tolist() == [TokenKind.ANSWER] * 3
    question = tiny_lmm.prepare([Prompt("is it red ?")])
    n = int((question.kinds[0] != TokenKind.PAD).sum())
    assert int((batch.kinds[0] != TokenKind.PAD).sum()) == n + 3
    [chosen] = activations(tiny_lmm, prompts, [tiny_lmm.hookpoint(1)], "text")
    assert TokenKind.ANSWER in chosen.kinds.tolist()
