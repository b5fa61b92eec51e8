"""What is true of a picture and of a question about it: the values of the true features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..recipe.pictures import DIMMED, PIXELS_A_PATCH, best_labels
from ..recipe.words import (
    READABLE,
    WHAT_SCENE,
    highlight_questions,
    highlight_text,
    is_there,
    what_is,
    yes_no_text,
)
from ..world.labels import CONCEPTS, INDEX, LABELS, PRIORS, VOCABULARY, Prior, prior_of
from ..world.render import coverage, render
from ..world.scene import Scene
from .dictionary import FEATURES, NAMING, SEEN, UNCLEAR, UNSEEN, feature, label_latent, prior_latent
from .known import Sight

HALF = PIXELS_A_PATCH // 2
"""Pixels of a patch that a label has to cover to be active there, and of a picture to be in it."""
STRONG = (0.75, 1.25)
"""Range of a prior's latent on items where it outweighs the evidence..."""
WEAK = (0.02, 0.12)
"""... and where it doesn't. `readout.EVIDENCE / readout.PRIOR` = 1/6 is the border."""
PULL_SEED = 14
MARGIN = 0.01
"""By how much the latent of the right name of a highlight exceeds those of the next best."""

Values = Mapping[int, float]
"""Active features and their values."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question means."""

    kind: Literal["there", "highlight", "attribute", "scene"]
    subject: str = ""
    """The label asked about; of a highlight its concept, '' for any."""
    where: str | None = None
    """The scene that the text names."""
    attribute: str = ""


def _meanings() -> dict[str, Asked]:
    table = {yes_no_text(label): Asked("there", label) for label in VOCABULARY}
    for thing in LABELS["object"]:
        table |= {is_there(thing, s): Asked("there", thing, s) for s in LABELS["scene"]}
        for attribute in ("colour", "texture", "material"):
            table[what_is(attribute, thing)] = Asked("attribute", thing, attribute=attribute)
    table |= {highlight_text(concept): Asked("highlight", concept) for concept in CONCEPTS}
    return table | {highlight_text(): Asked("highlight"), WHAT_SCENE: Asked("scene")}


MEANINGS = _meanings()
"""Every question that the subject understands; to all others it says 'unclear'."""


@lru_cache(maxsize=2048)
def cover_of(scene: Scene) -> npt.NDArray[np.uint8]:
    """`(144, n_labels)` pixels of each patch that bear each label."""
    return coverage(render(scene).maps)


def patch_values(sight: Sight) -> npt.NDArray[np.float32]:
    """`(144, n_features)`: the covered share where at least half; a quarter of it where dimmed."""
    cover = cover_of(sight.scene)
    share = np.where(cover >= HALF, cover / np.float32(PIXELS_A_PATCH), 0)
    values = np.zeros((len(cover), len(FEATURES)), np.float32)
    values[:, : len(INDEX)] = share * np.where(sight.lit, 1, DIMMED)[:, None]
    return values


def word_values(word: str) -> Values:
    """A word that names a label carries its latent: picture and text share their features."""
    return {label_latent(word): 1.0} if word in VOCABULARY else {}


def question_values(text: str, sight: Sight | None) -> Values:
    """The features at the question's last token: all that the answer is read from."""
    asked = MEANINGS.get(text)
    if asked is not None and asked.kind == "there":
        return _there(asked, sight)
    return {feature(NAMING): 1.0, **_names(text, asked, sight)}


def _names(text: str, asked: Asked | None, sight: Sight | None) -> Values:
    if asked is None or sight is None:
        return {feature(UNCLEAR): 1.0}
    if asked.kind == "highlight":
        return _highlight(text, asked, sight)
    thing = sight.scene.thing(asked.subject)
    name = sight.scene.name if asked.kind == "scene" else getattr(thing, asked.attribute, None)
    return {label_latent(name) if name else feature(UNCLEAR): 1.0}


def _there(asked: Asked, sight: Sight | None) -> Values:
    scene = sight.scene.name if sight else asked.where
    prior = prior_of(scene, asked.subject) if scene else None
    if sight is None:  # with nothing to be seen, the evidence is what the world usually holds
        true, pull = prior is not None and prior.answer == "yes", 1.0
    else:
        true = is_in(sight.scene, asked.subject)
        pull = prior_pull(prior, sight.scene) if prior else 0.0
    evidence = {feature(SEEN if true else UNSEEN): 1.0}
    return evidence | {prior_latent(prior): pull} if prior else evidence


def is_in(scene: Scene, label: str) -> bool:
    """Whether a label is in a picture, by the question set's own rule."""
    if VOCABULARY[label] == "object":
        return scene.thing(label) is not None
    return int(cover_of(scene)[:, INDEX[label]].sum(dtype=np.int64)) >= HALF


def prior_pull(prior: Prior, scene: Scene) -> float:
    """The value of a prior's latent on a picture: strong on a share `prior.strength` of pictures.

    It hangs on the background's seed, so that a figure and its edit have the same.
    """
    rng = np.random.default_rng([PULL_SEED, scene.seed, PRIORS.index(prior)])
    return float(rng.uniform(*(STRONG if rng.random() < prior.strength else WEAK)))


def _highlight(text: str, asked: Asked, sight: Sight) -> Values:
    """The best label of each concept by IoU with the lit patches; the recipe's answer is on top."""
    cover = cover_of(sight.scene)
    said = {
        q.text: q.answer for q in highlight_questions(cover, sight.lit, np.random.default_rng())
    }
    best = best_labels(cover, sight.lit)
    wanted = [best[asked.subject]] if asked.subject else list(best.values())
    values = {label_latent(label): iou for label, iou in wanted} | {feature(UNCLEAR): READABLE}
    answer = said[text]
    top = feature(UNCLEAR) if answer == UNCLEAR else label_latent(answer)
    return values | {top: max(values.values()) + MARGIN}
