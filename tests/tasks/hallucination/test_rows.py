"""Rows of the hallucination task: which bounds a mean without spread may have."""

from __future__ import annotations

import pytest
from lmmsae_eval.tasks.halluc import METRICS
from lmmsae_eval.tasks.hallucination.rows import SIGNED, Cell
from lmmsae_eval.tasks.hallucination.scoring import Values

UNCHANGED = Values([0.0] * 40, [str(i) for i in range(40)], 40)


def test_what_may_be_below_0_is_what_the_task_declares_so() -> None:
    below = {metric.name for metric in METRICS if (metric.range[0] or 0) < 0}

    # The optimism rows are differences without an interval.
    unbounded = {"patch_shift"}
    assert below - {"optimism_correction", "optimism_regression"} == SIGNED - unbounded


@pytest.mark.parametrize(("metric", "bounded"), [("net", False), ("regression", True)])
def test_when_nothing_changed_a_share_has_an_interval_and_a_difference_has_none(
    metric: str, bounded: bool
) -> None:
    row = Cell("main").mean(metric, UNCHANGED)

    assert (row.value, row.note) == (0.0, None)
    assert (row.ci_low is not None, row.ci_high is not None) == (bounded, bounded)


def test_few_families_are_insufficient_with_and_without_an_interval() -> None:
    few = Values([0.0] * 5, [str(i) for i in range(5)], 5)

    assert [Cell("main").mean(m, few).note for m in ("net", "accuracy")] == ["insufficient"] * 2
