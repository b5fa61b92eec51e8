"""Drawing clusters with replacement, their signs or their sides; and bounds from the draws.

Many cells are drawn at once: those of the same size share one draw, and sums over it are one matrix
product. Sharing leaves each cell's own distribution as it is.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from numpy import ndarray

SizeT = TypeVar("SizeT", bound=Hashable)

_CHUNK = 4_000_000
"""Numbers held at once while resampling."""
MOST_UNITS = 1000
"""More clusters than this are merged at random into so many units before they are resampled."""


def cluster_totals(
    values: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[ndarray, ndarray]:
    """Per cluster, in order of appearance: sum and count, both `(clusters,)` float64."""
    import numpy as np

    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values but {len(clusters)} clusters")
    index: dict[Hashable, int] = {}
    of_sample = [index.setdefault(cluster, len(index)) for cluster in clusters]
    numbers = np.asarray(values, dtype=float)
    return np.bincount(of_sample, numbers), np.bincount(of_sample).astype(float)


def merged(sums: ndarray, counts: ndarray, seed: int = 0) -> tuple[ndarray, ndarray]:
    """At most `MOST_UNITS` units of equally many clusters each, `(units,)` sums and counts.

    The random-groups method (Wolter, "Introduction to variance estimation", 2007, chapter 2): the
    variance of a mean is the same, and 999 degrees of freedom are as good as more.
    """
    import numpy as np

    groups = len(sums)
    if groups <= MOST_UNITS:
        return sums, counts
    of_cluster = np.random.default_rng(seed).permutation(groups) % MOST_UNITS
    return np.bincount(of_cluster, sums), np.bincount(of_cluster, counts)


def resampled_means(sums: ndarray, counts: ndarray, seed: int, resamples: int) -> ndarray:
    """`(resamples,)` means of clusters drawn with replacement."""
    import numpy as np

    random, groups = np.random.default_rng(seed), len(sums)
    parts = []
    for rows in _chunks(resamples, groups):
        drawn = random.integers(0, groups, (rows, groups))
        parts.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(parts)


def bootstrapped(cells: Sequence[tuple[ndarray, ndarray]], seed: int, resamples: int) -> ndarray:
    """`(cells, resamples)` means of clusters drawn with replacement, from sums and counts."""
    import numpy as np

    means = np.empty((len(cells), resamples))
    for groups, places in _by_size([len(sums) for sums, _ in cells]).items():
        columns = np.column_stack([part for place in places for part in cells[place]])
        random, done = np.random.default_rng([seed, groups]), 0
        for rows in _chunks(resamples, groups):
            drawn = random.integers(0, groups, (rows, groups))
            drawn += np.arange(0, rows * groups, groups)[:, None]
            times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
            totals = times.astype(float) @ columns
            means[places, done : done + rows] = (totals[:, ::2] / totals[:, 1::2]).T
            done += rows
    return means


def sign_flips(cells: Sequence[ndarray], seed: int, draws: int) -> ndarray:
    """`(cells, draws)` sums of each cell's numbers, every number with a random sign."""
    import numpy as np

    size = max(map(len, cells), default=0)
    columns = np.zeros((size, len(cells)))
    for place, numbers in enumerate(cells):
        columns[: len(numbers), place] = numbers
    random = np.random.default_rng(seed)
    parts = [np.empty((0, len(cells)))]
    for rows in _chunks(draws, size):
        bits = np.frombuffer(random.bytes(rows * math.ceil(size / 8)), np.uint8)
        kept = np.unpackbits(bits.reshape(rows, -1), axis=1, count=size).astype(float)
        parts.append(2 * (kept @ columns) - columns.sum(axis=0))
    return np.concatenate(parts).T


