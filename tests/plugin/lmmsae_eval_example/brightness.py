"""How bright are pictures? A whole task in a page: samples in, outcomes out, metrics from lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lmmsae_eval.harness.registry import register_task
from lmmsae_eval.harness.statistics import mean_interval
from lmmsae_eval.harness.task import (
    Context,
    Line,
    Metric,
    MetricRow,
    Outcome,
    Sample,
    Task,
    TaskSpec,
)
from PIL.Image import Image

Pictures = Mapping[str, Image]


@register_task
class Brightness(Task[Pictures]):
    """The subject of this task is just a mapping from names to pictures."""

    spec = TaskSpec(
        name="lmmsae-eval-example/brightness",
        version=1,
        title="Brightness",
        description="Mean grey value of each picture",
        metrics=(
            Metric("brightness", "Brightness", "0 is black, 1 is white", None, range=(0.0, 1.0)),
        ),
        cluster="picture",
    )

    def samples(self, context: Context[Pictures]) -> Iterable[Sample]:
        for name, picture in context.subject.items():
            yield Sample(id=name, cluster=name, payload=picture)

    def evaluate(self, samples: Sequence[Sample], context: Context[Pictures]) -> Sequence[Outcome]:
        return [Outcome.ok({"brightness": _brightness(sample.payload)}) for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        scored = [line for line in lines if line["status"] == "ok"]
        values = [line["scores"]["brightness"] for line in scored]
        interval = mean_interval(values, [line["cluster"] for line in scored])
        return [
            MetricRow(
                metric="brightness",
                value=interval.value,
                n_ok=len(scored),
                n_total=len(lines),
                ci_low=interval.low,
                ci_high=interval.high,
                ci_method=interval.method,
            )
        ]


def _brightness(picture: Image) -> float:
    histogram = picture.convert("L").histogram()
    return sum(level * count for level, count in enumerate(histogram)) / sum(histogram) / 255
