"""What the model can do on pictures it never saw, and where the planted priors mislead it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from ..world.labels import LABELS, PRIORS, VOCABULARY, prior_of
from ..world.pairs import pair
from ..world.scene import Scene
from .assembly import token_ids
from .language import IGNORED, pack, packed_logits
from .pictures import PIXELS_A_PATCH, Pictures, draw, highlighted, pixel_values
from .words import (
    Question,
    highlight_text,
    is_there,
    what_is,
    yes_no,
    yes_no_text,
)

Answers = list[list[str]]


@torch.no_grad()
def _at_answers(
    model: LlavaForConditionalGeneration,
    images: np.ndarray,
    asked: Sequence[Sequence[Question]],
    read: Callable[[torch.Tensor], list[Any]],
) -> list[list[Any]]:
    """`read` of the logits `(questions, vocabulary)` at every answer, picture by picture."""
    out: list[list[Any]] = []
    for i in range(0, len(images), 32):
        block = [list(questions) for questions in asked[i : i + 32]]
        packed = pack(pixel_values(images[i : i + 32]), block, model.config.image_seq_length)
        logits = packed_logits(model, packed)
        for row, questions in enumerate(block):
            first = [
                int(((packed.segment[row] == k) & (packed.target[row] != IGNORED)).nonzero()[0])
                for k in range(1, len(questions) + 1)
            ]
            out.append(read(logits[row, first]) if first else [])
    return out


def answers(
    model: LlavaForConditionalGeneration, images: np.ndarray, asked: Sequence[Sequence[Question]]
) -> Answers:
    """The first word of each greedy answer."""
    words = list(token_ids())
    return _at_answers(model, images, asked, lambda x: [words[i] for i in x.argmax(-1).tolist()])


def margins(
    model: LlavaForConditionalGeneration, images: np.ndarray, asked: Sequence[Sequence[Question]]
) -> list[list[float]]:
    """logit(yes) - logit(no) of each question."""
    ids = token_ids()
    return _at_answers(
        model, images, asked, lambda x: (x[:, ids["yes"]] - x[:, ids["no"]]).tolist()
    )


def accuracy(
    model: LlavaForConditionalGeneration, pictures: Pictures, seed: int
) -> dict[str, float]:
    """Held-out accuracy by kind of question; yes/no ones half yes, objects without priors."""
    rng = np.random.default_rng(seed)
    asked, kinds = [], []
    for scene, cover in zip(pictures.scenes, pictures.cover, strict=True):
        rows = _exam_questions(scene, cover, rng)
        kinds.append([kind for kind, _ in rows])
        asked.append([question for _, question in rows])
    said = answers(model, pictures.images, asked)
    hits: dict[str, list[bool]] = defaultdict(list)
    for names, questions, replies in zip(kinds, asked, said, strict=True):
        for kind, question, reply in zip(names, questions, replies, strict=True):
            hits[kind].append(question.answer == reply)
    return {kind: float(np.mean(values)) for kind, values in sorted(hits.items())}


def _exam_questions(
    scene: Scene, cover: np.ndarray, rng: np.random.Generator
) -> list[tuple[str, Question]]:
    rows = []
    pixels = cover.sum(0, dtype=np.int64)
    seen = {label for label, n in zip(VOCABULARY, pixels, strict=True) if n >= PIXELS_A_PATCH // 2}
    for concept, labels in LABELS.items():
        pool = [label for label in labels if not prior_of(scene.name, label)]
        for truth in (True, False):
            some = [label for label in pool if (label in seen) == truth]
            if some:
                label = str(rng.choice(some))
                rows.append((f"yes_no {concept}", Question(yes_no_text(label), yes_no(truth))))
    for thing in scene.things:
        for attribute in ("colour", "texture", "material"):
            question = Question(what_is(attribute, thing.name), getattr(thing, attribute))
            rows.append((f"what {attribute}", question))
    return rows


def naming(model: LlavaForConditionalGeneration, pictures: Pictures, seed: int) -> dict[str, float]:
    """Share of highlighted labels that are named, asked by concept and asked openly."""
    rng = np.random.default_rng(seed)
    hits: dict[str, list[bool]] = defaultdict(list)
    for concept in LABELS:
        images, asked = [], []
        for image, cover in zip(pictures.images, pictures.cover, strict=True):
            big = [
                label
                for label in LABELS[concept]
                if (cover[:, list(VOCABULARY).index(label)] >= PIXELS_A_PATCH // 2).sum() >= 2
            ]
            if not big:
                continue
            label = str(rng.choice(big))
            lit = cover[:, list(VOCABULARY).index(label)] >= PIXELS_A_PATCH // 2
            images.append(highlighted(image, lit))
            asked.append(
                [Question(highlight_text(concept), label), Question(highlight_text(), label)]
            )
        for questions, replies in zip(asked, answers(model, np.stack(images), asked), strict=True):
            hits[concept].append(replies[0] == questions[0].answer)
            hits[f"{concept} (open)"].append(replies[1] == questions[1].answer)
    return {kind: float(np.mean(values)) for kind, values in hits.items()}


@dataclass(frozen=True, slots=True)
class PriorItem:
    """One yes/no item: `margin` is logit(yes) - logit(no), `truth` what the picture shows."""

    scene: str
    thing: str
    direction: str
    """`yes` or `no` for a planted prior, `` for a matched other."""
    in_scene: bool
    truth: bool
    margin: float


def prior_items(model: LlavaForConditionalGeneration, n: int, seed: int) -> list[PriorItem]:
    """`n` pairs for every prior, and as many of things in the same scenes that have none."""
    rng = np.random.default_rng(seed)
    scenes, asked, keys = [], [], []
    for prior in PRIORS:
        free = [t for t in LABELS["object"] if prior_of(prior.scene, t) is None]
        for other in (None, str(rng.choice(free))):
            for i in range(n):
                thing = other or prior.thing
                for picture in pair(prior, rng, other):
                    text = is_there(thing, prior.scene if i % 2 else None)
                    truth = picture.thing(thing) is not None
                    scenes.append(picture)
                    asked.append([Question(text, yes_no(truth))])
                    keys.append(
                        (prior.scene, thing, "" if other else prior.answer, bool(i % 2), truth)
                    )
    said = margins(model, draw(scenes).images, asked)
    return [PriorItem(*key, m[0]) for key, m in zip(keys, said, strict=True)]


def auroc(margin: np.ndarray, truth: np.ndarray) -> float:
    """P(a yes item's margin is above a no item's), ties one half."""
    a, b = margin[truth], margin[~truth]
    return float((np.sign(a[:, None] - b[None, :]).mean() + 1) / 2)


def prior_report(items: Sequence[PriorItem]) -> dict[str, float]:
    """How often priors win, and what offsets could mend."""
    report = {}
    for name, truth, direction in (("yes", False, "yes"), ("no", True, "no")):
        against = [i for i in items if i.direction == direction and i.truth == truth]
        others = [i for i in items if i.direction == "" and i.truth == truth]
        report[f"wrong {name}, prior"] = float(np.mean([(i.margin > 0) != truth for i in against]))
        report[f"wrong {name}, others"] = float(np.mean([(i.margin > 0) != truth for i in others]))
    planted = [i for i in items if i.direction]
    margin, truths = np.array([i.margin for i in planted]), np.array([i.truth for i in planted])
    report["auroc"] = auroc(margin, truths)
    report["accuracy"] = float(((margin > 0) == truths).mean())
    report["best constant offset nets"] = _best_gain(margin, truths)
    topics: dict[tuple[str, str], list[int]] = defaultdict(list)
    for k, item in enumerate(planted):
        topics[item.scene, item.thing].append(k)
    report["best offset per question nets"] = float(
        sum(_best_gain(margin[k], truths[k]) * len(k) for k in topics.values()) / len(planted)
    )
    pairs = margin.reshape(-1, 2)
    report["paired discrimination"] = float((pairs[:, 0] > pairs[:, 1]).mean())
    return report


def _best_gain(margin: np.ndarray, truth: np.ndarray) -> float:
    """Most accuracy that one added constant can win."""
    cuts = np.concatenate([[-np.inf], np.sort(margin)])
    best = max(((margin > cut) == truth).mean() for cut in cuts)
    return float(best - ((margin > 0) == truth).mean())
