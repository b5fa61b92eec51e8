"""One score in two runs: how far they are apart, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .resampling import (
    bca,
    bootstrapped,
    cluster_totals,
    influence,
    merged,
    observed,
    side_changes,
    sign_flips,
)
from .statistics import INSUFFICIENT

if TYPE_CHECKING:
    from numpy import ndarray

    Totals = tuple[ndarray, ndarray]

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Scores:
    """One score of one cell of one run: parallel lists."""

    ids: list[str]
    """Equal in two runs for the same item, and only then."""
    clusters: list[str]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a mean from run a to run b: `value` is b minus a."""

    a: float
    b: float
    value: float
    low: float | None
    high: float | None
    stderr: float | None
    method: str | None
    n_a: int
    n_b: int
    n_clusters: int
    """Of the pairs, or of the smaller side."""
    test: str | None
    """None where too few clusters allow no test; the three p are then None as well."""
    p: float | None
    """Two-sided, as the next two uncorrected."""
    p_lower: float | None
    """One-sided: that b is no lower than a."""
    p_higher: float | None
    """One-sided: that b is no higher than a."""
    paired: bool
    unpaired_a: Sequence[str] = ()
    unpaired_b: Sequence[str] = ()
    """When paired: ids of the items that only one run has; they are left out."""


def is_drop(
    change: Change, p: float | None, *, higher_is_better: bool, alpha: float, allowed: float = 0.0
) -> bool:
    """The gate's one rule: b is worse than a by more than `allowed`, and not by chance.

    Args:
        p: `worse_p(change, ...)`, corrected for the family of tests; None for too few clusters,
            which are no evidence of a drop.
        allowed: in units of the metric, from 0.
    """
    loss = -change.value if higher_is_better else change.value
    return p is not None and p <= alpha and loss > allowed


def worse_p(change: Change, higher_is_better: bool) -> float | None:
    """One-sided p that b is no worse than a."""
    return change.p_lower if higher_is_better else change.p_higher


def change(a: Scores, b: Scores, *, resamples: int = RESAMPLES, seed: int = 0) -> Change:
    """The change of one score in one cell, see `changes`."""
    return changes([(a, b)], resamples=resamples, seed=seed)[0]


def changes(
    cells: Sequence[tuple[Scores, Scores]], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Change]:
    """The changes of many cells, neither side of any empty, drawn together because that is faster.

    Same items: paired. Each pair's difference keeps its cluster; tested by sign flips of whole
    clusters, or after McNemar when values are 0 and 1 and every item is its own cluster. Other
    items: unpaired; whole clusters change sides, the difference studentised (Chung and Romano
    2013), since sides may vary differently. Intervals are a cluster bootstrap's, BCa, at 95 %.
    """
    sides = [_Sides.of(a, b) for a, b in cells]
    found: list[Change | None] = [None] * len(sides)
    for paired, measure in ((True, _paired), (False, _unpaired)):
        places = [i for i, side in enumerate(sides) if side.paired == paired]
        chosen = [sides[i] for i in places]
        for i, made in zip(places, measure(chosen, resamples, seed), strict=True):
            found[i] = made
    return [made for made in found if made is not None]


@dataclass(frozen=True, slots=True)
class _Sides:
    """Two sides with what pairs them; restricted to common items when paired."""

    a: Scores
    b: Scores
    paired: bool
    only_a: Sequence[str] = ()
    only_b: Sequence[str] = ()

    @classmethod
    def of(cls, a: Scores, b: Scores) -> _Sides:
        common = set(a.ids) & set(b.ids)
        # Pairing a small overlap would throw the rest away.
        if 2 * len(common) < max(len(a.ids), len(b.ids)):
            return cls(a, b, paired=False)
        only_a, only_b = ([i for i in side.ids if i not in common] for side in (a, b))
        return cls(_only(a, common), _only(b, common), True, only_a, only_b)


def _only(scores: Scores, ids: set[str]) -> Scores:
    """These items, in the order of their ids."""
    kept = sorted(
        i for i in zip(scores.ids, scores.clusters, scores.values, strict=True) if i[0] in ids
    )
    return Scores([i[0] for i in kept], [i[1] for i in kept], [i[2] for i in kept])


_Ps = tuple[float, float, float]
"""p two-sided, p_lower, p_higher."""


