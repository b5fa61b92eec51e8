"""Precision, recall and F1 of POPE and AMBER, against answers whose scores are known."""

from __future__ import annotations

import pytest
from lmmsae_eval.tasks.hallucination.classification import by_class, class_scores
from lmmsae_eval.tasks.hallucination.questions import Question
from lmmsae_eval.tasks.hallucination.rows import Cell, state_rows
from lmmsae_eval.tasks.hallucination.scoring import Answered


def answers(truths, said, category="POPE", kind="random"):
    records = [
        {
            "category": category, "subcategory": "image", "set_id": str(i // 6), "figure_id": "1",
            "question_id": str(i), "visual_input": "1", "gt_answer": str(int(truth)),
            "kind": kind, "topic": "t", "pair": kind, "question": "?",
        }
        for i, truth in enumerate(truths)
    ]  # fmt: skip
    made = [Answered(Question(r), 0.0, a) for r, a in zip(records, said, strict=True)]
    return {a.item: a for a in made}


HALF = [True, False] * 6


def test_always_yes_on_a_balanced_set_has_f1_two_thirds():
    found = class_scores(list(answers(HALF, ["yes"] * 12).values()), "yes")
    assert (found.precision, found.recall, found.f1) == (0.5, 1.0, pytest.approx(2 / 3))


def test_always_no_is_perfect_on_ambers_existence_and_worthless_on_pope():
    existence = answers([False] * 6, ["no"] * 6, "AMBER", "existence")
    assert dict(by_class(existence))["existence"].f1 == 1.0
    found = dict(by_class(answers(HALF, ["no"] * 12)))[None]
    assert (found.precision, found.recall, found.f1) == (None, 0.0, 0.0)


def test_what_is_neither_yes_nor_no_is_left_out_and_counted():
    found = class_scores(list(answers(HALF, ["yes"] * 11 + [None]).values()), "yes")
    assert found.n == 11
    assert found.precision == 6 / 11


def test_rows_by_kind_are_given_for_pope_and_not_for_other_questions():
    names = {(r.metric, r.concept) for r in state_rows(Cell("x"), answers(HALF, ["yes"] * 12))}
    assert {("f1", None), ("f1", "random"), ("precision", None)} <= names
    others = {r.metric for r in state_rows(Cell("x"), answers(HALF, ["yes"] * 12, "VD"))}
    assert "f1" not in others


def test_a_popes_pair_is_all_questions_of_one_image_and_sampling():
    [row] = [r for r in state_rows(Cell("x"), answers(HALF, ["yes"] * 12)) if r.metric == "pda"]
    assert (row.value, row.n_ok) == (0.5, 2 * 9)
