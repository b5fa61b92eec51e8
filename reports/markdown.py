"""A run as Markdown, for a pull request or a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ..harness.rundir import Run
from .failures import Failure
from .matrix import Matrix
from .table import COLUMNS, MISSING, ScoreRow
from .view import TaskView, view

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$!&@])")


def render_markdown(run: Run) -> str:
    """Facts, headline scores, grids, what has no score, notes. Text of models is escaped."""
    seen = view(run)
    parts = [
        f"# {escape(seen.id)}",
        f"Status: **{escape(seen.status)}**",
        markdown_table(
            ("", "", ""), [(fact.label, fact.value, fact.detail) for fact in seen.facts]
        ),
    ]
    if seen.saes:
        parts += ["## SAEs", markdown_table(seen.sae_columns, seen.saes)]
    rows = [row.cells() for task in seen.tasks for row in task.headline]
    parts += ["## Scores", markdown_table(COLUMNS, rows) if rows else "No metrics yet."]
    for task in seen.tasks:
        parts += _task(task)
    parts += [
        "## What these numbers are not",
        "\n".join(f"- {escape(note)}" for note in seen.notes),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """One line in which nothing is markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under a header, every cell escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(cell if line is lines[1] else escape(cell) for cell in line)} |"
        for line in lines
    )


def _task(task: TaskView) -> Iterator[str]:
    grids = [*task.by_concept, *task.by_arm]
    if not grids and not task.failures:
        return
    yield f"## {escape(task.title)}"
    for grid in grids:
        yield f"### {escape(grid.title)} by {grid.by}"
        yield _grid(grid)
    if task.failures:
        yield "### Not scored"
        yield "\n".join(_failure(failure) for failure in task.failures)


def _grid(grid: Matrix) -> str:
    header = [
        grid.by,
        *(" ".join(filter(None, (c.label, c.hookpoint, c.sae))) for c in grid.columns),
    ]
    return markdown_table(header, [(label, *map(_cell, cells)) for label, cells in grid.rows])


def _cell(row: ScoreRow | None) -> str:
    if row is None:
        return MISSING
    interval = "" if row.interval_text == MISSING else f" {row.interval_text}"
    return f"{row.score_text}{interval} n={row.n_ok}/{row.n_total}"


def _failure(failure: Failure) -> str:
    first = f" (first: {escape(failure.samples[0])})" if failure.samples else ""
    return f"- {failure.count} × {failure.status}: {escape(failure.reason)}{first}"
