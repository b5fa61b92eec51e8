"""Agreement: equal to well-kept libraries and to published examples, and what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.harness import agreement as ag

Items = list[dict[str, int]]

# Drawn with numpy's default_rng(3); three raters, 40 items, None is missing.
RATERS = (
    "110.111101111100111110111110001010111001",
    "1100011.01111100111110110110100110111101",
    "0000011.011.1100111110111110101010100000",
)


def items_of(*raters: str) -> Items:
    return [
        {str(i): int(row[at]) for i, row in enumerate(raters) if row[at] != "."}
        for at in range(len(raters[0]))
    ]


def table(*cells: int) -> list[ag.Pair]:
    """Pairs from counts of 00, 01, 10, 11."""
    return [
        pair
        for pair, n in zip(((0, 0), (0, 1), (1, 0), (1, 1)), cells, strict=True)
        for _ in range(n)
    ]


def test_alpha_with_missing_answers_equals_the_krippendorff_package() -> None:
    # krippendorff 0.9.0: alpha(reliability_data=..., level_of_measurement="nominal")
    assert ag.value(ag.ALPHA, items_of(*RATERS)) == pytest.approx(0.5949612403100775, abs=1e-9)


def test_alpha_equals_krippendorffs_published_binary_example() -> None:
    # Computing Krippendorff's alpha-reliability (2011), A: two observers, ten units, .095.
    example = items_of("0100000010", "1110010000")
    assert ag.value(ag.ALPHA, example) == pytest.approx(1 - 19 * 8 / (14 * 6 * 2), abs=1e-9)
    assert ag.value(ag.ALPHA, example) == pytest.approx(0.09523809523809534, abs=1e-9)


def test_ac1_of_three_raters_equals_irrcac() -> None:
    # irrCAC 0.4.4: CAC(...).gwet() on the same 20 items.
    rows = ("11001111011111001111", "11000111011111001111", "00000111011011001111")
    assert ag.value(ag.AC1, items_of(*rows)) == pytest.approx(0.76, abs=1e-9)


def test_at_a_high_prevalence_kappa_collapses_and_ac1_does_not() -> None:
    # 90 % agreement, both raters say 1 in 95 %: pe = .905.
    pairs = table(0, 5, 5, 90)
    both = [{"a": a, "b": b} for a, b in pairs]
    assert ag.value(ag.KAPPA, pairs) == pytest.approx((0.9 - 0.905) / (1 - 0.905), abs=1e-9)
    assert ag.value(ag.AC1, both) == pytest.approx((0.9 - 0.095) / (1 - 0.095), abs=1e-9)


def test_kappa_equals_statsmodels() -> None:
    from statsmodels.stats.inter_rater import cohens_kappa

    expected = cohens_kappa([[9, 3], [4, 22]]).kappa
    assert ag.value(ag.KAPPA, table(9, 3, 4, 22)) == pytest.approx(expected, abs=1e-9)


def test_alpha_of_two_raters_is_the_same_from_their_table() -> None:
    pairs = table(9, 3, 4, 22)
    both = [{"a": a, "b": b} for a, b in pairs]
    assert ag.value(ag.PAIR_ALPHA, pairs) == pytest.approx(ag.value(ag.ALPHA, both), abs=1e-12)


def test_balanced_accuracy_is_the_mean_of_both_rights() -> None:
    # The judge comes first: people say 0 in 12, of which it has 9; 1 in 25, of which it has 22.
    assert ag.value(ag.BALANCED, table(9, 3, 3, 22)) == pytest.approx((9 / 12 + 22 / 25) / 2)


def test_who_always_says_the_same_has_no_alpha_and_no_kappa() -> None:
    assert ag.value(ag.ALPHA, [{"a": 1, "b": 1}] * 30) is None
    assert ag.value(ag.KAPPA, table(0, 0, 0, 30)) is None
    assert ag.value(ag.AC1, [{"a": 1, "b": 1}] * 30) == 1


def test_raters_by_chance_have_coefficients_around_0() -> None:
    rng = np.random.default_rng(0)
    items = [{str(r): int(rng.random() < 0.5) for r in range(3)} for _ in range(4000)]
    for coefficient in (ag.ALPHA, ag.AC1):
        value = ag.value(coefficient, items)
        assert value is not None
        assert abs(value) < 0.03


@given(st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=4), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_coefficients_do_not_hang_on_names_order_or_what_is_called_1(said: list[list[int]]) -> None:
    items = [{str(i): answer for i, answer in enumerate(one)} for one in said]
    renamed = [{f"r{i}": answer for i, answer in one.items()} for one in reversed(items)]
    flipped = [{i: 1 - answer for i, answer in one.items()} for one in items]
    for coefficient in (ag.ALPHA, ag.AC1, ag.AGREEMENT):
        value = ag.value(coefficient, items)
        assert value == pytest.approx(ag.value(coefficient, renamed), abs=1e-12)
        assert value == pytest.approx(ag.value(coefficient, flipped), abs=1e-12)
        assert value is None or value <= 1 + 1e-12


def test_a_cluster_is_resampled_as_a_whole() -> None:
    rng = np.random.default_rng(1)
    items: Items = []
    for _ in range(60):
        a = int(rng.random() < 0.5)
        items.append({"a": a, "b": a if rng.random() < 0.8 else 1 - a})
    alone = ag.interval(ag.ALPHA, items, range(60))
    doubled = ag.interval(ag.ALPHA, [*items, *items], [*range(60), *range(60)])
    assert alone.low is not None
    assert doubled.low is not None
    # Twice the same items in the same clusters: no more is known than before.
    assert doubled.low == pytest.approx(alone.low, abs=0.03)
    assert doubled.n_clusters == 60


def test_few_clusters_have_no_interval() -> None:
    found = ag.interval(ag.ALPHA, items_of("0101", "0111"), range(4))
    assert found.low is None
    assert found.insufficient
