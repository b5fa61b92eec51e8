"""What must hold on every model: reading changes nothing, writing changes what it says.

A model is added by the name of its fixture in `MODELS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.attribution import attribute, attribute_layers
from lmmsae_eval.sae.integrated import integrate
from lmmsae_eval.sae.lmm import Batch, Hook, Hookpoint, Prompt, TokenKind
from lmmsae_eval.sae.residual import Hooks, capture, capture_spoken, yes_no
from lmmsae_eval.sae.steering import add, as_released, clamp, reconstruct, steer
from lmmsae_eval.sae.tokens import Span, TokenSet, token_mask
from lmmsae_eval.sae.topk import TopK
from PIL import Image
from torch import Tensor

MODELS = ["tiny_lmm", "testbed_lmm"]
QUESTIONS = "is there a boat ?|what colour ?|is this the sea|no|is it red in the house ?|yes ?|a|is"
TOKEN_SETS: list[TokenSet | Span] = ["all", "question", "generated", Span(1, -1)]


@pytest.fixture(params=MODELS)
def lmm(request: pytest.FixtureRequest) -> Iterator[Any]:
    model = request.getfixturevalue(request.param)
    yield model
    assert not hooks_on(model.model)


@pytest.fixture
def no_picture_is_spoken(lmm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model may say the image token, as which no forward takes it back."""
    image = [lmm.model.config.image_token_id]
    monkeypatch.setattr(lmm.model.generation_config, "suppress_tokens", image)


@pytest.fixture
def prompts(lmm: Any) -> list[Prompt]:
    """Eight of different lengths, some without an image where the model reads such."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(8)]
    blind = (0, 3, 6) if reads_without_image(lmm) else ()
    return [
        Prompt(text, None if i in blind else Image.fromarray(pixels[i]))
        for i, text in enumerate(QUESTIONS.split("|"))
    ]


@pytest.fixture
def batch(lmm: Any, prompts: list[Prompt]) -> Batch:
    return lmm.prepare(prompts)


@pytest.fixture
def few(lmm: Any, prompts: list[Prompt]) -> Batch:
    """Of different lengths; a forward costs less."""
    return lmm.prepare(prompts[1:4])


@pytest.fixture
def hookpoint(lmm: Any) -> Hookpoint:
    return lmm.hookpoint(2)


@pytest.fixture
def x(lmm: Any, batch: Batch, hookpoint: Hookpoint) -> Tensor:
    return capture(lmm, batch, [hookpoint])[hookpoint]


@pytest.fixture
def sae(batch: Batch, x: Tensor) -> TopK:
    """Random rows around the stream's mean."""
    return TopK.random(64, x.shape[-1], 4, 0, x[token_mask(batch.kinds, "all")].mean(0))


@pytest.fixture
def strong(sae: TopK, x: Tensor) -> Tensor:
    """`(8, 2)`: the strongest latents of each prompt's last token."""
    return sae.encode(x[:, -1]).indices[:, :2].long()


def reads_without_image(lmm: Any) -> bool:
    try:
        lmm.prepare([Prompt("is")])
    except UsageError:
        return False
    return True


def hooks_on(model: Any) -> list[str]:
    """Modules that carry something of ours (transformers leaves hooks of its own)."""
    return [
        name
        for name, module in model.named_modules()
        if "forward" in module.__dict__
        or any(hook.__module__.startswith("lmmsae_eval") for hook in module._forward_hooks.values())
    ]


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
    logits = logits_of(lmm, batch, hooks)
    logits[:, lmm.model.config.image_token_id] = -torch.inf
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


@pytest.mark.parametrize("tokens", ["all", "question", "last", Span(-3, -1)], ids=str)
def test_left_and_right_padding_agree(
    lmm: Any, batch: Batch, hookpoint: Hookpoint, sae: TopK, strong: Tensor, tokens: Any
) -> None:
    hooks = {hookpoint: add(sae, strong, 3.0, tokens=tokens)}
    end = lmm.hookpoint(lmm.n_layers)
    turned = right_padded(batch)
    left = capture(lmm, batch, [end], hooks)[end][batch.kinds != TokenKind.PAD]
    right = capture(lmm, turned, [end], hooks)[end][turned.kinds != TokenKind.PAD]
    close(right, left)


