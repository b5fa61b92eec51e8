"""A self-contained page to rate explanations on, 0 or 1, and reading back what was said.

The page shows pictures and explanation only: not the judge's verdict, not which items are controls,
which a sample's id would tell; so an item goes by a key that is made from it.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..harness.identity import sha256
from ..harness.rundir import Run
from ..harness.writing import replace_bytes, replace_json
from .html import environment
from .pictures import Pictures

TASK = "consistency"
QUESTION = "Does the explanation fit what the lit parts of the pictures have in common?"
KIND = "lmmsae-eval ratings"
SCHEMA_VERSION = 1
LARGEST_FILE = 10_000_000
"""Bytes: ratings are small, and a file from elsewhere is not read without a limit."""

Rating = int | None
"""0, 1, or None for 'can't tell'."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """What one person said of one run's samples."""

    run_id: str
    rater: str
    ratings: Mapping[str, Rating]
    """By item key."""


def item_key(run_id: str, sample: str) -> str:
    """What a sample is called on the page: says nothing of its arm."""
    return sha256([run_id, sample])[:16]


def export(run: Run, out: Path, n: int = 100, seed: int = 0) -> Path:
    """Write `index.html` and `items.json` for `n` samples drawn at random, and return the page."""
    items = choose(run, n, seed)
    document = {"schema_version": SCHEMA_VERSION, "run_id": run.id, "task": TASK, "items": items}
    page = out / "index.html"
    content = _render(run, items, Pictures(run.path, page)).encode()
    replace_json(out / "items.json", document)
    replace_bytes(page, content)
    return page


def choose(run: Run, n: int, seed: int) -> list[dict[str, Any]]:
    """`{key, explanation, images}` of stored cards in random order. Raises `UsageError` if none."""
    cards = [card for card in run.cards(TASK) if card.get("sample") and card["images"]]
    if not cards:
        raise UsageError(f"{run.path} has no cards to rate; run the task {TASK!r} first")
    drawn = random.Random(seed).sample(cards, min(n, len(cards)))
    return [
        {
            "key": item_key(run.id, card["sample"]),
            "explanation": card["text"]["explanation"],
            "images": [image["path"] for image in card["images"]],
        }
        for card in drawn
    ]


def read_ratings(file: Path) -> Ratings:
    """A file that the page has made. It comes from elsewhere: everything in it is checked."""
    document = _read_json(file)
    if document.get("kind") != KIND or document.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(f"{file} is no ratings file; use the one that the page's button saves")
    run_id, rater, ratings = (document.get(key) for key in ("run_id", "rater", "ratings"))
    if not isinstance(run_id, str) or not isinstance(rater, str) or not rater.strip():
        raise UsageError(f"{file} names no run or no rater; fill in the name on the page")
    if Path(run_id).name != run_id:
        raise UsageError(f"{file} names no run but a path: {run_id!r}")
    if not isinstance(ratings, dict) or not all(map(_is_rating, ratings.values())):
        raise UsageError(f"{file}: ratings must be 0, 1 or null; use the one that the page saves")
    if not any(rating is not None for rating in ratings.values()):
        raise UsageError(f"{file} rates nothing; answer some items on the page and save again")
    return Ratings(run_id, rater.strip()[:80], ratings)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{file} is larger than {LARGEST_FILE // 10**6} MB: no ratings file")
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"can't read {file}: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{file} is no ratings file: not a JSON object")
    return document


def _is_rating(value: object) -> bool:
    return value is None or (type(value) is int and value in (0, 1))


def _render(run: Run, items: list[dict[str, Any]], pictures: Pictures) -> str:
    shown = [
        {**item, "images": [_data_url(pictures.source(p)) for p in item["images"]]}
        for item in items
    ]
    answer_file = {"kind": KIND, "schema_version": SCHEMA_VERSION, "run_id": run.id}
    return (
        environment()
        .get_template("annotate.html")
        .render(
            run_id=run.id,
            question=QUESTION,
            items=shown,
            answer_file=answer_file,
            storage_key=sha256([run.id, [item["key"] for item in items]]),
        )
    )


def _data_url(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
