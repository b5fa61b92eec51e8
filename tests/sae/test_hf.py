"""A transformers LLaVA behind the LMM protocol (random weights: plumbing, exact to rounding)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.hf import TransformersLMM
from lmmsae_eval.sae.lmm import Batch, NotInModelError, Prompt, TokenKind
from lmmsae_eval.sae.residual import capture, yes_no
from lmmsae_eval.sae.steering import reconstruct, steer
from lmmsae_eval.sae.topk import TopK
from PIL import Image
from torch import Tensor

QUESTIONS = [
    "is there a boat ?",
    "what colour ?",
    "is this the sea",
    "no",
    "is it red in the house ?",
    "yes ?",
    "a",
    "is",
]


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Of different lengths, with and without an image."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)) for _ in QUESTIONS]
    return [
        Prompt(text, image if i % 3 else None)
        for i, (text, image) in enumerate(zip(QUESTIONS, images, strict=True))
    ]


@pytest.fixture
def batch(tiny_lmm: TransformersLMM, prompts: list[Prompt]) -> Batch:
    return tiny_lmm.prepare(prompts)


@pytest.fixture
def sae(tiny_lmm: TransformersLMM) -> TopK:
    return TopK.random(64, tiny_lmm.d_model, 4, seed=0)


@pytest.fixture(autouse=True)
def no_hook_survives(
    tiny_lmm: TransformersLMM, hooks_on: Callable[[Any], list[str]]
) -> Iterator[None]:
    yield
    assert not hooks_on(tiny_lmm.model)


def passed_on(x: Tensor, batch: Batch) -> Tensor:
    return x


def logits_of(lmm: TransformersLMM, batch: Batch, hooks: Any = None) -> Tensor:
    logits = lmm.forward(batch, hooks)
    assert logits is not None
    return logits


def test_steering_with_scale_1_changes_no_logit(
    tiny_lmm: TransformersLMM, batch: Batch, sae: TopK
) -> None:
    hook = steer(sae, torch.arange(64), 1.0)
    steered = logits_of(tiny_lmm, batch, {tiny_lmm.hookpoint(3): hook})
    assert torch.equal(steered, logits_of(tiny_lmm, batch, {tiny_lmm.hookpoint(3): passed_on}))


def test_padding_is_on_the_left_and_marked(batch: Batch) -> None:
    assert (batch.kinds[:, -1] == TokenKind.TEXT).all()
    assert torch.equal(batch.kinds == TokenKind.PAD, batch.inputs["attention_mask"] == 0)


def test_each_kind_of_token_is_known(batch: Batch, prompts: list[Prompt]) -> None:
    for row, prompt in enumerate(prompts):
        counts = {kind: int((batch.kinds[row] == kind).sum()) for kind in TokenKind}
        assert counts[TokenKind.BOS] == 1
        assert counts[TokenKind.IMAGE] == (0 if prompt.image is None else 144)
        # the words and the sign that the answer begins
        assert counts[TokenKind.TEXT] == len(prompt.text.split()) + 1
        assert batch.boxes[row].shape == (counts[TokenKind.IMAGE], 4)


def test_capture_at_three_layers_equals_output_hidden_states(
    tiny_lmm: TransformersLMM, batch: Batch
) -> None:
    hookpoints = [tiny_lmm.hookpoint(layer) for layer in (1, 3, 5)]
    captured = capture(tiny_lmm, batch, hookpoints)
    with torch.no_grad():
        states = tiny_lmm.model(**batch.inputs, output_hidden_states=True).hidden_states
    for hookpoint in hookpoints:
        assert torch.equal(captured[hookpoint], states[hookpoint.layer])


def test_capture_stops_after_the_last_hookpoint(tiny_lmm: TransformersLMM, batch: Batch) -> None:
    ran: list[str] = []
    watched = {
        "block 3": tiny_lmm.model.model.language_model.layers[3],
        "head": tiny_lmm.model.lm_head,
    }
    handles = [
        module.register_forward_pre_hook(lambda module, args, name=name: ran.append(name))
        for name, module in watched.items()
    ]
    try:
        capture(tiny_lmm, batch, [tiny_lmm.hookpoint(1), tiny_lmm.hookpoint(3)])
        assert ran == []
        capture(tiny_lmm, batch, [tiny_lmm.hookpoint(4)])
        assert ran == ["block 3"]
    finally:
        for handle in handles:
            handle.remove()


def test_a_published_name_a_1_based_number_and_the_real_path_mean_the_same_hookpoint(
    tiny_lmm: TransformersLMM,
) -> None:
    wanted = tiny_lmm.hookpoint("model.layers.2")
    assert (wanted.index, wanted.layer, wanted.module) == (2, 3, "model.language_model.layers.2")
    for ref in (3, "3", "layers.2", "model.language_model.layers.2"):
        assert tiny_lmm.hookpoint(ref) == wanted


@pytest.mark.parametrize(
    "ref", [0, 7, -1, "model.layers.6", "0", "vision_tower.layers.1", "model.layers.x", ""]
)
def test_a_layer_that_the_model_lacks_is_one_line(
    tiny_lmm: TransformersLMM, ref: str | int
) -> None:
    with pytest.raises(NotInModelError, match="from 1 to 6") as error:
        tiny_lmm.hookpoint(ref)
    assert isinstance(error.value, UsageError)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)


def test_several_layers_are_written_in_one_forward(
    tiny_lmm: TransformersLMM, batch: Batch, sae: TopK
) -> None:
    edits = {tiny_lmm.hookpoint(layer): reconstruct(sae, error=False) for layer in (2, 5)}
    both = logits_of(tiny_lmm, batch, edits)
    for hookpoint, hook in edits.items():
        assert not torch.allclose(both, logits_of(tiny_lmm, batch, {hookpoint: hook}))


def test_arms_that_share_a_batch_answer_as_on_a_fresh_one(
    tiny_lmm: TransformersLMM, prompts: list[Prompt], sae: TopK
) -> None:
    """The second arm goes on from the stream that the first one saw: same answer, less work."""
    shared = tiny_lmm.prepare(prompts)
    for layer in (3, 3, 5, 2, 6, 6, 1):
        for scale in (0.0, 2.0):
            hooks = {tiny_lmm.hookpoint(layer): steer(sae, torch.arange(64), scale)}
            fresh = logits_of(tiny_lmm, tiny_lmm.prepare(prompts), hooks)
            assert torch.equal(logits_of(tiny_lmm, shared, hooks), fresh)
    assert torch.equal(logits_of(tiny_lmm, shared), logits_of(tiny_lmm, tiny_lmm.prepare(prompts)))


def test_a_second_arm_runs_neither_the_vision_tower_nor_the_blocks_below(
    tiny_lmm: TransformersLMM, batch: Batch
) -> None:
    hooks = {tiny_lmm.hookpoint(4): passed_on}
    tiny_lmm.forward(batch, hooks)
    ran: list[str] = []
    below = tiny_lmm.model.model.language_model.layers[2].self_attn
    watched = {
        "vision": tiny_lmm.model.model.vision_tower,
        "below": below,
        "head": tiny_lmm.model.lm_head,
    }
    handles = [
        module.register_forward_pre_hook(lambda module, args, name=name: ran.append(name))
        for name, module in watched.items()
    ]
    try:
        tiny_lmm.forward(batch, hooks)
    finally:
        for handle in handles:
            handle.remove()
    assert ran == ["head"]


def test_gradients_reach_the_stream_also_when_it_is_replayed(
    tiny_lmm: TransformersLMM, batch: Batch
) -> None:
    def gradient() -> Tensor:
        leaf: list[Tensor] = []

        def start(x: Tensor, batch: Batch) -> Tensor:
            leaf.append(x.detach().requires_grad_())
            return leaf[0]

        answer = yes_no(tiny_lmm, batch, {tiny_lmm.hookpoint(3): start})
        return torch.autograd.grad(answer.sum(), leaf[0])[0]

    first, replayed = gradient(), gradient()
    assert first.any()
    assert torch.equal(first, replayed)


def test_yes_no_is_the_difference_of_the_two_logits(
    tiny_lmm: TransformersLMM, batch: Batch
) -> None:
    logits = logits_of(tiny_lmm, batch)
    difference = logits[:, tiny_lmm.token_id("yes")] - logits[:, tiny_lmm.token_id("no")]
    assert torch.equal(yes_no(tiny_lmm, batch), difference)


def test_a_word_outside_the_vocabulary_is_refused_never_unk(tiny_lmm: TransformersLMM) -> None:
    for word in ("zeppelin", "yes no", ""):
        with pytest.raises(ValueError, match="is not one entry of the vocabulary") as error:
            tiny_lmm.token_id(word)
        assert isinstance(error.value, UsageError)


def test_generation_starts_with_the_most_likely_token(
    tiny_lmm: TransformersLMM, batch: Batch
) -> None:
    answers = tiny_lmm.generate(batch, 1)
    best = logits_of(tiny_lmm, batch).argmax(-1)
    texts = tiny_lmm.processor.tokenizer.batch_decode(best[:, None], skip_special_tokens=True)
    assert answers == [text.strip() for text in texts]


def test_generation_does_not_depend_on_the_batch(
    tiny_lmm: TransformersLMM, batch: Batch, prompts: list[Prompt]
) -> None:
    alone = [tiny_lmm.generate(tiny_lmm.prepare([prompt]), 4)[0] for prompt in prompts]
    assert tiny_lmm.generate(batch, 4) == alone


def test_hooks_act_on_the_prefill_and_on_every_decoded_token(
    tiny_lmm: TransformersLMM, batch: Batch
) -> None:
    seen: list[tuple[torch.Size, torch.Size]] = []

    def watch(x: Tensor, view: Batch) -> Tensor:
        seen.append((x.shape, view.kinds.shape))
        return x

    tiny_lmm.model.generation_config.eos_token_id = None
    try:
        tiny_lmm.generate(batch, 4, {tiny_lmm.hookpoint(2): watch})
    finally:
        tiny_lmm.model.generation_config.eos_token_id = tiny_lmm.processor.tokenizer.eos_token_id
    lengths = [shape[1] for shape, _ in seen]
    assert lengths == [batch.kinds.shape[1], 1, 1, 1]
    assert all(shape[:2] == kinds for shape, kinds in seen)


def test_generating_through_reconstruction_plus_error_answers_the_same(
    tiny_lmm: TransformersLMM, batch: Batch, sae: TopK
) -> None:
    hooks = {tiny_lmm.hookpoint(3): reconstruct(sae, error=True)}
    assert tiny_lmm.generate(batch, 3, hooks) == tiny_lmm.generate(batch, 3)


def test_no_prompts_are_refused(tiny_lmm: TransformersLMM) -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        tiny_lmm.prepare([])


def test_blocks_that_return_a_tuple_are_read_and_written_too(
    tiny_lmm: TransformersLMM, prompts: list[Prompt], sae: TopK, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other families and releases wrap the stream in a tuple; the model here takes it out again."""
    from torch import nn

    hooks = {tiny_lmm.hookpoint(3): steer(sae, torch.arange(64), 0.0)}
    wanted = logits_of(tiny_lmm, tiny_lmm.prepare(prompts), hooks)
    layers = tiny_lmm.model.model.language_model.layers

    class InTuple(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
            return self.block(*args, **kwargs), None

    wrapped = InTuple(layers[2])
    monkeypatch.setitem(layers._modules, "2", wrapped)
    monkeypatch.setitem(tiny_lmm._blocks, "model.language_model.layers.2", wrapped)
    taken_out = layers[3].register_forward_pre_hook(lambda module, args: (args[0][0], *args[1:]))
    try:
        batch = tiny_lmm.prepare(prompts)
        assert torch.equal(logits_of(tiny_lmm, batch, hooks), wanted)
        assert torch.equal(logits_of(tiny_lmm, batch, hooks), wanted)
    finally:
        taken_out.remove()
