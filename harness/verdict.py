"""From changes to outcomes: better, worse, tied, too small to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .correction import Correction, corrected
from .difference import Change, Scores

Outcome = Literal["better", "worse", "different", "tied", "undecided", "insufficient"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One metric in a cell that two runs have."""

    task: str
    metric: str
    cell: str | None
    run: str
    """The id of b."""
    higher_is_better: bool | None
    sides: tuple[Scores, Scores] | None
    """None for a number that is no mean of samples."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric in one cell. `difference` is b minus a; `outcome` is said of b."""

    task: str
    metric: str
    cell: str | None
    run: str
    """The id of b; a is the comparison's first run."""
    a: float
    b: float
    difference: float
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    n_a: int
    n_b: int
    n_pairs: int
    """Samples that both runs have; 0 when the test is unpaired."""
    n_clusters: int
    """Of the pairs, or of the smaller side."""
    test: str | None
    p: float | None
    p_corrected: float | None
    p_equivalent: float | None
    """That the true difference is beyond the margin, corrected; None without a margin."""
    outcome: Outcome
    higher_is_better: bool | None
    unpaired_a: Sequence[str]
    """When paired: ids of the samples that only a has a score for; they are left out."""
    unpaired_b: Sequence[str]


def judged(
    pairs: Sequence[Pair],
    changes: Sequence[Change],
    alpha: float,
    correction: Correction,
    margin: float | None,
) -> list[Difference]:
    """The pairs' rows, their p values corrected as one family."""
    ps = _corrected([change.p for change in changes], correction)
    beyond = _corrected([_beyond(change, margin) for change in changes], correction)
    return [
        _row(pair, change, p, p_equivalent, _outcome(pair, change, p, p_equivalent, alpha))
        for pair, change, p, p_equivalent in zip(pairs, changes, ps, beyond, strict=True)
    ]


def _corrected(ps: Sequence[float | None], correction: Correction) -> list[float | None]:
    done = iter(corrected([p for p in ps if p is not None], correction))
    return [None if p is None else next(done) for p in ps]


def _beyond(change: Change, margin: float | None) -> float | None:
    """Two one-sided tests (Schuirmann 1987): p that the difference is as large as the margin."""
    from scipy.special import stdtr

    if margin is None or change.p is None:
        return None
    if not change.stderr:
        return float(abs(change.value) >= margin)
    # The nearer bound is the harder one to exclude.
    return float(stdtr(change.n_clusters - 1, (abs(change.value) - margin) / change.stderr))


def _outcome(
    pair: Pair, change: Change, p: float | None, p_equivalent: float | None, alpha: float
) -> Outcome:
    if p is None:
        return "insufficient"
    if p_equivalent is not None and p_equivalent <= alpha:
        return "tied"
    if p > alpha or not change.value:
        return "tied" if p_equivalent is None else "undecided"
    if pair.higher_is_better is None:
        return "different"
    return "better" if (change.value > 0) == pair.higher_is_better else "worse"


def _row(
    pair: Pair,
    change: Change,
    p_corrected: float | None,
    p_equivalent: float | None,
    outcome: Outcome,
) -> Difference:
    return Difference(
        task=pair.task,
        metric=pair.metric,
        cell=pair.cell,
        run=pair.run,
        a=change.a,
        b=change.b,
        difference=change.value,
        ci_low=change.low,
        ci_high=change.high,
        ci_method=change.method,
        n_a=change.n_a,
        n_b=change.n_b,
        n_pairs=change.n_a if change.paired else 0,
        n_clusters=change.n_clusters,
        test=change.test,
        p=change.p,
        p_corrected=p_corrected,
        p_equivalent=p_equivalent,
        outcome=outcome,
        higher_is_better=pair.higher_is_better,
        unpaired_a=change.unpaired_a,
        unpaired_b=change.unpaired_b,
    )
