"""What a gate needs of a run, small enough to be committed: its main numbers and their samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from .rundir import Run

SNAPSHOT_VERSION = 1
_ROW = (
    "task",
    "protocol",
    "sae",
    "hookpoint",
    "layer",
    "metric",
    "value",
    "n_ok",
    "n_total",
    "ci_low",
    "ci_high",
    "higher_is_better",
    "note",
)


class Item(NamedTuple):
    """One scored sample."""

    id: str
    cluster: str
    sae: str | None
    hookpoint: str | None
    latent: int | None
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The main arm of a run, over all concepts."""

    run_id: str
    harness: Mapping[str, Any]
    comparability: Mapping[str, Any]
    tasks: Sequence[Mapping[str, Any]]
    """Each `{name, version, headline, comparability}`; `headline` names the metrics shown first."""
    saes: Sequence[Mapping[str, Any]]
    """Each `{name, hookpoint, weights_sha256}`."""
    metrics: Sequence[Mapping[str, Any]]
    samples: Mapping[str, Sequence[Item]]
    """By task: samples with a score, and of their scores those that a metric is called after."""

    def item_keys(self, items: Sequence[Item]) -> list[str]:
        """What makes two samples the same: latent 7 of one dictionary is not that of another."""
        weights = {(s["name"], s["hookpoint"]): s["weights_sha256"] for s in self.saes}
        return [
            i.id if i.latent is None else f"{weights.get((i.sae, i.hookpoint), i.sae)} {i.id}"
            for i in items
        ]

    @property
    def headline(self) -> set[tuple[str, str]]:
        """(task, metric) of those shown first."""
        return {(task["name"], metric) for task in self.tasks for metric in task["headline"]}

    def task(self, name: str) -> Mapping[str, Any] | None:
        return next((task for task in self.tasks if task["name"] == name), None)


def snapshot(run: Run) -> Snapshot:
    """The snapshot of a run with metrics."""
    document = run.document
    return Snapshot(
        run_id=run.id,
        harness=dict(document.get("harness", {})),
        comparability=dict(document["comparability"]),
        tasks=[_task(task) for task in run.tasks],
        saes=[
            {key: sae.get(key) for key in ("name", "hookpoint", "weights_sha256")}
            for sae in document["saes"]
        ],
        metrics=[
            {key: row[key] for key in _ROW}
            for row in run.metrics
            if row["arm"] == "main" and row["concept"] is None
        ],
        samples={task["name"]: list(_items(run, task)) for task in run.tasks},
    )


def to_text(head: Mapping[str, Any], of: Snapshot) -> str:
    """JSON with one metric and one sample a line, so that a change reads well in a review."""
    document = {**head, **asdict(of)}
    document["samples"] = {task: [list(i) for i in items] for task, items in of.samples.items()}
    return "{\n" + ",\n".join(_entry(key, value) for key, value in document.items()) + "\n}\n"


def from_document(document: Mapping[str, Any], path: Path) -> Snapshot:
    """Read back what `to_text` has written. Raises `UsageError` for anything else."""
    try:
        parts = {field.name: document[field.name] for field in fields(Snapshot)}
        parts["samples"] = {
            task: [Item(*item) for item in items] for task, items in parts["samples"].items()
        }
        return Snapshot(**parts)
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no baseline ({error!r}); bless a run to make one") from error


def _task(document: Mapping[str, Any]) -> dict[str, Any]:
    metrics = document["metrics"]
    shown = [metric["name"] for metric in metrics if metric["headline"]]
    return {
        "name": document["name"],
        "version": document["version"],
        "headline": shown or [metric["name"] for metric in metrics],
        "comparability": document["comparability"],
    }


def _items(run: Run, task: Mapping[str, Any]) -> Iterator[Item]:
    names = {metric["name"] for metric in task["metrics"]}
    for line in run.lines(task["name"]):
        scores = {name: value for name, value in line["scores"].items() if name in names}
        if line["status"] == "ok" and line["arm"] == "main" and scores:
            place = (line["sae"], line["hookpoint"], line["latent"])
            yield Item(line["id"], line["cluster"], *place, scores)


def _entry(key: str, value: Any) -> str:
    """`"key": value`, with the items of a list a line each, one level down in `samples`."""
    if key == "samples":
        inner = ",\n".join(f"{json.dumps(task)}: {_list(items)}" for task, items in value.items())
        return f'"samples": {{\n{inner}\n}}'
    return f"{json.dumps(key)}: {_list(value) if isinstance(value, list) else _text(value)}"


def _list(values: Sequence[Any]) -> str:
    return "[\n" + ",\n".join(map(_text, values)) + "\n]" if values else "[]"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
