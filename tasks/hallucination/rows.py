"""Metric rows of the `halluc` task, arm by arm, from answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...harness.statistics import (
    Interval,
    auroc,
    bootstrap_statistic,
    mcnemar_exact,
    mean_interval,
)
from ...harness.task import TOO_FEW, Line, MetricRow
from .arms import RECONSTRUCTION, STEERED, STEERED_REPLACE
from .benchmark import NO, YES, BenchmarkScores, score
from .classification import by_class
from .scoring import (
    Answered,
    Answers,
    Values,
    accuracy,
    best_offset,
    best_topic_offset,
    correction,
    discordant,
    discrimination,
    net,
    prior_items,
    regression,
    wrong_answers,
    yes_rate,
)

OFFSET_MATCHED = "offset_matched"
OFFSET_BEST = "offset_best"
OFFSET_TOPIC = "offset_topic"
RANDOM_MEAN = "random"
PRIOR = "prior"
"""The `concept` of rows over prior items of both directions."""

_SEED = 0
_RESAMPLES = 500
_CHANGES: Mapping[str, Callable[[Answers, Answers], Values]] = {
    "correction": correction,
    "regression": regression,
    "net": net,
}
SIGNED = {
    "net",
    "net_over_random",
    "net_over_matched",
    "net_over_offset",
    "effect",
    "pda_gain",
    "unrelated_net",
    "reliance_gap",
    "patch_shift",
}
"""Means that may be below 0; the others are of 0..1."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Whose rows these are."""

    arm: str
    sae: str | None = None
    hookpoint: str | None = None

    def row(
        self, metric: str, interval: Interval, n_total: int | None = None, **more: object
    ) -> MetricRow:
        return MetricRow(
            metric=metric,
            value=interval.value,
            n_ok=interval.n,
            n_total=interval.n if n_total is None else n_total,
            ci_low=interval.low,
            ci_high=interval.high,
            ci_method=interval.method,
            sae=self.sae,
            hookpoint=self.hookpoint,
            arm=self.arm,
            note=TOO_FEW if interval.method and interval.insufficient else None,
        )

    def mean(self, metric: str, values: Values, concept: str | None = None) -> MetricRow:
        """The mean of `values` with a bootstrap over families."""
        share = metric not in SIGNED
        interval = mean_interval(values.numbers, values.clusters, share=share, seed=_SEED)
        few = TOO_FEW if interval.n and interval.insufficient else None
        return replace(self.row(metric, interval, values.n_total), concept=concept, note=few)

    def number(self, metric: str, value: float | None, n: int) -> MetricRow:
        """A number without interval."""
        return self.row(metric, Interval(value, None, None, None, n, n))


def state_rows(cell: Cell, arm: Answers) -> Iterator[MetricRow]:
    """What an arm's answers are worth by themselves."""
    yield cell.mean("accuracy", accuracy(arm))
    yield cell.mean("pda", discrimination(arm))
    yield _auroc_row(cell, arm)
    yield cell.mean("yes_rate", yes_rate(arm))
    yield from _benchmark_rows(cell, arm)
    yield from _class_rows(cell, arm)
    for kind in sorted({a.question.kind for a in arm.values()}):
        for metric, said in (("wrong_yes", YES), ("wrong_no", NO)):
            values = wrong_answers(arm, kind, said)
            if values.n_total:
                yield cell.mean(metric, values, kind)


def change_rows(cell: Cell, base: Answers, arm: Answers) -> Iterator[MetricRow]:
    """What an arm's answers are against the untouched ones."""
    for metric, values in _CHANGES.items():
        yield cell.mean(metric, values(base, arm))
    fixed, broken = discordant(base, arm)
    yield cell.number("mcnemar_p", mcnemar_exact(fixed, broken), len(net(base, arm).numbers))


def prior_row(cell: Cell, base: Answers, arm: Answers) -> MetricRow:
    """The net change on prior items alone."""
    return cell.mean("net", net(on_prior(base), arm), PRIOR)


def on_prior(answers: Answers) -> dict[str, Answered]:
    return {a.item: a for a in prior_items(answers)}


def _auroc_row(cell: Cell, arm: Answers) -> MetricRow:
    families: dict[str, list[Answered]] = {}
    for answered in prior_items(arm):
        families.setdefault(answered.question.family, []).append(answered)
    interval = bootstrap_statistic(families, _auroc, seed=_SEED, resamples=_RESAMPLES)
    return cell.row("auroc", interval)


def _auroc(answers: Sequence[Answered]) -> float | None:
    return auroc([a.margin for a in answers], [a.question.gt for a in answers])


