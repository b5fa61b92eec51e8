"""A change between two runs: its interval, its test, and the gate's rule."""

from __future__ import annotations

import numpy as np
import pytest
from lmmsae_eval.harness.correction import corrected
from lmmsae_eval.harness.difference import Change, Scores, change, changes, is_drop, worse_p
from lmmsae_eval.harness.resampling import MOST_UNITS, cluster_totals, merged, sign_flips
from scipy.stats import bootstrap, permutation_test


def scores(values: object, prefix: str = "", family: int = 1) -> Scores:
    numbers = [float(value) for value in values]  # type: ignore[attr-defined]
    ids = [f"{prefix}{i:05d}" for i in range(len(numbers))]
    return Scores(ids, [f"{prefix}c{i // family}" for i in range(len(numbers))], numbers)


def noise(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, n)


def test_a_paired_change_is_b_minus_a_and_far_narrower_than_an_unpaired_one() -> None:
    before = noise(100, 0)
    after = before + 0.1 + 0.05 * noise(100, 1)
    paired = change(scores(before), scores(after))
    unpaired = change(scores(before), scores(after, "other "))

    assert paired.value == pytest.approx(unpaired.value)
    assert paired.value == pytest.approx(float((after - before).mean()))
    assert (paired.paired, unpaired.paired) == (True, False)
    assert _width(unpaired) > 10 * _width(paired)


def test_a_paired_interval_is_scipys_bca_but_for_the_widening_for_few_clusters() -> None:
    gains = np.random.default_rng(2).exponential(1, 300)
    made = change(scores(np.zeros(300)), scores(gains))
    ours = bootstrap((gains,), np.mean, n_resamples=10_000, rng=3).confidence_interval

    assert made.low == pytest.approx(ours.low, abs=0.02)
    assert made.high == pytest.approx(ours.high, abs=0.02)


def test_sign_flips_agree_with_scipys_permutation_test() -> None:
    gains = noise(40, 4, 0.35)
    theirs = permutation_test(
        (gains,), np.mean, permutation_type="samples", n_resamples=20_000, rng=5
    )
    made = change(scores(np.zeros(40)), scores(gains), resamples=20_000)

    assert made.p == pytest.approx(theirs.pvalue, abs=0.006)
    assert made.p_higher == pytest.approx(theirs.pvalue / 2, abs=0.005)


def test_changed_sides_agree_with_scipys_permutation_test_when_sides_vary_alike() -> None:
    a, b = noise(40, 6), noise(50, 7, 0.45)
    theirs = permutation_test(
        (a, b), lambda x, y: y.mean() - x.mean(), n_resamples=5_000, vectorized=False, rng=8
    )

    assert change(scores(a), scores(b, "x")).p == pytest.approx(theirs.pvalue, abs=0.015)


def test_a_cell_does_not_depend_on_the_cells_that_it_is_drawn_with() -> None:
    paired = scores(noise(30, 0)), scores(noise(30, 1, 0.3))
    other = scores(noise(30, 2)), scores(noise(45, 3), "x")
    longer = scores(noise(64, 4)), scores(noise(64, 5))

    together = changes([other, paired, longer])
    assert together[1].low == change(*paired).low
    assert together[1].p == pytest.approx(change(*paired).p, abs=0.02)
    assert together[0].low == change(*other).low


def test_the_order_of_cells_is_kept_though_paired_ones_are_drawn_apart() -> None:
    cells = [
        (scores(noise(30, 0)), scores(noise(30, 1) + shift, prefix))
        for shift, prefix in ((0, ""), (10, "x"), (20, ""))
    ]
    assert [round(made.value, -1) for made in changes(cells)] == [0, 10, 20]


def test_items_of_one_run_alone_are_named_and_left_out() -> None:
    a, b = scores(noise(40, 0)), scores(noise(43, 1))
    made = change(a, b)

    assert made.n_a == made.n_b == 40
    assert (made.unpaired_a, made.unpaired_b) == ([], ["00040", "00041", "00042"])


