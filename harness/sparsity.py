"""Scores beside the measured L0 of the SAEs that have them: fewer active latents cost something."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .cells import metric_specs
from .results import layer_of
from .rundir import Run
from .task import Plot


@dataclass(frozen=True, slots=True)
class SparsityPoint:
    """One SAE of one run in one metric."""

    run: str
    sae: str
    hookpoint: str
    layer: int | None
    l0: float
    """Mean number of active latents a token, measured."""
    task: str
    metric: str
    value: float
    ci_low: float | None
    ci_high: float | None


def against_l0(runs: Sequence[Run]) -> list[SparsityPoint]:
    """Headline scores of the main arm over all concepts, of every SAE whose L0 was measured."""
    found = [point for run in runs for point in _points(run)]
    return sorted(found, key=lambda p: (p.task, p.metric, p.l0))


def sparsity_plots(points: Sequence[SparsityPoint]) -> list[Plot]:
    """One scatter a metric: score over L0, a colour each layer."""
    metrics = dict.fromkeys((point.task, point.metric) for point in points)
    return [
        Plot(
            f"{task}: {metric} against L0",
            "scatter",
            "measured L0",
            metric,
            [_drawn(p) for p in points if (p.task, p.metric) == (task, metric)],
        )
        for task, metric in metrics
    ]


def _points(run: Run) -> Iterator[SparsityPoint]:
    measured = {(s["name"], s.get("hookpoint")): s.get("l0") for s in run.document["saes"]}
    headline = {
        (task["name"], name)
        for task in run.tasks
        for name, spec in metric_specs(run, task["name"]).items()
        if spec["headline"]
    }
    for row in run.metrics:
        l0 = measured.get((row["sae"], row["hookpoint"]))
        plain = row["arm"] == "main" and row["concept"] is None and row["value"] is not None
        if l0 is not None and plain and (row["task"], row["metric"]) in headline:
            yield _point(run, row, l0)


def _point(run: Run, row: dict[str, Any], l0: float) -> SparsityPoint:
    where = {name: row[name] for name in ("sae", "hookpoint", "task", "metric", "value")}
    bounds = {name: row[name] for name in ("ci_low", "ci_high")}
    return SparsityPoint(
        run=run.id, layer=layer_of(row["hookpoint"]), l0=float(l0), **where, **bounds
    )


def _drawn(point: SparsityPoint) -> dict[str, Any]:
    return {
        "x": point.l0,
        "y": point.value,
        "low": point.ci_low,
        "high": point.ci_high,
        "series": point.hookpoint if point.layer is None else f"layer {point.layer}",
        "label": point.sae,
    }
