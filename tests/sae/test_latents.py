"""Sparse latents of images, streamed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.gated import Gated
from lmmsae_eval.sae.latents import encode_images
from lmmsae_eval.sae.lmm import LMM, Prompt
from lmmsae_eval.sae.residual import capture
from lmmsae_eval.sae.topk import TopK, TrainedSae
from PIL import Image


@pytest.fixture
def saes(tiny_lmm: LMM) -> list[TrainedSae]:
    sae = TopK.random(32, tiny_lmm.d_model, 4, seed=0)
    deep = TrainedSae("mine", tiny_lmm.hookpoint(4), sae)
    return [deep, TrainedSae("mine", tiny_lmm.hookpoint(2), sae.untrained(1)), deep.untrained(2)]


@pytest.fixture
def prompts() -> list[Prompt]:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)) for _ in range(5)]
    return [Prompt("is it red ?", image) for image in images]


def test_each_images_tokens_come_through_every_sae_in_order(
    tiny_lmm: LMM, saes: list[TrainedSae], prompts: list[Prompt]
) -> None:
    found = list(encode_images(tiny_lmm, saes, prompts, batch_size=2))
    assert [image.index for image in found] == [0, 1, 2, 3, 4]
    for image in found:
        assert image.boxes.shape == (144, 4)
        for active in image.latents:
            assert torch.bincount(active.tokens, minlength=144).tolist() == [4] * 144


def test_they_are_the_latents_of_the_residual_stream(
    tiny_lmm: LMM, saes: list[TrainedSae], prompts: list[Prompt]
) -> None:
    *_, last = encode_images(tiny_lmm, saes, prompts, batch_size=5)
    batch = tiny_lmm.prepare(prompts)
    for sae, latents in zip(saes, last.latents, strict=True):
        x = capture(tiny_lmm, batch, [sae.hookpoint])[sae.hookpoint][4][batch.kinds[4] == 3]
        whole = sae.sae.encode(x)
        assert torch.equal(latents.values, whole.values.flatten())
        assert torch.equal(latents.indices, whole.indices.flatten())


def test_only_a_batch_is_read_ahead(
    tiny_lmm: LMM, saes: list[TrainedSae], prompts: list[Prompt]
) -> None:
    taken: list[Prompt] = []

    def source() -> object:
        for prompt in prompts:
            taken.append(prompt)
            yield prompt

    stream = encode_images(tiny_lmm, saes, source(), batch_size=2)  # type: ignore[arg-type]
    next(stream)
    assert len(taken) == 2


def test_a_prompt_without_an_image_has_no_image_tokens(
    tiny_lmm: LMM, saes: list[TrainedSae], prompts: list[Prompt]
) -> None:
    found = list(encode_images(tiny_lmm, saes, [Prompt("is it red ?"), prompts[0]]))
    assert [len(image.boxes) for image in found] == [0, 144]
    assert [len(image.latents[0].indices) for image in found] == [0, 144 * 4]


def test_as_many_latents_are_kept_as_fire_and_no_empty_slots(
    tiny_lmm: LMM, prompts: list[Prompt]
) -> None:
    gated = Gated.random(32, tiny_lmm.d_model, 4, seed=0)
    sae = TrainedSae("mine", tiny_lmm.hookpoint(4), gated)
    found = list(encode_images(tiny_lmm, [sae], prompts, batch_size=3))
    batch = tiny_lmm.prepare(prompts)
    residual = capture(tiny_lmm, batch, [sae.hookpoint])[sae.hookpoint]
    for image, kinds, x in zip(found, batch.kinds, residual, strict=True):
        [active] = image.latents
        fires = gated.pre_activations(x[kinds == 3].to(gated.W_enc)) > 0
        counts = torch.bincount(active.tokens, minlength=144)
        assert torch.equal(counts, fires.sum(1))
        assert counts.min() < counts.max()
        assert (active.values > 0).all()


def test_an_sae_that_fires_on_nearly_everything_is_refused_with_its_l0(
    tiny_lmm: LMM, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = Gated.random(32, tiny_lmm.d_model, 4, seed=0)
    sae.b_enc.fill_(1e3)
    sae.b_mag.fill_(1e3)
    monkeypatch.setattr("lmmsae_eval.sae.latents._ENTRIES", 1000)
    bound = TrainedSae("mine", tiny_lmm.hookpoint(4), sae)
    with pytest.raises(UsageError, match="fires 32 of 32 latents a token") as error:
        list(encode_images(tiny_lmm, [bound], prompts))
    assert "\n" not in str(error.value)


def test_one_busy_token_does_not_widen_all_others_beyond_what_can_be_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sae = Gated.random(32, 8, 4, seed=0)
    sae.b_enc.fill_(-5)
    x = torch.zeros(20, 8)
    x[7] = 100 * torch.randn(8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("lmmsae_eval.sae.sae._DENSE_VALUES", 32 * 2)
    whole = sae.encode(x)
    widths = [part.values.shape[1] for part in sae.encode_parts(x)]
    assert widths == [1, whole.values.shape[1], 1, 1, 1]
    monkeypatch.setattr("lmmsae_eval.sae.sae._SLOTS", 20 * 4)
    assert torch.equal(sae.reconstruct(x), sae.decode(whole))
    with pytest.raises(UsageError, match=r"on one of 20 tokens \d+ of 32 latents fire"):
        sae.encode(x)
