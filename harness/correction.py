"""Many tests at once: p values corrected for their family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Correction = Literal["holm", "bh", "none"]
CORRECTIONS: tuple[Correction, ...] = ("holm", "bh", "none")
_METHODS = {"holm": "holm", "bh": "fdr_bh"}


def corrected(p_values: Sequence[float], correction: Correction = "holm") -> list[float]:
    """Adjusted p values in the given order, by statsmodels.

    `holm` bounds the chance of any false finding, `bh` (Benjamini and Hochberg) the share of false
    ones among the findings.
    """
    if not p_values or correction == "none":
        return list(p_values)
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method=_METHODS[correction])[1]]
