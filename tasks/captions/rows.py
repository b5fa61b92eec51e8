"""Metric rows of `chair`, from its stored lines: every arm by itself, and against untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ...harness.statistics import Interval, bootstrap_statistic
from ...harness.task import Line, MetricRow
from ..hallucination.arms import RANDOM, STEERED, UNTOUCHED
from ..hallucination.rows import RANDOM_MEAN, Cell
from .chair import RATES, Counts, Rate, read_counts

CHANGED = ("chair_i", "chair_s", "object_recall", "words")
"""Those whose change from the untouched model is a row too: `chair_i_change`, ..."""
_RESAMPLES = 500
T = TypeVar("T")

Captions = Mapping[str, Line]
"""By picture, those with a caption to score."""


def all_rows(lines: Sequence[Line]) -> list[MetricRow]:
    """The untouched model, then every arm at every SAE, and its random draws as one arm."""
    rows: list[MetricRow] = []
    base: Captions = {}
    groups = _grouped(sorted(lines, key=_late), "arm", "sae", "hookpoint")
    for (arm, sae, hookpoint), group in groups.items():
        cell, captions = Cell(arm, sae, hookpoint), _scorable(group)
        base = captions if arm == UNTOUCHED else base
        rows += _state_rows(cell, captions, len(group))
        if arm != UNTOUCHED:
            rows += _change_rows(cell, base, captions, len(group))
    return _with_nulls(rows + list(_random_rows(lines)))


def _grouped(lines: Iterable[Line], *keys: str) -> dict[tuple[Any, ...], list[Line]]:
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(tuple(line[key] for key in keys), []).append(line)
    return groups


def _late(line: Line) -> bool:
    """Behind the untouched model, which all others are held against."""
    return bool(line["arm"] != UNTOUCHED)


def _scorable(lines: Sequence[Line]) -> Captions:
    return {line["detail"]["figure"]: line for line in lines if line["status"] == "ok"}


def _state_rows(cell: Cell, captions: Captions, n_total: int) -> Iterator[MetricRow]:
    counts = _by_family((line["cluster"], read_counts(line)) for line in captions.values())
    for metric, rate in RATES.items():
        yield cell.row(metric, bootstrap_statistic(counts, rate, resamples=_RESAMPLES), n_total)


def _change_rows(
    cell: Cell, base: Captions, captions: Captions, n_total: int
) -> Iterator[MetricRow]:
    """On the pictures that both have a caption of: the arm minus the untouched model."""
    both = [(base[figure], line) for figure, line in captions.items() if figure in base]
    pairs = _by_family((b["cluster"], (read_counts(b), read_counts(a))) for b, a in both)
    for metric in CHANGED:
        interval = bootstrap_statistic(pairs, _change(RATES[metric]), resamples=_RESAMPLES)
        yield cell.row(f"{metric}_change", interval, n_total)


def _change(rate: Rate) -> Callable[[Sequence[tuple[Counts, Counts]]], float | None]:
    def change(pairs: Sequence[tuple[Counts, Counts]]) -> float | None:
        before, after = (rate([pair[side] for pair in pairs]) for side in (0, 1))
        return None if before is None or after is None else after - before

    return change


def _by_family(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    families: dict[str, list[T]] = {}
    for family, value in pairs:
        families.setdefault(family, []).append(value)
    return families


def _random_rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """All draws at one SAE together; a family's captions stay together."""
    draws = [line for line in lines if line["arm"].startswith(f"{RANDOM}_")]
    for (sae, hookpoint), group in _grouped(draws, "sae", "hookpoint").items():
        done = [line for line in group if line["status"] == "ok"]
        counts = _by_family((line["cluster"], read_counts(line)) for line in done)
        cell = Cell(RANDOM_MEAN, sae, hookpoint)
        for metric, rate in RATES.items():
            found: Interval = bootstrap_statistic(counts, rate, resamples=_RESAMPLES)
            yield cell.row(metric, found, len(group))


def _with_nulls(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """The mean of the random draws as `null` beside what steering did."""
    null = {(r.metric, r.sae, r.hookpoint): r.value for r in rows if r.arm == RANDOM_MEAN}
    return [
        replace(r, null=null.get((r.metric, r.sae, r.hookpoint))) if r.arm == STEERED else r
        for r in rows
    ]
