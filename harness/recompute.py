"""A stored run's metrics made again from its samples alone: no model, no GPU, no key."""

from __future__ import annotations

from typing import Any

from ..errors import NotComparableError
from .registry import TASKS
from .results import metric_document
from .rundir import Run
from .task import Task


def recompute_metrics(run: Run) -> list[dict[str, Any]]:
    """Metric rows as `run.metrics` should have them.

    Raises `UnknownNameError` for a task that isn't installed and `NotComparableError` for one in
    another version.
    """
    return [row for document in run.tasks for row in _task_metrics(run, document)]


def installed_task(run: Run, document: dict[str, Any]) -> Task[Any]:
    """The task that made a part of a run, if that version of it is installed.

    Raises `UnknownNameError` and `NotComparableError`.
    """
    task = TASKS.get(document["name"])()
    if task.spec.version != document["version"]:
        raise NotComparableError(
            f"{run.path} was made by version {document['version']} of {task.spec.name!r}, "
            f"installed is {task.spec.version}; install the package that made it"
        )
    return task


def _task_metrics(run: Run, document: dict[str, Any]) -> list[dict[str, Any]]:
    task = installed_task(run, document)
    rows = task.aggregate(run.lines(task.spec.name))
    return [metric_document(task.spec, document["protocol"], row) for row in rows]
