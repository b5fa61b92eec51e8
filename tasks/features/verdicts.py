"""Verdicts on true items and foils to rows: Youden's J and what it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...harness.statistics import Interval, wilson
from ...harness.task import Line, MetricRow
from .foils import FOILS
from .tables import Cell, cells, cluster_totals, pooled_interval, row, scored

if TYPE_CHECKING:
    from .tables import Table

_COLUMNS = {"tpr": 0, "fpr": 2}


def verdict_rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """J, balanced accuracy, TPR and FPR in every cell; FPR by kind of foil over all concepts."""
    for cell in cells([line for line in lines if line["arm"] in ("main", "foil")]):
        yield from _discrimination(cell)
        yield from _share(cell, "main", cell.arm("main"), "tpr")
        yield from _share(cell, "main", cell.arm("foil"), "fpr")
        if cell.concept is None:
            for kind in FOILS:
                members = [line for line in cell.arm("foil") if line["id"].endswith(f"/{kind}")]
                yield from _share(cell, f"foil_{kind}", members, "fpr")


def _share(cell: Cell, arm: str, members: Sequence[Line], score: str) -> Iterator[MetricRow]:
    if members:
        values = [line["scores"][score] for line in scored(members, score)]
        interval = wilson(int(sum(values)), len(values))
        yield row(score, interval, cell, arm, len(values), len(members))


def _discrimination(cell: Cell) -> Iterator[MetricRow]:
    """Both sides of the items must have been judged: J of one side alone has no meaning."""
    judged = [*scored(cell.lines, "tpr"), *scored(cell.lines, "fpr")]
    totals = cluster_totals(judged, 4, _columns)
    j = _interval(totals, len(judged))
    half = replace(j, value=_half(j.value), low=_half(j.low), high=_half(j.high))
    note = _note(totals) if j.value is not None else None
    n_total = len(cell.lines)
    yield row("youden_j", j, cell, "main", len(judged), n_total, 0.0, note)
    yield row("balanced_accuracy", half, cell, "main", len(judged), n_total, 0.5, note)


def _columns(line: Line) -> list[tuple[int, float]]:
    """True accepted, true judged, foils accepted, foils judged."""
    score = next(score for score in _COLUMNS if score in line["scores"])
    return [(_COLUMNS[score], float(line["scores"][score])), (_COLUMNS[score] + 1, 1.0)]


def youden(sums: Table) -> Table:
    """`(draws, 4)` counts to `(draws,)`; NaN where one side is missing."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3])


def _interval(totals: Table, n: int) -> Interval:
    """Bootstrap by latent; where that shows no spread, Newcombe's for two independent shares."""
    found = pooled_interval(totals, youden, n)
    if found.value is None or found.low is not None:
        return found
    from statsmodels.stats.proportion import confint_proportions_2indep

    a, n_true, b, n_foils = totals.sum(0)
    low, high = confint_proportions_2indep(
        a, n_true, b, n_foils, method="newcomb", compare="diff", alpha=0.05
    )
    return replace(found, low=float(low), high=float(high), method="Newcombe")


def _half(value: float | None) -> float | None:
    return None if value is None else (1 + value) / 2


def _note(totals: Table) -> str | None:
    """A judge that never changes its mind says nothing, however well it seems to agree."""
    accepted = totals[:, [0, 2]].sum()
    if accepted == totals[:, [1, 3]].sum():
        return "the judge always says 1"
    return "the judge always says 0" if accepted == 0 else None
