"""One file of a model's replies to HallusionBench, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..hallucination.benchmark import parse_answer
from ..hallucination.questions import KEYS, Question, Record
from ..hallucination.scoring import by_item

if TYPE_CHECKING:
    from ...harness.rundir import Run

REPLY = "model_prediction"
"""The upstream name of the reply's field."""
_REPLIES = (REPLY, "prediction", "answer")


@dataclass(frozen=True, slots=True)
class Predictions:
    """Parsed answers, in the order of the records that they belong to."""

    records: Sequence[Record]
    answers: Sequence[str | None]
    replies: Sequence[str]
    """As the model gave them; of a run, as they were parsed."""
    not_asked: int
    """Questions without any reply: they are left out, and the scores' n says so."""


def read_predictions(path: Path, questions: Sequence[Record]) -> Predictions:
    """A JSON list or JSON lines, each with the five keys (or `id`, the keys joined by `/`) and the
    reply in `model_prediction`, `prediction` or `answer`.

    Raises `UsageError` on a row that is no question of the set, a repeated one, or none at all.
    """
    replies: dict[str, str] = {}
    for place, row in enumerate(_rows(path)):
        key = _key(path, place, row)
        if key in replies:
            raise UsageError(f"{path} answers {key} twice; keep one")
        replies[key] = _reply(path, place, row)
    known = {Question(record).id: record for record in questions}
    if strangers := sorted(replies.keys() - known.keys()):
        raise UsageError(f"{path}: {strangers[0]} is no question of this set; check --questions")
    if not replies:
        raise UsageError(f"{path} holds no reply; write one JSON object per question")
    asked = [(record, replies[key]) for key, record in known.items() if key in replies]
    texts = [reply for _, reply in asked]
    answers = [parse_answer(text) for text in texts]
    records = [record for record, _ in asked]
    return Predictions(records, answers, texts, len(known) - len(asked))


def predictions_of_run(run: Run, arm: str, layer: str | None = None) -> Predictions:
    """The answers that a run of `halluc` got under an arm, at a hookpoint where it has several.

    Raises `UsageError` when there is no such arm, or more than one place or SAE that has it.
    """
    lines = [line for line in run.lines("halluc") if line["arm"] == arm]
    places = dict.fromkeys(line["hookpoint"] for line in lines)
    chosen = [line for line in lines if layer is None or line["hookpoint"] == layer]
    if not chosen or (layer is None and len(places) > 1):
        there = ", ".join(str(place) for place in places) or "no place"
        raise UsageError(f"{run.id} has arm {arm!r} at {there}; choose with --arm and --hookpoint")
    if len(saes := dict.fromkeys(str(line["sae"]) for line in chosen)) > 1:
        raise UsageError(
            f"{run.id} has arm {arm!r} of {', '.join(saes)} there; score runs of one SAE each"
        )
    answers = list(by_item(chosen).values())
    broken = len(chosen) - len(answers)
    said = [a.answer for a in answers]
    records = [a.question.record for a in answers]
    return Predictions(records, said, [each or "" for each in said], broken)


def _rows(path: Path) -> list[Mapping[str, Any]]:
    if not path.is_file():
        raise UsageError(f"no prediction file at {path}; check the path")
    text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text) if text.lstrip().startswith("[") else _lines(text)
    except ValueError as error:
        raise UsageError(f"{path} is neither JSON nor JSON lines ({error}); mend it") from error
    if not all(isinstance(row, dict) for row in found):
        raise UsageError(f"{path} holds something that is no JSON object; one per question")
    return list(found)


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _key(path: Path, place: int, row: Mapping[str, Any]) -> str:
    if "id" in row:
        return str(row["id"])
    if missing := [key for key in KEYS if key not in row]:
        raise UsageError(f"{path}: reply {place} lacks {', '.join(missing)}, and has no id")
    return "/".join(str(row[key]) for key in KEYS)


def _reply(path: Path, place: int, row: Mapping[str, Any]) -> str:
    for field in _REPLIES:
        if field in row:
            return str(row[field])
    raise UsageError(f"{path}: reply {place} has none of the fields {', '.join(_REPLIES)}")