def test_few_clusters_allow_no_test_and_one_no_interval() -> None:
    few = change(scores(noise(40, 0), family=4), scores(noise(40, 1), family=4))
    one = change(scores([1, 2], family=2), scores([3, 4], "x", family=2))

    assert (few.n_clusters, few.test, few.p, few.p_lower) == (10, None, None, None)
    assert few.low is not None
    assert (one.value, one.low, one.p) == (2, None, None)


def test_no_difference_at_all_has_no_interval_and_a_p_of_one() -> None:
    made = change(scores(noise(30, 0)), scores(noise(30, 0)))
    assert (made.value, made.low, made.p, made.p_lower) == (0, None, 1.0, 1.0)


def test_a_change_without_spread_is_the_smallest_p_there_is() -> None:
    made = change(scores([0.1] * 30), scores([0.2] * 30, "x"), resamples=999)
    assert made.p_higher == pytest.approx(1 / 1000)


def test_one_sided_p_values_say_which_side() -> None:
    dropped = change(scores(noise(60, 0)), scores(noise(60, 0) - 0.5 + 0.1 * noise(60, 1)))

    assert worse_p(dropped, higher_is_better=True) < 0.001
    assert worse_p(dropped, higher_is_better=False) > 0.99


def test_answers_are_tested_by_mcnemar_one_sided_too() -> None:
    before = [0.0] * 9 + [1.0] * 2 + [1.0] * 30
    after = [1.0] * 9 + [0.0] * 2 + [1.0] * 30
    made = change(scores(before), scores(after))

    assert made.test == "McNemar, exact"
    assert made.p == pytest.approx(2 * 67 / 2048, abs=1e-9)
    assert made.p_higher == pytest.approx(67 / 2048, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "p", "allowed", "alarm"),
    [
        (0.03, 0.01, 0.0, True),
        (0.03, 0.01, 0.05, False),
        (0.03, 0.2, 0.0, False),
        (0.03, None, 0.0, False),
        (-0.03, 0.01, 0.0, False),
    ],
)
def test_a_drop_is_larger_than_allowed_and_not_by_chance(
    loss: float, p: float | None, allowed: float, alarm: bool
) -> None:
    made = change(scores(noise(30, 0)), scores(noise(30, 0) - loss))
    mirrored = change(scores(noise(30, 0)), scores(noise(30, 0) + loss))

    rule = {"alpha": 0.05, "allowed": allowed}
    assert is_drop(made, p, higher_is_better=True, **rule) is alarm
    assert is_drop(mirrored, p, higher_is_better=False, **rule) is alarm


def test_merging_clusters_keeps_their_totals_and_the_error_of_the_mean() -> None:
    values = np.random.default_rng(9).exponential(1, 6000)
    sums, counts = cluster_totals(list(values), range(6000))
    units, sizes = merged(sums, counts)

    assert len(units) == MOST_UNITS
    assert units.sum() == pytest.approx(sums.sum())
    assert set(sizes) == {6.0}
    error = units.std(ddof=1) / 6 / MOST_UNITS**0.5
    assert error == pytest.approx(values.std(ddof=1) / 6000**0.5, rel=0.1)


def test_every_sign_is_as_likely_as_the_other() -> None:
    draws = sign_flips([np.array([1.0, 2.0, 4.0]), np.array([8.0])], seed=0, draws=4000)

    assert {abs(x) for x in draws[1]} == {8.0}
    assert len(set(draws[0])) == 8
    assert abs(draws.mean(axis=1)).max() < 0.5


def test_corrections_give_the_textbook_values() -> None:
    assert corrected([0.01, 0.04, 0.03], "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert corrected([0.01, 0.04, 0.03], "bh") == pytest.approx([0.03, 0.04, 0.04])
    assert corrected([0.01, 0.04], "none") == [0.01, 0.04]
    assert corrected([]) == []


def _width(made: Change) -> float:
    assert made.low is not None
    assert made.high is not None
    return made.high - made.low
