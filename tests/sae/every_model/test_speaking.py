"""Hooks act on every decoded token, though what came before is cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lmmsae_eval.sae.lmm import Batch, Hook, Hookpoint, TokenKind
from lmmsae_eval.sae.residual import Hooks, capture, capture_spoken
from lmmsae_eval.sae.steering import add, as_released, reconstruct
from lmmsae_eval.sae.topk import TopK
from torch import Tensor

Edits = Callable[[Tensor], Hook]


def close(found: Tensor, wanted: Tensor) -> None:
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * scale)


def longer(batch: Batch, tokens: Tensor) -> Batch:
    """One more token of the answer, `(batch,)` ids, in every row."""
    inputs = dict(batch.inputs)
    new = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    for name, rows in batch.inputs.items():
        if rows.shape == batch.inputs["input_ids"].shape:
            last = rows[:, -1] + 1 if name == "position_ids" else torch.zeros_like(tokens)
            inputs[name] = torch.cat([rows, new.get(name, last)[:, None]], 1)
    answer = batch.kinds.new_full((len(tokens), 1), TokenKind.ANSWER)
    return Batch(inputs, torch.cat([batch.kinds, answer], 1), batch.boxes)


@torch.no_grad()
def greedy(lmm: Any, batch: Batch, hooks: Hooks) -> Tensor:
    """`(batch,)`: the most likely next token, but never a picture."""
    logits = lmm.forward(batch, hooks)
    logits[:, lmm.inputs._image_token] = -torch.inf
    return logits.argmax(-1)


def spoken_without_cache(lmm: Any, batch: Batch, n: int, hooks: Hooks) -> list[str]:
    """Every token from a forward over the whole sequence."""
    said: list[Tensor] = []
    for _ in range(n):
        said.append(greedy(lmm, batch, hooks))
        batch = longer(batch, said[-1])
    tokenizer = lmm.processor.tokenizer
    rows = torch.stack(said, 1).tolist()
    ended = [row[: [*row, tokenizer.eos_token_id].index(tokenizer.eos_token_id)] for row in rows]
    return [t.strip() for t in tokenizer.batch_decode(ended, skip_special_tokens=True)]


@pytest.mark.usefixtures("no_picture_is_spoken", "causal")
def test_generating_with_hooks_and_a_cache_is_generating_without_one(
    lmm: Any, few: Batch, hookpoint: Hookpoint, strong: Tensor, at_every_set: Edits
) -> None:
    hooks = {hookpoint: at_every_set(strong[1:4])}
    assert lmm.generate(few, 3, hooks) == spoken_without_cache(lmm, few, 3, hooks)


@pytest.mark.usefixtures("endless")
def test_every_decoded_token_is_steered_though_the_prompt_is_cached(
    lmm: Any, few: Batch, hookpoint: Hookpoint, sae: TopK
) -> None:
    """The first token said is the same: at its place the stream differs by just the edit."""
    latents = torch.tensor([5, 7])
    edit = add(sae, latents, torch.tensor([4.0, -2.0]), tokens="generated")
    plain = capture_spoken(lmm, few, 4, [hookpoint]).streams[hookpoint]
    steered = capture_spoken(lmm, few, 4, [hookpoint], {hookpoint: edit}).streams[hookpoint]
    seen: list[Tensor] = []

    def before_and_after(x: Tensor, batch: Batch) -> Tensor:
        seen.append(edit(x, batch) - x)
        return x + seen[-1]

    lmm.generate(few, 4, {hookpoint: before_and_after})
    start = few.kinds.shape[1]
    assert [moved.shape[1] for moved in seen] == [start, 1, 1, 1]
    assert not seen[0].any()
    moved = 4.0 * sae.W_dec[5] - 2.0 * sae.W_dec[7]
    for one in seen[1:]:
        close(one, moved.expand_as(one))
    close(steered[:, :start], plain[:, :start])
    close(steered[:, start] - plain[:, start], moved.expand(len(few), -1))


@pytest.mark.usefixtures("no_picture_is_spoken", "causal")
def test_the_released_clamp_generates_the_same_with_and_without_a_cache(
    lmm: Any, few: Batch, hookpoint: Hookpoint, sae: TopK
) -> None:
    hooks = {hookpoint: as_released(sae, [3], 20.0)}
    assert lmm.generate(few, 3, hooks) == spoken_without_cache(lmm, few, 3, hooks)


@pytest.mark.usefixtures("no_picture_is_spoken", "causal")
def test_what_is_read_while_speaking_is_what_a_forward_over_all_tokens_reads(
    lmm: Any, few: Batch, hookpoint: Hookpoint, sae: TopK
) -> None:
    points = [hookpoint, lmm.hookpoint(lmm.n_layers)]
    hooks = {hookpoint: reconstruct(sae, error=False)}
    spoken = capture_spoken(lmm, few, 3, points, hooks)
    assert spoken.answers == lmm.generate(few, 3, hooks)
    whole, ended = few, torch.zeros(len(few.kinds), dtype=torch.bool)
    for _ in range(spoken.streams[hookpoint].shape[1] - few.kinds.shape[1]):
        said = greedy(lmm, whole, hooks)
        whole = longer(whole, said)
        whole.kinds[ended, -1] = TokenKind.PAD  # others of the batch still speak
        ended |= said == lmm.model.generation_config.eos_token_id
    for point, stream in capture(lmm, whole, points, hooks).items():
        inside = whole.kinds != TokenKind.PAD
        close(spoken.streams[point][inside], stream[inside])
