"""Ranking measures on cases whose values are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.tasks.features.ranking import average_precision, balanced_accuracy, lift

TRUTH = np.array([True, False, True, False])


def test_a_perfect_order_is_1_and_a_known_one_is_known() -> None:
    assert average_precision(np.array([4.0, 2, 3, 1]), TRUTH) == 1
    assert average_precision(np.array([4.0, 3, 2, 1]), TRUTH) == pytest.approx((1 + 2 / 3) / 2)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_constant_score_gives_the_share_of_positives(truth: list[bool]) -> None:
    found = average_precision(np.zeros(len(truth)), np.array(truth))
    if any(truth):
        assert found == pytest.approx(np.mean(truth))
        assert lift(found or 0, float(np.mean(truth))) == pytest.approx(0, abs=1e-9)
    else:
        assert found is None


def test_saying_always_the_same_is_half_right() -> None:
    for said in (np.ones(4, bool), np.zeros(4, bool)):
        assert balanced_accuracy(said, TRUTH) == 0.5
    assert balanced_accuracy(TRUTH, TRUTH) == 1
    assert balanced_accuracy(TRUTH, np.ones(4, bool)) is None