@pytest.mark.usefixtures("no_picture_is_spoken")
@pytest.mark.parametrize("tokens", TOKEN_SETS, ids=str)
def test_generating_with_hooks_and_a_cache_is_generating_without_one(
    lmm: Any, few: Batch, hookpoint: Hookpoint, sae: TopK, strong: Tensor, tokens: Any
) -> None:
    hooks: dict[Hookpoint, Hook] = {hookpoint: add(sae, strong[1:4], 9.0, tokens=tokens)}
    assert lmm.generate(few, 3, hooks) == spoken_without_cache(lmm, few, 3, hooks)


@pytest.mark.usefixtures("no_picture_is_spoken")
def test_the_released_clamp_generates_the_same_with_and_without_a_cache(
    lmm: Any, few: Batch, hookpoint: Hookpoint, sae: TopK
) -> None:
    hooks = {hookpoint: as_released(sae, [3], 20.0)}
    assert lmm.generate(few, 3, hooks) == spoken_without_cache(lmm, few, 3, hooks)


def test_several_hookpoints_read_in_one_pass_are_those_read_one_by_one(
    lmm: Any, batch: Batch
) -> None:
    points = [lmm.hookpoint(layer) for layer in (1, 3, lmm.n_layers)]
    together = capture(lmm, batch, points)
    for point in points:
        assert torch.equal(together[point], capture(lmm, batch, [point])[point])


@pytest.mark.usefixtures("no_picture_is_spoken")
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


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_in_the_model_after_a_failure(
    lmm: Any, batch: Batch, hookpoint: Hookpoint, failure: type[BaseException]
) -> None:
    def breaks(x: Tensor, batch: Batch) -> Tensor:
        raise failure

    plain = logits_of(lmm, batch, {hookpoint: passed_on})
    hooks = {hookpoint: passed_on, lmm.hookpoint(lmm.n_layers): breaks}
    for act in (
        lambda: lmm.forward(batch, hooks),
        lambda: lmm.generate(batch, 2, hooks),
        lambda: capture(lmm, batch, list(hooks), hooks),
        lambda: capture_spoken(lmm, batch, 2, [hookpoint], hooks),
    ):
        with pytest.raises(failure):
            act()
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


def test_all_parts_of_the_attribution_sum_to_the_slope_of_the_answer(
    lmm: Any, batch: Batch, hookpoint: Hookpoint, sae: TopK, x: Tensor
) -> None:
    found = attribute(lmm, batch, hookpoint, sae)
    h = 1e-3
    up, down = (
        yes_no(lmm, batch, {hookpoint: lambda x, batch, s=s: x * (1 + s * h)}) for s in (1, -1)
    )
    parts = found.values.sum((1, 2)) + found.error.sum(1) + found.bias.sum(1)
    slope = (up - down) / (2 * h)
    torch.testing.assert_close(parts, slope, rtol=0.02, atol=0.02 * float(slope.abs().max()))


def test_several_layers_are_attributed_by_the_same_backward(
    lmm: Any, few: Batch, sae: TopK
) -> None:
    saes = {lmm.hookpoint(layer): sae for layer in (3, 1)}
    together = attribute_layers(lmm, few, saes)
    for hookpoint in saes:
        alone = attribute(lmm, few, hookpoint, sae)
        close(together[hookpoint].values, alone.values)
        close(together[hookpoint].error, alone.error)


def test_integrated_gradients_are_complete(
    lmm: Any, few: Batch, hookpoint: Hookpoint, sae: TopK
) -> None:
    found = integrate(lmm, few, hookpoint, sae, steps=8)
    ablated = yes_no(lmm, few, {hookpoint: steer(sae, torch.arange(64), 0.0)})
    torch.testing.assert_close(found.without, ablated, rtol=1e-3, atol=1e-2)
    plain = attribute(lmm, few, hookpoint, sae)
    missed = found.completeness_error * found.effect.abs()
    first_order = (plain.values.sum((1, 2)) - found.effect).abs()
    assert missed.sum() < 0.05 * found.effect.abs().sum()
    assert missed.sum() < 0.2 * first_order.sum()
