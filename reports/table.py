"""A run's metric rows with what their task says of each metric, written for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..harness.rundir import Run
from ..harness.task import TOO_FEW

MISSING = "–"
COLUMNS = ("task", "layer", "metric", "score", "95 % interval", "n", "coverage", "null")


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One number of a run: value, interval, n, coverage and null never come apart."""

    task: str
    protocol: str
    metric: str
    title: str
    description: str
    headline: bool
    sae: str | None
    hookpoint: str | None
    layer: int | None
    arm: str
    concept: str | None
    value: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    n_ok: int
    n_total: int
    null: float | None
    note: str | None
    higher_is_better: bool | None
    unit: str
    range: tuple[float | None, float | None]

    @property
    def insufficient(self) -> bool:
        return self.note == TOO_FEW

    @property
    def caveat(self) -> str | None:
        """A note that isn't about n."""
        return None if self.insufficient else self.note

    @property
    def score_text(self) -> str:
        return TOO_FEW if self.insufficient else number(self.value)

    @property
    def interval_text(self) -> str:
        return MISSING if self.insufficient else interval_text(self.ci_low, self.ci_high)

    @property
    def coverage_text(self) -> str:
        share = f"{self.n_ok / self.n_total:.0%} " if self.n_total else ""
        return f"{share}({self.n_ok}/{self.n_total})"

    @property
    def null_text(self) -> str:
        return number(self.null)

    @property
    def direction(self) -> str:
        """An arrow that points to better."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    def cells(self) -> tuple[str, ...]:
        """One text per column of `COLUMNS`."""
        return (
            self.task,
            layer_text(self.hookpoint, self.layer),
            self.title,
            self.score_text,
            self.interval_text,
            str(self.n_ok),
            self.coverage_text,
            self.null_text,
        )

    def place(self, value: float | None) -> float | None:
        """Where a value lies on the metric's range, 0..1; None for a metric without bounds."""
        low, high = self.range
        if value is None or low is None or high is None or high <= low:
            return None
        return min(1.0, max(0.0, (value - low) / (high - low)))


def score_rows(run: Run) -> list[ScoreRow]:
    """Every metric row of a run, in the tasks' own order."""
    specs = {
        (task["name"], metric["name"]): metric
        for task in run.tasks
        for metric in task.get("metrics", ())
    }
    return [score_row(row, specs.get((row["task"], row["metric"]), {})) for row in run.metrics]


def summary_rows(run: Run) -> list[ScoreRow]:
    """The numbers to show first: headline metrics of the main arm over all concepts."""
    return headline(score_rows(run))


def headline(rows: Iterable[ScoreRow]) -> list[ScoreRow]:
    """Main arm, all concepts, headline metrics; a task that names none shows all of its metrics."""
    overall = [row for row in rows if row.arm == "main" and row.concept is None]
    shown = headline_names(overall)
    rows = [row for row in overall if (row.task, row.metric) in shown]
    order = list(dict.fromkeys((row.task, row.metric) for row in rows))
    # "All layers" comes after the layers, as in the printed table.
    return sorted(
        rows, key=lambda row: (order.index((row.task, row.metric)), row.layer or math.inf)
    )


def headline_names(rows: Iterable[ScoreRow]) -> set[tuple[str, str]]:
    """Task and metric of the headline metrics, of all metrics where a task names none."""
    rows = list(rows)
    naming = {row.task for row in rows if row.headline}
    return {(row.task, row.metric) for row in rows if row.headline or row.task not in naming}


def number(value: float | None) -> str:
    """Three decimals for what lies around 1, four digits for the rest."""
    if value is None:
        return MISSING
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def p_text(p: float | None) -> str:
    """No p is 0: what three decimals would show so lies below the last of them."""
    return "<0.001" if p is not None and p < 0.001 else number(p)


def interval_text(low: float | None, high: float | None) -> str:
    return MISSING if low is None or high is None else f"[{number(low)}, {number(high)}]"


def layer_text(hookpoint: str | None, layer: int | None) -> str:
    """Both ways of counting: `2 (model.layers.1)`."""
    if hookpoint is None:
        return "all"
    return hookpoint if layer is None else f"{layer} ({hookpoint})"


def score_row(row: Mapping[str, Any], spec: Mapping[str, Any]) -> ScoreRow:
    """A stored metric row with its metric's spec."""
    low, high = spec.get("range") or (None, None)
    described = {
        "title": spec.get("title") or row["metric"],
        "description": spec.get("description") or "",
        "headline": bool(spec.get("headline")),
        "unit": spec.get("unit") or "",
        "range": (low, high),
    }
    stored = {name: row.get(name) for name in ScoreRow.__slots__ if name not in described}
    return ScoreRow(**{**stored, "arm": row.get("arm") or "main", **described})
