"""Cards of a run, ready to be drawn and filtered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..harness.results import layer_of
from ..harness.rundir import Run
from .table import layer_text

TASK = "task"
_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class CardView:
    """One card. Titles, texts and tags may be a model's output: never trusted."""

    key: str
    """Its address on the page, unambiguous within the run."""
    title: str
    texts: Mapping[str, str]
    scores: Mapping[str, float]
    tags: Mapping[str, str]
    pictures: list[tuple[str, str]]
    """(caption, path within the run)."""
    related: list[tuple[str, str]]
    """(key of another card, what to call it)."""
    histogram: Mapping[str, Any] | None
    """`title`, `edges`, `counts`."""


def cards(run: Run) -> list[CardView]:
    """All cards of all tasks, in the tasks' order."""
    return list(_cards(run))


def filters(shown: Iterable[CardView]) -> dict[str, list[str]]:
    """What a reader can choose by: each tag with its values, when it has more than one."""
    values: dict[str, set[str]] = {}
    for card in shown:
        for key, value in card.tags.items():
            values.setdefault(key, set()).add(value)
    return {key: sorted(found, key=_natural) for key, found in values.items() if len(found) > 1}


def score_names(shown: Iterable[CardView]) -> list[str]:
    """The scores that some card has, in the order of their first appearance."""
    return list(dict.fromkeys(name for card in shown for name in card.scores))


def _cards(run: Run) -> Iterator[CardView]:
    for task in run.tasks:
        for place, card in enumerate(run.cards(task["name"])):
            yield _card(task["name"], place, card)


def _card(task: str, place: int, card: Mapping[str, Any]) -> CardView:
    tags = {str(key): _tag(str(key), str(value)) for key, value in card["tags"].items()}
    return CardView(
        key=f"{task}/{card.get('key') or place}",
        title=str(card["title"]),
        texts={str(key): str(value) for key, value in card["text"].items()},
        scores={
            str(key): float(value) for key, value in card["scores"].items() if value is not None
        },
        tags={TASK: task, **tags},
        pictures=[(str(p["caption"]), str(p["path"])) for p in card["images"]],
        related=[(f"{task}/{one['key']}", str(one["name"])) for one in card.get("related") or ()],
        histogram=card.get("histogram"),
    )


def _tag(key: str, value: str) -> str:
    return f"layer {layer_text(value, layer)}" if (layer := _layer(key, value)) else value


def _layer(key: str, value: str) -> int | None:
    return layer_of(value) if key == "hookpoint" else None


def _natural(text: str) -> list[tuple[int, str]]:
    """Numbers by size, so that layer 10 comes after layer 2."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(text)]
