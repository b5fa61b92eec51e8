"""Task `fuzz`: shown where a latent is active and where it is not, does the explanation tell?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..harness.task import Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.explained import EXPLAINED_ARMS, Explained, explained_samples
from .features.masks import NO_PLACE, rolled, share, token_mask
from .features.plots import by_concept, by_layer
from .features.presence import presence
from .features.segment import chosen_segmenter
from .features.study import refuse_unknown
from .features.tables import metric_rows
from .needs import CLIP, EXEMPLARS, EXPLANATIONS, SEGMENTER

if TYPE_CHECKING:
    from ..harness.task import Context
    from .features.masks import Mask
    from .features.presence import Presence
    from .features.segment import Segmenter
    from .subject import Subject

METRICS = (
    Metric(
        "fuzz",
        "fuzzing",
        "share of held-out images on which the label covers more of the true highlight than of the "
        "same highlight moved; a tie counts half, so .5 is chance",
        higher_is_better=True,
        range=(0, 1),
        headline=True,
    ),
    Metric(
        "fuzz_other",
        "fuzzing, other latent",
        "the same against the highlight of another latent that is active on the same image",
        higher_is_better=True,
        range=(0, 1),
    ),
)


class Fuzz(Task["Subject"]):
    """Two alternatives, one of them right, on the top and decile images of `iou`."""

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="fuzz",
        version=1,
        title="Fuzzing",
        description="Whether an explanation tells the right highlight from a moved one.",
        metrics=METRICS,
        cluster="latent",
    )
    batch_size: ClassVar[int] = 64
    needs: ClassVar[tuple[str, ...]] = (EXPLANATIONS, EXEMPLARS, SEGMENTER, CLIP)

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context, "segmenter")
        return explained_samples(context)

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        self._segmenter = self._segmenter or chosen_segmenter(context)
        where = presence(context, context.subject.score)
        return [
            _outcome(s.payload, where[s.payload.place], self._segmenter, context) for s in samples
        ]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return [*metric_rows(lines, METRICS, EXPLAINED_ARMS, null="hard_shuffled")]

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield by_layer(rows, "fuzz", "Fuzzing by layer")
        yield by_concept(rows, "fuzz", "Fuzzing by concept")


def _outcome(
    item: Explained, where: Presence, segmenter: Segmenter, context: Context[Subject]
) -> Outcome:
    if item.label is None:
        return item.without_label()
    if not item.study.score.has_places:
        return Outcome.unscorable(NO_PLACE, label=item.label)
    images = context.subject.score
    moved: list[float] = []
    other: list[float] = []
    for group in ("top", "decile"):
        for image, lit in item.study.masked(item.latent, group, images.size_of):
            truth = segmenter.segment(images, image, item.label)
            if truth is None:
                return Outcome.unscorable("the segmenter knows no such label", label=item.label)
            rng = np.random.default_rng([context.seed, item.latent, image])
            moved.append(_right(truth, lit, rolled(lit, rng)))
            if (mask := _other(item, where, image, images.size_of(image), rng)) is not None:
                other.append(_right(truth, lit, mask))
    if not moved:
        return Outcome.unscorable("silent on held-out images", label=item.label)
    scores = {"fuzz": float(np.mean(moved))}
    scores |= {"fuzz_other": float(np.mean(other))} if other else {}
    return Outcome.ok(scores, label=item.label, each=moved)


def _right(truth: Mask, lit: Mask, wrong: Mask) -> float:
    """1 when the label covers more of the right highlight, .5 when of both alike."""
    ours, theirs = share(truth, lit) or 0.0, share(truth, wrong) or 0.0
    return 1.0 if ours > theirs else 0.5 if ours == theirs else 0.0


def _other(
    item: Explained, where: Presence, image: int, size: tuple[int, int], rng: np.random.Generator
) -> Mask | None:
    latents = [latent for latent in where.on(image) if latent != item.latent]
    if not latents:
        return None
    tokens, _ = where.active(int(rng.choice(latents)), image)
    return token_mask(item.study.score.boxes(image), tokens, size)