def _benchmark_rows(cell: Cell, arm: Answers) -> Iterator[MetricRow]:
    """HallusionBench's own accuracies, where an unclear answer counts as wrong."""
    found: BenchmarkScores = score(
        [a.question.record for a in arm.values()], [a.answer for a in arm.values()]
    )
    for metric in ("aacc", "facc", "qacc"):
        yield cell.number(metric, getattr(found, metric), found.n)


def _class_rows(cell: Cell, arm: Answers) -> Iterator[MetricRow]:
    """POPE's and AMBER's own numbers."""
    for kind, found in by_class(arm):
        for metric in ("precision", "recall", "f1"):
            row = cell.number(metric, getattr(found, metric), found.n)
            yield replace(row, concept=kind)


def oracle_rows(base: Answers) -> Iterator[MetricRow]:
    """The best constant offset and the best one per topic: references that have seen the truth."""
    for arm, shift in ((OFFSET_BEST, best_offset), (OFFSET_TOPIC, best_topic_offset)):
        cell = Cell(arm)
        yield from change_rows(cell, base, shift(base))
        # Chosen on the prior items themselves, or it would be no upper bound there.
        yield prior_row(cell, base, shift(on_prior(base)))


def random_rows(
    cell: Cell, base: Answers, draws: Mapping[str, Answers], mean: str = RANDOM_MEAN
) -> Iterator[MetricRow]:
    """Each draw, and their mean as one arm."""
    for arm, answers in draws.items():
        for metric, values in _CHANGES.items():
            yield replace(cell, arm=arm).mean(metric, values(base, answers))
    for metric, values in _CHANGES.items():
        pooled = _pooled([values(base, answers) for answers in draws.values()])
        yield replace(cell, arm=mean).mean(metric, pooled)


def _pooled(draws: Sequence[Values]) -> Values:
    """All draws' numbers; a family's copies stay together when it is resampled."""
    return Values(
        [n for draw in draws for n in draw.numbers],
        [c for draw in draws for c in draw.clusters],
        sum(draw.n_total for draw in draws),
    )


def contrast_rows(
    cell: Cell, base: Answers, steered: Answers, draws: Mapping[str, Answers], offset: Answers
) -> Iterator[MetricRow]:
    """The steered arm against its controls, item by item."""
    if draws:
        yield cell.mean("net_over_random", over_draws(steered, draws))
        yield cell.number("net_over_random_p", empirical_p(base, steered, draws), len(draws))
    yield cell.mean("net_over_offset", net(offset, steered))


def over_draws(steered: Answers, draws: Mapping[str, Answers]) -> Values:
    """The steered arm minus every draw, item by item."""
    differences = [net(draw, steered) for draw in draws.values()]
    return replace(_pooled(differences), n_total=sum(d.n_total for d in differences))


def empirical_p(base: Answers, steered: Answers, draws: Mapping[str, Answers]) -> float:
    """The share of draws at least as good as the steered arm, itself counted among them."""
    observed = net(base, steered).mean or 0.0
    as_good = sum((net(base, draw).mean or 0.0) >= observed for draw in draws.values())
    return (1 + as_good) / (1 + len(draws))


def effect_row(cell: Cell, arms: Mapping[str, Answers]) -> Iterator[MetricRow]:
    """Replace mode mixes the latents' effect with the SAE's damage; this is the first alone."""
    if RECONSTRUCTION in arms and STEERED_REPLACE in arms:
        values = net(arms[RECONSTRUCTION], arms[STEERED_REPLACE])
        yield replace(cell, arm=STEERED_REPLACE).mean("effect", values)


def selection_rows(
    cell: Cell, lines: Sequence[Line], base: Answers, steered: Answers
) -> Iterator[MetricRow]:
    """How many edits were tried over all folds, and how much better they looked on dev."""
    main = replace(cell, arm=STEERED)
    for metric in ("n_tried", "n_screened"):
        yield main.number(metric, sum(line["scores"][metric] for line in lines), len(lines))
    for metric, values in (("correction", correction), ("regression", regression)):
        test = values(base, steered).mean
        dev = [x["scores"][f"dev_{metric}"] for x in lines if f"dev_{metric}" in x["scores"]]
        if dev and test is not None:
            yield main.number(f"optimism_{metric}", sum(dev) / len(dev) - test, len(dev))


def with_nulls(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """The mean of the random draws as `null` beside what steering did."""
    null = {r.metric: r.value for r in rows if r.arm == RANDOM_MEAN}
    steered = {STEERED, STEERED_REPLACE, "steered_global"}
    return [
        replace(r, null=null.get(r.metric, r.null)) if r.arm in steered and r.concept is None else r
        for r in rows
    ]
