"""Task `clip`: does the explanation fit the images on which the latent is most active?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from ..harness.task import Line, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.clip_scores import CLIP_METRICS, clip_outcomes, clip_rows, clip_samples
from .features.plots import by_concept, by_layer
from .features.protocols import PROTOCOLS
from .features.published_rows import published_rows
from .features.study import refuse_unknown
from .needs import CLIP, EXEMPLARS, EXPLANATIONS

if TYPE_CHECKING:
    from ..harness.task import Context
    from .subject import Subject


class Clip(Task["Subject"]):
    """The CLIP rows alone, without the masks of `iou`."""

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="clip",
        version=2,
        title="CLIP score of explanations",
        description="How close an explanation is to held-out top images of its latent, by CLIP.",
        metrics=CLIP_METRICS,
        cluster="latent",
        protocols=PROTOCOLS,
    )
    batch_size: ClassVar[int] = 64
    needs: ClassVar[tuple[str, ...]] = (EXPLANATIONS, EXEMPLARS, CLIP)

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context)
        return clip_samples(context)

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        return clip_outcomes(samples, context)

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        reference = any(line["protocol"] != "strict" for line in lines)
        return [*clip_rows(lines), *(published_rows("clip") if reference else ())]

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield by_layer(rows, "clip", "CLIP score by layer")
        yield by_concept(rows, "clip", "CLIP score by concept")
