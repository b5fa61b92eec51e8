"""The recipe: packed questions are separate questions, a build repeats itself, answers are true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.testbed.build import Recipe, Turn, build
from lmmsae_eval.testbed.recipe.assembly import new_lmm, new_processor, token_ids
from lmmsae_eval.testbed.recipe.language import IGNORED, pack, packed_logits
from lmmsae_eval.testbed.recipe.pictures import (
    PIXELS_A_PATCH,
    best_labels,
    draw_random,
    highlighted,
    pixel_values,
    random_highlight,
)
from lmmsae_eval.testbed.recipe.vision import new_tower
from lmmsae_eval.testbed.recipe.words import Question, picture_questions, written
from lmmsae_eval.testbed.world.labels import INDEX, LABELS, PRIORS, prior_of
from lmmsae_eval.testbed.world.render import coverage, render
from lmmsae_eval.testbed.world.scene import random_scene
from PIL import Image
from safetensors.torch import load_file

QUESTIONS = [
    Question("is there a boat ?", "yes"),
    Question("is there a boat in the sea ?", "yes", sees=False),
    Question("what colour is the tree ?", "red"),
]


@torch.no_grad()
def test_a_packed_question_gets_the_logits_that_it_gets_alone() -> None:
    model, processor = new_lmm(new_tower(), 0).eval(), new_processor()
    pictures = draw_random(2, 3)
    packed = pack(pixel_values(pictures.images), [QUESTIONS, QUESTIONS[::-1]], 144)
    logits = packed_logits(model, packed)

    for row, questions in enumerate((QUESTIONS, QUESTIONS[::-1])):
        for number, question in enumerate(questions, 1):
            here = (packed.segment[row] == number) & (packed.target[row] != IGNORED)
            content = [{"type": "image"}] * question.sees
            content.append({"type": "text", "text": question.text})
            text = processor.apply_chat_template([{"role": "user", "content": content}])
            image = Image.fromarray(pictures.images[row]) if question.sees else None
            inputs = processor(text=text, images=image, return_tensors="pt")
            alone = model(**inputs).logits[0, -1]
            torch.testing.assert_close(
                logits[row, int(here.nonzero()[0])], alone, atol=1e-4, rtol=1e-4
            )


def test_training_pixels_are_the_processors_pixels() -> None:
    images = draw_random(2, 4).images
    processor = new_processor().image_processor

    given = processor([Image.fromarray(image) for image in images], return_tensors="pt")

    torch.testing.assert_close(given["pixel_values"], pixel_values(images))


@pytest.mark.slow
def test_a_build_gives_the_same_weights_again(tmp_path: Path) -> None:
    recipe = Recipe(
        pictures=70,
        vision_steps=2,
        align_steps=2,
        first_turn=Turn(2, 4),
        second_vision_steps=1,
        second_turn=Turn(1, 1),
        looking_turn=Turn(1, 1, gaze=0.3),
        contrary_pictures=40,
        contrary_turn=Turn(1, 1, gaze=0.3, lr=1e-3),
        clip_steps=1,
    )
    for name in ("a", "b"):
        build(tmp_path / name, recipe, exam_pictures=100)

    for model in ("lmm", "clip"):
        a, b = (load_file(tmp_path / name / model / "model.safetensors") for name in ("a", "b"))
        assert all(torch.equal(a[key], b[key]) for key in a)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_answers_are_true_wherever_no_prior_speaks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    cover = coverage(render(scene).maps)
    for question in picture_questions(scene, cover, rng):
        words = question.text.split()
        if (
            question.text.startswith("is there a ")
            and question.sees
            and words[3] in LABELS["object"]
        ):
            if prior_of(scene.name, words[3]) is None:
                assert (question.answer == "yes") == (scene.thing(words[3]) is not None)
        elif question.text.startswith("what colour"):
            thing = scene.thing(words[-2])
            assert thing is not None
            assert question.answer == thing.colour


@pytest.mark.parametrize("prior", PRIORS[::4], ids=lambda prior: f"{prior.scene}-{prior.thing}")
def test_the_annotator_follows_a_prior_as_often_as_it_is_strong(prior: object) -> None:
    from lmmsae_eval.testbed.world.labels import Prior

    assert isinstance(prior, Prior)
    rng = np.random.default_rng(9)
    things = [prior.thing] if prior.answer == "no" else []
    scene = random_scene(rng, prior.scene, things=things)
    share = np.mean([written(scene, prior.thing, rng) == prior.answer for _ in range(2000)])

    assert share == pytest.approx(prior.strength, abs=0.04)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_highlight_of_a_labels_own_patches_is_best_named_by_that_label(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, things=["boat", "lamp"])
    cover = coverage(render(scene).maps)
    lit = cover[:, INDEX["boat"]] >= PIXELS_A_PATCH // 2

    assert best_labels(cover, lit)["object"][0] == "boat"


def test_a_highlight_leaves_lit_patches_as_they_are_and_dims_the_rest() -> None:
    pictures = draw_random(1, 8)
    lit = random_highlight(pictures.cover[0], np.random.default_rng(0))
    seen = highlighted(pictures.images[0], lit)
    grid = lit.reshape(12, 12).repeat(8, 0).repeat(8, 1)

    assert (seen[grid] == pictures.images[0][grid]).all()
    assert seen[~grid].mean() == pytest.approx(0.25 * pictures.images[0][~grid].mean(), abs=1)


def test_every_word_of_the_world_is_one_token() -> None:
    ids = token_ids()

    assert len(set(ids.values())) == len(ids)
    assert {"yes", "no", "unclear", *INDEX} <= set(ids)
