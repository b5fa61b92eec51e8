"""A run's metric rows as a table: score with interval, n, coverage, null."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import click

from ..harness.rundir import Run
from ..reports.table import ScoreRow, headline_names, layer_text, score_row, score_rows
from .table import print_table

Row = Mapping[str, Any]

SPLITS = ("layer", "concept", "arm", "sae", "metric")
NUMBERS = ("score", "interval", "n", "coverage", "null")


def print_scores(run: Run, by: Sequence[str] = ()) -> None:
    """The headline numbers, or all that `by` splits, with a heading that says what the run is."""
    click.echo(heading(run))
    rows = select(run, by)
    if not rows:
        click.echo("no metrics yet; type the run's command again to finish it")
        return
    columns = _columns(run, rows, by)
    print_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows], NUMBERS)


def heading(run: Run) -> str:
    """`iou-0123456789ab  complete  300 samples: 280 ok, 20 unscorable, 0 error`."""
    counts = Counter[str]()
    for of_task in run.document.get("counts", {}).values():
        counts.update(of_task)
    parts = ", ".join(f"{counts[status]} {status}" for status in ("ok", "unscorable", "error"))
    samples = f"  {counts['total']} samples: {parts}" if counts else ""
    return f"{run.id}  {run.status}{samples}"


def select(run: Run, by: Sequence[str] = ()) -> list[Row]:
    """Headline metrics of the main arm over all concepts; `by` opens splits and sets the order."""
    shown = headline_names(score_rows(run))
    rows = [
        row
        for row in run.metrics
        if ("metric" in by or (row["task"], row["metric"]) in shown)
        and ("arm" in by or row["arm"] == "main")
        and ("concept" in by or row["concept"] is None)
    ]
    declared = [(task["name"], metric["name"]) for task in run.tasks for metric in task["metrics"]]
    order = {pair: place for place, pair in enumerate(declared)}

    def place(row: Row) -> tuple[Any, ...]:
        by_user = (_sort_key(row[name]) for name in by)
        # "All layers" comes after the layers.
        return (*by_user, order.get((row["task"], row["metric"]), 0), row["layer"] or math.inf)

    return sorted(rows, key=place)


def _columns(run: Run, rows: Sequence[Row], by: Collection[str]) -> dict[str, Callable[[Row], str]]:
    titles = {(t["name"], m["name"]): m["title"] for t in run.tasks for m in t["metrics"]}
    columns: dict[str, Callable[[Row], str]] = {
        "task": lambda row: row["task"],
        "layer": lambda row: layer_text(row["hookpoint"], row["layer"]),
        "metric": lambda row: str(titles.get((row["task"], row["metric"]), row["metric"])),
    }
    for name in ("concept", "arm", "sae"):
        if name in by or (name == "sae" and _several_saes_a_layer(rows)):
            columns[name] = _plain(name)
    columns |= {
        "score": lambda row: _told(row).score_text,
        "interval": lambda row: _told(row).interval_text,
        "n": lambda row: str(row["n_ok"]),
        "coverage": lambda row: f"{row['n_ok']}/{row['n_total']}",
        "null": lambda row: _told(row).null_text,
    }
    if any(_told(row).caveat for row in rows):
        columns["note"] = lambda row: _told(row).caveat or ""
    return columns


def _told(row: Row) -> ScoreRow:
    """As the report tells it: too few clusters are no number there either."""
    return score_row(row, {})


def _several_saes_a_layer(rows: Sequence[Row]) -> bool:
    pairs = {(row["hookpoint"], row["sae"]) for row in rows}
    return len(pairs) > len({hookpoint for hookpoint, _ in pairs})


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name] or "all")


def _sort_key(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)
