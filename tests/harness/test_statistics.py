"""Intervals cover, tests keep their level, and textbook values come out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.harness.statistics import (
    INSUFFICIENT,
    auroc,
    bootstrap_statistic,
    mcnemar_exact,
    mean_interval,
    wilson,
)


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    [
        (0.89, 100, 0.814, 0.937),
        (0.89, 200, 0.839, 0.926),
        (0.89, 400, 0.856, 0.917),
        (0.75, 100, 0.657, 0.825),
        (0.75, 200, 0.686, 0.805),
        (0.75, 400, 0.705, 0.790),
        (1.00, 20, 0.839, 1.0),
        (1.00, 100, 0.963, 1.0),
        (0.95, 20, 0.764, 0.991),
    ],
)
def test_wilson_gives_the_published_bounds(share: float, n: int, low: float, high: float) -> None:
    interval = wilson(round(share * n), n)

    assert interval.low == pytest.approx(low, abs=6e-4)
    assert interval.high == pytest.approx(high, abs=6e-4)


def test_wilson_of_nothing_is_no_number() -> None:
    assert wilson(0, 0).value is None


def test_mcnemar_of_nine_against_two_is_not_significant() -> None:
    assert mcnemar_exact(9, 2) == pytest.approx(0.0654, abs=1e-4)
    assert mcnemar_exact(2, 9) == mcnemar_exact(9, 2)
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 5) == 1.0


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
@settings(deadline=None)
def test_auroc_is_the_share_of_pairs_in_order(scored: list[tuple[int, bool]]) -> None:
    positive = [score for score, label in scored if label]
    negative = [score for score, label in scored if not label]
    value = auroc([score for score, _ in scored], [label for _, label in scored])
    if not positive or not negative:
        assert value is None
        return

    pairs = [(p > n) + 0.5 * (p == n) for p, n in product(positive, negative)]
    assert value == pytest.approx(sum(pairs) / len(pairs))


def test_a_mean_is_the_mean_of_samples_not_of_clusters() -> None:
    interval = mean_interval([1, 1, 1, 0], ["a", "a", "a", "b"])

    assert interval.value == pytest.approx(0.75)
    assert (interval.n, interval.n_clusters) == (4, 2)


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_so() -> None:
    values, clusters = list(np.random.default_rng(0).normal(size=60)), list(range(60))

    first = mean_interval(values, clusters)
    assert mean_interval(values, clusters) == first
    assert mean_interval(values, clusters, seed=1).low == pytest.approx(first.low, abs=0.05)


def test_an_interval_does_not_depend_on_the_names_of_clusters() -> None:
    values = [0.1, 0.5, 0.9, 0.3]
    assert mean_interval(values, [1, 1, 2, 3]) == mean_interval(values, ["x", "x", "y", "z"])


def test_one_cluster_gives_a_value_without_an_interval() -> None:
    interval = mean_interval([0.2, 0.4], ["a", "a"])
    assert interval.value == pytest.approx(0.3)
    assert interval.low is interval.high is interval.method is None


def test_nothing_gives_no_number() -> None:
    assert mean_interval([], []).value is None


def test_values_without_spread_get_no_interval_of_width_zero() -> None:
    assert mean_interval([0.5] * 10, range(10)).low is None
    ones = mean_interval([1.0] * 20, range(20), share=True)
    assert (ones.low, ones.high) == (pytest.approx(0.839, abs=1e-3), 1.0)
    assert ones.method == "Wilson over clusters"


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_values_without_spread_that_are_no_shares_get_no_interval_of_shares(
    constant: float,
) -> None:
    """Nothing changed in 40 answers: the true change may be below 0 as well as above."""
    interval = mean_interval([constant] * 40, range(40))

    assert (interval.value, interval.low, interval.high, interval.method) == (
        constant,
        None,
        None,
        None,
    )


def test_correlated_samples_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    values = np.repeat(random.normal(size=40), 10)
    together = mean_interval(list(values), list(np.repeat(np.arange(40), 10)))
    apart = mean_interval(list(values), list(range(400)))

    assert _width(together) > 2.5 * _width(apart)


def test_few_clusters_are_called_insufficient() -> None:
    assert mean_interval([0.1, 0.9] * 5, range(10)).insufficient
    assert not mean_interval([0.1, 0.9] * INSUFFICIENT, range(2 * INSUFFICIENT)).insufficient


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(0, 4)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=60)
def test_bounds_are_in_order_and_within_the_data(samples: list[tuple[float, int]]) -> None:
    values = [value for value, _ in samples]
    interval = mean_interval(values, [cluster for _, cluster in samples], resamples=100)

    if interval.low is not None:
        assert interval.high is not None
        assert min(values) - 1e-6 <= interval.low <= interval.high <= max(values) + 1e-6


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        mean_interval([1, 2], ["a"])


def test_a_bootstrapped_mean_agrees_with_the_interval_of_the_mean() -> None:
    values = list(np.random.default_rng(7).normal(size=50))
    by_cluster = {i: [value] for i, value in enumerate(values)}
    generic = bootstrap_statistic(by_cluster, lambda xs: sum(xs) / len(xs), resamples=2000)
    special = mean_interval(values, range(50))

    assert generic.value == pytest.approx(special.value)
    assert generic.low == pytest.approx(special.low, abs=0.05)
    assert generic.high == pytest.approx(special.high, abs=0.05)


def test_a_statistic_that_some_draws_cannot_have_uses_the_others() -> None:
    by_cluster = {i: [(i / 10, i % 2)] for i in range(10)}
    interval = bootstrap_statistic(
        by_cluster, lambda xs: auroc([x for x, _ in xs], [y for _, y in xs]), resamples=200
    )

    assert interval.value == auroc([i / 10 for i in range(10)], [i % 2 for i in range(10)])
    assert interval.low is not None


def test_a_statistic_without_a_value_has_no_interval() -> None:
    assert bootstrap_statistic({1: [1], 2: [2]}, lambda xs: None).value is None
    assert bootstrap_statistic({}, lambda xs: 1.0).value is None


def _width(interval: object) -> float:
    low, high = interval.low, interval.high  # type: ignore[attr-defined]
    assert low is not None
    assert high is not None
    return float(high - low)


def _families(random: np.random.Generator, binary: bool) -> tuple[list[float], list[int]]:
    """30 families of 2 to 10 correlated samples with mean 0.4, sizes unrelated to values."""
    sizes = random.integers(2, 11, 30)
    clusters = list(np.repeat(np.arange(30), sizes))
    if binary:
        chances = random.beta(0.8, 1.2, 30)[clusters]
        return list((random.random(len(clusters)) < chances).astype(float)), clusters
    effects = random.exponential(0.2, 30)[clusters]
    return list(0.2 + effects + random.normal(0, 0.2, len(clusters))), clusters


def _coverage(repeats: int, binary: bool, seed: int) -> float:
    random, hits = np.random.default_rng(seed), 0
    for _ in range(repeats):
        interval = mean_interval(*_families(random, binary), resamples=1000)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0.4 <= interval.high
    return hits / repeats


@pytest.mark.parametrize("binary", [True, False], ids=["answers", "skewed scores"])
def test_clustered_intervals_cover_the_truth(binary: bool) -> None:
    # 250 repeats: three standard errors of a coverage of .95 are .041.
    assert _coverage(250, binary, seed=17) >= 0.95 - 0.041


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("binary", "least"), [(True, 0.94), (False, 0.92)], ids=["answers", "skewed scores"]
)
def test_clustered_intervals_cover_as_often_as_they_say(binary: bool, least: float) -> None:
    # Exponential effects of 30 families: no bootstrap of so few reaches .95.
    assert least <= _coverage(4000, binary, seed=19) <= 0.97
