"""Task `mono`: do a latent's images belong together, and its patches?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..harness.task import Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.clip_scores import clip_space
from .features.coherence import activation_map, monosemanticity, moran
from .features.latent_samples import latent_sample
from .features.plots import by_layer
from .features.presence import presence
from .features.protocols import base_grid
from .features.study import living, refuse_unknown, surveys
from .features.tables import metric_rows
from .needs import CLIP, EXEMPLARS

if TYPE_CHECKING:
    from ..harness.task import Context
    from .features.clip import Vectors
    from .features.presence import Presence
    from .features.study import Living
    from .features.surveying import Survey
    from .subject import Subject

ARMS = ("main", "untrained")
METRICS = (
    Metric(
        "mono",
        "monosemanticity",
        "mean cosine of CLIP embeddings over pairs of held-out images, weighted by both "
        "activations, minus its mean when activations are permuted over images",
        higher_is_better=True,
        range=(-2, 2),
        headline=True,
    ),
    Metric(
        "mono_raw",
        "monosemanticity, raw",
        "the same without subtracting the permutation null, as published scores are",
        higher_is_better=True,
        range=(-1, 1),
    ),
    Metric(
        "moran",
        "Moran's I",
        "spatial coherence of the activation map, 8 neighbours, mean over held-out top images; "
        "patches at random give -1 / (patches - 1)",
        higher_is_better=True,
        range=(-1, 1),
    ),
)


@dataclass(frozen=True, slots=True)
class MonoItem:
    place: int
    """Of the SAE in the run."""
    latent: int


class Mono(Task["Subject"]):
    """No explanation is needed: all sampled live latents are scored."""

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="mono",
        version=1,
        title="Monosemanticity",
        description="Coherence of a latent over images and over patches, without explanations.",
        metrics=METRICS,
        cluster="latent",
    )
    batch_size: ClassVar[int] = 256
    needs: ClassVar[tuple[str, ...]] = (EXEMPLARS, CLIP)

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context)
        for place, one in enumerate(living(context)):
            yield from _samples(one, place)

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        images = context.subject.score
        where, held_out = presence(context, images), surveys(context, images)
        vectors = clip_space(context).images(where[0].images.tolist())
        return [
            _outcome(s.payload.latent, where[s.payload.place], held_out[s.payload.place], vectors)
            for s in samples
        ]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return [*metric_rows(lines, METRICS, ARMS)]

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield by_layer(rows, "mono", "Monosemanticity by layer")


def _samples(one: Living, place: int) -> Iterator[Sample]:
    for latent in one.latents:
        yield latent_sample(one.sae, latent, one.sae.arm, MonoItem(place, latent))


def _outcome(latent: int, where: Presence, held_out: Survey, vectors: Vectors) -> Outcome:
    found = monosemanticity(where.pooled(latent), vectors)
    if found is None:
        return Outcome.unscorable("silent on held-out images")
    raw, null = found
    scores = {"mono": raw - null, "mono_raw": raw}
    maps = [value for value in _morans(latent, held_out) if value is not None]
    if maps:
        scores["moran"] = float(np.mean(maps))
    return Outcome.ok(scores, null=round(null, 6), maps=len(maps))


def _morans(latent: int, held_out: Survey) -> Iterator[float | None]:
    for slot in range(held_out.top.count(latent) if held_out.has_places else 0):
        boxes = held_out.boxes(int(held_out.top.images[latent, slot]))
        tokens, values = held_out.top.active(latent, slot)
        yield moran(activation_map(tokens, values, base_grid(boxes)))
