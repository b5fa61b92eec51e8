"""Question files as records of the HallusionBench schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..hallucination.questions import Record
from .published import AMBER, HALLUSIONBENCH, POPE, Published

Json = Any
_LABELS = {"yes": "1", "no": "0"}
_NOT_YES_NO = "generative"


def read_published(what: Published, folder: Path) -> list[Record]:
    """The records of a set whose files are in `folder`. Raises `UsageError` when one is missing."""
    for file in what.files:
        if not (folder / file.name).is_file():
            raise UsageError(
                f"{what.name} is not here yet: no {folder / file.name}; "
                f"`lmmsae-eval data get {what.name}` brings it"
            )
    return list(_READERS[what.name](folder))


def read_file(path: Path) -> list[Record]:
    """Any JSON list, or JSON lines, of records in the HallusionBench schema."""
    found = _json(path)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise UsageError(f"{path} is no list of questions; the schema is HallusionBench's")
    return [with_topic(_strings(row)) for row in found]


def with_topic(record: Record) -> Record:
    """Features are sought topic by topic, and one question's text is too few: the subcategory."""
    return {"topic": f"{record.get('category')}/{record.get('subcategory')}", **record}


def _strings(row: Mapping[str, Any]) -> Record:
    return {key: None if value is None else str(value) for key, value in row.items()}


def _json(path: Path) -> Json:
    if not path.is_file():
        raise UsageError(f"no question file at {path}; check the path")
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError:
        return _json_lines(path, text)


def _json_lines(path: Path, text: str) -> list[Json]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UsageError(f"{path} is neither JSON nor JSON lines ({error}); mend it") from error


def _hallusionbench(folder: Path) -> list[Record]:
    return read_file(folder / HALLUSIONBENCH.files[0].name)


def _pope(folder: Path) -> list[Record]:
    """The family is the image: the three samplings ask about the same 500."""
    return [
        _about_image(
            "POPE",
            image=str(row["image"]),
            question_id=f"{split}-{row['question_id']}",
            question=str(row["text"]),
            label=str(row["label"]),
            kind=split,
            topic=str(row["text"]),
            pair=split,
        )
        for file, split in zip(POPE.files, ("random", "popular", "adversarial"), strict=True)
        for row in _json(folder / file.name)
    ]


def _amber(folder: Path) -> list[Record]:
    queries, annotations = (_json(folder / file.name) for file in AMBER.files[:2])
    truths = {row["id"]: row for row in annotations}
    return [
        _amber_record(row, truths[row["id"]])
        for row in queries
        if truths[row["id"]]["type"] != _NOT_YES_NO
    ]


def _amber_record(query: Mapping[str, Any], truth: Mapping[str, Any]) -> Record:
    kind = _amber_kind(str(truth["type"]))
    return _about_image(
        "AMBER",
        image=str(query["image"]),
        question_id=str(query["id"]),
        question=str(query["query"]),
        label=str(truth["truth"]),
        kind=kind,
        topic=kind,
        pair=kind,
    )


def _amber_kind(type_: str) -> str:
    """`discriminative-hallucination` asks whether something exists; `relation` is the no half."""
    short = type_.removeprefix("discriminative-")
    return "existence" if short == "hallucination" else short


def _about_image(
    category: str,
    *,
    image: str,
    question_id: str,
    question: str,
    label: str,
    kind: str,
    topic: str,
    pair: str,
) -> Record:
    return {
        "category": category,
        "subcategory": "image",
        "visual_input": "1",
        "set_id": Path(image).stem,
        "figure_id": "1",
        "question_id": question_id,
        "question": question,
        "gt_answer": _LABELS[label],
        "filename": image,
        "kind": kind,
        "topic": topic,
        "pair": pair,
    }


_READERS: Mapping[str, Callable[[Path], Sequence[Record]]] = {
    HALLUSIONBENCH.name: _hallusionbench,
    POPE.name: _pope,
    AMBER.name: _amber,
}
