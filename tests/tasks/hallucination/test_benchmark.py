"""HallusionBench scoring against golden values of the real 1,129 records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmmsae_eval.tasks.hallucination.benchmark import parse_answer, score, without_figure
from lmmsae_eval.tasks.hallucination.questions import NO_FIGURE, Question

GOLDEN = {
    "always yes": ("yes", [0.4287, 0.0723, 0.0396, 0.4637, 0.3419, 0.4656, 0.3829], 0.5713, 1.0),
    "always no": ("no", [0.5713, 0.1214, 0.1934, 0.5319, 0.5814, 0.5344, 0.6171], -0.4287, 0.0),
    "always unclear": (None, [0.1577, 0.0, 0.0, 0.0176, 0.0, 0.2848, 0.0], 0.1320, 0.5783),
}


@pytest.mark.parametrize("answerer", GOLDEN)
def test_constant_answerers_get_the_golden_scores_of_the_whole_file(hallusionbench, answerer):
    answer, accuracies, pct_diff, fp_ratio = GOLDEN[answerer]
    got = score(hallusionbench, [answer] * len(hallusionbench))
    seven = [got.aacc, got.facc, got.qacc, got.easy_group, got.hard_group, got.easy_q, got.hard_q]
    assert [round(value, 4) for value in seven] == accuracies
    assert round(got.pct_diff, 4) == pct_diff
    assert round(got.fp_ratio, 4) == fp_ratio


def test_constant_answers_are_inconsistent_on_four_fifths_of_the_figures(hallusionbench):
    yes, no = (score(hallusionbench, [a] * len(hallusionbench)) for a in ("yes", "no"))
    assert round(yes.inconsistent, 4) == round(no.inconsistent, 4) == 0.8064
    assert (round(yes.consistent_wrong, 4), round(no.consistent_wrong, 4)) == (0.1214, 0.0723)


@pytest.mark.parametrize(
    ("answer", "golden"),
    [
        ("yes", [0.4217, 0.0723, 0.0462, 0.4653, 0.3419]),
        ("no", [0.5783, 0.1214, 0.2, 0.5347, 0.5814]),
    ],
)
def test_constant_answerers_get_the_golden_scores_of_the_951_records_with_a_figure(
    hallusionbench, answer, golden
):
    records = [r for r in hallusionbench if r["visual_input"] != NO_FIGURE]
    assert len(records) == 951
    got = score(records, [answer] * len(records))
    five = [got.aacc, got.facc, got.qacc, got.easy_group, got.hard_group]
    assert [round(value, 4) for value in five] == golden


def test_the_denominators_are_those_of_the_leaderboard(hallusionbench):
    questions = [Question(r) for r in hallusionbench]
    figures = {q.figure for q in questions if not without_figure(q)}
    pairs = {q.pair for q in questions}
    hard = {q.pair for q in questions if q.record["visual_input"] == "2"}
    assert (len(questions), len(figures), len(pairs), len(hard)) == (1129, 346, 455, 430)
    assert len({q.family for q in questions}) == 167


@pytest.mark.parametrize(
    ("published", "right", "denominator"),
    [
        (75.60, 344, 455),
        (37.67, 162, 430),
        (28.79, 131, 455),
        (39.88, 138, 346),
        (46.94, 530, 1129),
    ],
)
def test_published_scores_are_fractions_of_those_denominators(published, right, denominator):
    assert round(100 * right / denominator, 2) == published


def record(**changes):
    base = dict.fromkeys(("set_id", "figure_id", "question_id"), "0")
    asked = {"question": "is it ?", "gt_answer": "1", "visual_input": "1", "filename": "f"}
    return {"category": "VD", "subcategory": "figure", **base, **asked, **changes}


def test_not_knowing_is_right_only_for_a_supplement_question_without_its_figure():
    unseen = record(category="VS", visual_input="0", gt_answer="0")
    assert score([unseen], [None]).aacc == 1.0
    assert score([record()], [None]).aacc == 0.0


def test_the_same_subcategory_in_two_categories_is_two_families():
    dependent, supplement = (Question(record(subcategory="ocr", category=c)) for c in ("VD", "VS"))
    assert dependent.family != supplement.family


ANSWERED = st.tuples(st.booleans(), st.booleans(), st.integers(0, 2))


@given(st.lists(ANSWERED, min_size=1, max_size=30))
def test_right_wrong_and_mixed_figures_add_up_and_perfect_answers_score_one(rows):
    records = [
        record(gt_answer="1" if gt else "0", question_id=str(i), figure_id=str(figure))
        for i, (gt, _, figure) in enumerate(rows)
    ]
    got = score(records, ["yes" if says else "no" for _, says, _ in rows])
    assert got.consistent_right + got.consistent_wrong + got.inconsistent == pytest.approx(1.0)
    perfect = score(records, ["yes" if gt else "no" for gt, _, _ in rows])
    assert perfect.aacc == perfect.facc == perfect.qacc == perfect.figure_score == 1.0
    assert perfect.pct_diff == 0.0
    assert perfect.fp_ratio is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes.", "yes"),
        ("no, it is not", "no"),
        ("yes and no", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_an_answer_is_the_one_word_of_yes_and_no_that_it_holds(text, answer):
    assert parse_answer(text) == answer
