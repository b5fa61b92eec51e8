"""Sample lines of features to metric rows: by SAE, hookpoint and concept, intervals by latent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...harness.statistics import INSUFFICIENT, Interval, mean_interval
from ...harness.task import TOO_FEW, Line, MetricRow

if TYPE_CHECKING:
    from ...harness.task import Metric

    Table = npt.NDArray[np.float64]

RESAMPLES = 2000
ImagesInterval = Callable[[Sequence[Line]], Interval]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table and the lines in it, all arms."""

    sae: str | None
    hookpoint: str | None
    concept: str | None
    lines: Sequence[Line]

    def arm(self, arm: str) -> list[Line]:
        return [line for line in self.lines if line["arm"] == arm]


def cells(lines: Sequence[Line]) -> Iterator[Cell]:
    """Per SAE: its total, each hookpoint, each concept, each of both. Empty cells don't exist."""
    groups: dict[tuple[str | None, str | None, str | None], list[Line]] = {}
    for line in lines:
        sae, hookpoint, concept = line["sae"], line["hookpoint"], line["concept"]
        keys = {(sae, None, None), (sae, hookpoint, None)}
        keys |= {(sae, None, concept), (sae, hookpoint, concept)} if concept else set()
        for key in sorted(keys, key=repr):
            groups.setdefault(key, []).append(line)
    for (sae, hookpoint, concept), members in groups.items():
        yield Cell(sae, hookpoint, concept, members)


def scored(lines: Sequence[Line], score: str) -> list[Line]:
    """The lines that have a number for this score."""
    return [line for line in lines if line["status"] == "ok" and score in line["scores"]]


def mean_rows(
    lines: Sequence[Line],
    score: str,
    arms: Sequence[str],
    null: str | None = None,
    *,
    share: bool = True,
    of_images: ImagesInterval | None = None,
) -> Iterator[MetricRow]:
    """The mean of a score in every cell and arm.

    Args:
        lines: of this score alone, those without a number included: they are the coverage.
        null: the arm shown beside `main`.
        share: whether the score can't leave 0..1, see `mean_interval`.
        of_images: makes the interval of a cell of one concept at one hookpoint from its ok lines.
    """
    for cell in cells(lines):
        beside = _mean(scored(cell.arm(null), score), score) if null else None
        for arm in arms:
            if members := cell.arm(arm):
                shown = beside if arm == "main" else None
                found = _mean_row(cell, arm, members, score, shown, share)
                yield _of_images(found, cell, members, of_images) if of_images else found


def metric_rows(
    lines: Sequence[Line], metrics: Sequence[Metric], arms: Sequence[str], null: str | None = None
) -> Iterator[MetricRow]:
    """`mean_rows` of several metrics, each within its own range."""
    for metric in metrics:
        share = metric.range == (0, 1)
        yield from mean_rows(lines, metric.name, arms, null, share=share)


def _of_images(
    found: MetricRow, cell: Cell, members: Sequence[Line], of_images: ImagesInterval
) -> MetricRow:
    if not (cell.concept and cell.hookpoint):
        return found
    interval = of_images(scored(members, found.metric))
    if interval.method is None:
        return found
    low, high, method = interval.low, interval.high, interval.method
    return replace(found, ci_low=low, ci_high=high, ci_method=method)


def _mean_row(
    cell: Cell, arm: str, members: Sequence[Line], score: str, null: float | None, share: bool
) -> MetricRow:
    ok = scored(members, score)
    values = [float(line["scores"][score]) for line in ok]
    clusters = [line["cluster"] for line in ok]
    interval = mean_interval(values, clusters, share=share, resamples=RESAMPLES)
    return row(score, interval, cell, arm, len(ok), len(members), null)


def row(
    metric: str,
    interval: Interval,
    cell: Cell,
    arm: str,
    n_ok: int,
    n_total: int,
    null: float | None = None,
    note: str | None = None,
) -> MetricRow:
    """A metric row of a cell; few clusters are noted as `insufficient`."""
    return MetricRow(
        metric=metric,
        value=interval.value,
        n_ok=n_ok,
        n_total=n_total,
        ci_low=interval.low,
        ci_high=interval.high,
        ci_method=interval.method,
        sae=cell.sae,
        hookpoint=cell.hookpoint,
        arm=arm,
        concept=cell.concept,
        null=null,
        note=note or (TOO_FEW if interval.n_clusters < INSUFFICIENT else None),
    )


def weighted_rows(
    lines: Sequence[Line], score: str, weight: str, arms: Sequence[str], null: str | None = None
) -> Iterator[MetricRow]:
    """The mean weighted by `detail[weight]`, in every cell and arm: `<score>_<weight>`."""
    for cell in cells(lines):
        values = {arm: _weighted(scored(cell.arm(arm), score), score, weight) for arm in arms}
        for arm in arms:
            if members := cell.arm(arm):
                beside = values[null].value if null and arm == "main" else None
                n_ok = len(scored(members, score))
                metric = f"{score}_{weight}"
                yield row(metric, values[arm], cell, arm, n_ok, len(members), beside)


