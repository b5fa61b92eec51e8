"""Tables of a board. What must not be compared stands in another table, and ties share a rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..harness.identity import sha256
from ..harness.results import layer_of
from ..harness.task import TOO_FEW
from .board import Submission


@dataclass(frozen=True, slots=True)
class Entry:
    """One SAE at one hookpoint in one submission: a line of a table."""

    submission: Submission
    sae: str
    hookpoint: str | None
    layer: int | None
    k: int | None
    l0: float | None
    model: str
    judge: str | None
    """None for a task that asks nobody."""
    created: str
    scores: Mapping[str, Mapping[str, Any]]
    """Metric rows by metric."""
    rank: int | None = None
    """1 is best; None for what can't be ranked: no interval, or n too small."""


@dataclass(frozen=True, slots=True)
class Group:
    """Entries that may be compared: same data, base model and judge."""

    conditions: str
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Table:
    """One task in one version under one protocol."""

    task: str
    version: int
    protocol: str
    title: str
    description: str
    metrics: list[Mapping[str, Any]]
    """What its columns are; the first one ranks."""
    groups: list[Group]

    @property
    def anchor(self) -> str:
        return f"{self.task}-v{self.version}-{self.protocol}".replace("/", ".")


def tables(submissions: Iterable[tuple[Submission, Mapping[str, Any]]]) -> list[Table]:
    """Tables by task, protocol and version (newest first); never two of them in one table."""
    found: dict[tuple[str, str, int], list[_Part]] = {}
    for submission, document in submissions:
        for task in document["tasks"]:
            key = (task["name"], task["protocol"], -task["version"])
            found.setdefault(key, []).append((submission, document, task))
    return [_table(parts) for _, parts in sorted(found.items())]


def ranked(entries: Sequence[Entry], metric: str, higher_is_better: bool | None) -> list[Entry]:
    """Best first. A rank is 1 plus the number of entries whose whole interval is above one's own.

    So entries that can't be told apart from the best share rank 1.
    """
    best_first = sorted(entries, key=lambda e: _sort_value(e, metric, higher_is_better))
    bounds = [_bounds(entry, metric, higher_is_better) for entry in best_first]
    placed = [
        replace(entry, rank=_rank(own, bounds))
        for entry, own in zip(best_first, bounds, strict=True)
    ]
    return sorted(placed, key=lambda e: (e.rank is None, e.rank or 0))


_Part = tuple[Submission, Mapping[str, Any], Mapping[str, Any]]
_Bounds = tuple[float, float]


def _table(parts: Sequence[_Part]) -> Table:
    task = parts[-1][2]
    metrics = _metrics(task)
    groups: dict[str, list[_Part]] = {}
    for part in parts:
        _, document, own = part
        key = sha256({"run": document["comparability"], "task": own["comparability"]})
        groups.setdefault(key, []).append(part)
    return Table(
        task["name"],
        task["version"],
        task["protocol"],
        task["title"],
        str(task.get("description", "")),
        metrics,
        [_group(own, metrics[0]) for own in groups.values()],
    )


def _metrics(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Headline metrics, the first with a direction in front: it is the one that ranks."""
    chosen = [m for m in task["metrics"] if m["headline"]] or list(task["metrics"])
    return sorted(chosen, key=lambda m: m.get("higher_is_better") is None)


def _group(parts: Sequence[_Part], metric: Mapping[str, Any]) -> Group:
    entries = [entry for part in parts for entry in _entries(*part)]
    _, document, task = parts[0]
    revision = document["dataset"].get("revision")
    data = f"{_named(document['dataset'])}{f' at {revision}' if revision else ''}"
    judge = _judge(task)
    judged = f", judged by {judge}" if judge else ""
    conditions = f"{_named(document['model'])} on {data}{judged}"
    return Group(conditions, ranked(entries, metric["name"], metric.get("higher_is_better")))


def _entries(
    submission: Submission, document: Mapping[str, Any], task: Mapping[str, Any]
) -> Iterator[Entry]:
    """One per SAE and hookpoint that has numbers of the main arm over all concepts."""
    cells: dict[tuple[str | None, str | None], dict[str, Mapping[str, Any]]] = {}
    for row in document["metrics"]:
        whole = row["arm"] == "main" and row["concept"] is None
        if whole and (row["task"], row["protocol"]) == (task["name"], task["protocol"]):
            cells.setdefault((row["sae"], row["hookpoint"]), {})[row["metric"]] = row
    # A name alone may stand for the SAEs of several layers.
    saes = {(sae["name"], sae.get("hookpoint")): sae for sae in document["saes"]}
    for (sae, hookpoint), scores in cells.items():
        facts = saes.get((sae, hookpoint), {})
        yield Entry(
            submission=submission,
            sae=sae or submission.sae,
            hookpoint=hookpoint,
            layer=layer_of(hookpoint),
            k=facts.get("k"),
            l0=facts.get("l0"),
            model=_named(document["model"]),
            judge=_judge(task),
            created=document["created"][:10],
            scores=scores,
        )


def _named(part: Mapping[str, Any]) -> str:
    return next((str(part[k]) for k in ("name", "id") if part.get(k)), "unnamed")


def _judge(task: Mapping[str, Any]) -> str | None:
    """Who judged: part of what a judged task's runs must share to be compared."""
    judge = task["comparability"].get("judge")
    if not isinstance(judge, dict):
        return None
    requested, provider = str(judge.get("requested", "")), str(judge.get("provider", ""))
    return requested if requested.startswith(provider) else f"{provider} {requested}"


def _sort_value(entry: Entry, metric: str, higher_is_better: bool | None) -> tuple[bool, float]:
    value = entry.scores.get(metric, {}).get("value")
    if value is None:
        return (True, 0.0)
    return (False, float(value) if higher_is_better is False else -float(value))


def _bounds(entry: Entry, metric: str, higher_is_better: bool | None) -> _Bounds | None:
    """The interval, turned so that more is better."""
    row = entry.scores.get(metric, {})
    low, high = row.get("ci_low"), row.get("ci_high")
    if higher_is_better is None or low is None or high is None or row["note"] == TOO_FEW:
        return None
    return (low, high) if higher_is_better else (-high, -low)


def _rank(own: _Bounds | None, all_bounds: Sequence[_Bounds | None]) -> int | None:
    if own is None:
        return None
    return 1 + sum(other is not None and other[0] > own[1] for other in all_bounds)
