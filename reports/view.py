"""A run as reports see it. HTML, Markdown and JSON are three renderings of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..harness.rundir import Run
from .facts import Fact, facts, notes, sae_table
from .failures import Failure, failures
from .matrix import Matrix, matrices
from .table import ScoreRow, headline, score_rows

REPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task's part of a report."""

    name: str
    title: str
    description: str
    version: int
    protocol: str
    counts: Mapping[str, int]
    headline: list[ScoreRow]
    rows: list[ScoreRow]
    by_concept: list[Matrix]
    by_arm: list[Matrix]
    failures: list[Failure]


@dataclass(frozen=True, slots=True)
class RunView:
    """Everything a report says, before it is drawn."""

    id: str
    status: str
    created: str
    model: str
    facts: list[Fact]
    sae_columns: list[str]
    saes: list[list[str]]
    tasks: list[TaskView]
    notes: list[str]


def view(run: Run) -> RunView:
    """Read a run once, for any rendering."""
    rows = score_rows(run)
    columns, saes = sae_table(run)
    return RunView(
        id=run.id,
        status=run.status,
        created=str(run.document.get("created", "")),
        model=next(fact.value for fact in facts(run) if fact.label == "Model"),
        facts=facts(run),
        sae_columns=columns,
        saes=saes,
        tasks=[_task(run, task, rows) for task in run.tasks],
        notes=notes(run, rows),
    )


def _task(run: Run, task: Mapping[str, Any], all_rows: list[ScoreRow]) -> TaskView:
    name = task["name"]
    rows = [row for row in all_rows if row.task == name]
    return TaskView(
        name=name,
        title=task.get("title") or name,
        description=task.get("description") or "",
        version=task["version"],
        protocol=task.get("protocol") or "",
        counts=(run.document.get("counts") or {}).get(name) or {},
        headline=headline(rows),
        rows=rows,
        by_concept=matrices(rows, "concept"),
        by_arm=matrices(rows, "arm"),
        failures=failures(name, run.lines(name)),
    )


def render_json(run: Run) -> dict[str, Any]:
    """The report as JSON values: facts, every metric row, failures and notes."""
    seen = view(run)
    tasks = [
        {
            "name": task.name,
            "title": task.title,
            "version": task.version,
            "protocol": task.protocol,
            "counts": dict(task.counts),
            "metrics": [row for row in run.metrics if row["task"] == task.name],
            "headline": sorted({row.metric for row in task.headline}),
            "failures": [asdict(failure) for failure in task.failures],
        }
        for task in seen.tasks
    ]
    return {
        "report_version": REPORT_VERSION,
        "run_id": seen.id,
        "status": seen.status,
        "created": seen.created,
        "facts": {fact.label.lower(): fact.value for fact in seen.facts},
        "saes": list(run.document.get("saes") or ()),
        "tasks": tasks,
        "notes": seen.notes,
    }
