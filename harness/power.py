"""How much data a wished-for difference needs, from the spread that a stored run has shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
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
    left_out: list[str]
    """Cells that say too little, and why."""

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
    there = list(_spreads(run, metric, by))
    plans = _plans(difference, power, alpha, correlation)
    found = [plans(spread) for spread in there if spread.problem is None]
    if not found:
        known = sorted({m for task in run.tasks for _, m in cells(run, task["name"], by)})
        raise UsageError(
            f"no {by} of {run.id} has {INSUFFICIENT} clusters or more with different values of "
            f"{metric!r}; its scores are {', '.join(known)}"
        )
    left_out = [f"{s.task} at {by} {s.cell or 'all'}: {s.problem}" for s in there if s.problem]
    return Power(run.id, by, difference, power, alpha, correlation, found, left_out)


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


@dataclass(frozen=True, slots=True)
class _Spread:
    """How much a cell's clusters differ."""

    task: str
    cell: str | None
    metric: str
    cluster: str
    sd: float
    n_clusters: int

    @property
    def problem(self) -> str | None:
        if self.n_clusters < INSUFFICIENT:
            return f"{self.n_clusters} clusters, fewer than {INSUFFICIENT}"
        return None if self.sd else f"{self.n_clusters} clusters, all alike"


def _spreads(run: Run, metric: str, by: str) -> Iterator[_Spread]:
    for task in run.tasks:
        for (cell, name), scores in cells(run, task["name"], by).items():
            if name == metric:
                yield _Spread(task["name"], cell, metric, task["cluster"], *_spread(scores))


def _plans(
    difference: float, power: float, alpha: float, correlation: float
) -> Callable[[_Spread], PowerRow]:
    need = partial(needed, difference=difference, power=power, alpha=alpha)
    see = partial(detectable, power=power, alpha=alpha)

    def plan(of: _Spread) -> PowerRow:
        # A difference of two scores with this correlation varies so much.
        of_pair = of.sd * (2 * (1 - correlation)) ** 0.5
        return PowerRow(
            task=of.task,
            metric=of.metric,
            cell=of.cell,
            cluster=of.cluster,
            n_clusters=of.n_clusters,
            spread=of.sd,
            needed_paired=need(of_pair, paired=True),
            needed_unpaired=need(of.sd, paired=False),
            detectable_paired=see(of_pair, of.n_clusters, paired=True),
            detectable_unpaired=see(of.sd, of.n_clusters, paired=False),
        )

    return plan


def _spread(scores: Scores) -> tuple[float, int]:
    """Cluster-robust standard deviation of a mean over samples, and the number of clusters."""
    sums, counts = cluster_totals(scores.values, scores.clusters)
    groups = len(sums)
    if groups < 2:
        return 0.0, groups
    residuals = (sums - sums.sum() / counts.sum() * counts) / counts.mean()
    return float((residuals**2).sum() / (groups - 1)) ** 0.5, groups
