"""How much data a difference needs."""

from __future__ import annotations

import pytest
from lmmsae_eval.harness.power import detectable, needed

TABLE = {"power": 0.8, "alpha": 0.05}


@pytest.mark.parametrize(
    ("difference", "paired", "unpaired"), [(0.1, 34, 64), (0.05, 128, 253), (0.02, 787, 1571)]
)
def test_needs_are_the_textbooks_for_a_standard_deviation_of_a_fifth(
    difference: float, paired: int, unpaired: int
) -> None:
    assert needed(0.2, difference, paired=True, **TABLE) == pytest.approx(paired, abs=1)
    assert needed(0.2, difference, paired=False, **TABLE) == pytest.approx(unpaired, abs=1)


@pytest.mark.parametrize("paired", [True, False])
def test_what_so_many_clusters_can_show_is_what_needs_so_many(paired: bool) -> None:
    seen = detectable(0.3, 200, paired=paired, **TABLE)
    assert needed(0.3, seen * 1.0001, paired=paired, **TABLE) == 200


def test_more_data_more_power_or_less_spread_show_smaller_differences() -> None:
    base = detectable(0.3, 100, paired=True, **TABLE)

    assert detectable(0.3, 400, paired=True, **TABLE) == pytest.approx(base / 2, rel=0.03)
    assert detectable(0.6, 100, paired=True, **TABLE) == pytest.approx(base * 2)
    assert detectable(0.3, 100, paired=True, power=0.9, alpha=0.05) > base


def test_a_difference_of_many_standard_deviations_needs_two_clusters() -> None:
    assert needed(0.01, 1.0, paired=True, **TABLE) == 2
