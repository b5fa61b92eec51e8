"""The shipped weights do what their card says, on pictures that no training saw."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch
from lmmsae_eval.testbed.provider import WEIGHTS, Testbed
from lmmsae_eval.testbed.recipe.clip import recall_at_1
from lmmsae_eval.testbed.recipe.exam import accuracy, naming, prior_items, prior_report
from lmmsae_eval.testbed.recipe.pictures import Pictures, draw_random
from transformers import AutoModelForImageTextToText, AutoProcessor, CLIPModel

HELD_OUT_SEED = 20_261_122


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return AutoModelForImageTextToText.from_pretrained(WEIGHTS / "lmm").eval()


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_random(300, HELD_OUT_SEED)


@pytest.fixture(scope="module")
def priors(model: torch.nn.Module) -> Mapping[str, float]:
    return prior_report(prior_items(model, 16, HELD_OUT_SEED))


def test_the_model_sees_objects_colours_and_textures(
    model: torch.nn.Module, pictures: Pictures
) -> None:
    scores = accuracy(model, pictures, 1)

    assert scores["yes_no object"] >= 0.93
    assert scores["what colour"] >= 0.9
    assert scores["what texture"] >= 0.8


def test_the_model_names_what_is_highlighted(model: torch.nn.Module, pictures: Pictures) -> None:
    scores = naming(model, pictures, 1)

    assert scores["object"] >= 0.8
    assert scores["part"] >= 0.7


def test_priors_win_in_both_directions(priors: Mapping[str, float]) -> None:
    assert priors["wrong yes, prior"] >= 0.25
    assert priors["wrong no, prior"] >= 0.25


def test_priors_win_mostly_where_they_were_planted(priors: Mapping[str, float]) -> None:
    assert priors["wrong yes, prior"] >= 5 * priors["wrong yes, others"]
    assert priors["wrong no, prior"] >= 5 * priors["wrong no, others"]


def test_no_constant_offset_mends_the_priors(priors: Mapping[str, float]) -> None:
    assert 0.75 <= priors["auroc"] <= 0.9
    constant = priors["best constant offset nets"]
    assert constant <= 0.5 * priors["best offset per question nets"]


def test_clip_finds_the_caption_of_a_picture_among_a_hundred() -> None:
    model = CLIPModel.from_pretrained(WEIGHTS / "clip").eval()

    assert recall_at_1(model, draw_random(300, HELD_OUT_SEED + 1)) >= 0.8


def test_transformers_alone_can_ask_the_model_a_question(model: torch.nn.Module) -> None:
    processor = AutoProcessor.from_pretrained(WEIGHTS / "lmm")
    pictures = Testbed().images("score", 40, 5)
    right = 0
    for i, scene in enumerate(pictures.scenes):
        turn = {
            "role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": "what scene is this ?"}],
        }
        text = processor.apply_chat_template([turn], add_generation_prompt=True)
        inputs = processor(text=text, images=pictures.image(i), return_tensors="pt")
        said = model.generate(**inputs, max_new_tokens=2, do_sample=False)
        right += processor.decode(said[0, -2:], skip_special_tokens=True).strip() == scene.name

    assert right >= 36


def test_all_weights_together_stay_below_twenty_megabytes() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= 20e6


def test_the_card_lists_the_recipe_and_the_figures() -> None:
    card = json.loads((WEIGHTS / "card.json").read_text())

    assert card.keys() >= {"recipe", "minutes", "accuracy", "naming", "priors", "clip"}
