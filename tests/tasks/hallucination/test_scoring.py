"""What is computed from answers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmmsae_eval.tasks.hallucination.questions import Question
from lmmsae_eval.tasks.hallucination.scoring import (
    Answered,
    accuracy,
    best_offset,
    best_threshold,
    best_topic_offset,
    correction,
    discrimination,
    matched_threshold,
    net,
    question_detail,
    read_answer,
    regression,
    shifted,
    yes_matched_offset,
    yes_rate,
)

# Dyadic margins: sums are exact, so that 'unchanged' can mean exactly that.
margins = st.integers(-64, 64).map(lambda i: i / 16)
items = st.lists(
    st.tuples(margins, margins, st.booleans(), st.integers(0, 5)), min_size=2, max_size=40
)


def answered(number, margin, gt, family, topic="t"):
    record = {
        "category": "VD",
        "subcategory": "a/b",
        "visual_input": "1",
        "set_id": str(family),
        "figure_id": str(number),
        "question_id": "0",
        "question": "is it ?",
        "gt_answer": str(int(gt)),
        "kind": "prior_yes",
        "topic": topic,
    }
    return Answered(Question(record), margin, "yes" if margin > 0 else "no")


def arms(rows):
    base = [answered(i, before, gt, family) for i, (before, _, gt, family) in enumerate(rows)]
    arm = [answered(i, after, gt, family) for i, (_, after, gt, family) in enumerate(rows)]
    return {a.item: a for a in base}, {a.item: a for a in arm}


@given(items)
def test_net_is_what_correction_gives_and_regression_takes(rows):
    base, arm = arms(rows)
    acc0 = accuracy(base).mean
    gives = (1 - acc0) * (correction(base, arm).mean or 0.0)
    takes = acc0 * (regression(base, arm).mean or 0.0)
    assert net(base, arm).mean == pytest.approx(gives - takes)
    assert net(base, arm).mean == pytest.approx(accuracy(arm).mean - acc0)


@given(items)
def test_an_arm_that_changes_no_answer_mends_and_breaks_nothing(rows):
    base, _ = arms(rows)
    assert not correction(base, base).mean
    assert not regression(base, base).mean
    assert net(base, base).mean == 0.0


@given(items, margins)
def test_a_constant_offset_leaves_paired_discrimination_exactly_unchanged(rows, offset):
    base, _ = arms(rows)
    moved = shifted(base, lambda _: offset)
    assert discrimination(moved).numbers == discrimination(base).numbers


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50, unique=True), st.data())
def test_the_matched_threshold_gives_exactly_the_wanted_number_of_yes(values, data):
    n_yes = data.draw(st.integers(0, len(values)))
    values = [round(v, 6) for v in values]
    if len(set(values)) == len(values):
        threshold = matched_threshold(values, n_yes)
        assert sum(v > threshold for v in values) == n_yes


@given(items)
def test_the_offset_arm_says_yes_as_often_as_the_arm_that_it_is_matched_to(rows):
    distinct = [(before + i / 4096, after, gt, f) for i, (before, after, gt, f) in enumerate(rows)]
    base, arm = arms(distinct)
    assert yes_rate(yes_matched_offset(base, arm)).mean == pytest.approx(yes_rate(arm).mean)


@given(items, margins)
def test_no_constant_offset_beats_the_best_one(rows, offset):
    base, _ = arms(rows)
    best = accuracy(best_offset(base)).mean
    assert best >= accuracy(shifted(base, lambda _: offset)).mean
    assert accuracy(best_topic_offset(base)).mean >= best


def test_against_priors_in_two_directions_a_constant_mends_half_of_what_one_per_topic_does():
    expected = [answered(0, 3.0, True, 0, "boat"), answered(1, 1.0, False, 0, "boat")]
    denied = [answered(0, -1.0, True, 1, "moon"), answered(1, -3.0, False, 1, "moon")]
    base = {a.item: a for a in expected + denied}
    assert net(base, best_offset(base)).mean == 0.25
    assert net(base, best_topic_offset(base)).mean == 0.5
    assert discrimination(base).mean == 1.0


def test_discrimination_counts_ties_half_and_only_pairs_of_one_question():
    tied = [answered(0, 1.0, True, 0), answered(1, 1.0, False, 0), answered(0, 9.0, True, 1)]
    assert discrimination({a.item: a for a in tied}).numbers == [0.5]


def test_answers_that_are_neither_are_left_out_of_rates_and_counted_in_coverage():
    base, _ = arms([(1.0, 1.0, True, 0), (-1.0, 1.0, True, 1)])
    mute = {item: Answered(a.question, a.margin, None) for item, a in base.items()}
    assert correction(base, mute).numbers == []
    assert correction(base, mute).n_total == 1
    assert accuracy(mute).n_total == 2


def test_the_smallest_offset_is_taken_among_equally_good_ones():
    assert best_threshold([answered(0, 2.0, True, 0), answered(1, -2.0, False, 0)]) == 0.0


def test_a_sample_line_gives_back_the_question_keys_that_scoring_groups_by():
    original = answered(3, 0.5, True, 7)
    line = {
        "status": "ok",
        "scores": {"m": 0.5},
        "detail": {**question_detail(original.question), "answer": "yes"},
    }
    back = read_answer(line)
    assert (back.item, back.margin, back.answer) == (original.item, 0.5, "yes")
    for key in ("family", "figure", "pair", "gt", "kind", "topic"):
        assert getattr(back.question, key) == getattr(original.question, key)
    assert read_answer({**line, "status": "error"}) is None
