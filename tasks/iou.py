"""Task `iou`: does the region that an explanation names match where the latent is active?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..harness.task import Card, Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.cards import feature_cards
from .features.census import CENSUS_METRICS, census_rows, census_samples
from .features.clip_scores import (
    CLIP_METRICS,
    clip_outcomes,
    clip_rows,
    clip_samples,
    wrong_labels,
)
from .features.grounded_sam import GroundedSam
from .features.masks import NO_PLACE, best_tokens, iou, rolled, token_mask
from .features.plots import by_concept, by_layer
from .features.segment import ExactMasks
from .features.study import refuse_unknown, studies
from .features.tables import gain_rows, macro_rows, mean_rows

if TYPE_CHECKING:
    from ..harness.task import Context
    from .features.masks import Mask
    from .features.segment import Segmenter
    from .features.study import Split, Study
    from .subject import Subject

GROUPS: tuple[Split, ...] = ("top", "decile")
CONTROLS = ("rolled", "hard_shuffled", "ceiling")
"""Arms of a trained SAE's latents besides `main`."""
ARMS = ("main", "rolled", "hard_shuffled", "untrained", "ceiling")


@dataclass(frozen=True, slots=True)
class IouItem:
    """One latent, one group of held-out images, one arm."""

    study: Study
    latent: int
    group: Split
    arm: str
    label: str | None
    reason: str | None


def _metrics() -> Iterator[Metric]:
    groups = {"top": "5 top held-out images", "decile": "5 held-out images of random deciles"}
    for group, images in groups.items():
        about = f"per-image IoU of the explanation's mask and the active patches, {images} a latent"
        yield Metric(f"iou_{group}", f"IoU ({group})", about, True, range=(0, 1), headline=True)
        macro = f"mean over concepts of iou_{group}"
        yield Metric(f"iou_{group}_macro", f"IoU ({group}), macro", macro, True, range=(0, 1))
        gain = "(main - hard-shuffled) / (ceiling - hard-shuffled)"
        yield Metric(f"gain_{group}", f"normalised gain ({group})", gain, True, range=(None, 1))


class Iou(Task["Subject"]):
    """Protocol `strict`: held-out images, exact boxes, active = activation > 0.

    Nothing detected is IoU 0. A latent without an explanation or silent on held-out images is
    unscorable. The ceiling is the best set of patches for the true mask, where there is one.
    """

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="iou",
        version=1,
        title="IoU of explanations",
        description="Overlap of the region that an explanation names and the active patches.",
        metrics=(*_metrics(), *CLIP_METRICS, *CENSUS_METRICS),
        cluster="latent",
    )
    batch_size: ClassVar[int] = 64

    def __init__(self) -> None:
        self._segmenter: Segmenter = ExactMasks()

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context, "segmenter")
        if "segmenter" in context.params:
            self._segmenter = GroundedSam(context.params["segmenter"]["ref"])
        for study in studies(context):
            yield from _study_samples(study, context)
        yield from clip_samples(context)
        yield from census_samples(studies(context))

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        found: dict[str, Outcome] = {}
        clip = [sample for sample in samples if sample.id.endswith("/clip")]
        if clip:
            found |= zip((s.id for s in clip), clip_outcomes(clip, context), strict=True)
        for sample in samples:
            if isinstance(sample.payload, IouItem):
                found[sample.id] = self._overlap(sample.payload, context)
            elif isinstance(sample.payload, Outcome):
                found[sample.id] = sample.payload
        return [found[sample.id] for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        rows: list[MetricRow] = []
        for group in GROUPS:
            mine = [line for line in lines if line["id"].endswith(f"/{group}")]
            score = f"iou_{group}"
            rows += mean_rows(mine, score, ARMS, null="hard_shuffled")
            rows += macro_rows(mine, score, ARMS, null="hard_shuffled")
            rows += gain_rows(mine, score, f"gain_{group}", "hard_shuffled", "ceiling")
        return [*rows, *clip_rows(lines), *census_rows(lines)]

    def cards(self, lines: Sequence[Line], context: Context[Subject]) -> Iterable[Card]:
        return feature_cards(lines, context, rank_by="iou_top")

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        for group in GROUPS:
            yield by_layer(rows, f"iou_{group}", f"IoU by layer, {group} images")
            yield by_concept(rows, f"iou_{group}", f"IoU by concept, {group} images")

    def _overlap(self, item: IouItem, context: Context[Subject]) -> Outcome:
        if item.label is None:
            return Outcome.unscorable(item.reason or "no explanation")
        if not item.study.score.has_places:
            return Outcome.unscorable(NO_PLACE, label=item.label)
        images = context.subject.score
        pairs = list(item.study.masked(item.latent, item.group, images.size))
        if not pairs:
            return Outcome.unscorable("silent on held-out images", label=item.label)
        each: list[float | None] = []
        for index, mask in pairs:
            truth = self._segmenter.segment(images, index, item.label)
            if truth is None:
                return Outcome.unscorable("the segmenter knows no such label", label=item.label)
            rng = np.random.default_rng([context.seed, item.latent, index])
            each.append(_image_iou(item, index, mask, truth, rng))
        return _mean(each, item, [images.ids[index] for index, _ in pairs])


def _image_iou(
    item: IouItem, index: int, mask: Mask, truth: Mask, rng: np.random.Generator
) -> float | None:
    if item.arm == "rolled":
        return iou(rolled(mask, rng), truth)
    if item.arm != "ceiling":
        return iou(mask, truth)
    if not truth.any():
        return None
    boxes = item.study.score.boxes(index)
    height, width = truth.shape
    return iou(token_mask(boxes, best_tokens(truth, boxes), (width, height)), truth)


def _mean(each: Sequence[float | None], item: IouItem, ids: Sequence[str]) -> Outcome:
    known = [value for value in each if value is not None]
    if not known:
        absent = "the label is on none of the images"
        empty = absent if item.arm == "ceiling" else "both masks empty"
        return Outcome.unscorable(empty, label=item.label)
    rounded = [None if value is None else round(value, 6) for value in each]
    scores = {f"iou_{item.group}": float(np.mean(known))}
    return Outcome.ok(scores, label=item.label, images=list(ids), each=rounded)


def _study_samples(study: Study, context: Context[Subject]) -> Iterator[Sample]:
    trained = study.arm == "main"
    wrong = wrong_labels(study, context) if trained else {}
    for latent in study.explanations:
        for group in GROUPS:
            for arm in ("main", *CONTROLS) if trained else (study.arm,):
                yield _sample(study, latent, group, arm, wrong)


def _sample(study: Study, latent: int, group: Split, arm: str, wrong: Mapping[str, str]) -> Sample:
    said = study.explanations[latent]
    label = wrong.get(said.label or "") if arm == "hard_shuffled" else said.label
    reason = None if label else (said.reason or "no other label")
    return Sample(
        id=f"{study.name(latent)}/{arm}/{group}",
        cluster=study.name(latent),
        arm=arm,
        sae=study.sae.name,
        hookpoint=study.sae.hookpoint.name,
        latent=latent,
        concept=said.concept,
        payload=IouItem(study, latent, group, arm, label, reason),
    )
