"""Two runs side by side: what differs beyond chance, what is tied, what must not be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import NotComparableError, UsageError
from .results import layer_of
from .rundir import Run, load_run
from .statistics import (
    INSUFFICIENT,
    Interval,
    difference_interval,
    holm,
    label_permutation,
    mcnemar_exact,
    sign_flip_permutation,
    unpaired_difference,
)
from .task import Line

Outcome = Literal["better", "worse", "different", "tied", "insufficient"]
BY = ("hookpoint", "layer", "sae", "concept", "arm", "task")


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric in one cell. `difference` is b minus a; `outcome` is said of b."""

    task: str
    metric: str
    cell: str | None
    a: float | None
    b: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    n_a: int
    n_b: int
    n_pairs: int
    """Samples that both runs have; 0 when the test is unpaired."""
    test: str | None
    p: float | None
    p_holm: float | None
    outcome: Outcome
    higher_is_better: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences, as one family of tests corrected after Holm."""

    a: str
    b: str
    by: str
    alpha: float
    rows: list[Difference]
    notes: list[str] = field(default_factory=list)
    """What could not be compared, and why."""

    @property
    def family(self) -> int:
        """How many tests the correction is for."""
        return sum(row.p is not None for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "family": self.family}


@dataclass(frozen=True, slots=True)
class _Scores:
    """One score of one cell of one run: parallel lists."""

    ids: list[str]
    clusters: list[str]
    values: list[float]


def compare(
    run_a: Run | str | Path, run_b: Run | str | Path, by: str = "hookpoint", alpha: float = 0.05
) -> Comparison:
    """Compare the main arms of two complete runs, cell by cell.

    A metric is compared when samples carry a score of its name. Same items (same ids; latents only
    of the same SAE): paired. Others: unpaired. Raises `NotComparableError` naming what differs.
    """
    if by not in BY:
        raise UsageError(f"can't compare by {by!r}; choose one of {', '.join(BY)}")
    a, b = (run if isinstance(run, Run) else load_run(run) for run in (run_a, run_b))
    names = _comparable_tasks(a, b)
    rows = [row for name in names for row in _differences(a, b, name, by)]
    if not rows:
        raise NotComparableError(
            f"the runs have no {by} in common; compare by another of {', '.join(BY)}"
        )
    return Comparison(a.id, b.id, by, alpha, _judged(rows, alpha), _notes(a, b, names))


def _comparable_tasks(a: Run, b: Run) -> list[str]:
    """Names of the tasks of both runs, after checking everything that must be the same."""
    for run in (a, b):
        if not run.complete:
            raise NotComparableError(
                f"{run.path} is partial; run its command again to complete it first"
            )
    tasks_a, tasks_b = (
        {task["name"]: task["comparability"] for task in run.tasks} for run in (a, b)
    )
    common = [name for name in tasks_a if name in tasks_b]
    if not common:
        raise NotComparableError(
            f"no task in common: {', '.join(tasks_a)} and {', '.join(tasks_b)}"
        )
    _check_equal("", a.document["comparability"], b.document["comparability"])
    for name in common:
        _check_equal(f"{name}: ", tasks_a[name], tasks_b[name])
    return common


def _check_equal(prefix: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    for part in sorted({*a, *b}):
        if a.get(part) != b.get(part):
            raise NotComparableError(
                f"not comparable: {prefix}{part} differs, {a.get(part)!r} and {b.get(part)!r}"
            )


def _notes(a: Run, b: Run, common: Sequence[str]) -> list[str]:
    alone = [
        (run.id, task["name"]) for run in (a, b) for task in run.tasks if task["name"] not in common
    ]
    return [f"{task} is only in {run}" for run, task in alone]


def _differences(a: Run, b: Run, task: str, by: str) -> Iterator[Difference]:
    metrics = {
        metric["name"]: metric
        for spec in a.tasks
        if spec["name"] == task
        for metric in spec["metrics"]
    }
    scores_a, scores_b = (_cells(run, task, by) for run in (a, b))
    for cell, metric in scores_a:
        if metric in metrics and (cell, metric) in scores_b:
            row = _difference(scores_a[cell, metric], scores_b[cell, metric])
            direction = metrics[metric]["higher_is_better"]
            yield replace(row, task=task, metric=metric, cell=cell, higher_is_better=direction)


def _cells(run: Run, task: str, by: str) -> dict[tuple[str | None, str], _Scores]:
    cells: dict[tuple[str | None, str], _Scores] = {}
    dictionaries = {
        (sae["name"], sae.get("hookpoint")): sae.get("weights_sha256", sae["name"])
        for sae in run.document["saes"]
    }
    for line in run.lines(task):
        if line["status"] == "ok" and (line["arm"] == "main" or by == "arm"):
            for metric, value in line["scores"].items():
                scores = cells.setdefault((_cell(line, by), metric), _Scores([], [], []))
                scores.ids.append(_item(line, dictionaries))
                scores.clusters.append(line["cluster"])
                scores.values.append(value)
    return cells


def _cell(line: Line, by: str) -> str | None:
    value = layer_of(line["hookpoint"]) if by == "layer" else line[by]
    return None if value is None else str(value)


def _item(line: Line, dictionaries: Mapping[tuple[str, str | None], str]) -> str:
    """What makes two samples the same item. Latent 7 of one SAE is not latent 7 of another."""
    if line["latent"] is None:
        return str(line["id"])
    sae = (line["sae"], line["hookpoint"])
    return f"{dictionaries.get(sae, sae)} {line['id']}"


def _difference(a: _Scores, b: _Scores) -> Difference:
    common = set(a.ids) & set(b.ids)
    # Pairing a small overlap would throw the rest away.
    if 2 * len(common) >= max(len(a.ids), len(b.ids)):
        return _paired(_restricted(a, common), _restricted(b, common))
    interval = unpaired_difference(a.values, a.clusters, b.values, b.clusters)
    p = label_permutation(a.values, a.clusters, b.values, b.clusters)
    return _row(a, b, interval, 0, "cluster permutation", p)


def _restricted(scores: _Scores, ids: set[str]) -> _Scores:
    """Only these items, in the order of their ids."""
    kept = sorted(
        i for i in zip(scores.ids, scores.clusters, scores.values, strict=True) if i[0] in ids
    )
    return _Scores([i[0] for i in kept], [i[1] for i in kept], [i[2] for i in kept])


def _paired(a: _Scores, b: _Scores) -> Difference:
    interval = difference_interval(a.values, b.values, a.clusters)
    if {*a.values, *b.values} <= {0.0, 1.0} and len(set(a.clusters)) == len(a.clusters):
        gained = sum(y > x for x, y in zip(a.values, b.values, strict=True))
        lost = sum(y < x for x, y in zip(a.values, b.values, strict=True))
        return _row(a, b, interval, len(a.ids), "McNemar, exact", mcnemar_exact(gained, lost))
    differences = [y - x for x, y in zip(a.values, b.values, strict=True)]
    p = sign_flip_permutation(differences, a.clusters)
    return _row(a, b, interval, len(a.ids), "sign flips of clusters", p)


def _row(a: _Scores, b: _Scores, interval: Interval, pairs: int, test: str, p: float) -> Difference:
    enough = interval.n_clusters >= INSUFFICIENT
    return Difference(
        task="",
        metric="",
        cell=None,
        a=sum(a.values) / len(a.values),
        b=sum(b.values) / len(b.values),
        difference=interval.value,
        ci_low=interval.low,
        ci_high=interval.high,
        ci_method=interval.method,
        n_a=len(a.values),
        n_b=len(b.values),
        n_pairs=pairs,
        test=test if enough else None,
        p=p if enough else None,
        p_holm=None,
        outcome="tied" if enough else "insufficient",
        higher_is_better=None,
    )


def _judged(rows: Sequence[Difference], alpha: float) -> list[Difference]:
    tested = [row for row in rows if row.p is not None]
    corrected = iter(holm([row.p for row in tested if row.p is not None]))
    return [row if row.p is None else _verdict(row, next(corrected), alpha) for row in rows]


def _verdict(row: Difference, p_holm: float, alpha: float) -> Difference:
    return replace(row, p_holm=p_holm, outcome=_outcome(row, p_holm <= alpha))


def _outcome(row: Difference, significant: bool) -> Outcome:
    if not significant or not row.difference:
        return "tied"
    if row.higher_is_better is None:
        return "different"
    return "better" if (row.difference > 0) == row.higher_is_better else "worse"
