"""The cards of a page: as scripts beside it that are loaded when they are wanted, or within it.

A script is the only file that a page opened from disk may read. Cards are data even so: one call
with JSON each, of which the page's own script makes text, never markup.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..harness.writing import replace_bytes
from .cards import CardView
from .pictures import assets
from .table import number

CARDS_A_FILE = 250
MOST_INLINE = 200
"""Cards that a page without further files may hold: pictures and all, some MB."""

Picture = Callable[[str], str]
"""From a path within the run to a URL."""


def write_cards(shown: Sequence[CardView], page: Path, picture: Picture) -> list[str]:
    """Write the scripts and return their URLs relative to the page; earlier ones are removed."""
    folder = assets(page)
    for old in folder.glob("cards-*.js"):
        old.unlink()
    names = []
    for start in range(0, len(shown), CARDS_A_FILE):
        name = f"cards-{start // CARDS_A_FILE:03d}.js"
        text = as_json(shown[start : start + CARDS_A_FILE], picture)
        # A model's text may hold half of a surrogate pair, which no file can.
        replace_bytes(folder / name, f"lmmsaeCards({text});\n".encode(errors="replace"))
        names.append(quote(f"{folder.name}/{name}"))
    return names


def few(shown: Sequence[CardView]) -> list[CardView]:
    """At most `MOST_INLINE` of them, evenly over their order."""
    if len(shown) <= MOST_INLINE:
        return list(shown)
    return [shown[i * len(shown) // MOST_INLINE] for i in range(MOST_INLINE)]


def as_json(shown: Sequence[CardView], picture: Picture) -> str:
    """Cards for the page's script. No `<` is left, so that it may stand in a page as it is."""
    text = json.dumps([_card(card, picture) for card in shown], ensure_ascii=False)
    return text.replace("<", "\\u003c")


def _card(card: CardView, picture: Picture) -> dict[str, Any]:
    return {
        "key": card.key,
        "title": card.title,
        "texts": list(card.texts.items()),
        "scores": {name: [value, number(value)] for name, value in card.scores.items()},
        "tags": dict(card.tags),
        "pictures": [[caption, picture(path)] for caption, path in card.pictures],
        "related": card.related,
        "histogram": card.histogram,
    }
