"""How strongly latents fire: counted in one pass, exactly as if everything had been kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.tasks.features.cards import feature_cards
from lmmsae_eval.tasks.features.histograms import BINS, StrengthCounter, Strengths
from lmmsae_eval.tasks.features.selection import Entries

VALUES = st.floats(2**-20, 2**20, width=32)


def counted(groups: list[list[tuple[int, float]]], n_latents: int) -> Strengths:
    counter = StrengthCounter(n_latents)
    maximum = np.zeros(n_latents, np.float32)
    for group in groups:
        latents = np.array([latent for latent, _ in group], np.int32)
        values = np.array([value for _, value in group], np.float32)
        np.maximum.at(maximum, latents, values)
        counter.add(Entries(latents, latents, latents, values), maximum)
    return Strengths(counter.counts, counter.octave)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), VALUES), max_size=12), max_size=6))
def test_counts_are_those_of_all_values_in_the_final_bins(
    groups: list[list[tuple[int, float]]],
) -> None:
    found = counted(groups, 5)
    for latent in range(5):
        values = [value for group in groups for which, value in group if which == latent]
        edges, counts = found.of(latent)
        assert sum(counts) == len(values)
        if values:
            assert edges[-2] <= max(values) < edges[-1]
            assert np.histogram(values, edges)[0].tolist() == counts
            assert len(counts) > BINS // 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 1), VALUES), min_size=1, max_size=20), st.randoms())
def test_order_and_grouping_change_nothing(values: list[tuple[int, float]], random: Any) -> None:
    other = list(values)
    random.shuffle(other)
    cut = random.randrange(len(other))
    a, b = counted([values], 2), counted([other[:cut], other[cut:]], 2)
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_array_equal(a.octave, b.octave)


def test_a_dead_latent_has_no_bins() -> None:
    assert counted([[(0, 1.0)]], 2).of(1) == ([], [])


def test_a_value_on_an_edge_belongs_to_the_bin_above_it() -> None:
    edges, counts = counted([[(0, 0.5), (0, 0.25), (0, 0.26)]], 1).of(0)
    assert edges[-1] == 0.5 + 1 / BINS
    assert (counts[-1], counts[BINS // 4], sum(counts)) == (1, 2, 3)


def test_an_infinity_stays_with_its_own_latent() -> None:
    found = counted([[(0, 1.0), (0, float("inf")), (1, 1.0)]], 2)
    assert found.counts.sum(1).tolist() == [2, 1]


def test_a_card_draws_every_token_that_its_latent_fires_on(study_context: Any) -> None:
    context = study_context()
    name = "perfect/model.layers.0/main/3"
    line = {"latent": 3, "cluster": name, "arm": "main", "scores": {"iou_top": 1.0}}
    (card,) = feature_cards([line], context, rank_by="iou_top")
    masks = [context.subject.search.mask(i, "bar") for i in range(len(context.subject.search))]
    assert card.histogram is not None
    assert sum(card.histogram.counts) == sum(int(mask.sum()) for mask in masks) // 16
    # What the drawn world's latents mean lies between 1 and 2.
    assert set(np.array(card.histogram.edges[:-1])[np.array(card.histogram.counts) > 0]) <= {
        1 + i / 16 for i in range(16)
    }
