"""All metric rows of a `halluc` run, from its stored lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...harness.task import Line, MetricRow
from .arms import RANDOM, STEERED, UNTOUCHED
from .controls import MATCHED
from .neutral import NEUTRAL
from .rows import (
    OFFSET_MATCHED,
    Cell,
    change_rows,
    contrast_rows,
    effect_row,
    oracle_rows,
    prior_row,
    random_rows,
    selection_rows,
    state_rows,
    with_nulls,
)
from .running import ALONE
from .said import matched_rows, neutral_rows, said_rows, signal_rows, unrelated_rows
from .scoring import Answered, Answers, by_item, yes_matched_offset
from .why import WHY
from .why_rows import why_rows

SELECTION = "selection"
"""The arm of the one line per SAE and fold that holds what was chosen."""


def all_rows(lines: Sequence[Line]) -> list[MetricRow]:
    """The untouched model, the arms without an SAE, then every SAE with its controls."""
    base = by_item(line for line in lines if line["arm"] == UNTOUCHED)
    untouched = Cell(UNTOUCHED)
    rows = [*state_rows(untouched, base), *signal_rows(untouched, base), *oracle_rows(base)]
    for arm in ALONE:
        answers = by_item(line for line in lines if line["arm"] == arm)
        if answers:
            rows += _arm_rows(Cell(arm), base, answers)
    cells = _cells(lines)
    if len(cells) > 1:
        rows += _tried_at_all(lines)
    for sae, hookpoint in cells:
        here = [x for x in lines if (x["sae"], x["hookpoint"]) == (sae, hookpoint)]
        rows += with_nulls(list(_sae_rows(Cell(STEERED, sae, hookpoint), here, base)))
    return rows


def _tried_at_all(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """Whoever takes the best layer of a run has had all layers' chances."""
    done = [x["scores"] for x in lines if x["arm"] == SELECTION and x["status"] == "ok"]
    for metric in ("n_tried", "n_screened"):
        yield Cell(STEERED).number(metric, sum(scores[metric] for scores in done), len(done))


def _cells(lines: Sequence[Line]) -> list[tuple[str | None, str | None]]:
    """SAEs with their hookpoints, in order."""
    cells = {(line["sae"], line["hookpoint"]): None for line in lines if line["sae"] is not None}
    return list(cells)


def _sae_rows(
    cell: Cell, lines: Sequence[Line], base: Mapping[str, Answered]
) -> Iterator[MetricRow]:
    by_arm: dict[str, list[Line]] = {}
    for line in lines:
        by_arm.setdefault(line["arm"], []).append(line)
    selection, neutral = by_arm.pop(SELECTION, []), by_arm.pop(NEUTRAL, [])
    why = by_arm.pop(WHY, [])
    arms = {arm: by_item(of_arm) for arm, of_arm in by_arm.items()}
    draws, matched = (_popped(arms, prefix) for prefix in (RANDOM, MATCHED))
    steered = arms.get(STEERED, {})
    arms[OFFSET_MATCHED] = yes_matched_offset(base, steered)
    for arm, answers in arms.items():
        of_arm_cell = Cell(arm, cell.sae, cell.hookpoint)
        yield from _arm_rows(of_arm_cell, base, answers)
    yield from random_rows(cell, base, draws)
    yield from contrast_rows(cell, base, steered, draws, arms[OFFSET_MATCHED])
    yield from effect_row(cell, arms)
    yield from matched_rows(cell, base, steered, matched)
    yield from unrelated_rows(cell, base, steered)
    yield from neutral_rows(cell, neutral)
    yield from why_rows(Cell(UNTOUCHED, cell.sae, cell.hookpoint), why, base)
    found = [line for line in selection if line["status"] == "ok"]
    if found:
        yield from selection_rows(cell, found, base, steered)


def _popped(arms: dict[str, dict[str, Answered]], prefix: str) -> dict[str, dict[str, Answered]]:
    """The draws of a control, taken out of the arms."""
    return {arm: arms.pop(arm) for arm in list(arms) if arm.startswith(f"{prefix}_")}


def _arm_rows(cell: Cell, base: Answers, answers: Answers) -> Iterator[MetricRow]:
    yield from change_rows(cell, base, answers)
    yield prior_row(cell, base, answers)
    yield from state_rows(cell, answers)
    yield from said_rows(cell, base, answers)
