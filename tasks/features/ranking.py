"""How well a score tells active images from the others: average precision, balanced accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Scores = npt.NDArray[np.floating]
    Truth = npt.NDArray[np.bool_]


def average_precision(scores: Scores, truth: Truth) -> float | None:
    """Area under the precision-recall curve as a step function; None without a positive.

    Equal scores are one step, so a constant score gives the share of positives.
    """
    n_positive = int(truth.sum())
    if not n_positive:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], truth[order].cumsum()
    last = np.append(ranked[1:] != ranked[:-1], True)
    hits, taken = hit[last], np.flatnonzero(last) + 1
    gained = np.diff(np.concatenate([[0], hits]))
    return float((gained * hits / taken).sum() / n_positive)


def lift(precision: float, share: float) -> float:
    """Average precision beyond that of a constant score: 0 knows nothing, 1 is perfect."""
    return (precision - share) / (1 - share) if share < 1 else 0.0


def balanced_accuracy(said: Truth, truth: Truth) -> float | None:
    """Mean of the share of positives said and of negatives not said; None with one class alone."""
    if truth.all() or not truth.any():
        return None
    return (float(said[truth].mean()) + float((~said[~truth]).mean())) / 2
