"""What people are asked: drawn from a run by a seed, so that a page, and what it saves, can be made
again from the run and checked against it.

Every rater gets the same items, each in an order of its own, some of them twice, and a few whose
answer is plain. An item goes by a key that says nothing of what it is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import UsageError
from ..harness.identity import sha256
from ..harness.rundir import Run

TASK = "consistency"
QUESTION = "Does the description fit what the lit parts of the pictures have in common?"
AGAIN = 0.2
"""Share of the items that a rater is shown a second time."""
CHECKS = 0.05
"""Attention checks as a share of the items; two at least."""
_ABSURD = (
    "a page of handwritten sheet music",
    "an X-ray picture of a human hand",
    "the dashboard of a submarine",
    "a crowd in a football stadium at night",
    "a stamped passport",
)
_INSTRUCTED = "(no description: to show that you are reading, answer yes here)"

Part = Literal["item", "again", "check"]


@dataclass(frozen=True, slots=True)
class Draw:
    """All that decides who is asked what; it travels with the page and with its answers."""

    run_id: str
    n: int
    raters: int
    seed: int

    @property
    def id(self) -> str:
        return sha256(asdict(self))[:12]


@dataclass(frozen=True, slots=True)
class Asked:
    """One item as one rater sees it."""

    key: str
    part: Part
    sample: str
    explanation: str
    images: tuple[str, ...]
    """Within the run: what is lit, and the same pictures whole where the run has them."""
    expected: int | None = None
    """The answer of an attention check."""


def asked_of(run: Run, draw: Draw, rater: int) -> list[Asked]:
    """What rater number `rater` (from 1) is asked, in order. Raises `UsageError` without cards."""
    cards = _drawn(run, draw)
    seeded = random.Random(f"{draw.id}/{rater}")
    order = seeded.sample(cards, len(cards))
    # What is shown again is from the first two fifths and comes again in the second half: never
    # soon after its first time.
    early = order[: max(1, 2 * len(order) // 5)]
    repeated = seeded.sample(early, min(len(early), round(AGAIN * len(order))))
    half = len(order) // 2
    items = [_asked(draw, rater, "item", card) for card in order]
    again = [_asked(draw, rater, "again", card) for card in repeated]
    checks = [_check(draw, rater, i, card) for i, card in enumerate(_checked(cards, draw))]
    tail = [*items[half:], *again]
    return _spread([*items[:half], *seeded.sample(tail, len(tail))], checks, seeded)


def items_sha256(asked: Sequence[Asked]) -> str:
    """Digest of what a page shows: of keys, explanations and pictures' names, in order."""
    return sha256([[one.key, one.explanation, list(one.images)] for one in asked])


def _drawn(run: Run, draw: Draw) -> list[Mapping[str, Any]]:
    cards = [card for card in run.cards(TASK) if card.get("sample") and card["images"]]
    if not cards:
        raise UsageError(f"{run.path} has no cards to rate; run the task {TASK!r} first")
    return random.Random(draw.seed).sample(cards, min(draw.n, len(cards)))


def _asked(draw: Draw, rater: int, part: Part, card: Mapping[str, Any]) -> Asked:
    return Asked(
        key=_key(draw, rater, part, card["sample"]),
        part=part,
        sample=card["sample"],
        explanation=str(card["text"]["explanation"]),
        images=tuple(image["path"] for image in card["images"][:2]),
    )


def _checked(cards: Sequence[Mapping[str, Any]], draw: Draw) -> list[Mapping[str, Any]]:
    count = max(2, round(CHECKS * len(cards)))
    return random.Random(f"{draw.id}/checks").choices(cards, k=count)


def _check(draw: Draw, rater: int, i: int, card: Mapping[str, Any]) -> Asked:
    """By turns one that nobody can find fitting, and one that says what to answer."""
    absurd = i % 2 == 0
    return Asked(
        key=_key(draw, rater, "check", f"{i}"),
        part="check",
        sample=f"check-{i}",
        explanation=_ABSURD[i // 2 % len(_ABSURD)] if absurd else _INSTRUCTED,
        images=tuple(image["path"] for image in card["images"][:2]),
        expected=0 if absurd else 1,
    )


def _key(draw: Draw, rater: int, part: Part, name: str) -> str:
    return sha256([draw.id, rater, part, name])[:16]


def _spread(items: Sequence[Asked], checks: Sequence[Asked], seeded: random.Random) -> list[Asked]:
    """The checks among the items, one in each stretch of equal length."""
    merged = list(items)
    stretch = len(items) / len(checks)
    for i, check in reversed(list(enumerate(checks))):
        merged.insert(round((i + seeded.random()) * stretch), check)
    return merged
