"""Metric rows as a grid: concepts or arms down, hookpoints across."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .table import ScoreRow, headline

By = Literal["concept", "arm"]


@dataclass(frozen=True, slots=True)
class Column:
    """One SAE at one hookpoint. `sae` is None when the hookpoint alone tells columns apart."""

    hookpoint: str | None
    layer: int | None
    sae: str | None

    @property
    def label(self) -> str:
        return (
            "all"
            if self.hookpoint is None
            else self.hookpoint
            if self.layer is None
            else f"layer {self.layer}"
        )


@dataclass(frozen=True, slots=True)
class Matrix:
    """One metric of one task, split by concept or by arm."""

    by: By
    metric: str
    title: str
    description: str
    headline: bool
    """To be shown without asking."""
    columns: list[Column]
    rows: list[tuple[str, list[ScoreRow | None]]]
    """(concept or arm, one cell per column; None where the run has no such number)."""


def matrices(rows: Sequence[ScoreRow], by: By) -> list[Matrix]:
    """One grid for every metric that the rows split `by`; its first line is the whole."""
    split = [row for row in rows if _belongs(row, by)]
    parted = {row.metric for row in split if _is_part(row, by)}
    metrics = dict.fromkeys(row.metric for row in split if row.metric in parted)
    shown = {row.metric for row in headline(rows)}
    grids = [_matrix([row for row in split if row.metric == m], by, m in shown) for m in metrics]
    return sorted(grids, key=lambda grid: not grid.headline)


def _belongs(row: ScoreRow, by: By) -> bool:
    """The other split stays closed: arms over all concepts, concepts of the main arm."""
    return row.concept is None if by == "arm" else row.arm == "main"


def _is_part(row: ScoreRow, by: By) -> bool:
    return row.arm != "main" if by == "arm" else row.concept is not None


def _matrix(rows: Sequence[ScoreRow], by: By, shown: bool) -> Matrix:
    several = _several_saes_a_hookpoint(rows)
    cells = {(_label(row, by), _column(row, several)): row for row in rows}
    columns = sorted(
        dict.fromkeys(column for _, column in cells), key=lambda column: column.layer or math.inf
    )
    labels = sorted(
        dict.fromkeys(label for label, _ in cells), key=lambda label: label not in ("all", "main")
    )
    grid = [(label, [cells.get((label, column)) for column in columns]) for label in labels]
    first = rows[0]
    return Matrix(by, first.metric, first.title, first.description, shown, columns, grid)


def _label(row: ScoreRow, by: By) -> str:
    return row.arm if by == "arm" else row.concept or "all"


def _column(row: ScoreRow, several: bool) -> Column:
    return Column(row.hookpoint, row.layer, row.sae if several else None)


def _several_saes_a_hookpoint(rows: Iterable[ScoreRow]) -> bool:
    pairs = {(row.hookpoint, row.sae) for row in rows if row.arm == "main"}
    return len(pairs) > len({hookpoint for hookpoint, _ in pairs})