def side_changes(
    cells: Sequence[tuple[ndarray, ndarray, int]], seed: int, draws: int
) -> list[ndarray]:
    """Per cell `(draws,)` studentised differences of second minus first side, sides at random.

    Args:
        cells: sums and counts of the clusters of both sides, and how many are on the first.
    """
    import numpy as np

    size = max((len(sums) for sums, _, _ in cells), default=0)
    shared = _by_size([(len(sums), first) for sums, _, first in cells])
    random, found = np.random.default_rng(seed), [[np.empty(0)] for _ in cells]
    for rows in _chunks(draws, size):
        keys = random.random((rows, size))
        for (groups, first), places in shared.items():
            own = keys[:, :groups]
            border = np.partition(own, first, axis=1)[:, first, None]
            sides = (own < border).astype(float)
            for place in places:
                moments = _moments(*cells[place][:2])
                totals = sides @ moments
                t = studentised(totals, moments.sum(axis=0) - totals, first, groups - first)
                found[place].append(t)
    return [np.concatenate(parts) for parts in found]


def studentised(first: ndarray, second: ndarray, n_first: int, n_second: int) -> ndarray:
    """Difference of means over its cluster-robust standard error, from `_moments`' sums."""
    import numpy as np

    (mean_a, var_a), (mean_b, var_b) = _ratio(first, n_first), _ratio(second, n_second)
    difference, variance = mean_b - mean_a, var_a + var_b
    # Without spread any difference is as large as can be.
    return np.asarray(difference / np.sqrt(np.maximum(variance, 1e-300)))


def observed(sums: ndarray, counts: ndarray, first: int) -> float:
    """The studentised difference of the sides as they are."""
    moments = _moments(sums, counts)
    return float(
        studentised(
            moments[:first].sum(axis=0)[None],
            moments[first:].sum(axis=0)[None],
            first,
            len(sums) - first,
        )[0]
    )


def bca(
    value: float, draws: ndarray, influence: ndarray, groups: int, level: float
) -> tuple[float, float]:
    """Bias-corrected and accelerated bounds (Efron 1987), widened for few clusters.

    Args:
        influence: by how much each cluster moves the value, up to one common factor.
        groups: clusters, of the smaller side if there are two.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws <= value)) / 2
    bias = ndtri(np.clip(below / len(draws), 1 / len(draws), 1 - 1 / len(draws)))
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + np.array([-1.0, 1.0]) * _quantile(groups, level)
    # With a handful of clusters the correction can pass its pole: the bound is then the last draw.
    low, high = np.quantile(draws, ndtr(bias + z / np.maximum(1 - acceleration * z, 1e-9)))
    return float(low), float(high)


def influence(sums: ndarray, counts: ndarray) -> ndarray:
    """`(clusters,)`: by how much each cluster moves the mean, by leaving it out."""
    import numpy as np

    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    return np.asarray(left_out.mean() - left_out)


def percentiles(draws: ndarray, groups: int, level: float) -> tuple[float, float]:
    """Percentile bounds, widened for few clusters."""
    import numpy as np
    from scipy.special import ndtr

    tail = float(ndtr(-_quantile(groups, level)))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _quantile(groups: int, level: float) -> float:
    """The normal quantile, widened as Student's t is: bootstraps of few clusters are too narrow.

    Hesterberg, "What teachers should know about the bootstrap", 2015.
    """
    from scipy.special import stdtrit

    return float(stdtrit(groups - 1, 0.5 + level / 2)) * math.sqrt(groups / (groups - 1))


def _moments(sums: ndarray, counts: ndarray) -> ndarray:
    """`(clusters, 5)`: what the mean and its variance are made of when summed over clusters."""
    import numpy as np

    return np.column_stack([sums, counts, sums**2, sums * counts, counts**2])


def _ratio(totals: ndarray, groups: int) -> tuple[ndarray, ndarray]:
    """Mean and its cluster-robust variance, from `(draws, 5)` sums of moments."""
    sums, counts, squares, products, count_squares = totals.T
    mean = sums / counts
    residuals = squares - 2 * mean * products + mean**2 * count_squares
    return mean, residuals / counts**2 * groups / (groups - 1)


def _by_size(sizes: Sequence[SizeT]) -> dict[SizeT, list[int]]:
    places: dict[SizeT, list[int]] = {}
    for place, size in enumerate(sizes):
        places.setdefault(size, []).append(place)
    return places


def _chunks(draws: int, width: int) -> Iterator[int]:
    """How many rows to make at a time."""
    rows = max(1, _CHUNK // max(1, width))
    for start in range(0, draws, rows):
        yield min(rows, draws - start)
