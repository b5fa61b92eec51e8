"""Monosemanticity and Moran's I against the sums that define them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.tasks.features.coherence import activation_map, monosemanticity, moran


def unit_rows(n: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 15), st.integers(0, 99))
def test_the_closed_form_is_the_sum_over_pairs(n: int, seed: int) -> None:
    a = np.random.default_rng(seed).random(n)
    rows = unit_rows(n, seed)
    scaled = (a - a.min()) / (a.max() - a.min())
    pairs = list(combinations(range(n), 2))
    weights = np.array([scaled[i] * scaled[j] for i, j in pairs])
    cosines = np.array([rows[i] @ rows[j] for i, j in pairs])
    found = monosemanticity(a, rows)
    if weights.sum() > 1e-9:
        assert found is not None
        assert found[0] == pytest.approx((weights * cosines).sum() / weights.sum(), abs=1e-6)
        assert found[1] == pytest.approx(cosines.mean())


def test_the_null_is_the_mean_over_permutations() -> None:
    rng, rows = np.random.default_rng(1), unit_rows(12, 5)
    a = rng.random(12)
    drawn = [monosemanticity(rng.permutation(a), rows) for _ in range(3000)]
    score = monosemanticity(a, rows)
    assert score is not None
    assert np.mean([one[0] for one in drawn if one]) == pytest.approx(score[1], abs=0.01)


def test_a_latent_of_one_topic_is_monosemantic_and_one_of_two_is_less() -> None:
    topics = np.eye(3).repeat(5, 0)
    one = monosemanticity(np.array([1.0] * 5 + [0.0] * 10), topics)
    two = monosemanticity(np.array([1.0] * 10 + [0.0] * 5), topics)
    assert one is not None
    assert two is not None
    assert one[0] == pytest.approx(1)
    assert two[0] == pytest.approx(4 / 9)
    assert one[1] == two[1]


@pytest.mark.parametrize("a", [np.zeros(4), np.ones(4), np.array([0.0, 0, 0, 1])])
def test_a_latent_without_two_images_has_no_score(a: np.ndarray) -> None:
    assert monosemanticity(a, unit_rows(4, 0)) is None


def test_a_blob_is_smooth_a_chess_board_is_not_and_chance_is_known() -> None:
    blob = np.zeros((8, 8))
    blob[1:5, 2:6] = 1
    board = np.indices((8, 8)).sum(0) % 2
    rng = np.random.default_rng(0)
    random = [moran((rng.random((8, 8)) < 0.3).astype(float)) for _ in range(500)]
    assert (moran(blob) or 0) > 0.5
    assert (moran(board.astype(float)) or 0) < 0
    assert np.mean([one for one in random if one is not None]) == pytest.approx(-1 / 63, abs=0.01)


def test_maps_that_are_nearly_constant_say_nothing() -> None:
    few, all_ = np.zeros((8, 8)), np.ones((8, 8))
    few[0, :4] = 1
    assert moran(few) is None
    assert moran(all_) is None


def test_tokens_of_tiles_are_not_on_the_map() -> None:
    tokens, values = np.array([1, 7], np.int32), np.array([2.0, 9.0], np.float32)
    assert activation_map(tokens, values, (2, 3)).tolist() == [[0, 2, 0], [0, 0, 0]]
