"""What makes a plan a new run, where runs of the same tasks are there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import LmmsaeEvalError
from .plan import Plan
from .rundir import RUN, Run, load_run

_OF_TASKS = ("version", "protocol", "params", "fingerprint")
_LONGEST = 60
_OWN_WORDS = {"fingerprint": "the task's source", "saes": "SAEs", "data": "data revision"}


def what_is_new(plan: Plan) -> str | None:
    """One line: in what the plan differs from the newest run of the same tasks beside it.

    None where there is no such run. A run that can't be read is no reason not to make a new one.
    """
    before = None if plan.parent else _newest(plan)
    if before is None:
        return None
    reasons = list(dict.fromkeys(_differences(before, plan)))
    return f"a new run; of {before.id} differ: {'; '.join(reasons)}" if reasons else None


def _newest(plan: Plan) -> Run | None:
    """Only those of the same name but for the identity: reading all runs takes time."""
    stem = plan.run_id.rpartition("-")[0]
    files = sorted(
        plan.directory.glob(f"{stem}-*/{RUN}"), key=lambda file: file.stat().st_mtime, reverse=True
    )
    names = [task.name for task in plan.tasks]
    for file in files:
        try:
            run = load_run(file)
        except LmmsaeEvalError:
            continue
        if [task["name"] for task in run.tasks] == names:
            return run
    return None


def _differences(before: Run, plan: Plan) -> Iterator[str]:
    old, new = before.document.get("identity", {}), plan.identity_parts()
    for part in dict.fromkeys((*old, *new)):
        if old.get(part) != new.get(part):
            yield _told(part, old.get(part), new.get(part))
    for was, now in zip(before.tasks, plan.task_parts(), strict=True):
        for part in _OF_TASKS:
            if was.get(part) != now.get(part):
                yield f"{now['name']}: {_told(part, was.get(part), now.get(part))}"


def _told(part: str, was: Any, now: Any) -> str:
    name = _OWN_WORDS.get(part, part)
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        keys = [key for key in dict.fromkeys((*was, *now)) if was.get(key) != now.get(key)]
        return ", ".join(_told(f"{name} {key}", was.get(key), now.get(key)) for key in keys)
    texts = [repr(value) for value in (was, now)]
    if part == "fingerprint" or max(map(len, texts)) > _LONGEST:
        return name
    return f"{name} ({texts[0]}, now {texts[1]})"
