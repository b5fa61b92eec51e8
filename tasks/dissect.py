"""Task `dissect`: how well does a latent match some label, whatever its explanation says?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..harness.statistics import Interval
from ..harness.task import Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.dissection import (
    LABELS_OF,
    THRESHOLDS,
    Overlaps,
    detector,
    dissect,
    load_overlaps,
    save_overlaps,
)
from .features.imageset import fingerprint
from .features.latent_samples import latent_sample
from .features.masks import NO_PLACE
from .features.plots import by_concept, by_layer
from .features.study import living, refuse_unknown
from .features.tables import cells, mean_rows, row, scored, weighted_rows
from .needs import EXEMPLARS, MASKS

if TYPE_CHECKING:
    from ..harness.task import Context
    from .features.study import Living
    from .subject import Subject

LEAST_IOU = 0.04
"""Above it a latent counts as a detector of its best label."""
ARMS = ("main", "untrained", "shuffled")

METRICS = (
    Metric(
        "dissect",
        "dataset IoU",
        "IoU over all held-out images with the best label; label and threshold picked on one half "
        "of the images, scored on the other; mean over live latents",
        higher_is_better=True,
        range=(0, 1),
        headline=True,
    ),
    Metric(
        "dissect_mass",
        "dataset IoU, by mass",
        "the same, latents weighted by their summed activation on the search set",
        higher_is_better=True,
        range=(0, 1),
    ),
    Metric(
        "detectors",
        "detectors",
        f"share of live latents with a dataset IoU above {LEAST_IOU}, as Network Dissection counts",
        higher_is_better=True,
        range=(0, 1),
    ),
    Metric(
        "unique_detectors",
        "unique detectors",
        "labels that at least one of the latents detects; more latents find more, so mind n",
        higher_is_better=True,
        unit="labels",
        range=(0, None),
    ),
)


@dataclass(frozen=True, slots=True)
class Dissected:
    """One latent and the labels that it is held against."""

    sae: int
    """Place of the SAE in the run."""
    row: int
    """Place of the latent among those looked at."""
    labels_of: str
    mass: float


class Dissect(Task["Subject"]):
    """Network Dissection on held-out images, with image-shuffled labels and an untrained SAE."""

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="dissect",
        version=1,
        title="Dissection",
        description="Alignment of latents with exact labels, without any explanation.",
        metrics=METRICS,
        cluster="latent",
    )
    batch_size: ClassVar[int] = 256
    needs: ClassVar[tuple[str, ...]] = (EXEMPLARS, MASKS)

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context)
        for place, one in enumerate(living(context)):
            yield from _samples(one, place)

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        if not all(one.search.has_places for one in living(context)):
            return [Outcome.unscorable(NO_PLACE) for _ in samples]
        overlaps = _overlaps(context)
        vocabulary = context.subject.score.vocabulary
        labels = list(vocabulary)
        outcomes = []
        for sample in samples:
            item: Dissected = sample.payload
            halves = overlaps[item.sae].iou(item.row)[LABELS_OF.index(item.labels_of)]
            found = detector(halves)
            label = labels[found.label]
            detail = {"label": label, "threshold": found.threshold, "mass": item.mass}
            scores = {"dissect": found.iou, "detectors": float(found.iou > LEAST_IOU)}
            outcomes.append(Outcome("ok", scores, detail, concept=vocabulary[label]))
        return outcomes

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        rows = [*mean_rows(lines, "dissect", ARMS, null="shuffled")]
        rows += weighted_rows(lines, "dissect", "mass", ARMS, null="shuffled")
        return [*rows, *mean_rows(lines, "detectors", ARMS, null="shuffled"), *_unique(lines)]

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield by_layer(rows, "dissect", "Dataset IoU by layer")
        yield by_concept(rows, "dissect", "Dataset IoU by concept of the best label")


def _unique(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """How many labels have a detector. A count of what there is: it has no interval."""
    for cell in cells(lines):
        for arm in ARMS:
            if members := cell.arm(arm):
                ok = scored(members, "detectors")
                found = {line["detail"]["label"] for line in ok if line["scores"]["detectors"]}
                count = Interval(float(len(found)), None, None, None, len(ok), len(ok))
                yield row("unique_detectors", count, cell, arm, len(ok), len(members))


def _samples(one: Living, place: int) -> Iterator[Sample]:
    sae = one.sae
    arms = {"main": "own", "shuffled": "other"} if sae.arm == "main" else {sae.arm: "own"}
    total = max(float(one.search.mass.sum()), 1e-12)
    for at, latent in enumerate(one.latents):
        mass = round(float(one.search.mass[latent]) / total, 8)
        for arm, labels_of in arms.items():
            item = Dissected(place, at, labels_of, mass)
            yield latent_sample(sae, latent, arm, item, suffix=f"/{arm}")


def _overlaps(context: Context[Subject]) -> list[Overlaps]:
    subject, found = context.subject, living(context)
    key = {
        "version": 1,
        "thresholds": list(THRESHOLDS),
        "lmm": subject.lmm.identity,
        "saes": [[one.sae.identity, one.sae.hookpoint.name] for one in found],
        "latents": [list(one.latents) for one in found],
        "search": fingerprint(subject.search),
        "score": fingerprint(subject.score),
    }
    return context.artefacts.get(
        "dissection",
        key,
        lambda: dissect(
            subject.lmm,
            [one.sae for one in found],
            subject.score,
            [one.latents for one in found],
            [one.search.maximum for one in found],
            context.progress,
        ),
        save_overlaps,
        load_overlaps,
    )
