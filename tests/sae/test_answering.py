"""Answers in one call, with whatever memory there is, as the checkpoint's own settings say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from lmmsae_eval.sae.answering import answers, margins
from lmmsae_eval.sae.latents import encode_images
from lmmsae_eval.sae.lmm import LMM, Batch, Prompt
from lmmsae_eval.sae.progress import Quiet
from lmmsae_eval.sae.residual import yes_no
from lmmsae_eval.sae.topk import TopK, TrainedSae
from PIL import Image

PROMPTS = [Prompt(text) for text in ("is it red ?", "what colour", "no", "is this a boat ?", "yes")]


class Heard(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


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


def test_a_word_that_is_not_one_entry_is_refused(tiny_lmm: LMM) -> None:
    with pytest.raises(ValueError, match="is not one entry of the vocabulary"):
        margins(tiny_lmm, PROMPTS, words=("zeppelin", "no"))


def test_sampling_and_beams_of_the_checkpoint_are_left_out(
    tiny_lmm: LMM, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = answers(tiny_lmm, PROMPTS, 3)
    config = tiny_lmm.model.generation_config  # type: ignore[attr-defined]
    own = {"do_sample": True, "temperature": 9.0, "top_k": 3, "top_p": 0.9, "num_beams": 4}
    for name, value in own.items():
        monkeypatch.setattr(config, name, value)
    assert answers(tiny_lmm, PROMPTS, 3) == plain


def test_the_rest_of_the_generation_config_is_respected(
    tiny_lmm: LMM, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = answers(tiny_lmm, PROMPTS, 1)
    with torch.no_grad():
        logits = tiny_lmm.forward(tiny_lmm.prepare(PROMPTS))
    assert logits is not None
    config = tiny_lmm.model.generation_config  # type: ignore[attr-defined]
    monkeypatch.setattr(config, "suppress_tokens", logits.argmax(-1).unique().tolist())
    assert not set(answers(tiny_lmm, PROMPTS, 1)) & set(plain)
