"""Intervals and tests. The unit that is resampled is the cluster; its samples stay together.

Imports numpy and scipy inside functions: nothing heavy is loaded by importing this file.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from .resampling import bca, cluster_totals, influence, percentiles, resampled_means

T = TypeVar("T")
Array = Any

INSUFFICIENT = 20
"""With fewer clusters a cell is printed as 'insufficient', not as a number."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval. `low` and `high` are None where none can be given."""

    value: float | None
    low: float | None
    high: float | None
    method: str | None
    n: int
    n_clusters: int

    @property
    def insufficient(self) -> bool:
        return self.n_clusters < INSUFFICIENT


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    share: bool = False,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Mean over samples, with a cluster bootstrap (BCa, widened for few clusters).

    When all values are equal a bootstrap shows no spread, and there is no interval; a share that is
    0 or 1 throughout gets Wilson's, with clusters as units.

    Args:
        share: values can't leave 0..1. For others Wilson's bounds mean nothing: a change of 0, from
            -1..1, may truly be below.
    """
    if not len(values):
        return Interval(None, None, None, None, 0, 0)
    sums, counts = cluster_totals(values, clusters)
    value, groups = float(sums.sum() / counts.sum()), len(sums)
    bare = Interval(value, None, None, None, len(values), groups)
    if groups < 2:
        return bare
    if min(values) == max(values):
        return _constant_interval(bare, level) if share else bare
    draws = resampled_means(sums, counts, seed, resamples)
    low, high = bca(value, draws, influence(sums, counts), groups, level)
    return replace(bare, low=low, high=high, method="cluster bootstrap (BCa)")


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a share k/n of independent samples."""
    from scipy.stats import binomtest

    if n == 0:
        return Interval(None, None, None, None, 0, 0)
    bounds = binomtest(k, n).proportion_ci(level, method="wilson")
    return Interval(k / n, float(bounds.low), float(bounds.high), "Wilson", n, n)


def bootstrap_statistic(
    lines_by_cluster: Mapping[Any, Sequence[T]],
    statistic: Callable[[list[T]], float | None],
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Any statistic of a list of samples, clusters resampled. Draws with no value are left out."""
    import numpy as np

    groups = list(lines_by_cluster.values())
    everything = [line for group in groups for line in group]
    value = statistic(everything) if everything else None
    bare = Interval(value, None, None, None, len(everything), len(groups))
    if value is None or len(groups) < 2:
        return bare
    random = np.random.default_rng(seed)
    drawn = [_draw(groups, statistic, random) for _ in range(resamples)]
    draws = np.array([number for number in drawn if number is not None], dtype=float)
    if not len(draws) or draws.min() == draws.max():
        return bare
    low, high = percentiles(draws, len(groups), level)
    return replace(bare, low=low, high=high, method="cluster bootstrap (percentile)")


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p of b against c discordant pairs. 1 when there are none."""
    from scipy.stats import binomtest

    return float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0


def auroc(scores: Sequence[float], labels: Sequence[bool | int]) -> float | None:
    """Share of (positive, negative) pairs ordered rightly, ties half. None with one class only."""
    import numpy as np
    from scipy.stats import rankdata

    positive = np.asarray(labels, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    rank_sum = float(rankdata(np.asarray(scores, dtype=float))[positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _constant_interval(bare: Interval, level: float) -> Interval:
    if bare.value not in (0.0, 1.0):
        return bare
    shown = wilson(round(bare.value) * bare.n_clusters, bare.n_clusters, level)
    return replace(bare, low=shown.low, high=shown.high, method="Wilson over clusters")


def _draw(
    groups: Sequence[Sequence[T]], statistic: Callable[[list[T]], float | None], random: Any
) -> float | None:
    drawn = random.integers(0, len(groups), len(groups))
    return statistic([line for i in drawn for line in groups[i]])
