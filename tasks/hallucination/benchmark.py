"""HallusionBench scoring by the paper's rules, from one list of parsed yes/no answers.

Guan et al., "HallusionBench", CVPR 2024, arXiv 2310.14566. The published denominators are 1,129
records, 346 figures, 455 question pairs and 430 pairs with an edited figure. Any list of records of
that schema works.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from .questions import Question, Record

YES, NO = "yes", "no"
EDITED = "2"
_WORDS = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class BenchmarkScores:
    """Every published aggregate. Shares are in 0..1; None where nothing is counted."""

    n: int
    aacc: float | None
    """Share of records answered right."""
    facc: float | None
    """Share of figures with all records right."""
    qacc: float | None
    """Share of question pairs with all records right."""
    easy_group: float | None
    """The leaderboard's `easy aAcc`, which counts pairs, not records: those of unedited figures."""
    hard_group: float | None
    easy_q: float | None
    """The same by record."""
    hard_q: float | None
    pct_diff: float | None
    """Yes bias, -1..1: the yes rate inferred from right and wrong, minus the true one."""
    fp_ratio: float | None
    """Among wrong records, the share whose true answer is no. HallusionBench: a coin gives .571."""
    consistent_right: float | None
    """Share of figures with all records right; equals facc."""
    consistent_wrong: float | None
    inconsistent: float | None
    figure_score: float | None
    """Mean over figures of the share of records right."""
    yes_rate: float | None
    """Share of `yes` among the yes/no answers as given, not inferred."""


def parse_answer(text: str) -> str | None:
    """`yes`, `no`, or None when the text holds neither word or both."""
    words = set(_WORDS.findall(text.lower()))
    said = [word for word in (YES, NO) if word in words]
    return said[0] if len(said) == 1 else None


def is_right(question: Question, answer: str | None) -> bool:
    """The paper's rule: not knowing is right only where there is no figure to know it from."""
    if answer is None:
        return without_figure(question)
    return (answer == YES) == question.gt


def without_figure(question: Question) -> bool:
    """A visual-supplement question asked without its figure. In VD, figure 0 is the original."""
    return question.record["category"] == "VS" and question.record["figure_id"] == "0"


def score(records: Sequence[Record], answers: Sequence[str | None]) -> BenchmarkScores:
    """Aggregates of `answers` (`yes`, `no`, None for neither), one per record, in order."""
    questions = [Question(record) for record in records]
    rights = [is_right(q, a) for q, a in zip(questions, answers, strict=True)]
    judged = list(zip(questions, rights, strict=True))
    figures = _groups(judged, lambda q: q.figure, lambda q: not without_figure(q))
    easy = [(q, right) for q, right in judged if q.record["visual_input"] != EDITED]
    hard = [(q, right) for q, right in judged if q.record["visual_input"] == EDITED]
    said = [answer == YES for answer in answers if answer is not None]
    return BenchmarkScores(
        n=len(judged),
        aacc=_mean(rights),
        facc=_mean(all(group) for group in figures),
        qacc=_mean(all(group) for group in _groups(judged, lambda q: q.pair)),
        easy_group=_mean(all(group) for group in _groups(easy, lambda q: q.pair)),
        hard_group=_mean(all(group) for group in _groups(hard, lambda q: q.pair)),
        easy_q=_mean(right for _, right in easy),
        hard_q=_mean(right for _, right in hard),
        pct_diff=_pct_diff(judged),
        fp_ratio=_mean(not q.gt for q, right in judged if not right),
        consistent_right=_mean(all(group) for group in figures),
        consistent_wrong=_mean(not any(group) for group in figures),
        inconsistent=_mean(any(group) and not all(group) for group in figures),
        figure_score=_mean(fmean(group) for group in figures),
        yes_rate=_mean(said),
    )


def _groups(
    judged: Iterable[tuple[Question, bool]],
    key: Callable[[Question], str],
    keep: Callable[[Question], bool] = lambda _: True,
) -> list[list[bool]]:
    groups: dict[str, list[bool]] = {}
    for question, right in judged:
        if keep(question):
            groups.setdefault(key(question), []).append(right)
    return list(groups.values())


def _pct_diff(judged: Sequence[tuple[Question, bool]]) -> float | None:
    """`yes` is inferred as right == truth: unclear counts as the opposite of the truth."""
    inferred = _mean(right == q.gt for q, right in judged)
    true = _mean(q.gt for q, _ in judged)
    return None if inferred is None or true is None else inferred - true


def _mean(values: Iterable[float]) -> float | None:
    listed = [float(value) for value in values]
    return fmean(listed) if listed else None
