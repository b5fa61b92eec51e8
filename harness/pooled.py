"""Numbers that are no mean of samples, as Youden's J: one of a cell, by its stored interval."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .cells import Cell
from .change import Row
from .results import layer_of
from .rundir import Run


def pooled_rows(run: Run, task: str, by: str, metrics: Collection[str]) -> dict[Cell, Row]:
    """The rows of a task with a value and an interval, where a cell has just one of a metric.

    Two SAEs at one layer have no number in common: neither stands for the layer.
    """
    found: dict[Cell, list[Row]] = {}
    for row in run.metrics:
        if row["task"] == task and row["metric"] in metrics and _of_cell(row, by):
            found.setdefault((_cell(row, by), row["metric"]), []).append(row)
    return {place: rows[0] for place, rows in found.items() if len(rows) == 1}


def _of_cell(row: dict[str, Any], by: str) -> bool:
    """Whether the row is over all of what `by` doesn't split."""
    return (
        (by == "arm" or row["arm"] == "main")
        and (row["hookpoint"] is not None) == (by in ("layer", "hookpoint"))
        and (row["concept"] is not None) == (by == "concept")
        and None not in (row["value"], row["ci_low"], row["ci_high"])
    )


def _cell(row: dict[str, Any], by: str) -> str | None:
    value = layer_of(row["hookpoint"]) if by == "layer" else row[by]
    return None if value is None else str(value)
