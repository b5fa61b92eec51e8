"""One latent's masks against the region that a label names: main score, nulls and ceiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...harness.task import Outcome
from .explain import without_label
from .masks import NO_PLACE, best_tokens, centred, iou, rolled, token_mask
from .presence import POOL, presence

if TYPE_CHECKING:
    from ...harness.task import Context
    from ..subject import Subject
    from .masks import Mask
    from .presence import Presence
    from .protocols import Rules
    from .segment import Segmenter
    from .selection import Ints
    from .study import Split, Study

DRAWS, IMAGES_A_DRAW = 10, 5
"""The paper's random baseline: ten times five random images."""


@dataclass(frozen=True, slots=True)
class IouItem:
    """One latent, one group of images, one arm."""

    study: Study
    place: int
    """Of the SAE in the run; nothing but an SAE of the run has a use for it."""
    latent: int
    group: Split
    arm: str
    label: str | None


class Overlap:
    """Scores items under one protocol."""

    def __init__(self, rules: Rules, segmenter: Segmenter, context: Context[Subject]) -> None:
        self._rules, self._segmenter, self._context = rules, segmenter, context
        self._images = rules.images(context.subject)

    def outcome(self, item: IouItem) -> Outcome:
        if item.label is None:
            return without_label(item.study.explanations[item.latent], "no other label")
        if not item.study.survey(item.group).has_places:
            return Outcome.unscorable(NO_PLACE, label=item.label)
        shown = list(item.study.active(item.latent, item.group))
        if not shown:
            return Outcome.unscorable("silent on held-out images", label=item.label)
        if item.arm == "random_images":
            return self._random_images(item, item.label)
        pairs: list[tuple[Mask, Mask] | None] = []
        for image, tokens in shown:
            truth = self._truth(image, item.label)
            if truth is None:
                return _unknown(item.label)
            mask = self._arm_mask(item, image, tokens, truth)
            pairs.append(None if mask is None else (mask, truth))
        each = [None if pair is None else iou(*pair) for pair in pairs]
        if self._rules.missing:
            absent = [0.0] * (self._rules.missing - len(each))
            each = [*(value or 0.0 for value in each), *absent]
        ids = [self._images.ids[image] for image, _ in shown]
        return _outcome(each, _sums(pairs), item, ids)

    def _truth(self, image: int, label: str) -> Mask | None:
        return self._segmenter.segment(self._images, image, label)

    def _mask(self, item: IouItem, image: int, tokens: Ints) -> Mask:
        boxes = item.study.survey(item.group).boxes(image)
        return self._rules.mask(boxes, tokens, self._images.size_of(image))

    def _arm_mask(self, item: IouItem, image: int, tokens: Ints, truth: Mask) -> Mask | None:
        """What an arm holds against the true mask; None where it has nothing to hold."""
        if item.arm in _FORMS:
            rng = np.random.default_rng([self._context.seed, item.latent, image])
            return _FORMS[item.arm](self._mask(item, image, tokens), rng)
        if item.arm == "other_latent":
            return self._other(item, image)
        if item.arm == "ceiling":
            return self._ceiling(item, image, truth)
        return self._mask(item, image, tokens)

    def _ceiling(self, item: IouItem, image: int, truth: Mask) -> Mask | None:
        """The best set of patches for the true mask, where there is one."""
        if not truth.any():
            return None
        boxes = item.study.survey(item.group).boxes(image)
        size = self._images.size_of(image)
        return token_mask(boxes, best_tokens(truth, boxes), size)

    def _other(self, item: IouItem, image: int) -> Mask | None:
        """A random other latent of the SAE that is active on this image too."""
        where = self._held_out[item.place]
        others = [latent for latent in where.on(image) if latent != item.latent]
        if not others:
            return None
        rng = np.random.default_rng([self._context.seed, item.latent, image, 1])
        tokens, _ = where.active(int(rng.choice(others)), image)
        return self._mask(item, image, tokens)

    def _random_images(self, item: IouItem, label: str) -> Outcome:
        """The paper's null. Nearly all masks are empty there, and score 0 whatever the label."""
        where = self._pool[item.place]
        rng = np.random.default_rng([self._context.seed, item.latent, 2])
        drawn = rng.choice(where.images, (DRAWS, IMAGES_A_DRAW))
        known: dict[int, float] = {}
        for image in np.unique(drawn).tolist():
            truth = self._truth(image, label)
            if truth is None:
                return _unknown(label)
            mask = self._mask(item, image, where.active(item.latent, image)[0])
            known[image] = iou(mask, truth) or 0.0
        means = [float(np.mean([known[image] for image in row])) for row in drawn.tolist()]
        scores = {f"iou_{item.group}": float(np.mean(means))}
        return Outcome.ok(scores, label=label, each=[round(mean, 6) for mean in means])

    @cached_property
    def _held_out(self) -> list[Presence]:
        return presence(self._context, self._context.subject.score)

    @cached_property
    def _pool(self) -> list[Presence]:
        if self._rules.groups == ("search",):
            return presence(self._context, self._context.subject.search, POOL)
        return self._held_out


_FORMS: dict[str, Callable[[Mask, np.random.Generator], Mask]] = {
    "rolled": rolled,
    "whole_image": lambda mask, rng: np.ones_like(mask),
    "centre": lambda mask, rng: centred(mask),
}
"""Nulls that are made from the mask alone."""


def _unknown(label: str) -> Outcome:
    return Outcome.unscorable("the segmenter knows no such label", label=label)


def _sums(pairs: Sequence[tuple[Mask, Mask] | None]) -> dict[str, float]:
    """Of the images together: pixels in both masks over pixels in either, and the mask's area."""
    known = [pair for pair in pairs if pair is not None]
    either = sum(int(np.count_nonzero(mask | truth)) for mask, truth in known)
    both = sum(int(np.count_nonzero(mask & truth)) for mask, truth in known)
    found = {"pooled": both / either} if either else {}
    return found | {"area": float(np.mean([mask.mean() for mask, _ in known]))} if known else {}


def _outcome(
    each: Sequence[float | None], sums: dict[str, float], item: IouItem, ids: Sequence[str]
) -> Outcome:
    known = [value for value in each if value is not None]
    if not known:
        absent = "the label is on none of the images"
        empty = absent if item.arm == "ceiling" else "both masks empty"
        return Outcome.unscorable(empty, label=item.label)
    rounded = [None if value is None else round(value, 6) for value in each]
    scores = {f"iou_{item.group}": float(np.mean(known))}
    scores |= {f"{name}_{item.group}": value for name, value in sums.items()}
    return Outcome.ok(scores, label=item.label, images=list(ids), each=rounded)
