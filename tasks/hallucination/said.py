"""What else is said of an arm: the paper's counts, discrimination without bias, collateral."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...harness.statistics import INSUFFICIENT, mean_interval
from ...harness.task import Line, MetricRow
from .benchmark import YES
from .controls import MATCHED
from .questions import PRIOR_KINDS
from .rows import Cell, empirical_p, over_draws, random_rows
from .scoring import Answered, Answers, Values, discordant, discrimination_gain, net

PAPER = {"better": 0.09, "same": 0.89, "worse": 0.02}
"""Of 100 HallusionBench records with one feature clamped (arXiv 2411.14982, table 11)."""
MARGIN = 0.01
"""A change of accuracy on unrelated items that is called none."""


def said_rows(cell: Cell, base: Answers, arm: Answers) -> Iterator[MetricRow]:
    """Counts beside the paper's, and what a yes bias can't change."""
    yield from _paper_rows(cell, base, arm)
    fixed, broken = discordant(base, arm)
    precision = fixed / (fixed + broken) if fixed + broken else None
    yield cell.number("correction_precision", precision, fixed + broken)
    yield cell.mean("pda_gain", discrimination_gain(base, arm))
    changes = net(base, arm)
    yield cell.number("net_detectable", detectable(changes), len(changes.numbers))
    yield from signal_rows(cell, arm)


def _paper_rows(cell: Cell, base: Answers, arm: Answers) -> Iterator[MetricRow]:
    changes = net(base, arm).numbers
    n = len(changes)
    counts = {
        "better": sum(change > 0 for change in changes),
        "same": sum(change == 0 for change in changes),
        "worse": sum(change < 0 for change in changes),
    }
    for metric, count in counts.items():
        row = cell.number(metric, count / n if n else None, n)
        yield replace(row, note=f"{count} of {n}; the paper's 100: {PAPER[metric]:.2f}")


@dataclass(frozen=True, slots=True)
class Signal:
    """Detection of a true yes. Rates are log-linear corrected: half a count in each cell."""

    n: int
    d_prime: float | None
    criterion: float | None
    balanced_accuracy: float | None


def signal(answers: Sequence[Answered]) -> Signal:
    """Over answers that are yes or no; None with one truth only."""
    from statistics import NormalDist

    said = [a for a in answers if a.answer is not None]
    yes, no = ([a for a in said if a.question.gt is truth] for truth in (True, False))
    if not yes or not no:
        return Signal(len(said), None, None, None)
    hits, alarms = (sum(a.answer == YES for a in group) for group in (yes, no))
    z_hit, z_alarm = (
        NormalDist().inv_cdf((count + 0.5) / (len(group) + 1))
        for count, group in ((hits, yes), (alarms, no))
    )
    balanced = (hits / len(yes) + 1 - alarms / len(no)) / 2
    return Signal(len(said), z_hit - z_alarm, -(z_hit + z_alarm) / 2, balanced)


def signal_rows(cell: Cell, arm: Answers) -> Iterator[MetricRow]:
    found = signal(list(arm.values()))
    for metric in ("d_prime", "criterion", "balanced_accuracy"):
        yield cell.number(metric, getattr(found, metric), found.n)


def matched_rows(
    cell: Cell, base: Answers, steered: Answers, draws: Mapping[str, Answers]
) -> Iterator[MetricRow]:
    """The steered arm against latents that are as common and as strong."""
    if draws:
        yield from random_rows(cell, base, draws, MATCHED)
        yield cell.mean("net_over_matched", over_draws(steered, draws))
        yield cell.number("net_over_matched_p", empirical_p(base, steered, draws), len(draws))


def unrelated_rows(cell: Cell, base: Answers, arm: Answers) -> Iterator[MetricRow]:
    """Items that no prior speaks about, where the question set marks those that one does."""
    kinds = {a.question.kind for a in base.values()}
    if not kinds & set(PRIOR_KINDS):
        return
    unrelated = {i: a for i, a in base.items() if a.question.kind not in PRIOR_KINDS}
    values = net(unrelated, arm)
    yield cell.mean("unrelated_net", values)
    yield cell.number("unrelated_p", equivalence_p(values, MARGIN), len(values.numbers))


def equivalence_p(values: Values, margin: float) -> float | None:
    """The larger p of two one-sided t tests that the mean is beyond the margin, over clusters.

    None with too few clusters. No spread at all leaves nothing to doubt: 0 inside the margin.
    """
    from scipy.stats import t

    spread = _spread(values)
    if spread is None:
        return None
    n, mean, stderr = spread
    if stderr == 0:
        return float(abs(mean) >= margin)
    return float(max(t.sf((mean + margin) / stderr, n - 1), t.cdf((mean - margin) / stderr, n - 1)))


def _spread(values: Values) -> tuple[int, float, float] | None:
    """How many clusters, their mean and its standard error; None with too few of them."""
    import math

    from ...harness.resampling import cluster_totals, influence

    if len(set(values.clusters)) < INSUFFICIENT:
        return None
    sums, counts = cluster_totals(values.numbers, values.clusters)
    n = len(sums)
    stderr = math.sqrt((n - 1) / n * float((influence(sums, counts) ** 2).sum()))
    return n, float(sums.sum() / counts.sum()), stderr


def detectable(values: Values, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest true mean that a two-sided t test over as many clusters with this spread finds.

    None with too few clusters, and without any spread to go by.
    """
    from scipy.stats import t

    spread = _spread(values)
    if spread is None or spread[2] == 0:
        return None
    n, _, stderr = spread
    return float((t.ppf(1 - alpha / 2, n - 1) + t.ppf(power, n - 1)) * stderr)


def neutral_rows(cell: Cell, lines: Sequence[Line]) -> Iterator[MetricRow]:
    """Collateral on a prompt that asks no question."""
    done = [line for line in lines if line["status"] == "ok"]
    if not done:
        return
    families = [line["cluster"] for line in done]
    for metric in ("kl", "degenerate"):
        numbers = [line["scores"][metric] for line in done]
        interval = mean_interval(numbers, families, share=metric == "degenerate")
        row = cell.row(metric, interval, len(lines))
        if metric == "degenerate":
            before = sum(line["detail"]["was_degenerate"] for line in done) / len(done)
            row = replace(row, null=before)
        yield row
