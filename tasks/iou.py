"""Task `iou`: does the region that an explanation names match where the latent is active?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from ..harness.task import Card, Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.cards import feature_cards
from .features.census import CENSUS_METRICS, LABELLER_METRICS, census_rows, census_samples
from .features.clip_scores import (
    CLIP_METRICS,
    clip_outcomes,
    clip_rows,
    clip_samples,
    wrong_labels,
)
from .features.latent_samples import label_for, latent_sample
from .features.overlap import IouItem, Overlap
from .features.plots import by_concept, by_layer
from .features.protocols import PROTOCOLS, RULES, STRICT_ARMS
from .features.published_rows import published_rows
from .features.segment import ExactMasks, chosen_segmenter
from .features.study import neuron_studies, refuse_unknown, studies
from .features.tables import gain_rows, macro_rows, mean_rows
from .features.two_levels import MIXED_ARMS, common_mix_rows, of_images
from .needs import CLIP, EXEMPLARS, EXPLANATIONS, SEGMENTER

if TYPE_CHECKING:
    from ..harness.task import Context
    from .features.protocols import Rules
    from .features.segment import Segmenter
    from .features.study import Split, Study
    from .subject import Subject

GROUPS: Mapping[Split, str] = {
    "top": "5 top held-out images",
    "decile": "5 held-out images of random deciles",
    "search": "5 images that the explanation was written from",
}
SUMMED_ARMS = ("main", "hard_shuffled", "untrained", "ceiling")
AREA_ARMS = ("main", "untrained", "ceiling")
"""Those whose masks are of their own size; most nulls take that of `main`."""
DEGENERATE = "degenerate: nearly all masks are empty there, and any label scores 0"


def _metrics() -> Iterator[Metric]:
    for group, images in GROUPS.items():
        about = f"per-image IoU of the explanation's mask and the active patches, {images} a latent"
        yield Metric(f"iou_{group}", f"IoU ({group})", about, True, range=(0, 1), headline=True)
        macro = f"mean over concepts of iou_{group}"
        yield Metric(f"iou_{group}_macro", f"IoU ({group}), macro", macro, True, range=(0, 1))
        mix = f"mean of iou_{group} at one mix of concepts for all layers, SAEs and arms of the run"
        yield Metric(f"iou_{group}_mix", f"IoU ({group}), common mix", mix, True, range=(0, 1))
        sums = "pixels in both masks over pixels in either, summed over a latent's images, "
        pooled = f"{sums}{images}"
        yield Metric(f"pooled_{group}", f"IoU ({group}), summed", pooled, True, range=(0, 1))
        area = f"share of the picture that the mask of active patches covers, {images}"
        yield Metric(f"area_{group}", f"mask area ({group})", area, None, range=(0, 1))
        if group != "search":
            gain = "(main - hard-shuffled) / (ceiling - hard-shuffled), latents resampled together"
            title = f"normalised gain ({group})"
            yield Metric(f"gain_{group}", title, gain, True, range=(None, 1), headline=True)


class Iou(Task["Subject"]):
    """Protocols: `features/protocols.py`.

    In `strict` nothing detected is IoU 0; a latent without an explanation or silent on held-out
    images is unscorable. The ceiling is the best set of patches for the true mask, if there is one.
    """

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="iou",
        version=2,
        title="IoU of explanations",
        description="Overlap of the region that an explanation names and the active patches.",
        metrics=(*_metrics(), *CLIP_METRICS, *CENSUS_METRICS, *LABELLER_METRICS),
        cluster="latent",
        protocols=PROTOCOLS,
    )
    batch_size: ClassVar[int] = 64
    needs: ClassVar[tuple[str, ...]] = (EXPLANATIONS, EXEMPLARS, SEGMENTER, CLIP)

    def __init__(self) -> None:
        self._segmenter: Segmenter = ExactMasks()

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context, "segmenter")
        rules = RULES[context.protocol]
        if "segmenter" in context.params:
            self._segmenter = chosen_segmenter(context, united=rules.squashed)
        for place, study in enumerate(studies(context)):
            yield from _study_samples(study, place, rules, context)
        for study in neuron_studies(context) if "neuron" in rules.arms else ():
            yield from _study_samples(study, -1, rules, context)
        yield from clip_samples(context)
        yield from census_samples(studies(context))

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        found: dict[str, Outcome] = {}
        clip = [sample for sample in samples if sample.id.endswith("/clip")]
        if clip:
            found |= zip((s.id for s in clip), clip_outcomes(clip, context), strict=True)
        overlap = Overlap(RULES[context.protocol], self._segmenter, context)
        for sample in samples:
            if isinstance(sample.payload, IouItem):
                found[sample.id] = overlap.outcome(sample.payload)
            elif isinstance(sample.payload, Outcome):
                found[sample.id] = sample.payload
        return [found[sample.id] for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        rows: list[MetricRow] = []
        for group in GROUPS:
            mine = [line for line in lines if line["id"].endswith(f"/{group}")]
            score = f"iou_{group}"
            means = mean_rows(mine, score, STRICT_ARMS, null="hard_shuffled", of_images=of_images)
            rows += _flagged(means)
            rows += common_mix_rows(mine, score, MIXED_ARMS)
            rows += _flagged(macro_rows(mine, score, STRICT_ARMS, null="hard_shuffled"))
            rows += mean_rows(mine, f"pooled_{group}", SUMMED_ARMS, null="hard_shuffled")
            rows += mean_rows(mine, f"area_{group}", AREA_ARMS)
            if group != "search":
                rows += gain_rows(mine, score, f"gain_{group}", "hard_shuffled", "ceiling")
        if any(line["protocol"] != "strict" for line in lines):
            rows += [*published_rows("iou_search"), *published_rows("clip")]
        return [*rows, *clip_rows(lines), *census_rows(lines)]

    def cards(self, lines: Sequence[Line], context: Context[Subject]) -> Iterable[Card]:
        rank_by = f"iou_{RULES[context.protocol].groups[0]}"
        return feature_cards(lines, context, rank_by=rank_by)

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        there = {row.metric for row in rows}
        for group in GROUPS:
            if f"iou_{group}" in there:
                yield by_layer(rows, f"iou_{group}", f"IoU by layer, {group} images")
                yield by_concept(rows, f"iou_{group}", f"IoU by concept, {group} images")


def _flagged(rows: Iterable[MetricRow]) -> Iterator[MetricRow]:
    """The paper's null never stands without saying what it is."""
    for row in rows:
        yield replace(row, note=row.note or DEGENERATE) if row.arm == "random_images" else row


def _study_samples(
    study: Study, place: int, rules: Rules, context: Context[Subject]
) -> Iterator[Sample]:
    trained = study.arm == "main"
    wrong = wrong_labels(study, context) if trained else {}
    arms = [arm for arm in rules.arms if arm not in ("untrained", "neuron")]
    for latent in study.explanations:
        for group in rules.groups:
            for arm in arms if trained else (study.arm,):
                # The paper's random images are the same whatever the group.
                if arm != "random_images" or group == rules.groups[0]:
                    yield _sample(study, place, latent, group, arm, wrong)


def _sample(
    study: Study, place: int, latent: int, group: Split, arm: str, wrong: Mapping[str, str]
) -> Sample:
    said = study.explanations[latent]
    label = label_for(said, wrong if arm == "hard_shuffled" else None)
    item, suffix = IouItem(study, place, latent, group, arm, label), f"/{arm}/{group}"
    return latent_sample(study.sae, latent, arm, item, suffix=suffix, concept=said.concept)
