"""Runs that differ by their seed alone: how far each headline number moves between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..harness.rundir import Run
from .table import headline_names, score_rows

SAME = "the same in all: the seed plays no part in it"


@dataclass(frozen=True, slots=True)
class Spread:
    """One number over all repeats."""

    task: str
    sae: str | None
    hookpoint: str | None
    layer: int | None
    metric: str
    values: Sequence[float | None]
    """In the order of the runs; None where a run has no such number."""
    mean: float
    sd: float | None
    """Between repeats; None of fewer than two."""
    half_width: float | None
    """Of the runs' own 95 % intervals, on average: what one run alone would say."""

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]

    @property
    def lowest(self) -> float:
        return min(self.known)

    @property
    def highest(self) -> float:
        return max(self.known)

    @property
    def same(self) -> bool:
        """Where the seed plays no part, or nothing is drawn, repeats show nothing."""
        return len(self.values) > 1 and len(set(self.values)) == 1


def spread(runs: Sequence[Run]) -> list[Spread]:
    """Every headline number of the main arm, over all concepts, in the first run's order."""
    shown = headline_names(score_rows(runs[0]))
    tables = [dict(_rows(run)) for run in runs]
    places = dict.fromkeys(place for table in tables for place in table)
    cells = [
        [table.get(place) for table in tables] for place in places if (place[0], place[-1]) in shown
    ]
    return [made for rows in cells if (made := _spread(rows)) is not None]


def _rows(run: Run) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
    for row in run.metrics:
        if row["arm"] == "main" and row["concept"] is None:
            yield (row["task"], row["sae"], row["hookpoint"], row["metric"]), row


def _spread(rows: Sequence[Mapping[str, Any] | None]) -> Spread | None:
    from statistics import fmean, stdev

    values = [None if row is None else row["value"] for row in rows]
    known = [value for value in values if value is not None]
    if not known:
        return None
    first = next(row for row in rows if row is not None)
    widths = [
        (row["ci_high"] - row["ci_low"]) / 2
        for row in rows
        if row is not None and row["ci_low"] is not None and row["ci_high"] is not None
    ]
    return Spread(
        **{key: first[key] for key in ("task", "sae", "hookpoint", "layer", "metric")},
        values=values,
        mean=fmean(known),
        sd=stdev(known) if len(known) > 1 else None,
        half_width=fmean(widths) if widths else None,
    )
