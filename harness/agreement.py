"""Agreement of raters on yes/no items, any number of raters, missing answers allowed.

Every coefficient is a function of sums over items, so that one bootstrap of clusters serves all.

Sources: Krippendorff, Computing Krippendorff's alpha-reliability (2011); Gwet, Computing
inter-rater reliability and its variance in the presence of high agreement (2008); Cohen (1960).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .statistics import INSUFFICIENT, Interval

Array = Any
"""numpy's, which is loaded on first use."""
Answers = Mapping[str, int]
"""One item's answers, 0 or 1, by rater; who has none is missing."""
Pair = tuple[int, int]
"""What two raters said of one item."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A number of agreement as sums over items.

    `columns` gives an item's part of the sums, `value` makes `(draws,)` of `(draws, m)` sums; NaN
    where there is none.
    """

    columns: Callable[[Any], Sequence[float]]
    value: Callable[[Array], Array]


def interval(
    coefficient: Coefficient, items: Sequence[Any], clusters: Sequence[Hashable], seed: int = 0
) -> Interval:
    """The coefficient over items, with a percentile bootstrap of clusters.

    Args:
        items: what `coefficient.columns` takes, one each; cluster by cluster they are resampled.
    """
    import numpy as np

    if not items:
        return Interval(None, None, None, None, 0, 0)
    places = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    parts = np.array([coefficient.columns(item) for item in items], dtype=float)
    totals = np.zeros((len(places), parts.shape[1]))
    np.add.at(totals, [places[name] for name in clusters], parts)
    value = float(coefficient.value(totals.sum(0, keepdims=True))[0])
    known = None if np.isnan(value) else value
    bare = Interval(known, None, None, None, len(items), len(places))
    if known is None or len(places) < INSUFFICIENT:
        return bare
    times = np.random.default_rng(seed).multinomial(
        len(places), np.full(len(places), 1 / len(places)), RESAMPLES
    )
    draws = coefficient.value(times.astype(float) @ totals)
    draws = draws[~np.isnan(draws)]
    if not len(draws) or draws.min() == draws.max():
        return bare
    low, high = (float(bound) for bound in np.quantile(draws, [0.025, 0.975]))
    method = "cluster bootstrap (percentile)"
    return Interval(known, low, high, method, len(items), len(places))


def value(coefficient: Coefficient, items: Sequence[Any]) -> float | None:
    """The coefficient alone; None where it has no value."""
    return interval(coefficient, items, [0] * len(items)).value


def _ratio(a: Array, b: Array) -> Array:
    import numpy as np

    unknown = np.full(np.broadcast(a, b).shape, np.nan)
    return np.divide(a, b, out=unknown, where=b != 0)


def _alpha_columns(answers: Answers) -> Sequence[float]:
    m, ones = len(answers), sum(answers.values())
    # An item with one answer alone can't be paired.
    return (ones, m - ones, ones * (m - ones) / (m - 1)) if m > 1 else (0, 0, 0)


def _alpha(sums: Array) -> Array:
    ones, zeros, mixed = sums.T
    return 1 - _ratio((ones + zeros - 1) * mixed, ones * zeros)


def _ac1_columns(answers: Answers) -> Sequence[float]:
    m, ones = len(answers), sum(answers.values())
    if m == 0:
        return (0, 0, 0, 0)
    if m == 1:
        return (0, 0, ones, 1)
    same = ones * (ones - 1) + (m - ones) * (m - ones - 1)
    return (same / (m * (m - 1)), 1, ones / m, 1)


def _ac1(sums: Array) -> Array:
    agreed, paired, share, items = sums.T
    observed, ones = _ratio(agreed, paired), _ratio(share, items)
    chance = 2 * ones * (1 - ones)
    return _ratio(observed - chance, 1 - chance)


def _observed(sums: Array) -> Array:
    return _ratio(sums[:, 0], sums[:, 1])


ALPHA = Coefficient(_alpha_columns, _alpha)
"""Krippendorff's α for nominal data. NaN when all answers are the same: nothing to disagree on."""
AC1 = Coefficient(_ac1_columns, _ac1)
"""Gwet's AC1: keeps its meaning where nearly all answers are the same."""
AGREEMENT = Coefficient(_ac1_columns, _observed)
"""The share of equal answers among pairs of raters, items weighted equally."""


def _table(pair: Pair) -> Sequence[float]:
    """Counts of 00, 01, 10, 11."""
    cell = 2 * pair[0] + pair[1]
    return [float(cell == i) for i in range(4)]


def _kappa(sums: Array) -> Array:
    n = sums.sum(1)
    observed = _ratio(sums[:, 0] + sums[:, 3], n)
    first, second = (_ratio(sums[:, 3] + sums[:, i], n) for i in (2, 1))
    chance = first * second + (1 - first) * (1 - second)
    return _ratio(observed - chance, 1 - chance)


def _balanced(sums: Array) -> Array:
    """Of pairs (judge, people): mean of the judge's share right where people say 0, and 1."""
    return (
        _ratio(sums[:, 0], sums[:, 0] + sums[:, 2]) + _ratio(sums[:, 3], sums[:, 3] + sums[:, 1])
    ) / 2


def _same(sums: Array) -> Array:
    return _ratio(sums[:, 0] + sums[:, 3], sums.sum(1))


PAIR_AGREEMENT = Coefficient(_table, _same)
"""The share of items on which two raters say the same."""
KAPPA = Coefficient(_table, _kappa)
"""Cohen's κ of two raters. At a prevalence of 90 % it collapses: .90 agreement may be κ -.05."""
BALANCED = Coefficient(_table, _balanced)
"""Balanced accuracy of the first of two raters, the second being right."""


def mean_over_raters(coefficient: Coefficient, raters: int) -> Coefficient:
    """Of items that are one `Pair`, or None, for each rater: the mean over raters."""
    import numpy as np

    width = 4

    def columns(pairs: Sequence[Pair | None]) -> Sequence[float]:
        return [x for pair in pairs for x in (_table(pair) if pair else [0.0] * width)]

    def combined(sums: Array) -> Array:
        each = [coefficient.value(sums[:, width * i : width * (i + 1)]) for i in range(raters)]
        stacked = np.stack(each)
        known = ~np.isnan(stacked)
        return _ratio(np.where(known, stacked, 0).sum(0), known.sum(0).astype(float))

    return Coefficient(columns, combined)


def _pair_alpha(sums: Array) -> Array:
    """α of two raters from their table of 00, 01, 10, 11."""
    import numpy as np

    ones = 2 * sums[:, 3] + sums[:, 1] + sums[:, 2]
    zeros = 2 * sums[:, 0] + sums[:, 1] + sums[:, 2]
    return _alpha(np.stack([ones, zeros, sums[:, 1] + sums[:, 2]], 1))


PAIR_ALPHA = Coefficient(_table, _pair_alpha)
"""`ALPHA` of two raters without missing answers, in the form of `mean_over_raters`."""
