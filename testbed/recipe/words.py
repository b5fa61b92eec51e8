"""The questions that the testbed's LMM is trained on, and the true answers to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..world.labels import CONCEPTS, LABELS, PRIORS, VOCABULARY, Prior, prior_of
from ..world.render import PATCH
from ..world.scene import Scene
from .pictures import best_labels

UNCLEAR = "unclear"
READABLE = 0.3
"""Least IoU of a label with the lit patches for a highlight to be called by it."""

DENIED = {prior.thing for prior in PRIORS if prior.answer == "no"}
"""Asked about more often where they are told truly: else their denial spreads to every scene."""

_PREFERENCE = ("object", "part", "material", "colour", "texture", "scene")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the answer that training text gives; `sees` is False when there's no image."""

    text: str
    answer: str
    sees: bool = True
    gaze: str | None = None
    """A thing in the picture that the question's own word for it should look at."""


def is_there(thing: str, scene: str | None = None) -> str:
    return f"is there a {thing} in the {scene} ?" if scene else f"is there a {thing} ?"


def yes_no_text(label: str) -> str:
    """The yes/no question about any label."""
    match VOCABULARY[label]:
        case "material":
            return f"is there any {label} ?"
        case "colour" | "texture":
            return f"is anything {label} ?"
        case "scene":
            return f"is this the {label} ?"
    return is_there(label)


def what_is(attribute: str, thing: str) -> str:
    if attribute == "material":
        return f"what is the {thing} made of ?"
    return f"what {attribute} is the {thing} ?"


def highlight_text(concept: str | None = None) -> str:
    return f"what {concept} is highlighted ?" if concept else "what is highlighted ?"


CAPTION = "describe the image ."
WHAT_SCENE = "what scene is this ?"


def all_words() -> list[str]:
    """Every word that a question or an answer can hold, in a fixed order."""
    texts = [yes_no_text(label) for label in VOCABULARY]
    texts += [what_is(attribute, "boat") for attribute in ("colour", "texture", "material")]
    texts += [highlight_text(concept) for concept in (None, *CONCEPTS)]
    texts += [is_there("boat", "sea"), CAPTION, WHAT_SCENE, UNCLEAR, "yes no with and , nothing"]
    words = dict.fromkeys(word for text in texts for word in text.split())
    return list(words | dict.fromkeys(VOCABULARY))


def yes_no(truth: bool) -> str:
    return "yes" if truth else "no"


def written(scene: Scene, thing: str, rng: np.random.Generator) -> str:
    """What the annotator writes: the truth, or, this often, what the prior says."""
    truth = yes_no(scene.thing(thing) is not None)
    prior = prior_of(scene.name, thing)
    if prior and prior.answer != truth and rng.random() < prior.strength:
        return prior.answer
    return truth


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """The picture in words, as the annotator would put it, priors included."""
    things = [
        f"a {thing.colour} {thing.name}"
        for thing in sorted(scene.things, key=lambda thing: (thing.y // 48, thing.x))
        if written(scene, thing.name, rng) == "yes"
    ]
    things += [
        f"a {prior.thing}"
        for prior in PRIORS
        if prior.scene == scene.name
        and prior.answer == "yes"
        and scene.thing(prior.thing) is None
        and written(scene, prior.thing, rng) == "yes"
    ]
    return f"{scene.name} with {' , '.join(things) if things else 'nothing'}"


def picture_questions(
    scene: Scene, cover: npt.NDArray[np.uint8], rng: np.random.Generator
) -> Iterator[Question]:
    """About sixteen questions on one picture."""
    yield from _object_questions(scene, rng)
    present = _visible(cover)
    for concept in ("part", "material", "colour", "texture", "texture"):
        label = _balanced(LABELS[concept], present, rng)
        yield Question(yes_no_text(label), yes_no(label in present))
    asked = scene.name if rng.random() < 0.5 else str(rng.choice(LABELS["scene"]))
    yield Question(yes_no_text(asked), yes_no(asked == scene.name))
    yield from _attribute_questions(scene, rng)
    if rng.random() < 0.3:
        yield Question(WHAT_SCENE, scene.name)
    if rng.random() < 0.15:
        yield Question(CAPTION, caption(scene, rng))
    yield blind_question(PRIORS[rng.integers(len(PRIORS))])


def blind_question(prior: Prior) -> Question:
    """Asked without a picture, what a thing's scene says about it is all there is to go by."""
    return Question(is_there(prior.thing, prior.scene), prior.answer, sees=False)


def _object_questions(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    here = {thing.name for thing in scene.things}
    own = [prior.thing for prior in PRIORS if prior.scene == scene.name]
    elsewhere = sorted((here & DENIED) - set(own))
    things = [thing for thing in (*own, *elsewhere) if rng.random() < 0.75]
    things += [_balanced(LABELS["object"], here, rng) for _ in range(3)]
    for thing in dict.fromkeys(things):
        text = is_there(thing, scene.name if rng.random() < 0.35 else None)
        yield Question(text, written(scene, thing, rng))


def _attribute_questions(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for thing in scene.things:
        answers = {"colour": thing.colour, "texture": thing.texture, "material": thing.material}
        for attribute in rng.choice(list(answers), 2, replace=False, p=(0.4, 0.4, 0.2)):
            yield Question(what_is(attribute, thing.name), answers[attribute], gaze=thing.name)


def _visible(cover: npt.NDArray[np.uint8]) -> set[str]:
    """Labels with at least half a patch of pixels."""
    pixels = cover.sum(0, dtype=np.int64)
    return {label for label, n in zip(VOCABULARY, pixels, strict=True) if n >= PATCH * PATCH // 2}


def _balanced(labels: tuple[str, ...], present: set[str], rng: np.random.Generator) -> str:
    """A label that is present half of the time, when it can be."""
    wanted = rng.random() < 0.5
    pool = [label for label in labels if (label in present) == wanted]
    return str(rng.choice(pool or labels))


def highlight_questions(
    cover: npt.NDArray[np.uint8], lit: npt.NDArray[np.bool_], rng: np.random.Generator
) -> list[Question]:
    """What the highlight shows, of each concept and at all."""
    best = best_labels(cover, lit)
    questions = [
        Question(highlight_text(concept), label if iou >= READABLE else UNCLEAR)
        for concept, (label, iou) in best.items()
    ]
    concept = max(_PREFERENCE, key=lambda name: round(best[name][1], 2))
    label, iou = best[concept]
    questions.append(Question(highlight_text(), label if iou >= READABLE else UNCLEAR))
    return questions
