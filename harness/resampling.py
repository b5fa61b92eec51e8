"""Drawing clusters with replacement, and bounds from the draws."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray

_CHUNK = 4_000_000
"""Numbers held at once while resampling."""


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


def resampled_means(sums: ndarray, counts: ndarray, seed: int, resamples: int) -> ndarray:
    """`(resamples,)` means of clusters drawn with replacement."""
    import numpy as np

    random, groups = np.random.default_rng(seed), len(sums)
    rows = max(1, _CHUNK // groups)
    parts = []
    for start in range(0, resamples, rows):
        drawn = random.integers(0, groups, (min(rows, resamples - start), groups))
        parts.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(parts)


def bca(value: float, draws: ndarray, left_out: ndarray, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated bounds (Efron 1987); `left_out` are the jackknife values."""
    import numpy as np
    from scipy.special import ndtr, ndtri

    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws <= value)) / 2
    bias = ndtri(np.clip(below / len(draws), 1 / len(draws), 1 - 1 / len(draws)))
    skew = left_out.mean() - left_out
    spread = float((skew**2).sum())
    acceleration = float((skew**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + np.array([-1.0, 1.0]) * _quantile(len(left_out), level)
    # With a handful of clusters the correction can pass its pole: the bound is then the last draw.
    low, high = np.quantile(draws, ndtr(bias + z / np.maximum(1 - acceleration * z, 1e-9)))
    return float(low), float(high)


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


def batch(groups: int) -> int:
    """How many resamples of so many clusters to hold at once."""
    return max(1, _CHUNK // groups)
