"""Reading changes nothing; writing nothing changes nothing; neither hangs on who else is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lmmsae_eval.sae.lmm import Batch, Hook, Hookpoint, Prompt, TokenKind
from lmmsae_eval.sae.residual import Hooks, capture, capture_spoken
from lmmsae_eval.sae.steering import clamp, reconstruct, steer
from lmmsae_eval.sae.topk import TopK
from torch import Tensor

Edits = Callable[[Tensor], Hook]


def passed_on(x: Tensor, batch: Batch) -> Tensor:
    return x


@torch.no_grad()
def logits_of(lmm: Any, batch: Batch, hooks: Hooks | None = None) -> Tensor:
    logits = lmm.forward(batch, hooks)
    assert logits is not None
    return logits


def close(found: Tensor, wanted: Tensor) -> None:
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * scale)


def right_padded(batch: Batch) -> Batch:
    """The same tokens with the padding at the other end."""
    pads = (batch.kinds == TokenKind.PAD).sum(1).tolist()

    def moved(rows: Tensor) -> Tensor:
        return torch.stack([row.roll(-n) for row, n in zip(rows, pads, strict=True)])

    like = batch.inputs["input_ids"].shape
    inputs = {k: moved(v) if v.shape == like else v for k, v in batch.inputs.items()}
    return Batch(inputs, moved(batch.kinds), batch.boxes)


def test_reconstruction_plus_error_leaves_the_logits_untouched(
    lmm: Any, batch: Batch, sae: TopK
) -> None:
    plain = logits_of(lmm, batch)
    for layer in (1, 2, lmm.n_layers):
        there = lmm.hookpoint(layer)
        close(logits_of(lmm, batch, {there: reconstruct(sae, error=True)}), plain)
        alone = logits_of(lmm, batch, {there: reconstruct(sae, error=False)})
        assert (alone - plain).abs().max() > 0.01 * plain.abs().max()


def test_clamping_to_the_value_it_has_changes_no_logit(
    lmm: Any, batch: Batch, hookpoint: Hookpoint, sae: TopK, x: Tensor
) -> None:
    latents = sae.encode(x[:, -1])
    for preserving, unchanged in ((True, passed_on), (False, reconstruct(sae, error=False))):
        edit = clamp(sae, latents.indices.long(), latents.values, preserving, "last")
        wanted = logits_of(lmm, batch, {hookpoint: unchanged})
        assert torch.equal(logits_of(lmm, batch, {hookpoint: edit}), wanted)
        higher = clamp(sae, latents.indices.long(), 2 * latents.values, preserving, "last")
        assert not torch.equal(logits_of(lmm, batch, {hookpoint: higher}), wanted)


def test_a_batch_of_8_is_8_singles_untouched_and_edited(
    lmm: Any, batch: Batch, prompts: list[Prompt], hookpoint: Hookpoint, sae: TopK, strong: Tensor
) -> None:
    singles = [lmm.prepare([prompt]) for prompt in prompts]
    close(logits_of(lmm, batch), torch.cat([logits_of(lmm, one) for one in singles]))
    together = logits_of(lmm, batch, {hookpoint: steer(sae, strong, -1.0)})
    alone = [
        logits_of(lmm, one, {hookpoint: steer(sae, strong[row], -1.0)})
        for row, one in enumerate(singles)
    ]
    close(together, torch.cat(alone))


def test_left_and_right_padding_agree_whatever_tokens_are_edited(
    lmm: Any, batch: Batch, hookpoint: Hookpoint, strong: Tensor, at_every_set: Edits
) -> None:
    hooks = {hookpoint: at_every_set(strong)}
    end = lmm.hookpoint(lmm.n_layers)
    turned = right_padded(batch)
    left = capture(lmm, batch, [end], hooks)[end][batch.kinds != TokenKind.PAD]
    right = capture(lmm, turned, [end], hooks)[end][turned.kinds != TokenKind.PAD]
    close(right, left)


def test_several_hookpoints_read_in_one_pass_are_those_read_one_by_one(
    lmm: Any, batch: Batch
) -> None:
    points = [lmm.hookpoint(layer) for layer in (1, 3, lmm.n_layers)]
    together = capture(lmm, batch, points)
    for point in points:
        assert torch.equal(together[point], capture(lmm, batch, [point])[point])


def test_nothing_is_left_in_the_model_after_a_failure(
    lmm: Any, batch: Batch, hookpoint: Hookpoint, hooks_on: Callable[[Any], list[str]]
) -> None:
    def breaking(failure: type[BaseException]) -> dict[Hookpoint, Hook]:
        def breaks(x: Tensor, batch: Batch) -> Tensor:
            raise failure

        return {hookpoint: passed_on, lmm.hookpoint(lmm.n_layers): breaks}

    plain = logits_of(lmm, batch, {hookpoint: passed_on})
    acts: list[tuple[type[BaseException], Callable[[Hooks], object]]] = [
        (RuntimeError, lambda hooks: lmm.forward(batch, hooks)),
        (KeyboardInterrupt, lambda hooks: lmm.forward(batch, hooks)),
        (KeyboardInterrupt, lambda hooks: lmm.generate(batch, 2, hooks)),
        (RuntimeError, lambda hooks: capture(lmm, batch, list(hooks), hooks)),
        (KeyboardInterrupt, lambda hooks: capture_spoken(lmm, batch, 2, [hookpoint], hooks)),
    ]
    for failure, act in acts:
        with pytest.raises(failure):
            act(breaking(failure))
        assert not hooks_on(lmm.model)
    assert torch.equal(logits_of(lmm, batch, {hookpoint: passed_on}), plain)


def test_arms_that_share_a_batch_answer_as_on_a_fresh_one(
    lmm: Any, prompts: list[Prompt], sae: TopK
) -> None:
    shared = lmm.prepare(prompts[1:4])
    for layer in (1, 1, lmm.n_layers, 2):
        hooks = {lmm.hookpoint(layer): steer(sae, torch.arange(4), -9.0)}
        fresh = logits_of(lmm, lmm.prepare(prompts[1:4]), hooks)
        assert torch.equal(logits_of(lmm, shared, hooks), fresh)
