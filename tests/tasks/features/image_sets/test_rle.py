"""COCO's masks as pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lmmsae_eval.errors import BadImageError
from lmmsae_eval.tasks.features.image_sets.rle import from_polygons, from_run_lengths
from PIL import Image, ImageDraw

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@settings(deadline=None, max_examples=50)
@given(MASKS)
def test_run_lengths_of_numbers_are_read_down_the_columns(mask: np.ndarray) -> None:
    flat = [False, *mask.T.ravel().tolist()]
    runs, last = [0], False
    for value in flat[1:]:
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    found = from_run_lengths({"size": list(mask.shape), "counts": runs})
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize(
    ("size", "counts", "pixels"),
    [
        # As pycocotools 2.0.11 encodes them.
        ([4, 5], "61220N10N", [(1, 2), (2, 1), (2, 2), (2, 3), (2, 4), (3, 2)]),
        ([3, 3], "09", [(r, c) for r in range(3) for c in range(3)]),
        ([2, 3], "6", []),
    ],
)
def test_the_compressed_form_is_pycocotools(
    size: list[int], counts: str, pixels: list[tuple[int, int]]
) -> None:
    wanted = np.zeros(size, bool)
    for row, column in pixels:
        wanted[row, column] = True
    for said in (counts, counts.encode()):
        np.testing.assert_array_equal(from_run_lengths({"size": size, "counts": said}), wanted)


@settings(deadline=None, max_examples=50)
@given(MASKS)
def test_what_pycocotools_writes_is_read(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    found = from_run_lengths(coco.encode(np.asfortranarray(mask.astype(np.uint8))))
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("counts", [[3, 4], [10, -1], "6", "o"])
def test_runs_that_do_not_fill_the_picture_are_refused(counts: object) -> None:
    with pytest.raises(BadImageError, match="run lengths"):
        from_run_lengths({"size": [3, 3], "counts": counts})


def test_a_polygon_is_the_pixels_whose_centre_lies_in_it() -> None:
    square = from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], (6, 5))
    wanted = np.zeros((5, 6), bool)
    wanted[1:3, 1:4] = True
    np.testing.assert_array_equal(square, wanted)
    two = from_polygons([[0, 0, 1, 0, 1, 1, 0, 1], [5, 4, 6, 4, 6, 5, 5, 5]], (6, 5))
    assert [*zip(*np.nonzero(two), strict=True)] == [(0, 0), (4, 5)]
    outside = from_polygons([[-9, -9, 99, -9, 99, 99, -9, 99]], (6, 5))
    assert outside.all()
    assert not from_polygons([[1, 1, 2, 2]], (6, 5)).any()


def test_a_round_polygon_is_as_other_libraries_draw_it_but_for_its_edge() -> None:
    angles = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    corners = np.stack([50 + 40 * np.cos(angles), 45 + 30 * np.sin(angles)], 1)
    ours = from_polygons([corners.ravel().tolist()], (100, 90))
    theirs = Image.new("1", (100, 90))
    ImageDraw.Draw(theirs).polygon([tuple(c - 0.5) for c in corners], fill=1)
    drawn = np.asarray(theirs)
    assert (ours & drawn).sum() / (ours | drawn).sum() > 0.95
    assert ours.sum() == pytest.approx(np.pi * 40 * 30, rel=0.01)
