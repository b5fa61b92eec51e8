"""Probes of a judge to rows: what it chooses of two, and whether it says the same again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...harness.statistics import Interval, wilson
from ...harness.task import Line, Metric, MetricRow
from .probes import ORDERS, REPEATED, first_of
from .tables import Cell, cells, cluster_totals, pooled_interval, row, scored

PROBE_METRICS = (
    Metric(
        "choice_accuracy",
        "right of two",
        "of the latents for which the judge chose the same explanation in both orders, the share "
        "where it chose the latent's own over the nearest wrong one",
        higher_is_better=True,
        range=(0, 1),
    ),
    Metric(
        "position_bias",
        "position bias",
        "share of choices of the first explanation, less a half: 0 for a judge without a habit",
        higher_is_better=None,
        range=(-0.5, 0.5),
    ),
    Metric(
        "inconsistency",
        "inconsistent choices",
        "share of latents for which the choice hangs on the order; above .10 the judge is no "
        "judge of pairs",
        higher_is_better=False,
        range=(0, 1),
    ),
    Metric(
        "flip_rate",
        "flip rate",
        "share of items with different verdicts when asked three times",
        higher_is_better=False,
        range=(0, 1),
    ),
)


def probe_rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """Per SAE and hookpoint: there are too few probes for concepts."""
    firsts = {line["id"]: line for line in lines if line["arm"] not in (*ORDERS, REPEATED)}
    for cell in cells(lines):
        if cell.concept is None:
            choices = [line for line in cell.lines if line["arm"] in ORDERS]
            if choices:
                yield from _choices(cell, choices)
            if again := cell.arm(REPEATED):
                yield _flips(cell, again, firsts)


def _choices(cell: Cell, lines: Sequence[Line]) -> Iterator[MetricRow]:
    judged = scored(lines, "chose_true")
    pairs = _grouped(judged, lambda line: line["cluster"])
    both = [[line["scores"]["chose_true"] for line in pair] for pair in pairs if len(pair) == 2]
    n_pairs = len({line["cluster"] for line in lines})
    same = [said[0] for said in both if said[0] == said[1]]
    right = wilson(int(sum(same)), len(same))
    yield row("choice_accuracy", right, cell, "main", len(same), n_pairs, 0.5)
    differ = wilson(len(both) - len(same), len(both))
    yield row("inconsistency", differ, cell, "main", len(both), n_pairs)
    bias = _position_bias([line for pair in pairs if len(pair) == 2 for line in pair])
    yield row("position_bias", bias, cell, "main", 2 * len(both), len(lines), 0.0)


def _position_bias(lines: Sequence[Line]) -> Interval:
    """Over whole pairs: in them the true one comes first as often as second."""

    def parts(line: Line) -> list[tuple[int, float]]:
        return [(0, float(line["scores"]["chose_first"])), (1, 1.0)]

    totals = cluster_totals(lines, 2, parts)
    return pooled_interval(totals, lambda sums: sums[:, 0] / sums[:, 1] - 0.5, len(lines))


def _flips(cell: Cell, again: Sequence[Line], firsts: dict[str, Line]) -> MetricRow:
    items = _grouped(again, lambda line: first_of(line["id"]))
    whole = [[firsts.get(first_of(members[0]["id"])), *members] for members in items]
    judged = [
        {_verdict(line) for line in members}
        for members in whole
        if all(line is not None and line["status"] == "ok" for line in members)
    ]
    flipped = sum(len(said) > 1 for said in judged)
    return row("flip_rate", wilson(flipped, len(judged)), cell, "main", len(judged), len(items))


def _verdict(line: Any) -> float:
    (value,) = line["scores"].values()
    return float(value)


def _grouped(lines: Sequence[Line], name: Callable[[Line], str]) -> list[list[Line]]:
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(name(line), []).append(line)
    return list(groups.values())
