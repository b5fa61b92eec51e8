"""Rows on why: are wrong answers less about the image than right ones to the same question?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ...harness.task import Line, MetricRow
from .rows import Cell
from .scoring import Answered, Answers, Values

SHARES = ("reliance", "share_question", "share_template", "share_error")


def why_rows(cell: Cell, lines: Sequence[Line], base: Answers) -> Iterator[MetricRow]:
    """Means over all items, wrong ones and right ones; the gap within pairs; patching."""
    done = {line["detail"]["item"]: line for line in lines if line["status"] == "ok"}
    known = {item: a for item, a in base.items() if item in done and a.answer is not None}
    if not known:
        return
    groups: Mapping[str | None, list[Answered]] = {
        None: list(known.values()),
        "right": [a for a in known.values() if a.right],
        "wrong": [a for a in known.values() if not a.right],
    }
    for concept, group in groups.items():
        for metric in (*SHARES, "patch_shift", "patch_flip"):
            values = _values(metric, group, done)
            if values.numbers:
                yield cell.mean(metric, values, concept)
    yield replace(cell.mean("reliance_gap", reliance_gap(known, done)), concept=None)


def reliance_gap(known: Answers, lines: Mapping[str, Line]) -> Values:
    """Per question pair with both: mean reliance of its wrong items minus that of its right ones.

    Below 0, wrong answers look less at the image than right ones to the same question.
    """
    pairs: dict[str, list[Answered]] = {}
    for answered in known.values():
        if "reliance" in lines[answered.item]["scores"]:
            pairs.setdefault(answered.question.pair, []).append(answered)
    gaps, families = [], []
    for group in pairs.values():
        wrong, right = (
            [lines[a.item]["scores"]["reliance"] for a in group if a.right is truth]
            for truth in (False, True)
        )
        if wrong and right:
            gaps.append(sum(wrong) / len(wrong) - sum(right) / len(right))
            families.append(group[0].question.family)
    return Values(gaps, families, len(pairs))


def _values(metric: str, group: Sequence[Answered], lines: Mapping[str, Line]) -> Values:
    having = [a for a in group if metric in lines[a.item]["scores"]]
    return Values(
        [float(lines[a.item]["scores"][metric]) for a in having],
        [a.question.family for a in having],
        len(group),
    )
