"""Lines of judge and raters to rows: agreement, the judge's confusion, shares by both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import sqrt

from ..harness import agreement as ag
from ..harness.prediction_powered import people_alone, prediction_powered
from ..harness.statistics import INSUFFICIENT, Interval, wilson
from ..harness.task import TOO_FEW, Line, MetricRow
from .answers import Answers, collected

PREVALENCE = (0.1, 0.9)
"""Beyond these κ says little, and the row says so."""
GATE = 0.6
"""α between judge and people below which the judge may not stand alone."""
BELOW_PEOPLE = 0.1
"""Nor may it be further below the people among themselves than this."""


def rating_rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """All rows; those of single raters have the arm `rater NAME`."""
    answers = collected(lines)
    for arm in ("main", "foil"):
        yield from _shares(answers, arm)
    yield from _difference(answers)
    yield from _among_people(answers)
    yield from _with_judge(answers)
    yield from _confusion(answers, None)
    for concept in answers.concepts:
        yield from _confusion(answers, concept)
    yield from _raters(answers)


def _shares(answers: Answers, arm: str) -> Iterator[MetricRow]:
    evidence = answers.evidence(arm)
    total = answers.n_rated(arm)
    yield _row("consistent", people_alone(evidence), total, arm)
    everything = len(evidence.people) + len(evidence.others)
    yield _row("estimate", prediction_powered(evidence), everything, arm)


def _difference(answers: Answers) -> Iterator[MetricRow]:
    sides = [answers.evidence(arm) for arm in ("main", "foil")]
    found = [prediction_powered(side) for side in sides]
    n = sum(interval.n for interval in found)
    yield _row("estimate_j", _minus(found[0], found[1], n), n, "main")


def _minus(a: Interval, b: Interval, n: int) -> Interval:
    """Independent items on both sides: variances add up. Widths are taken before bounds cut them.

    Newcombe's square-and-add of the two intervals.
    """
    if a.value is None or b.value is None or a.low is None or b.low is None:
        return Interval(None, None, None, None, n, n)
    assert a.high is not None
    assert b.high is not None
    low = a.value - b.value - sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2)
    high = a.value - b.value + sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2)
    return Interval(a.value - b.value, low, high, "prediction-powered (square-and-add)", n, n)


def _among_people(answers: Answers) -> Iterator[MetricRow]:
    items = [item.people for item in answers.rated]
    clusters = [item.cluster for item in answers.rated]
    for name, coefficient in (
        ("human_alpha", ag.ALPHA),
        ("human_ac1", ag.AC1),
        ("human_agreement", ag.AGREEMENT),
    ):
        several = [(i, c) for i, c in zip(items, clusters, strict=True) if len(i) > 1]
        found = ag.interval(coefficient, [i for i, _ in several], [c for _, c in several])
        yield _row(name, found, len(items), "main")
    pairs = [(a, b) for i, a in enumerate(answers.raters) for b in answers.raters[i + 1 :]]
    if pairs:
        cells = [[_pair(item, a, b) for a, b in pairs] for item in items]
        kappa = ag.interval(ag.mean_over_raters(ag.KAPPA, len(pairs)), cells, clusters)
        yield _row("human_kappa", kappa, len(items), "main", note=_prevalence(items))


def _with_judge(answers: Answers) -> Iterator[MetricRow]:
    judged = [item for item in answers.rated if item.judge is not None]
    clusters = [item.cluster for item in judged]
    cells = [
        [_pair({**item.people, "": item.judge or 0}, "", rater) for rater in answers.raters]
        for item in judged
    ]
    n, total = len(answers.raters), len(answers.rated)
    for name, coefficient in (
        ("judge_alpha", ag.PAIR_ALPHA),
        ("agreement", ag.PAIR_AGREEMENT),
        ("kappa", ag.KAPPA),
    ):
        mean = ag.interval(ag.mean_over_raters(coefficient, n), cells, clusters)
        note = _prevalence([item.people for item in judged]) if name == "kappa" else None
        yield _row(name, mean, total, "main", note=note)
    most = [(item, m) for item in judged if (m := item.majority) is not None]
    both = [{"judge": item.judge or 0, "people": m} for item, m in most]
    ac1 = ag.interval(ag.AC1, both, [item.cluster for item, _ in most])
    yield _row("judge_ac1", ac1, total, "main")
    yield _ceiling(answers, total)


def _ceiling(answers: Answers, total: int) -> MetricRow:
    """Judge with people over people with people, both on the same items; and what follows."""
    people, judge = gate(answers)
    known = people is not None and judge is not None and people > 0
    value = judge / people if known and people and judge is not None else None
    n = len(answers.rated)
    interval = Interval(value, None, None, None, n, n)
    note = None if value is None else verdict(people, judge)
    return _row("ceiling", interval, total, "main", note=note)


def gate(answers: Answers) -> tuple[float | None, float | None]:
    """α among people and α of judge with people, the mean over people."""
    people = ag.value(ag.ALPHA, [item.people for item in answers.rated])
    judged = [item for item in answers.rated if item.judge is not None]
    cells = [
        [_pair({**item.people, "": item.judge or 0}, "", rater) for rater in answers.raters]
        for item in judged
    ]
    return people, ag.value(ag.mean_over_raters(ag.PAIR_ALPHA, len(answers.raters)), cells)


def verdict(people: float | None, judge: float | None) -> str:
    """Whether the judge's own numbers may be reported without people's."""
    if people is None or judge is None:
        return "no α: everybody always says the same"
    if judge < GATE:
        return f"the judge may not stand alone: α with people is below {GATE}"
    if judge < people - BELOW_PEOPLE:
        return "the judge may not stand alone: people agree better among themselves"
    return "the judge may stand alone"


def _confusion(answers: Answers, concept: str | None) -> Iterator[MetricRow]:
    members = [item for item in answers.rated if concept is None or item.concept == concept]
    judged = [(item.judge, item.majority) for item in members]
    pairs = [(a, b) for a, b in judged if a is not None and b is not None]
    for name, said in (("judge_accepts", 1), ("judge_wrongly_accepts", 0)):
        verdicts = [a for a, b in pairs if b == said]
        found = wilson(sum(verdicts), len(verdicts))
        yield _row(name, found, len(verdicts), "main", concept)
    clusters = [item.cluster for item in members if None not in (item.judge, item.majority)]
    balanced = ag.interval(ag.BALANCED, pairs, clusters)
    yield _row("judge_balanced", balanced, len(members), "main", concept)


def _raters(answers: Answers) -> Iterator[MetricRow]:
    for rater in (None, *answers.raters):
        arm = "main" if rater is None else f"rater {rater}"
        for name, found in (
            ("self_agreement", answers.repeated(rater)),
            ("attention", answers.attention(rater)),
        ):
            if found:
                share = wilson(sum(found), len(found))
                # Few they are by design: how wide the interval is, it says itself.
                yield replace(_row(name, share, len(found), arm), note=None)


def _pair(people: Mapping[str, int], a: str, b: str) -> ag.Pair | None:
    return (people[a], people[b]) if a in people and b in people else None


def _prevalence(items: Sequence[Mapping[str, int]]) -> str | None:
    said = [answer for item in items for answer in item.values()]
    share = sum(said) / len(said) if said else 0.5
    low, high = PREVALENCE
    if low <= share <= high:
        return None
    return f"{share:.0%} of the answers are 1: κ says little there, read AC1"


def _row(
    metric: str,
    interval: Interval,
    n_total: int,
    arm: str,
    concept: str | None = None,
    note: str | None = None,
) -> MetricRow:
    few = interval.n_clusters < INSUFFICIENT
    return MetricRow(
        metric=metric,
        value=interval.value,
        n_ok=interval.n,
        n_total=n_total,
        ci_low=interval.low,
        ci_high=interval.high,
        ci_method=interval.method,
        arm=arm,
        concept=concept,
        note=TOO_FEW if few else note,
    )
