"""Plots' data from metric rows: a metric by layer and by concept, every arm a series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ...harness.results import layer_of
from ...harness.task import TOO_FEW, MetricRow, Plot
from .imageset import CONCEPTS


def by_layer(rows: Sequence[MetricRow], metric: str, title: str) -> Plot:
    """One point per hookpoint and arm, all concepts together."""
    chosen = [r for r in rows if r.metric == metric and r.hookpoint and not r.concept]
    points = _points(chosen, lambda r: f"layer {layer_of(r.hookpoint)}")
    return Plot(title, "lines", "layer", metric, list(points))


def by_concept(rows: Sequence[MetricRow], metric: str, title: str) -> Plot:
    """One bar per concept and arm, all hookpoints together; none where n says too little."""
    chosen = [
        r
        for r in rows
        if r.metric == metric and r.concept and not r.hookpoint and r.note != TOO_FEW
    ]
    # By arm first: the first series is the same as in the plot by layer.
    arms = list(dict.fromkeys(row.arm for row in rows))
    chosen.sort(key=lambda r: (arms.index(r.arm), _order(r.concept)))
    return Plot(title, "bars", "concept", metric, list(_points(chosen, lambda r: r.concept)))


def _points(rows: Iterable[MetricRow], x: Any) -> Iterator[dict[str, Any]]:
    rows = [row for row in rows if row.value is not None]
    several = len({row.sae for row in rows}) > 1
    for row in rows:
        series = f"{row.sae} {row.arm}" if several else row.arm
        label = f"n = {row.n_ok}" + (f", {row.note}" if row.note else "")
        yield {
            "x": x(row),
            "y": row.value,
            "low": row.ci_low,
            "high": row.ci_high,
            "series": series,
            "label": label,
        }


def _order(concept: str | None) -> int:
    return CONCEPTS.index(concept) if concept in CONCEPTS else len(CONCEPTS)
