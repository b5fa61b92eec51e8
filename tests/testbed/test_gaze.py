"""What the recipe adds beside plain training: where to look, and image tokens as sums of words."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.testbed.build import repeatable
from lmmsae_eval.testbed.provider import WEIGHTS
from lmmsae_eval.testbed.recipe.alignment import align_projector
from lmmsae_eval.testbed.recipe.assembly import new_lmm
from lmmsae_eval.testbed.recipe.gaze import HEADS, WORD_LAYER, Gaze, thing_patches
from lmmsae_eval.testbed.recipe.language import Packed, pack, packed_logits
from lmmsae_eval.testbed.recipe.pictures import Pictures, draw_random, pixel_values
from lmmsae_eval.testbed.recipe.vision import new_tower
from lmmsae_eval.testbed.recipe.words import Question, what_is
from lmmsae_eval.testbed.world.labels import INDEX
from transformers import LlavaForConditionalGeneration


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_random(24, seed=5)


def asked_about_a_thing(model: LlavaForConditionalGeneration, pictures: Pictures) -> Packed:
    """Two questions a picture, about the first thing in it."""
    rows = [i for i, scene in enumerate(pictures.scenes) if scene.things][:6]
    questions = []
    for row in rows:
        thing = pictures.scenes[row].things[0]
        questions.append(
            [
                Question(what_is(kind, thing.name), "red", gaze=thing.name)
                for kind in ("colour", "texture")
            ]
        )
    packed = pack(pixel_values(pictures.images[rows]), questions, model.config.image_seq_length)
    packed.lit = thing_patches(packed.gaze, pictures.cover[rows])
    return packed


def test_the_watched_attention_is_the_models_own(pictures: Pictures) -> None:
    model = new_lmm(new_tower(), seed=3).eval()
    model.set_attn_implementation("eager")
    packed = asked_about_a_thing(model, pictures)
    seen: list[torch.Tensor] = []
    attention = model.model.language_model.layers[WORD_LAYER].self_attn
    hook = attention.register_forward_hook(lambda module, inputs, output: seen.append(output[1]))
    with torch.no_grad(), Gaze(model) as watched:
        packed_logits(model, packed)
        row, word, _ = (torch.tensor([gaze[i] for gaze in packed.gaze]) for i in range(3))
        said = watched._attention(packed, WORD_LAYER, row, word).exp()
    hook.remove()
    prefix = seen[0].shape[-1] - packed.ids.shape[1]

    torch.testing.assert_close(said, seen[0][row, :HEADS, prefix + word], atol=1e-6, rtol=1e-4)


def test_a_thing_is_looked_at_where_it_stands(pictures: Pictures) -> None:
    row = next(i for i, scene in enumerate(pictures.scenes) if scene.thing("boat"))
    lit = thing_patches([(row, 3, 4, "boat")], pictures.cover)

    assert lit is not None
    assert lit.any()
    assert (pictures.cover[row][lit[0].numpy(), INDEX["boat"]] > 0).all()


def test_the_gaze_term_turns_the_heads_to_the_thing(pictures: Pictures) -> None:
    model = new_lmm(new_tower(), seed=3)
    packed = asked_about_a_thing(model, pictures)
    optimizer = torch.optim.AdamW(model.model.language_model.parameters(), lr=3e-3)
    astray = []
    for _ in range(8):
        with Gaze(model) as watched:
            packed_logits(model, packed)
            loss = watched.astray(packed)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        astray.append(loss.item())

    assert astray[-1] < 0.8 * astray[0]


def test_alignment_makes_image_tokens_sums_of_the_words_they_show(pictures: Pictures) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(WEIGHTS / "lmm")
    words = model.get_input_embeddings().weight.detach().clone()
    tower = [tensor.clone() for tensor in model.model.vision_tower.state_dict().values()]
    torch.nn.init.normal_(model.model.multi_modal_projector.linear_2.weight, std=0.02)

    unexplained = align_projector(model, pictures, steps=40, seed=0)

    assert unexplained < 0.7
    assert torch.equal(model.get_input_embeddings().weight, words)
    after = model.model.vision_tower.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(tower, after, strict=True))


def test_on_two_threads_the_gradients_are_the_same_each_time(pictures: Pictures) -> None:
    model = new_lmm(new_tower(), seed=4)
    packed = asked_about_a_thing(model, pictures)

    def gradients() -> torch.Tensor:
        model.zero_grad()
        with Gaze(model) as watched:
            packed_logits(model, packed)
        watched.astray(packed).backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    with repeatable(threads=2):
        first = gradients()
        assert all(torch.equal(first, gradients()) for _ in range(4))
    assert not torch.are_deterministic_algorithms_enabled()