def _paired(cells: Sequence[_Sides], resamples: int, seed: int) -> list[Change]:
    import numpy as np

    totals = [
        cluster_totals(np.subtract(cell.b.values, cell.a.values).tolist(), cell.a.clusters)
        for cell in cells
    ]
    units = [merged(*total, seed) for total in totals]
    draws = bootstrapped(units, seed, resamples)
    flips = sign_flips([sums for sums, _ in units], seed, resamples)
    return [
        _change(
            cell,
            "paired cluster bootstrap (BCa)",
            draws[i],
            influence(*units[i]) if len(units[i][0]) > 1 else None,
            len(totals[i][0]),
            *_paired_test(cell, units[i][0], flips[i]),
        )
        for i, cell in enumerate(cells)
    ]


def _paired_test(cell: _Sides, sums: ndarray, flips: ndarray) -> tuple[str, _Ps]:
    own_clusters = len(set(cell.a.clusters)) == len(cell.a.clusters)
    if own_clusters and {*cell.a.values, *cell.b.values} <= {0, 1}:
        return "McNemar, exact", _mcnemar(cell)
    # Sums of the same numbers in another order differ in their last bits.
    return "sign flips of clusters", _tails(flips, float(sums.sum()), 1e-12 * abs(sums).sum())


def _mcnemar(cell: _Sides) -> _Ps:
    from scipy.stats import binomtest

    pairs = list(zip(cell.a.values, cell.b.values, strict=True))
    gained, lost = sum(y > x for x, y in pairs), sum(y < x for x, y in pairs)
    if not gained + lost:
        return 1.0, 1.0, 1.0

    def p(alternative: str) -> float:
        return float(binomtest(gained, gained + lost, 0.5, alternative).pvalue)

    return p("two-sided"), p("less"), p("greater")


def _unpaired(cells: Sequence[_Sides], resamples: int, seed: int) -> list[Change]:
    import numpy as np

    totals = [
        [cluster_totals(side.values, side.clusters) for side in (cell.a, cell.b)] for cell in cells
    ]
    units = [[merged(*side, seed) for side in total] for total in totals]
    draws = [bootstrapped([unit[i] for unit in units], seed + i, resamples) for i in (0, 1)]
    # A test needs a variance on both sides.
    tested = [i for i, (a, b) in enumerate(units) if min(len(a[0]), len(b[0])) > 1]
    joined = {i: _joined(*units[i]) for i in tested}
    shuffled = dict(zip(tested, side_changes(list(joined.values()), seed, resamples), strict=True))
    return [
        _change(
            cell,
            "unpaired cluster bootstrap (BCa)",
            draws[1][i] - draws[0][i],
            np.concatenate([-influence(*units[i][0]), influence(*units[i][1])])
            if i in joined
            else None,
            min(len(sums) for sums, _ in totals[i]),
            "cluster permutation",
            _tails(shuffled[i], observed(*joined[i]), 1e-9) if i in joined else (1.0, 1.0, 1.0),
        )
        for i, cell in enumerate(cells)
    ]


def _joined(a: Totals, b: Totals) -> tuple[ndarray, ndarray, int]:
    import numpy as np

    return np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]]), len(a[0])


def _tails(draws: ndarray, found: float, tolerance: float) -> _Ps:
    """The observed value counts as one of the draws (Phipson and Smyth 2010)."""
    import numpy as np

    lower = (1 + np.count_nonzero(draws <= found + tolerance)) / (len(draws) + 1)
    higher = (1 + np.count_nonzero(draws >= found - tolerance)) / (len(draws) + 1)
    return float(min(1.0, 2 * min(lower, higher))), float(lower), float(higher)


def _change(
    cell: _Sides,
    method: str,
    draws: ndarray,
    moved: ndarray | None,
    n_clusters: int,
    test: str,
    ps: _Ps,
) -> Change:
    a, b = (sum(side.values) / len(side.values) for side in (cell.a, cell.b))
    low, high, stderr = _spread(b - a, draws, moved, n_clusters)
    enough = n_clusters >= INSUFFICIENT
    return Change(
        a=a,
        b=b,
        value=b - a,
        low=low,
        high=high,
        stderr=stderr,
        method=None if stderr is None else method,
        n_a=len(cell.a.values),
        n_b=len(cell.b.values),
        n_clusters=n_clusters,
        test=test if enough else None,
        p=ps[0] if enough else None,
        p_lower=ps[1] if enough else None,
        p_higher=ps[2] if enough else None,
        paired=cell.paired,
        unpaired_a=cell.only_a,
        unpaired_b=cell.only_b,
    )


def _spread(
    value: float, draws: ndarray, moved: ndarray | None, n_clusters: int
) -> tuple[float | None, float | None, float | None]:
    """Bounds and standard error; None where a bootstrap shows no spread."""
    if moved is None or draws.min() == draws.max():
        return None, None, None
    return *bca(value, draws, moved, n_clusters, 0.95), float(draws.std(ddof=1))
