"""Runs side by side: what differs beyond chance, what is tied, what must not be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import NotComparableError, UsageError
from .cells import BY, Cell, cells, metric_specs
from .change import by_intervals
from .correction import CORRECTIONS, Correction
from .difference import RESAMPLES, Change, Scores, changes
from .pooled import pooled_rows
from .rundir import Run, load_run
from .sparsity import SparsityPoint, against_l0
from .verdict import Difference, Pair, judged

ALL_METRICS = "all"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences from the first run, as one family of tests."""

    runs: list[str]
    by: str
    alpha: float
    correction: Correction
    margin: float | None
    resamples: int
    rows: list[Difference]
    notes: list[str] = field(default_factory=list)
    """What could not be compared, and why."""
    against_l0: list[SparsityPoint] = field(default_factory=list)
    """Headline scores of every SAE beside its measured L0."""

    @property
    def family(self) -> int:
        """How many tests the correction is for."""
        return sum(row.p is not None for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "family": self.family}


def compare(
    *runs: Run | str | Path,
    by: str = "hookpoint",
    alpha: float = 0.05,
    correction: Correction = "holm",
    margin: float | None = None,
    metrics: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare the main arms of complete runs with those of the first one, cell by cell.

    The family of tests, which `correction` is for, is every cell of every further run in every
    metric: a task's headline metrics (all, where no headline is a mean of samples), or those named
    in `metrics`, `all` being all. Same items (same ids; latents only of the same SAE) are paired,
    others not; a number that is no mean of samples is tested by the two stored intervals, as if the
    runs were independent, which is too careful for paired ones. With a `margin`, in the metrics'
    own units, 'tied' is a finding: the difference lies within it (two one-sided tests), and what is
    found neither different nor equal is 'undecided'. Without one, 'tied' says that no difference
    was found. Raises `NotComparableError` with every reason.
    """
    _check_options(by, correction, margin, runs)
    first, *others = (run if isinstance(run, Run) else load_run(run) for run in runs)
    common = {other.id: comparable_tasks(first, other) for other in others}
    places = [(other, task) for other in others for task in common[other.id]]
    sampled = [pair for place in places for pair in _pairs(first, *place, by, metrics)]
    scored = {(pair.task, pair.metric) for pair in sampled}
    pooled = [pair for place in places for pair in _pooled(first, *place, by, metrics, scored)]
    pairs = [*sampled, *(pair for pair, _ in pooled)]
    if not pairs:
        raise NotComparableError(_nothing(by, metrics))
    sides = [pair.sides for pair in sampled if pair.sides]
    made = changes(sides, resamples=resamples) if sides else []
    made += [change for _, change in pooled]
    return Comparison(
        runs=[run.id for run in (first, *others)],
        by=by,
        alpha=alpha,
        correction=correction,
        margin=margin,
        resamples=resamples,
        rows=judged(pairs, made, alpha, correction, margin),
        notes=_notes(first, others, common, pairs, metrics, by),
        against_l0=against_l0([first, *others]),
    )


def comparable_tasks(a: Run, b: Run) -> list[str]:
    """Names of the tasks of both runs, after checking everything that must be the same.

    Raises `NotComparableError` with every reason.
    """
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
    reasons = [
        *unequal("", a.document["comparability"], b.document["comparability"]),
        *(r for name in common for r in unequal(f"{name}: ", tasks_a[name], tasks_b[name])),
    ]
    if reasons:
        raise NotComparableError(f"not comparable: {'; '.join(reasons)}")
    return common


def unequal(prefix: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """A reason for each part in which two comparability documents differ."""
    for part in sorted({*a, *b}):
        if a.get(part) != b.get(part):
            yield f"{prefix}{part} differs, {a.get(part)!r} and {b.get(part)!r}"


def _check_options(by: str, correction: str, margin: float | None, runs: Sequence[object]) -> None:
    if by not in BY:
        raise UsageError(f"can't compare by {by!r}; choose one of {', '.join(BY)}")
    if correction not in CORRECTIONS:
        raise UsageError(f"no correction {correction!r}; choose one of {', '.join(CORRECTIONS)}")
    if margin is not None and margin <= 0:
        raise UsageError(f"the margin is {margin:g}; it must be above 0, in the metric's units")
    if len(runs) < 2:
        raise UsageError("a comparison needs two runs or more; name another one")


def _pairs(a: Run, b: Run, task: str, by: str, metrics: Sequence[str]) -> Iterator[Pair]:
    scores_a, scores_b = (cells(run, task, by) for run in (a, b))
    specs = metric_specs(a, task)
    chosen = _chosen(specs, scores_a, metrics)
    for (cell, metric), scores in scores_a.items():
        if metric in chosen and (cell, metric) in scores_b:
            direction = specs[metric]["higher_is_better"]
            sides = (scores, scores_b[cell, metric])
            yield Pair(task, metric, cell, b.id, direction, sides)


def _pooled(
    a: Run, b: Run, task: str, by: str, metrics: Sequence[str], scored: Set[tuple[str, str]]
) -> Iterator[tuple[Pair, Change]]:
    """Those of the chosen metrics that no sample has a score of."""
    specs = metric_specs(a, task)
    wanted = {
        name
        for name, spec in specs.items()
        if (task, name) not in scored
        and (name in metrics or ALL_METRICS in metrics if metrics else spec["headline"])
    }
    rows_a, rows_b = (pooled_rows(run, task, by, wanted) for run in (a, b))
    for (cell, metric), row in rows_a.items():
        if (cell, metric) in rows_b:
            direction = specs[metric]["higher_is_better"]
            pair = Pair(task, metric, cell, b.id, direction, None)
            yield pair, by_intervals(row, rows_b[cell, metric])


def _chosen(
    specs: Mapping[str, Mapping[str, Any]], scored: Mapping[Cell, Scores], metrics: Sequence[str]
) -> set[str]:
    declared = {metric for _, metric in scored if metric in specs}
    if metrics:
        return declared if ALL_METRICS in metrics else declared & set(metrics)
    return {metric for metric in declared if specs[metric]["headline"]} or declared


def _nothing(by: str, metrics: Sequence[str]) -> str:
    if metrics:
        return f"no {by} has samples with {' or '.join(metrics)} in both runs; try --metric all"
    return f"the runs have no {by} in common; compare by another of {', '.join(BY)}"


def _notes(
    first: Run,
    others: Sequence[Run],
    common: Mapping[str, Sequence[str]],
    pairs: Sequence[Pair],
    metrics: Sequence[str],
    by: str,
) -> list[str]:
    alone = [
        f"{task['name']} is only in {run.id}"
        for other in others
        for run in (first, other)
        for task in run.tasks
        if task["name"] not in common[other.id]
    ]
    compared = {(pair.task, pair.metric) for pair in pairs}
    # A protocol may have other metrics than the one that was run.
    there = {(row["task"], row["metric"]) for row in first.metrics}
    pooled = [
        f"{task} {metric} has neither samples of the main arm nor one interval a {by}: it is in no "
        "test here"
        for task in dict.fromkeys(task for names in common.values() for task in names)
        for metric, spec in metric_specs(first, task).items()
        if (metric in metrics if metrics else spec["headline"])
        and (task, metric) in there - compared
    ]
    return list(dict.fromkeys([*alone, *pooled]))
