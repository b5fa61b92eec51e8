"""Where judge and people differ, as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from ..harness.rundir import Run
from ..harness.task import Card, Line
from .answers import Answers, Item, collected
from .items import TASK
from .pictures import Pictures

MOST = 60
"""Cards of disagreements."""


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


def _differing(answers: Answers) -> list[tuple[str, Item]]:
    found = [
        (name, item)
        for name, item in answers.items.items()
        if item.judge is not None and item.majority not in (None, item.judge)
    ]
    return sorted(found, key=lambda pair: -abs(fmean(pair[1].people.values()) - 0.5))


def _said(verdict: int | None) -> str:
    return "fits" if verdict else "does not fit"


def _people(item: Item) -> str:
    yes, n = sum(item.people.values()), len(item.people)
    return f"{yes} of {n} say that it fits"
