"""Samples chosen by id: which there are, and what is said of an id that no task has."""

from __future__ import annotations

from ..errors import UnknownNameError, UsageError
from .plan import Plan


def check_selection(plan: Plan) -> None:
    """Raises `UsageError` for a chosen id that no task has, and for a task that has none of them.

    Lists the samples of every task, which a run does in any case; nothing where nothing is chosen.
    """
    if not plan.samples or plan.parent is not None:
        return
    chosen = set(plan.samples)
    known: set[str] = set()
    for planned in plan.tasks:
        ids = {sample.id for sample in planned.task.samples(planned.context)}
        if not chosen & ids:
            few = ", ".join(sorted(ids)[:3])
            raise UsageError(
                f"task {planned.name!r} has none of the chosen samples; leave the task out, or "
                f"name samples of it such as {few}"
            )
        known |= ids
    for name in plan.samples:
        if name not in known:
            raise UnknownNameError("sample", name, known)
