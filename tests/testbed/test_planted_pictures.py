"""What the planted subject makes of pictures: knowing them, and naming what is in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.lmm import Prompt
from lmmsae_eval.sae.residual import capture
from lmmsae_eval.testbed.planted import PlantedLMM, PlantedTestbed
from lmmsae_eval.testbed.recipe.pictures import highlighted
from lmmsae_eval.testbed.recipe.words import highlight_questions, highlight_text
from lmmsae_eval.testbed.world.labels import LABELS, VOCABULARY
from lmmsae_eval.testbed.world.render import coverage, render
from lmmsae_eval.testbed.world.scene import random_scene
from PIL import Image

WORLD = PlantedTestbed()
PICTURES = WORLD.images("score", 24, seed=7)


@pytest.fixture
def lmm() -> PlantedLMM:
    return WORLD.load_lmm()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(PICTURES) - 1), st.integers(1, 143), st.integers(0, 2**31 - 1))
def test_a_picture_is_known_by_its_lit_patches(index: int, n_lit: int, seed: int) -> None:
    lit = np.zeros(144, bool)
    lit[np.random.default_rng(seed).choice(144, n_lit, replace=False)] = True
    picture = PICTURES.image(index)
    dimmed = Image.fromarray(highlighted(np.asarray(picture), lit))

    whole, sight = (WORLD.load_lmm().known.find(image) for image in (picture, dimmed))

    assert sight.scene == whole.scene == PICTURES.scenes[index]
    assert (sight.lit == lit).all()
    assert whole.lit.all()
    assert sight.key == whole.key


def test_an_edited_figure_is_told_from_its_original_by_what_is_dimmed(lmm: PlantedLMM) -> None:
    original = next(scene for scene in PICTURES.scenes if len(scene.things) >= 2)
    edited = original.without(original.things[0].name)
    lit = render(original).mask(original.things[1].name).reshape(12, 8, 12, 8).any((1, 3)).ravel()
    for scene in (original, edited):
        lmm.known.add(scene, Image.fromarray(render(scene).image))

    for scene in (original, edited):
        dimmed = Image.fromarray(highlighted(render(scene).image, lit))
        assert lmm.known.find(dimmed).scene == scene


@pytest.mark.parametrize(
    "stranger",
    [
        Image.fromarray(render(random_scene(np.random.default_rng(987))).image),
        Image.new("RGB", (96, 96)),
        Image.new("L", (40, 40), 7),
    ],
)
def test_a_picture_from_elsewhere_is_refused_with_a_next_step(
    lmm: PlantedLMM, stranger: Image.Image
) -> None:
    with pytest.raises(UsageError, match="take images and questions from testbed:planted"):
        lmm.prepare([Prompt("is there a boat ?", stranger)])


def test_patches_carry_the_labels_that_cover_half_of_them(lmm: PlantedLMM) -> None:
    batch = lmm.prepare([Prompt("", PICTURES.image(0))])
    share = coverage(render(PICTURES.scenes[0]).maps) / 64

    values = batch.extra["values"][0, 1:, : len(VOCABULARY)].numpy()

    assert (values == np.where(share >= 0.5, share, 0)).all()
    assert batch.boxes[0][13].tolist() == [8, 8, 16, 16]


def test_an_image_token_has_read_no_word_of_the_question(lmm: PlantedLMM) -> None:
    texts = ("", "is there a boat ?", "what is highlighted ?")
    residuals = []
    for text in texts:
        batch = lmm.prepare([Prompt(text, PICTURES.image(1))])
        residuals.append(capture(lmm, batch, [lmm.hookpoint(1)])[lmm.hookpoint(1)][0, :145])

    assert torch.equal(residuals[0], residuals[1])
    assert torch.equal(residuals[0], residuals[2])


def test_a_highlight_is_named_as_training_text_names_it(lmm: PlantedLMM) -> None:
    rng = np.random.default_rng(6)
    seen = set()
    for i in range(len(PICTURES)):
        cover = coverage(render(PICTURES.scenes[i]).maps)
        label = rng.choice(np.flatnonzero((cover >= 32).sum(0) >= 2))
        lit = (cover[:, label] >= 32) if i % 4 else (rng.random(144) < 0.15)
        image = Image.fromarray(highlighted(np.asarray(PICTURES.image(i)), lit))
        wanted = {q.text: q.answer for q in highlight_questions(cover, lit, rng)}
        prompts = [Prompt(text, image) for text in wanted]

        assert lmm.generate(lmm.prepare(prompts), 8) == list(wanted.values())
        seen.add(wanted[highlight_text()])

    assert len(seen) > 8
    assert "unclear" in seen


def test_open_questions_are_answered_and_others_are_unclear(lmm: PlantedLMM) -> None:
    index, scene = next((i, s) for i, s in enumerate(PICTURES.scenes) if s.things)
    thing = scene.things[0]
    absent = next(name for name in LABELS["object"] if scene.thing(name) is None)
    answers = {
        f"what colour is the {thing.name} ?": thing.colour,
        f"what is the {thing.name} made of ?": thing.material,
        "what scene is this ?": scene.name,
        f"what texture is the {absent} ?": "unclear",
        "describe the image .": "unclear",
        "why is a raven like a writing-desk ?": "unclear",
    }
    batch = lmm.prepare([Prompt(text, PICTURES.image(index)) for text in answers])

    assert lmm.generate(batch, 8) == list(answers.values())
