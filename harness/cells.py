"""A run's scores by cell: what two runs are compared in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .difference import Scores
from .results import layer_of
from .rundir import Run
from .task import Line

BY = ("hookpoint", "layer", "sae", "concept", "arm", "task")
"""What a run can be split by; `task` is no split."""

Cell = tuple[str | None, str]
"""Which part of the split, and the metric."""


def cells(run: Run, task: str, by: str) -> dict[Cell, Scores]:
    """The ok samples of the main arm, by cell and score; every arm when split by arm."""
    found: dict[Cell, Scores] = {}
    dictionaries = {
        (sae["name"], sae.get("hookpoint")): sae.get("weights_sha256", sae["name"])
        for sae in run.document["saes"]
    }
    for line in run.lines(task):
        if line["status"] == "ok" and (line["arm"] == "main" or by == "arm"):
            cell, item = _cell(line, by), _item(line, dictionaries)
            for metric, value in line["scores"].items():
                scores = found.setdefault((cell, metric), Scores([], [], []))
                scores.ids.append(item)
                scores.clusters.append(line["cluster"])
                scores.values.append(value)
    return found


def metric_specs(run: Run, task: str) -> dict[str, Mapping[str, Any]]:
    """What a task says of its metrics, by name."""
    return {
        metric["name"]: metric
        for spec in run.tasks
        if spec["name"] == task
        for metric in spec["metrics"]
    }


def _cell(line: Line, by: str) -> str | None:
    value = layer_of(line["hookpoint"]) if by == "layer" else line[by]
    return None if value is None else str(value)


def _item(line: Line, dictionaries: Mapping[tuple[str, str | None], str]) -> str:
    """What makes two samples the same item. Latent 7 of one SAE is not latent 7 of another."""
    if line["latent"] is None:
        return str(line["id"])
    sae = (line["sae"], line["hookpoint"])
    return f"{dictionaries.get(sae, sae)} {line['id']}"
