"""What `attr_faithfulness` makes of margins: numbers in, numbers out.

`effect` is what all latents together do to the answer's margin: m(all) - m(none). F(C), the
faithfulness of a set C, is the share of it that is there with C alone: (m(C) - m(none)) / effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Of a prompt's active latents: where deletion and insertion curves are measured."""
SMALL = 0.1
"""The share of latents that `faithfulness` and `completeness` speak of."""
LEAST_EFFECT = 0.5
"""Below this effect, in logits, no share of it means anything: the sample is unscorable."""
_TIED = 1e-4
"""Effects that differ by less than this part of the largest are equal."""
_SIGNED = 0.01
"""Effects below this part of the largest have no sign worth comparing."""


def faithfulness(margins: Sequence[float], none: float, effect: float) -> list[float]:
    """F of each margin."""
    return [(margin - none) / effect for margin in margins]


def area(heights: Sequence[float]) -> float:
    """Under a curve over `SHARES`, by trapezoids. A random order's is .5 where effects add up."""
    steps = zip(SHARES, SHARES[1:], heights, heights[1:], strict=False)
    return sum((b - a) * (left + right) / 2 for a, b, left, right in steps)


def curve_scores(insertion: Sequence[float], deletion: Sequence[float]) -> dict[str, float]:
    """Of F along both curves: only the first latents of an order kept, and all but those."""
    small = SHARES.index(SMALL)
    return {
        "insertion": area(insertion),
        "deletion": area(deletion),
        "faithfulness": insertion[small],
        "completeness": deletion[small],
    }


def agreement(predicted: Sequence[float], exact: Sequence[float]) -> dict[str, float]:
    """How well predicted effects of single latents agree with exact ones; none where all are 0.

    `pearson`, `spearman`, `sign` (share of the sizeable effects whose sign is right) and `worst`
    (the largest error, as part of the largest exact effect).
    """
    import numpy as np

    a, b = np.asarray(predicted, dtype=float), np.asarray(exact, dtype=float)
    largest = float(np.abs(b).max(initial=0.0))
    if len(a) < 3 or largest == 0.0 or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return {}
    sizeable = np.abs(b) >= _SIGNED * largest
    return {
        "pearson": float(np.corrcoef(a, b)[0, 1]),
        "spearman": _spearman(_rounded(a, largest), _rounded(b, largest)),
        "sign": float((np.sign(a) == np.sign(b))[sizeable].mean()),
        "worst": float(np.abs(a - b).max() / largest),
    }


def completeness_error(total: float, effect: float) -> float:
    """How far the sum of attributions is from the effect, as part of it."""
    return abs(total - effect) / abs(effect)


def _rounded(values: Any, largest: float) -> Any:
    import numpy as np

    return np.round(values / (largest * _TIED))


def _spearman(a: Any, b: Any) -> float:
    import numpy as np
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (a, b)]
    if any(np.ptp(rank) == 0.0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
