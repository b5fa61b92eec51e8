"""Wrong labels: the nearest other explanation, one attribute changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lmmsae_eval.tasks.features.labels import (
    VocabularyLabeller,
    attribute_edited,
    hard_shuffled,
)

VOCABULARY = {
    "boat": "object",
    "ship": "object",
    "tree": "object",
    "red": "colour",
    "pink": "colour",
    "sea": "scene",
}


def by_alphabet(names: Sequence[str]) -> np.ndarray:
    """The nearer in the alphabet, the more alike."""
    first = np.array([ord(name[0]) for name in names])
    return -np.abs(first[:, None] - first[None]).astype(np.float32)


def test_the_nearest_other_explanation_of_the_same_concept_is_taken() -> None:
    labels = {"boat": "object", "ship": "object", "tree": "object", "red": "colour"}
    wrong = hard_shuffled(labels, by_alphabet, VOCABULARY)
    assert wrong["ship"] == "tree"
    assert wrong["boat"] == "ship"


def test_without_one_the_vocabulary_gives_a_label_of_the_concept() -> None:
    labels = {"red": "colour", "boat": "object"}
    assert hard_shuffled(labels, by_alphabet, VOCABULARY)["red"] == "pink"


def test_a_concept_of_one_label_gets_an_explanation_of_another_concept() -> None:
    labels = {"sea": "scene", "boat": "object", "tree": "object"}
    assert hard_shuffled(labels, by_alphabet, VOCABULARY)["sea"] == "tree"


def test_a_label_is_never_its_own_foil_and_a_lonely_one_has_none() -> None:
    labels = dict(VOCABULARY)
    wrong = hard_shuffled(labels, by_alphabet, VOCABULARY)
    assert all(label != foil for label, foil in wrong.items())
    assert hard_shuffled({"sea": "scene"}, by_alphabet, {"sea": "scene"}) == {}
    assert hard_shuffled({}, by_alphabet, {}) == {}


def test_one_attribute_is_replaced_by_another_of_its_concept() -> None:
    rng = np.random.default_rng(0)
    assert attribute_edited("a red boat", VOCABULARY, rng) == "a pink boat"
    assert attribute_edited("pink", VOCABULARY, rng) == "red"


def test_an_explanation_without_an_attribute_can_not_be_edited() -> None:
    rng = np.random.default_rng(0)
    assert attribute_edited("boat", VOCABULARY, rng) is None
    assert attribute_edited("red", {"red": "colour"}, rng) is None


def test_the_vocabulary_labels_what_it_knows() -> None:
    labeller = VocabularyLabeller(VOCABULARY)
    assert labeller.concept("boat") == "object"
    assert labeller.concept("zebra") is None
