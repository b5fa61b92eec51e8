"""What a gate is told: how far numbers may drop, how low they may be, what else counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ..errors import UnknownNameError

T = TypeVar("T")

OnMissing = Literal["fail", "warn", "ignore"]


@dataclass(frozen=True, slots=True)
class Allowed:
    """How far a number may drop: `amount`, or that share of the baseline's value."""

    amount: float = 0.0
    relative: bool = False

    def of(self, baseline: float) -> float:
        return self.amount * abs(baseline) if self.relative else self.amount


@dataclass(frozen=True, slots=True)
class Rules:
    """What is gated. Names are those of a metric, a task (its headline metrics) or `task:metric`.

    Without `max_drop` no headline metric with a good side may drop at all.
    """

    max_drop: Mapping[str, Allowed] = field(default_factory=dict)
    minimum: Mapping[str, float] = field(default_factory=dict)
    min_coverage: float = 0.0
    """Least share of samples with a score, in every number that is gated."""
    on_missing: OnMissing = "fail"
    """What becomes of a gated number that the baseline has and the run lacks."""
    alpha: float = 0.05

    def allowed(self, row: Mapping[str, Any], headline: bool) -> Allowed | None:
        """How far the number of a row of the baseline may drop; None: it isn't gated by that."""
        if row["higher_is_better"] is None or row["value"] is None:
            return None
        if self.max_drop:
            return _rule(self.max_drop, row, headline)
        return Allowed() if headline else None

    def floor(self, row: Mapping[str, Any], headline: bool) -> float | None:
        """The least value of a row's number."""
        return _rule(self.minimum, row, headline)

    def check_names(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Raises `UnknownNameError` for a rule about nothing."""
        known = {n for r in rows for n in (r["task"], r["metric"], f"{r['task']}:{r['metric']}")}
        for name in (*self.max_drop, *self.minimum):
            if name not in known:
                raise UnknownNameError("metric", name, known)


def _rule(rules: Mapping[str, T], row: Mapping[str, Any], headline: bool) -> T | None:
    """`task:metric` goes before the metric's name, and that before its task's."""
    for name in (f"{row['task']}:{row['metric']}", row["metric"]):
        if name in rules:
            return rules[name]
    return rules.get(row["task"]) if headline else None