def _weighted(lines: Sequence[Line], score: str, weight: str) -> Interval:
    def parts(line: Line) -> list[tuple[int, float]]:
        mass = float(line["detail"][weight])
        return [(0, mass * float(line["scores"][score])), (1, mass)]

    totals = cluster_totals(lines, 2, parts)
    return pooled_interval(totals, lambda sums: _ratio(sums[:, 0], sums[:, 1]), len(lines))


def _mean(lines: Sequence[Line], score: str) -> float | None:
    return float(np.mean([line["scores"][score] for line in lines])) if lines else None


def macro_rows(
    lines: Sequence[Line], score: str, arms: Sequence[str], null: str | None = None
) -> Iterator[MetricRow]:
    """The mean over concepts of their means, so that no common concept decides: `<score>_macro`."""
    for cell in cells(lines):
        if cell.concept is None:
            values = {arm: _macro(scored(cell.arm(arm), score), score) for arm in arms}
            for arm in arms:
                if members := cell.arm(arm):
                    beside = values[null].value if null and arm == "main" else None
                    n_ok = len(scored(members, score))
                    yield row(f"{score}_macro", values[arm], cell, arm, n_ok, len(members), beside)


def _macro(lines: Sequence[Line], score: str) -> Interval:
    concepts = sorted({line["concept"] for line in lines if line["concept"]})
    lines = [line for line in lines if line["concept"]]
    totals = cluster_totals(
        lines,
        2 * len(concepts),
        lambda line: [
            (2 * concepts.index(line["concept"]), float(line["scores"][score])),
            (2 * concepts.index(line["concept"]) + 1, 1.0),
        ],
    )

    def statistic(sums: Table) -> Table:
        pairs = sums.reshape(len(sums), -1, 2)
        return _nanmean(_ratio(pairs[..., 0], pairs[..., 1]))

    return pooled_interval(totals, statistic, len(lines))


def gain_rows(
    lines: Sequence[Line], score: str, metric: str, null: str, ceiling: str
) -> Iterator[MetricRow]:
    """(score - null) / (ceiling - null) of the cell's means, arms resampled together by latent.

    Its three means are the rows beside it; the note says those of null and ceiling.
    """
    arms = ["main", null, ceiling]
    for cell in cells(lines):
        if not cell.arm("main"):
            continue
        ok = [line for line in scored(cell.lines, score) if line["arm"] in arms]
        totals = cluster_totals(
            ok,
            6,
            lambda line: [
                (2 * arms.index(line["arm"]), float(line["scores"][score])),
                (2 * arms.index(line["arm"]) + 1, 1.0),
            ],
        )
        interval = pooled_interval(totals, _gain, len(ok))
        n_ok = len(scored(cell.arm("main"), score))
        known = {arm: _mean(scored(cell.arm(arm), score), score) for arm in (null, ceiling)}
        said = [f"{arm} {mean:.3f}" for arm, mean in known.items() if mean is not None]
        note = None if interval.insufficient else ", ".join(said) or None
        yield row(metric, interval, cell, "main", n_ok, len(cell.arm("main")), note=note)


def _gain(sums: Table) -> Table:
    main, null, ceiling = (_ratio(sums[:, 2 * i], sums[:, 2 * i + 1]) for i in range(3))
    return _ratio(main - null, ceiling - null)


def _ratio(a: Table, b: Table) -> Table:
    unknown = np.full(np.broadcast(a, b).shape, np.nan)
    return np.asarray(np.divide(a, b, out=unknown, where=b != 0))


def _nanmean(values: Table) -> Table:
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(-1), known.sum(-1).astype(float))


def cluster_totals(
    lines: Sequence[Line], width: int, parts: Callable[[Line], Sequence[tuple[int, float]]]
) -> Table:
    """`(clusters, width)` sums over each cluster's lines of what `parts` puts into which column."""
    clusters = {name: i for i, name in enumerate(dict.fromkeys(line["cluster"] for line in lines))}
    totals = np.zeros((len(clusters), width))
    for line in lines:
        for column, value in parts(line):
            totals[clusters[line["cluster"]], column] += value
    return totals


def pooled_interval(
    totals: Table, statistic: Callable[[Table], Table], n: int, seed: int = 0
) -> Interval:
    """A statistic of sums over clusters, with a percentile bootstrap that resamples clusters.

    Args:
        totals: `(clusters, m)`.
        statistic: `(draws, m)` sums to `(draws,)`; NaN where it has no value.
        n: samples, for the record.
    """
    groups = len(totals)
    value = _number(statistic(totals.sum(0, keepdims=True))[0]) if groups else None
    bare = Interval(value, None, None, None, n, groups)
    if value is None or groups < 2:
        return bare
    rng = np.random.default_rng(seed)
    times = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES).astype(float)
    draws = statistic(times @ totals)
    draws = draws[~np.isnan(draws)]
    if not len(draws) or draws.min() == draws.max():
        return bare
    low, high = np.quantile(draws, [0.025, 0.975])
    method = "cluster bootstrap (percentile)"
    return Interval(value, float(low), float(high), method, n, groups)


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
