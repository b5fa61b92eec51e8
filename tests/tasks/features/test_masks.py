"""Masks: from boxes, moved, at their best on the grid, as released."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lmmsae_eval.tasks.features.masks import (
    best_tokens,
    cover,
    dimmed,
    iou,
    outlined,
    released_mask,
    rolled,
    share,
    token_mask,
)
from PIL import Image

MASKS = arrays(np.bool_, (12, 12))
BOXES = np.array([[x, y, x + 4, y + 4] for y in (0, 4, 8) for x in (0, 4, 8)], np.float32)
SIZE = (12, 12)


@settings(deadline=None)
@given(MASKS, MASKS)
def test_iou_is_symmetric_and_between_0_and_1(a: np.ndarray, b: np.ndarray) -> None:
    found = iou(a, b)
    assert found == iou(b, a)
    assert found is None or 0 <= found <= 1


@settings(deadline=None)
@given(MASKS, MASKS)
def test_iou_is_1_only_for_equal_masks_and_none_only_for_two_empty_ones(
    a: np.ndarray, b: np.ndarray
) -> None:
    found = iou(a, b)
    assert (found is None) == (not a.any() and not b.any())
    assert (found == 1) == (a.any() and bool((a == b).all()))


@settings(deadline=None)
@given(MASKS, MASKS)
def test_iou_is_0_exactly_when_masks_do_not_meet(a: np.ndarray, b: np.ndarray) -> None:
    if a.any() or b.any():
        assert (iou(a, b) == 0) == (not (a & b).any())


def test_a_half_covered_mask_has_the_iou_of_its_areas() -> None:
    a, b = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    a[:, :2], b[:, 1:3] = True, True
    assert iou(a, b) == pytest.approx(1 / 3)
    assert share(a, b) == 0.5
    assert share(a, np.zeros_like(a)) is None


def test_token_masks_are_the_boxes_pixels_and_nothing_else() -> None:
    mask = token_mask(BOXES, np.array([0, 4]), SIZE)
    assert mask[:4, :4].all()
    assert mask[4:8, 4:8].all()
    assert mask.sum() == 32


def test_a_pixel_belongs_to_the_box_that_holds_its_centre() -> None:
    halves = np.array([[0, 0, 2.4, 5], [2.4, 0, 5, 5]], np.float32)
    masks = [token_mask(halves, np.array([i]), (5, 5)) for i in (0, 1)]
    assert masks[0][:, :2].all()
    assert not masks[0][:, 2:].any()
    assert (masks[0] ^ masks[1]).all()


def test_boxes_that_reach_beyond_the_image_are_cut() -> None:
    mask = token_mask(
        np.array([[-3, -3, 2, 2], [10, 10, 20, 20]], np.float32), np.array([0, 1]), SIZE
    )
    assert mask.sum() == 8


@settings(deadline=None)
@given(MASKS, st.integers(0, 1000))
def test_a_rolled_mask_keeps_its_area(mask: np.ndarray, seed: int) -> None:
    moved = rolled(mask, np.random.default_rng(seed))
    assert moved.sum() == mask.sum()


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_a_small_rolled_mask_never_stays_in_place(seed: int) -> None:
    mask = np.zeros((12, 12), bool)
    mask[4:7, 4:7] = True
    assert iou(mask, rolled(mask, np.random.default_rng(seed))) == 0


def test_rolling_is_fixed_by_the_seed() -> None:
    mask = np.eye(12, dtype=bool)
    first, second = (rolled(mask, np.random.default_rng(5)) for _ in range(2))
    assert (first == second).all()


@settings(deadline=None)
@given(MASKS)
def test_cover_counts_pixels_by_box(truth: np.ndarray) -> None:
    inside, area = cover(truth, BOXES)
    assert inside.sum() == truth.sum()
    assert (area == 16).all()
    assert inside[4] == truth[4:8, 4:8].sum()


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_no_other_set_of_tokens_beats_the_best_one(truth: np.ndarray) -> None:
    best = iou(token_mask(BOXES, best_tokens(truth, BOXES), SIZE), truth) or 0.0
    for code in range(1, 2 ** len(BOXES)):
        tokens = np.flatnonzero([code >> i & 1 for i in range(len(BOXES))])
        assert (iou(token_mask(BOXES, tokens, SIZE), truth) or 0.0) <= best + 1e-12


def test_a_mask_of_whole_patches_has_a_ceiling_of_1() -> None:
    truth = token_mask(BOXES, np.array([1, 2, 5]), SIZE)
    assert best_tokens(truth, BOXES).tolist() == [1, 2, 5]


def test_dimming_keeps_lit_pixels_and_quarters_the_rest() -> None:
    image = Image.new("RGB", (4, 4), (200, 100, 40))
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    pixels = np.asarray(dimmed(image, mask))
    assert pixels[0, 0].tolist() == [200, 100, 40]
    assert pixels[1, 1].tolist() == [50, 25, 10]


def test_an_outline_lies_within_the_mask() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    plain = outlined(Image.new("RGB", (8, 8), "white"), mask, (255, 0, 0))
    red = (np.asarray(plain) == [255, 0, 0]).all(-1)
    assert red.sum() == 12
    assert not red[~mask].any()


@pytest.mark.parametrize(("side", "factor"), [(1, 3.98), (2, 2.24), (4, 1.56), (8, 1.27)])
def test_the_released_mask_grows_by_the_known_factor(side: int, factor: float) -> None:
    active = np.zeros((24, 24), bool)
    active[6 : 6 + side, 6 : 6 + side] = True
    grown = released_mask(active).sum() / (side**2 * 14**2)
    assert grown == pytest.approx(factor, abs=0.006)


def test_the_released_mask_grows_the_more_the_more_scattered_it_is() -> None:
    rng = np.random.default_rng(0)
    shares = [
        np.mean([released_mask(rng.random((24, 24)) < rate).mean() for _ in range(50)])
        for rate in (0.05, 0.24)
    ]
    assert shares == pytest.approx([0.19, 0.66], abs=0.02)
