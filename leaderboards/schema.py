"""The shape of a run's files, checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..harness.results import SCHEMA_VERSION
from .reading import NAME, TASK
from .refusal import refusal

Shape = Mapping[str, tuple[type, ...]]

_NONE = type(None)
_TEXT, _COUNT, _LIST, _OBJECT = (str,), (int,), (list,), (dict,)
_OPTIONAL_TEXT, _OPTIONAL_NUMBER = (str, _NONE), (int, float, _NONE)

RUN: Shape = {
    "schema_version": _COUNT,
    "run_id": _TEXT,
    "created": _TEXT,
    "status": _TEXT,
    "harness": _OBJECT,
    "tasks": _LIST,
    "model": _OBJECT,
    "saes": _LIST,
    "dataset": _OBJECT,
    "judge": _OBJECT,
    "identity_sha256": _TEXT,
    "comparability": _OBJECT,
    "counts": _OBJECT,
    "metrics": _LIST,
}
_TASK: Shape = {
    "name": _TEXT,
    "title": _TEXT,
    "version": _COUNT,
    "protocol": _TEXT,
    "metrics": _LIST,
    "comparability": _OBJECT,
}
_METRIC: Shape = {"name": _TEXT, "title": _TEXT, "headline": (bool,)}
_ROW: Shape = {
    "task": _TEXT,
    "protocol": _TEXT,
    "sae": _OPTIONAL_TEXT,
    "hookpoint": _OPTIONAL_TEXT,
    "arm": _TEXT,
    "concept": _OPTIONAL_TEXT,
    "metric": _TEXT,
    "value": _OPTIONAL_NUMBER,
    "n_ok": _COUNT,
    "n_total": _COUNT,
    "ci_low": _OPTIONAL_NUMBER,
    "ci_high": _OPTIONAL_NUMBER,
    "null": _OPTIONAL_NUMBER,
    "note": _OPTIONAL_TEXT,
}
_SAE: Shape = {"name": _TEXT}
_LINE: Shape = {
    "id": _TEXT,
    "task": _TEXT,
    "protocol": _TEXT,
    "arm": _TEXT,
    "cluster": _TEXT,
    "status": _TEXT,
    "scores": _OBJECT,
}
_STATUSES = {"ok", "unscorable", "error"}


def check_run(document: Any) -> None:
    """Refuses a run.json that isn't one, LB002, or whose names are unsafe, LB005."""
    _check(document, RUN, "run.json")
    if not 1 <= document["schema_version"] <= SCHEMA_VERSION:
        version = document["schema_version"]
        raise refusal("LB002", f"schema {version} is unknown here, {SCHEMA_VERSION} is known")
    for kind, shape in (("tasks", _TASK), ("metrics", _ROW), ("saes", _SAE)):
        for i, part in enumerate(document[kind]):
            _check(part, shape, f"run.json {kind}[{i}]")
    if not document["tasks"]:
        raise refusal("LB002", "run.json has no tasks")
    _check_name(document["run_id"], NAME.fullmatch(document["run_id"]), "run_id")
    for task in document["tasks"]:
        _check_name(task["name"], TASK.fullmatch(task["name"]), "task")
        for metric in task["metrics"]:
            _check(metric, _METRIC, f"run.json metrics of {task['name']}")


def check_line(line: Any, task: Mapping[str, Any], where: str) -> None:
    """Refuses a sample line that isn't one, or that belongs to another task."""
    _check(line, _LINE, where)
    if line["status"] not in _STATUSES:
        raise refusal("LB002", f"{where}: status {line['status']!r} is unknown")
    for name, value in line["scores"].items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise refusal("LB002", f"{where}: score {name!r} is no number")
    for key, own in (("task", task["name"]), ("protocol", task["protocol"])):
        if line[key] != own:
            raise refusal("LB008", f"{where}: {key} {line[key]!r} in the file of {own!r}")


def _check(value: Any, shape: Shape, where: str) -> None:
    if not isinstance(value, dict):
        raise refusal("LB002", f"{where} is not an object")
    for key, types in shape.items():
        if key not in value:
            raise refusal("LB002", f"{where} has no {key!r}")
        found = value[key]
        # To Python True is an int; to a schema it isn't.
        if not isinstance(found, types) or (isinstance(found, bool) and bool not in types):
            raise refusal("LB002", f"{where}: {key!r} is a {type(found).__name__}")


def _check_name(name: str, sound: object, kind: str) -> None:
    if not sound:
        raise refusal("LB005", f"{kind} {name!r} can't be part of a path")
