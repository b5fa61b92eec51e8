"""Where judge and people differ, as pictures, and how far the judge's confidence can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from ..harness.rundir import Run
from ..harness.statistics import wilson
from ..harness.task import Card, Line, Plot
from .answers import Answers, Item, collected
from .items import TASK
from .pictures import Pictures

MOST = 60
"""Cards of disagreements."""
BINS = 5


def disagreement_cards(lines: Sequence[Line], run: Run) -> Iterator[Card]:
    """Items where most people say otherwise than the judge, the clearest first."""
    from PIL import Image

    answers = collected(lines)
    cards = {card["sample"]: card for card in run.cards(TASK) if card.get("sample")}
    pictures = Pictures(run.path, run.path)
    for name, item in _differing(answers)[:MOST]:
        if name not in cards:
            continue
        card = cards[name]
        images = []
        for image in card["images"]:
            with Image.open(pictures.source(image["path"])) as opened:
                images.append((str(image["caption"]), opened.copy()))
        yield Card(
            title=str(card["title"]),
            text={**card["text"], "judge": _said(item.judge), "people": _people(item)},
            images=images,
            tags={
                **card["tags"],
                "disagreement": "judge accepts" if item.judge else "people accept",
            },
            sample=name,
        )


def reliability(lines: Sequence[Line]) -> Iterator[Plot]:
    """People's share of 'fits' against the judge's confidence, bins of equal size."""
    known = [
        (item.confidence, fmean(item.people.values()))
        for item in collected(lines).rated
        if item.confidence is not None
    ]
    if known:
        yield Plot(
            "Reliability: what people say against how sure the judge is",
            "scatter",
            "judge's confidence in 'fits'",
            "people's share of 'fits'",
            [_bin_point(members) for members in _bins(sorted(known))],
        )


def _differing(answers: Answers) -> list[tuple[str, Item]]:
    found = [
        (name, item)
        for name, item in answers.items.items()
        if item.judge is not None and item.majority not in (None, item.judge)
    ]
    return sorted(found, key=lambda pair: -abs(fmean(pair[1].people.values()) - 0.5))


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


def _said(verdict: int | None) -> str:
    return "fits" if verdict else "does not fit"


def _people(item: Item) -> str:
    yes, n = sum(item.people.values()), len(item.people)
    return f"{yes} of {n} say that it fits"
