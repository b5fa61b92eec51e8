"""HallusionBench's diagnosis: was a wrong answer language hallucination, visual illusion, or both?

Guan et al., arXiv 2310.14566. A record is judged by its own answer and by that to the same question
on figure 0 of its family: no figure at all in VS, the original figure in VD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from ..hallucination.benchmark import EDITED, YES
from ..hallucination.questions import Question, Record


class Code(IntEnum):
    """The judge's verdict on one answer."""

    WRONG = 0
    RIGHT = 1
    UNCLEAR = 2


class Cause(StrEnum):
    """Why a wrong answer is wrong."""

    LANGUAGE = "LH"
    VISION = "VI"
    MIXED = "Mixed"


@dataclass(frozen=True, slots=True)
class Shares:
    """Among the wrong answers that can be diagnosed. They add up to 1; None where there is none."""

    n: int
    language: float | None
    vision: float | None
    mixed: float | None


def code(question: Question, answer: str | None) -> Code:
    """From a parsed `yes`, `no`, or None for neither."""
    if answer is None:
        return Code.UNCLEAR
    return Code.RIGHT if (answer == YES) == question.gt else Code.WRONG


def diagnose(
    records: Sequence[Record],
    answers: Sequence[str | None],
    same: Sequence[bool | None] | None = None,
) -> list[Cause | None]:
    """A cause per record; None for right answers and where figure 0 was not asked.

    `same` says which answers agree with that on figure 0, as a judge would; without it two answers
    agree when they are parsed to the same word. Where it is None, so is a cause that hangs on it.
    """
    questions = [Question(record) for record in records]
    codes = [code(q, a) for q, a in zip(questions, answers, strict=True)]
    firsts = first_of(records)
    causes: list[Cause | None] = []
    for place, question in enumerate(questions):
        first = firsts.get(question.pair)
        before = None if first is None else codes[first]
        parsed = first is not None and answers[place] == answers[first]
        agrees = parsed if same is None else same[place]
        possible = {
            _cause(question, codes[place], before, flag)
            for flag in ((True, False) if agrees is None else (agrees,))
        }
        causes.append(possible.pop() if len(possible) == 1 else None)
    return causes


def first_of(records: Sequence[Record]) -> dict[str, int]:
    """By question pair, the place of the record on figure 0."""
    return {Question(r).pair: place for place, r in enumerate(records) if _is_first(Question(r))}


def shares(causes: Sequence[Cause | None]) -> Shares:
    found = [cause for cause in causes if cause is not None]
    if not found:
        return Shares(0, None, None, None)
    n = len(found)
    return Shares(n, *(found.count(cause) / n for cause in Cause))


def _is_first(question: Question) -> bool:
    return question.record["figure_id"] == "0"


def _cause(question: Question, code: Code, before: Code | None, same: bool) -> Cause | None:
    if question.record["category"] == "VS":
        return _supplement(question, code, before, same)
    return _dependent(question, code, before, same)


def _dependent(question: Question, code: Code, before: Code | None, same: bool) -> Cause | None:
    """VD: figure 0 is the original."""
    if code is Code.RIGHT:
        return None
    if _is_first(question):
        return Cause.VISION
    if before is None:
        return None
    if before is Code.RIGHT and code is Code.WRONG:
        return Cause.MIXED if same else Cause.VISION
    return Cause.VISION


def _supplement(question: Question, code: Code, before: Code | None, same: bool) -> Cause | None:
    """VS: figure 0 is no figure, where not knowing is right."""
    if _is_first(question):
        return Cause.LANGUAGE if code is Code.WRONG else None
    if code is Code.RIGHT or before is None:
        return None
    if before is Code.UNCLEAR:
        return Cause.VISION
    if before is Code.WRONG:
        return Cause.LANGUAGE if code is Code.WRONG and same else Cause.MIXED
    edited = question.record["visual_input"] == EDITED
    return Cause.LANGUAGE if code is Code.WRONG and edited and same else Cause.VISION
