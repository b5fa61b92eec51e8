"""Task `detect`: does the explanation predict on which held-out images a latent is active?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..harness.task import Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.clip_scores import clip_space
from .features.explained import EXPLAINED_ARMS, Explained, explained_samples
from .features.plots import by_concept, by_layer
from .features.presence import presence
from .features.ranking import average_precision, balanced_accuracy, lift
from .features.segment import chosen_segmenter
from .features.study import refuse_unknown
from .features.tables import metric_rows
from .needs import CLIP, EXEMPLARS, EXPLANATIONS, SEGMENTER

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..harness.task import Context
    from .features.segment import Segmenter
    from .subject import Subject

    Vector = npt.NDArray[np.float64]

LEAST = 5
"""Active and inactive held-out images that a latent must have at least."""
HARD = 20
"""Inactive images nearest by CLIP to the active ones."""
DECILES = 10
METRICS = (
    Metric(
        "detect",
        "detection",
        "balanced accuracy over all held-out images: the label is somewhere in the picture, "
        "the latent is active on it; .5 is chance",
        higher_is_better=True,
        range=(0, 1),
        headline=True,
    ),
    Metric(
        "detect_lift",
        "detection, AUPRC lift",
        "(AUPRC - prevalence) / (1 - prevalence), images ranked by the area of the label",
        higher_is_better=True,
        range=(None, 1),
    ),
    Metric(
        "detect_auprc",
        "detection, AUPRC",
        "area under precision and recall of the same ranking; the share of active images by chance",
        higher_is_better=True,
        range=(0, 1),
    ),
    Metric(
        "detect_hard",
        "detection, hard negatives",
        "balanced accuracy with the inactive images that CLIP finds nearest to the active ones",
        higher_is_better=True,
        range=(0, 1),
    ),
    Metric(
        "detect_top",
        "detection, strongest tenth",
        "balanced accuracy with the tenth of active images on which the latent is strongest",
        higher_is_better=True,
        range=(0, 1),
    ),
)


class Detect(Task["Subject"]):
    """The labeller is the segmenter: whoever finds the label in a picture says 'active'."""

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="detect",
        version=1,
        title="Detection",
        description="Whether an explanation predicts activation on held-out images of all deciles.",
        metrics=METRICS,
        cluster="latent",
    )
    batch_size: ClassVar[int] = 256
    needs: ClassVar[tuple[str, ...]] = (EXPLANATIONS, EXEMPLARS, SEGMENTER, CLIP)

    def __init__(self) -> None:
        self._areas: dict[str, Vector | None] = {}
        self._segmenter: Segmenter | None = None

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context, "segmenter")
        return explained_samples(context)

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        where = presence(context, context.subject.score)
        looked_at = where[0].images.tolist()
        vectors = clip_space(context).images(looked_at)
        near = vectors @ vectors.T
        found = []
        for sample in samples:
            item: Explained = sample.payload
            pooled = where[item.place].pooled(item.latent)
            area = self._area(item.label, looked_at, context) if item.label else None
            found.append(_outcome(item, pooled, area, near))
        return found

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return [*metric_rows(lines, METRICS, EXPLAINED_ARMS, null="hard_shuffled")]

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield by_layer(rows, "detect", "Detection by layer")
        yield by_concept(rows, "detect", "Detection by concept")

    def _area(
        self, label: str, looked_at: Sequence[int], context: Context[Subject]
    ) -> Vector | None:
        """`(images,)` share of each picture in which the label is found; None for unknown words."""
        if label not in self._areas:
            self._segmenter = self._segmenter or chosen_segmenter(context)
            images = context.subject.score
            masks = [self._segmenter.segment(images, i, label) for i in looked_at]
            shares = [None if mask is None else float(mask.mean()) for mask in masks]
            known = [share for share in shares if share is not None]
            self._areas[label] = np.array(known) if len(known) == len(shares) else None
        return self._areas[label]


def _outcome(
    item: Explained, pooled: Vector, area: Vector | None, near: npt.NDArray[np.floating]
) -> Outcome:
    if item.label is None:
        return item.without_label()
    if area is None:
        return Outcome.unscorable("the segmenter knows no such label", label=item.label)
    active = pooled > 0
    if min(active.sum(), (~active).sum()) < LEAST:
        return Outcome.unscorable(
            f"active or silent on fewer than {LEAST} held-out images", label=item.label
        )
    precision = average_precision(area, active)
    assert precision is not None
    ranked = np.flatnonzero(active)[np.argsort(-pooled[active], kind="stable")]
    silent = np.flatnonzero(~active)
    hard = silent[np.argsort(-near[silent][:, active].mean(1), kind="stable")[:HARD]]
    top = ranked[: -(-len(ranked) // DECILES)]
    scores = {
        "detect": balanced_accuracy(area > 0, active),
        "detect_hard": _on(area, active, np.concatenate([ranked, hard])),
        "detect_top": _on(area, active, np.concatenate([top, silent])),
    }
    known = {name: value for name, value in scores.items() if value is not None}
    deciles = [
        float((area[part] > 0).mean()) for part in np.array_split(ranked, DECILES) if len(part)
    ]
    return Outcome.ok(
        known | {"detect_lift": lift(precision, float(active.mean())), "detect_auprc": precision},
        label=item.label,
        prevalence=round(float(active.mean()), 6),
        recall_by_decile=[round(share, 4) for share in deciles],
    )


def _on(area: Vector, active: npt.NDArray[np.bool_], some: npt.NDArray[np.int64]) -> float | None:
    return balanced_accuracy(area[some] > 0, active[some])
