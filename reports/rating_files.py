"""Files that the rating page has saved. They come from elsewhere: everything in them is checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..harness.rundir import Run
from .items import Asked, Draw, asked_of, items_sha256

KIND = "lmmsae-eval ratings"
SCHEMA_VERSION = 2
LARGEST_FILE = 10_000_000
"""Bytes: ratings are small, and a file from elsewhere is not read without a limit."""
_LONGEST_NAME = 80
_NAMED = 3
"""Of many items of one kind of damage, so many are named."""

Rating = int | None
"""0, 1, or None for 'can't tell'."""


@dataclass(frozen=True, slots=True)
class RatingFile:
    """What one person has saved, not yet held against the run."""

    path: Path
    draw: Draw
    page: int
    rater: str
    items_sha256: str
    ratings: Sequence[Mapping[str, Any]]
    """Each `{key, explanation, rating, seconds}`."""


@dataclass(frozen=True, slots=True)
class Rated:
    """One person's answers to what was asked: every item has one, `None` for 'can't tell'."""

    rater: str
    answers: Sequence[tuple[Asked, Rating]]


def read_ratings(file: Path) -> RatingFile:
    """A file that the page has saved. Raises `UsageError` for anything else."""
    document = _read_json(file)
    if document.get("kind") != KIND:
        raise UsageError(f"{file} is no ratings file; use the one that the page's button saves")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(f"{file} was saved by a page of another version; export the pages again")
    rater, page = document.get("rater"), document.get("page")
    if not isinstance(rater, str) or not rater.strip():
        raise UsageError(f"{file} names no rater; fill in the name on the page")
    draw = _draw(file, document.get("draw"))
    if type(page) is not int or not 1 <= page <= draw.raters:
        raise UsageError(f"{file} is of page {page!r}, but there are {draw.raters}")
    ratings = document.get("ratings")
    if not isinstance(ratings, list) or not all(map(_is_record, ratings)):
        raise UsageError(f"{file}: ratings must be 0, 1 or null; use the file that the page saves")
    if all(record["rating"] is None for record in ratings):
        raise UsageError(f"{file} rates nothing; answer some items on the page and save again")
    digest = str(document.get("items_sha256"))
    return RatingFile(file, draw, page, rater.strip()[:_LONGEST_NAME], digest, ratings)


def held_against(run: Run, file: RatingFile) -> Rated:
    """The answers to what this run asks on this page.

    Raises `UsageError` that names every kind of item that doesn't hold up: unknown, there twice,
    missing, edited.
    """
    asked = {one.key: one for one in asked_of(run, file.draw, file.page)}
    keys = [record["key"] for record in file.ratings]
    told = {record["key"]: record["explanation"] for record in file.ratings}
    damage = {
        "unknown": [key for key in keys if key not in asked],
        "there twice": [key for key, n in Counter(keys).items() if n > 1],
        "missing": [key for key in asked if key not in told],
        "edited": [
            k for k, one in asked.items() if told.get(k, one.explanation) != one.explanation
        ],
    }
    if any(damage.values()):
        parts = "; ".join(_named(kind, found) for kind, found in damage.items() if found)
        raise UsageError(f"{file.path} doesn't fit {run.id}: {parts}; use the file as it was saved")
    if file.items_sha256 != items_sha256(list(asked.values())):
        raise UsageError(f"{file.path} was rated on other pictures than {run.id} has; export again")
    said = {record["key"]: record["rating"] for record in file.ratings}
    return Rated(file.rater, [(one, said[key]) for key, one in asked.items()])


def _named(kind: str, keys: Iterable[str]) -> str:
    found = sorted(keys)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{len(found)} {kind}: {', '.join(found[:_NAMED])}{more}"


def _draw(file: Path, value: Any) -> Draw:
    names = ("run_id", "n", "raters", "seed")
    if not isinstance(value, dict) or set(value) != set(names):
        raise UsageError(f"{file} doesn't say what was drawn; use the file that the page saves")
    run_id = value["run_id"]
    if not isinstance(run_id, str) or Path(run_id).name != run_id:
        raise UsageError(f"{file} names no run but a path: {run_id!r}")
    if any(type(value[name]) is not int or value[name] < 0 for name in names[1:]):
        raise UsageError(f"{file} doesn't say what was drawn; use the file that the page saves")
    return Draw(**value)


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


def _is_record(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("key"), str):
        return False
    rating = value.get("rating", "none")
    known = rating is None or (type(rating) is int and rating in (0, 1))
    return known and isinstance(value.get("explanation"), str)
