"""Counts beside the paper's, detection without bias, equivalence: against values known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.tasks.hallucination.questions import Question
from lmmsae_eval.tasks.hallucination.rows import Cell
from lmmsae_eval.tasks.hallucination.said import (
    detectable,
    equivalence_p,
    said_rows,
    signal,
    unrelated_rows,
)
from lmmsae_eval.tasks.hallucination.scoring import Answered, Values, discrimination_gain, shifted


def answered(item, truth, margin, kind="prior_yes"):
    family, figure = divmod(item, 2)
    record = {
        "category": "VD", "subcategory": "map", "set_id": str(family), "figure_id": str(figure),
        "question_id": "0", "visual_input": "1", "gt_answer": str(int(truth)), "kind": kind,
        "topic": "t",
    }  # fmt: skip
    return Answered(Question(record), margin, "yes" if margin > 0 else "no")


def arm(margins, kind="prior_yes"):
    made = [answered(i, i % 2 == 0, m, kind) for i, m in enumerate(margins)]
    return {a.item: a for a in made}


def test_the_papers_counts_are_shares_of_all_answers_with_its_row_beside_them():
    base, steered = arm([1, 1, 1, -1]), arm([1, -1, -1, -1])
    rows = {r.metric: r for r in said_rows(Cell("main"), base, steered)}
    shares = [rows[name].value for name in ("better", "same", "worse")]
    assert shares == [0.25, 0.5, 0.25]
    assert rows["better"].note == "1 of 4; the paper's 100: 0.09"
    assert rows["correction_precision"].value == 0.5


def test_no_change_has_no_precision():
    base = arm([1, 1])
    rows = {r.metric: r for r in said_rows(Cell("main"), base, base)}
    assert rows["correction_precision"].value is None
    assert rows["pda_gain"].value == 0.0


def test_always_yes_detects_nothing_and_prefers_yes():
    found = signal(list(arm([1.0] * 40).values()))
    assert found.d_prime == pytest.approx(0)
    assert found.criterion < -1
    assert found.balanced_accuracy == 0.5


def test_d_prime_and_criterion_are_those_of_the_log_linear_rule():
    # 20 of each truth; 16 hits and 6 false alarms: z(16.5/21) = .7916, z(6.5/21) = -.4978.
    margins = [0.0] * 40
    margins[0::2] = [1.0] * 16 + [-1.0] * 4
    margins[1::2] = [1.0] * 6 + [-1.0] * 14
    found = signal(list(arm(margins).values()))
    assert found.d_prime == pytest.approx(1.2894, abs=1e-3)
    assert found.criterion == pytest.approx(-0.1469, abs=1e-3)
    assert found.balanced_accuracy == pytest.approx(0.75)


@settings(deadline=None)
@given(
    st.lists(st.integers(-20, 20), min_size=2, max_size=20),
    st.integers(-15, 15),
)
def test_an_offset_gains_no_discrimination(margins, offset):
    base = arm([float(m) for m in margins])
    gain = discrimination_gain(base, shifted(base, lambda _: float(offset)))
    assert all(number == 0 for number in gain.numbers)


def test_what_orders_a_pair_rightly_gains_one():
    gain = discrimination_gain(arm([-1, 1]), arm([1, -1]))
    assert gain.numbers == [1.0]


def clusters(numbers):
    return Values(list(numbers), [str(i) for i in range(len(numbers))], len(numbers))


def test_no_change_at_all_is_equivalent_and_a_large_one_is_not():
    assert equivalence_p(clusters([0.0] * 30), 0.01) == 0.0
    assert equivalence_p(clusters([-1.0] * 30), 0.01) == 1.0
    assert equivalence_p(clusters([0.0] * 10), 0.01) is None


def test_the_equivalence_test_is_two_one_sided_t_tests():
    from scipy.stats import ttest_1samp

    numbers = np.random.default_rng(0).normal(0.001, 0.02, 60)
    expected = max(
        ttest_1samp(numbers, -0.01, alternative="greater").pvalue,
        ttest_1samp(numbers, 0.01, alternative="less").pvalue,
    )
    assert equivalence_p(clusters(numbers), 0.01) == pytest.approx(expected)
    assert expected < 0.05


def test_unrelated_items_are_those_that_no_prior_speaks_about():
    base = arm([1.0, -1.0]) | {"x": answered(9, True, 1.0, "other")}
    base = {a.item: a for a in base.values()}
    [row, p] = unrelated_rows(Cell("main"), base, base)
    assert (row.value, row.n_ok, p.value) == (0.0, 1, None)
    assert not list(unrelated_rows(Cell("main"), arm([1.0], "other"), arm([1.0], "other")))


def test_what_is_detectable_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    spread, n = 0.4, 60
    changes = rng.normal(0, spread, n)
    changes -= changes.mean()
    smallest = detectable(Values(list(changes), [str(i) for i in range(n)], n))
    assert smallest == pytest.approx(2.87 * spread / np.sqrt(n), rel=0.15)
    scale = changes.std(ddof=1)
    draws = rng.normal(smallest, scale, (2000, n))
    t = draws.mean(1) / (draws.std(1, ddof=1) / np.sqrt(n))
    assert (np.abs(t) > 2.0010).mean() == pytest.approx(0.8, abs=0.03)


def test_copies_of_a_family_make_nothing_smaller_detectable():
    rng = np.random.default_rng(1)
    once = list(rng.choice([-1.0, 0.0, 1.0], 40))
    names = [str(i) for i in range(40)]
    single, double = (detectable(Values(once * k, names * k, 40 * k)) for k in (1, 2))
    assert double == pytest.approx(single)


def test_with_few_families_or_without_spread_nothing_is_said_to_be_detectable():
    assert detectable(Values([1.0, 0.0], ["a", "b"], 2)) is None
    assert detectable(Values([0.0] * 30, [str(i) for i in range(30)], 30)) is None
