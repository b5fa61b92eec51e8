"""Precision, recall and F1, for the benchmarks that report them: POPE and AMBER."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .benchmark import NO, YES
from .scoring import Answered, Answers

POSITIVE: Mapping[str, str] = {"POPE": YES, "AMBER": NO}
"""The positive class by the records' category: POPE finds objects, AMBER finds hallucinations."""


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Over answers that are yes or no. None where there is nothing to divide by."""

    n: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_scores(answers: Sequence[Answered], positive: str) -> ClassScores:
    """Of one class against the other. Always answering yes on POPE: precision .5, F1 .667."""
    said = [a for a in answers if a.answer is not None]
    hits = sum(a.right and a.answer == positive for a in said)
    n_said = sum(a.answer == positive for a in said)
    n_true = sum(a.question.gt == (positive == YES) for a in said)
    return ClassScores(
        n=len(said),
        precision=hits / n_said if n_said else None,
        recall=hits / n_true if n_true else None,
        f1=2 * hits / (n_said + n_true) if n_said + n_true else None,
    )


def by_class(arm: Answers) -> Iterator[tuple[str | None, ClassScores]]:
    """Of a set that has a positive class: over all of it, then by kind."""
    listed = list(arm.values())
    positive = {POSITIVE.get(str(a.question.record["category"])) for a in listed}
    if len(positive) != 1 or None in positive:
        return
    name = str(positive.pop())
    yield None, class_scores(listed, name)
    for kind in sorted({a.question.kind for a in listed}):
        yield kind, class_scores([a for a in listed if a.question.kind == kind], name)
