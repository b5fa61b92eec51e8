"""How much data a wished-for difference needs, from the spread that a stored run has shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UsageError
from .cells import cells
from .difference import Scores
from .resampling import cluster_totals
from .rundir import Run
from .statistics import INSUFFICIENT

CORRELATION = 0.5
"""Assumed between a cluster's scores in two runs over the same items."""


@dataclass(frozen=True, slots=True)
class PowerRow:
    """One cell. Clusters are the unit: latents, or families of questions."""

    task: str
    metric: str
    cell: str | None
    cluster: str
    """What a cluster is, in words."""
    n_clusters: int
    spread: float
    """Standard deviation of a cluster's contribution to the mean, in the metric's units."""
    needed_paired: int
    """Clusters in common, when both runs have the same items."""
    needed_unpaired: int
    """Clusters on each side, when the items differ."""
    detectable_paired: float
    """The smallest difference that as many clusters as the run has can show."""
    detectable_unpaired: float


@dataclass(frozen=True, slots=True)
class Power:
    """The plan for one comparison, of one test."""

    run: str
    by: str
    difference: float
    power: float
    alpha: float
    correlation: float
    rows: list[PowerRow]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def power(
    run: Run,
    metric: str,
    difference: float,
    *,
    by: str = "layer",
    power: float = 0.8,
    alpha: float = 0.05,
    correlation: float = CORRELATION,
) -> Power:
    """Clusters needed to find `difference` with this `power` at a two-sided `alpha`.

    The spread is that of the run's clusters, uneven sizes included: the standard error of the mean
    over clusters times the root of their number. Sizes are statsmodels' for t tests. For a family
    of m tests, give alpha / m. Raises `UsageError` when no cell of the run says enough.
    """
    if difference <= 0:
        raise UsageError(f"the difference is {difference:g}; it must be above 0")
    found = list(_rows(run, metric, difference, by, power, alpha, correlation))
    if not found:
        known = sorted({m for task in run.tasks for _, m in cells(run, task["name"], by)})
        raise UsageError(
            f"no {by} of {run.id} has {INSUFFICIENT} clusters or more with different values of "
            f"{metric!r}; its scores are {', '.join(known)}"
        )
    return Power(run.id, by, difference, power, alpha, correlation, found)


def needed(sd: float, difference: float, *, paired: bool, power: float, alpha: float) -> int:
    """Clusters in common, or on each side, to find `difference`; at least 2.

    Args:
        sd: of the pairs' differences, or of one side, a cluster each.
    """
    from math import ceil

    effect = difference / sd
    # The solver finds no root where any two clusters will do.
    if effect > 5:
        return 2
    found = _solver(paired).solve_power(effect_size=effect, power=power, alpha=alpha)
    return max(2, ceil(float(found)))


def detectable(sd: float, n_clusters: int, *, paired: bool, power: float, alpha: float) -> float:
    """The smallest difference that so many clusters, in common or on each side, can show."""
    size = {"nobs" if paired else "nobs1": n_clusters}
    return sd * float(_solver(paired).solve_power(power=power, alpha=alpha, **size))


def _solver(paired: bool) -> Any:
    from statsmodels.stats.power import TTestIndPower, TTestPower

    return TTestPower() if paired else TTestIndPower()


def _rows(
    run: Run,
    metric: str,
    difference: float,
    by: str,
    power: float,
    alpha: float,
    correlation: float,
) -> Iterator[PowerRow]:
    for task in run.tasks:
        for (cell, name), scores in cells(run, task["name"], by).items():
            spread, groups = _spread(scores)
            if name != metric or groups < INSUFFICIENT or not spread:
                continue
            # A difference of two scores with this correlation varies so much.
            of_pair = spread * (2 * (1 - correlation)) ** 0.5
            yield PowerRow(
                task=task["name"],
                metric=metric,
                cell=cell,
                cluster=task["cluster"],
                n_clusters=groups,
                spread=spread,
                needed_paired=needed(of_pair, difference, paired=True, power=power, alpha=alpha),
                needed_unpaired=needed(spread, difference, paired=False, power=power, alpha=alpha),
                detectable_paired=detectable(
                    of_pair, groups, paired=True, power=power, alpha=alpha
                ),
                detectable_unpaired=detectable(
                    spread, groups, paired=False, power=power, alpha=alpha
                ),
            )


def _spread(scores: Scores) -> tuple[float, int]:
    """Cluster-robust standard deviation of a mean over samples, and the number of clusters."""
    sums, counts = cluster_totals(scores.values, scores.clusters)
    groups = len(sums)
    if groups < 2:
        return 0.0, groups
    residuals = (sums - sums.sum() / counts.sum() * counts) / counts.mean()
    return float((residuals**2).sum() / (groups - 1)) ** 0.5, groups
