"""The documents of a run: sample lines and metric rows as they are stored."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .. import __version__
from .task import Card, Metric, MetricRow, Outcome, Plot, Sample, TaskSpec

SCHEMA_VERSION = 1

_LAST_NUMBER = re.compile(r"(?:^|\.)layers\.(\d+)$")


def layer_of(hookpoint: str | None) -> int | None:
    """The paper's 1-based layer of a hookpoint's 0-based name: `model.layers.24` is layer 25."""
    match = _LAST_NUMBER.search(hookpoint or "")
    return int(match.group(1)) + 1 if match else None


def line_document(
    task: TaskSpec, protocol: str, sample: Sample, outcome: Outcome
) -> dict[str, Any]:
    """One line of `samples/<task>.jsonl`. Raises `ValueError` on a score that isn't finite."""
    broken = outcome.status == "error"
    return {
        "id": sample.id,
        "task": task.name,
        "protocol": protocol,
        "sae": sample.sae,
        "hookpoint": sample.hookpoint,
        "latent": sample.latent,
        "arm": sample.arm,
        "concept": outcome.concept or sample.concept,
        "cluster": sample.cluster,
        "status": outcome.status,
        "scores": {} if broken else _finite(outcome.scores),
        "error": {"type": outcome.error_type, "message": outcome.error or ""} if broken else None,
        "detail": dict(outcome.detail),
    }


def error_document(
    task: TaskSpec, protocol: str, sample: Sample, error: Exception
) -> dict[str, Any]:
    """The line of a sample that broke: a type and a message, never a score."""
    return line_document(task, protocol, sample, Outcome.broken(error))


def metric_document(task: TaskSpec, protocol: str, row: MetricRow) -> dict[str, Any]:
    """One row of `run.json`'s `metrics`."""
    declared = {metric.name: metric for metric in task.metrics}.get(row.metric)
    direction = row.higher_is_better
    if direction is None and declared is not None:
        direction = declared.higher_is_better
    return {
        "task": task.name,
        "protocol": protocol,
        "sae": row.sae,
        "hookpoint": row.hookpoint,
        "layer": layer_of(row.hookpoint),
        "arm": row.arm,
        "concept": row.concept,
        "metric": row.metric,
        "value": _number(row.value),
        "n_ok": int(row.n_ok),
        "n_total": int(row.n_total),
        "coverage": row.n_ok / row.n_total if row.n_total else None,
        "ci_low": _number(row.ci_low),
        "ci_high": _number(row.ci_high),
        "ci_method": row.ci_method,
        "cluster": task.cluster,
        "higher_is_better": direction,
        "null": _number(row.null),
        "note": row.note,
        "harness_version": __version__,
    }


def spec_document(task: TaskSpec) -> dict[str, Any]:
    """What a reader needs to know of a task without importing it."""
    return {
        "name": task.name,
        "version": task.version,
        "title": task.title,
        "description": task.description,
        "cluster": task.cluster,
        "unscorable": task.unscorable,
        "metrics": [_metric_spec(metric) for metric in task.metrics],
    }


def card_document(card: Card, image_paths: Sequence[str]) -> dict[str, Any]:
    """A card with its pictures as paths relative to the run."""
    captions = [caption for caption, _ in card.images]
    return {
        "title": card.title,
        "sample": card.sample,
        "text": dict(card.text),
        "scores": {name: _number(value) for name, value in card.scores.items()},
        "tags": dict(card.tags),
        "images": [{"caption": c, "path": p} for c, p in zip(captions, image_paths, strict=True)],
        "key": card.key,
        "related": [{"key": key, "name": name} for key, name in card.related],
        "histogram": asdict(card.histogram) if card.histogram else None,
    }


def plot_document(plot: Plot) -> dict[str, Any]:
    """A plot's data."""
    return {**asdict(plot), "points": [dict(point) for point in plot.points]}


def count_statuses(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many lines are ok, unscorable and error, and all together."""
    counts = {"ok": 0, "unscorable": 0, "error": 0}
    for line in lines:
        counts[line["status"]] += 1
    return counts | {"total": len(lines)}


def _metric_spec(metric: Metric) -> dict[str, Any]:
    return asdict(metric) | {"range": list(metric.range)}


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    plain = {name: float(value) for name, value in scores.items()}
    for name, value in plain.items():
        if not math.isfinite(value):
            raise ValueError(f"score {name!r} is {value}, not a number")
    return plain


def _number(value: float | None) -> float | None:
    """A metric that came out as NaN is no number at all."""
    return None if value is None or not math.isfinite(value) else float(value)
