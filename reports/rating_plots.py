"""Judge and people as plots: reliability, confusion by concept, what more ratings would buy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from ..harness.prediction_powered import half_widths
from ..harness.statistics import wilson
from ..harness.task import Line, Plot
from .answers import Answers, collected

BINS = 5
"""Of the judge's confidence."""
TIMES = (1, 2, 4)
"""So many times the ratings that there are."""
_CONFUSION = {
    "both: fits": (1, 1),
    "judge alone: fits": (1, 0),
    "people alone: fits": (0, 1),
    "both: does not": (0, 0),
}
"""What the judge says, and what most people say."""


def rating_plots(lines: Sequence[Line]) -> Iterator[Plot]:
    """All plots of a ratings run that have points."""
    answers = collected(lines)
    yield from _reliability(answers)
    yield from _confusion(answers)
    yield from _more(answers)


def more_ratings(answers: Answers) -> Iterator[dict[str, str | int | float]]:
    """`{of, n, with_judge, alone}`: half the 95 % interval were so many items of an arm rated."""
    for arm in ("main", "foil"):
        evidence = answers.evidence(arm)
        n, total = len(evidence.people), len(evidence.people) + len(evidence.others)
        for rated in (times * n for times in TIMES if 0 < times * n < total):
            with_judge, alone = half_widths(evidence, rated)
            yield {"of": arm, "n": rated, "with_judge": with_judge, "alone": alone}


def _reliability(answers: Answers) -> Iterator[Plot]:
    """People's share of 'fits' against the judge's confidence, bins of equal size."""
    known = [
        (item.confidence, fmean(item.people.values()))
        for item in answers.rated
        if item.confidence is not None
    ]
    if known:
        yield Plot(
            "Reliability: what people say against how sure the judge is",
            "reliability",
            "judge's confidence in 'fits'",
            "people's share of 'fits'",
            [_bin_point(members) for members in _bins(sorted(known))],
        )


def _confusion(answers: Answers) -> Iterator[Plot]:
    """Counts, so that a concept of few items shows as what it is."""
    judged = [
        (item.concept or "none", (item.judge, item.majority))
        for item in answers.rated
        if item.judge is not None and item.majority is not None
    ]
    points = [
        {"x": concept, "y": judged.count((concept, said)), "series": name}
        for concept in sorted({concept for concept, _ in judged})
        for name, said in _CONFUSION.items()
    ]
    if points:
        yield Plot("Confusion of judge and people by concept", "bars", "concept", "items", points)


def _more(answers: Answers) -> Iterator[Plot]:
    columns = {"with_judge": "with the judge", "alone": "people alone"}
    points = [
        {"x": found["n"], "y": found[column], "series": f"{found['of']}, {name}"}
        for column, name in columns.items()
        for found in more_ratings(answers)
    ]
    if points:
        title = "What more ratings would buy: half of the 95 % interval"
        yield Plot(title, "lines", "items rated by people", "±", points)


def _bins(known: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Of equal size, but never two for one confidence: most judges know 0 and 1 alone."""
    bins: list[list[tuple[float, float]]] = []
    size = len(known) / BINS
    for pair in known:
        if not bins or (len(bins[-1]) >= size and bins[-1][-1][0] != pair[0]):
            bins.append([])
        bins[-1].append(pair)
    return bins


def _bin_point(members: Sequence[tuple[float, float]]) -> dict[str, float | str]:
    share = fmean(said for _, said in members)
    bounds = wilson(round(share * len(members)), len(members))
    low, high = bounds.low or 0.0, 1.0 if bounds.high is None else bounds.high
    return {
        "x": fmean(confidence for confidence, _ in members),
        "y": share,
        "low": min(low, share),
        "high": max(high, share),
        "label": f"n {len(members)}",
    }
