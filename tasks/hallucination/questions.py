"""Yes/no questions in the HallusionBench schema: records, their keys, and splits by image family.

A record is a flat mapping of strings: `category, subcategory, visual_input, set_id, figure_id,
question_id, question, gt_answer, filename`, where `gt_answer` is "1" for yes. Three optional keys
are ours: `kind` (why an item may be answered wrongly), `topic` (which questions share one language
prior; without it a question's text is its own topic) and `pair` (which questions of a family are
contrasted; without it one question over the family's figures).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

Record = Mapping[str, str | None]

KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id")
"""Together unique in a question set."""
NO_FIGURE = "0"
"""The `visual_input` of a question that is asked without any image."""
PRIOR_KINDS = ("prior_yes", "prior_no")
"""Expected though absent, denied though present."""


class QuestionSet(Protocol):
    """Records and the figures that they are about."""

    @property
    def revision(self) -> str: ...

    @property
    def records(self) -> Sequence[Record]: ...

    def image_for(self, record: Record) -> Image | None:
        """The figure, or None for a question without one."""


@dataclass(frozen=True, slots=True)
class Question:
    """One record, with the keys that scoring groups by."""

    record: Record

    @property
    def family(self) -> str:
        """The image family: a figure and its edits. The category counts: `ocr` is in VD and VS."""
        return "/".join(str(self.record[key]) for key in KEYS[:3])

    @property
    def figure(self) -> str:
        return f"{self.family}/figure{self.record['figure_id']}"

    @property
    def pair(self) -> str:
        """The same question over all figures of a family, unless the record names another pair."""
        named = self.record.get("pair")
        return f"{self.family}/{named}" if named else f"{self.family}/question{self._number}"

    @property
    def _number(self) -> str | None:
        return self.record["question_id"]

    @property
    def id(self) -> str:
        return "/".join(str(self.record[key]) for key in KEYS)

    @property
    def text(self) -> str:
        return str(self.record["question"])

    @property
    def gt(self) -> bool:
        """Whether the true answer is yes."""
        return self.record["gt_answer"] == "1"

    @property
    def kind(self) -> str:
        return self.record.get("kind") or "other"

    @property
    def topic(self) -> str:
        return self.record.get("topic") or self.text


def read_questions(records: Iterable[Record]) -> list[Question]:
    """Records as questions. UsageError on a missing key, a bad answer, a repeated id."""
    questions = [_checked(index, record) for index, record in enumerate(records)]
    if len({q.id for q in questions}) < len(questions):
        raise UsageError(f"two questions share one key ({', '.join(KEYS)}); make them unique")
    return questions


def _checked(index: int, record: Record) -> Question:
    missing = [key for key in (*KEYS, "question", "gt_answer", "visual_input") if key not in record]
    if missing:
        raise UsageError(
            f"question {index} lacks {', '.join(missing)}; the schema is HallusionBench's"
        )
    if record["gt_answer"] not in ("0", "1"):
        answer = record["gt_answer"]
        raise UsageError(f"question {index}: gt_answer is {answer!r}, must be '0' or '1'")
    return Question(record)


def _rank(seed: int, family: str) -> str:
    return hashlib.sha256(f"{seed}:{family}".encode()).hexdigest()


def split_families(
    records: Sequence[Record], seed: int = 0, dev_share: float = 0.5
) -> tuple[list[Record], list[Record]]:
    """Dev and test records; a family is wholly in one of them, whatever else the set holds."""
    families = sorted({q.family for q in map(Question, records)}, key=lambda f: _rank(seed, f))
    dev = set(families[: round(len(families) * dev_share)])
    chosen = [Question(r).family in dev for r in records]
    return (
        [r for r, is_dev in zip(records, chosen, strict=True) if is_dev],
        [r for r, is_dev in zip(records, chosen, strict=True) if not is_dev],
    )


def fold_families(questions: Iterable[Question], n: int) -> dict[str, int]:
    """Each family's fold, 0 to n - 1: the same in every run, and all folds about as large."""
    families = sorted({q.family for q in questions}, key=lambda f: _rank(0, f))
    return {family: place % n for place, family in enumerate(families)}


def take_families(questions: Sequence[Question], n: int | None, seed: int = 0) -> list[Question]:
    """About `n` questions in their order: whole families, drawn by seed until `n` is reached."""
    if n is None or n >= len(questions):
        return list(questions)
    sizes: dict[str, int] = {}
    for question in questions:
        sizes[question.family] = sizes.get(question.family, 0) + 1
    taken: set[str] = set()
    total = 0
    for family in sorted(sizes, key=lambda f: _rank(seed, f)):
        if total >= n:
            break
        taken.add(family)
        total += sizes[family]
    return [q for q in questions if q.family in taken]


def crossing_families(dev: Iterable[Question], test: Iterable[Question]) -> set[str]:
    """Families that are in both: must be none, or what is chosen on dev has seen test."""
    return {q.family for q in dev} & {q.family for q in test}


@dataclass(frozen=True)
class RecordQuestions:
    """Any list of records as a question set; `figures` finds the image of a record."""

    records: Sequence[Record]
    figures: Callable[[Record], Image | None]
    revision: str

    def image_for(self, record: Record) -> Image | None:
        return None if record["visual_input"] == NO_FIGURE else self.figures(record)
