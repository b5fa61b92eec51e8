"""Boxes of image tokens, checked by what a planted spot does to the pixels that the tower sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.sae.places.single import single_view
from lmmsae_eval.sae.places.views import placed
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil

PATCH, GRID = 8, 12
SQUARE = {"height": 96, "width": 96}
PROCESSORS = {
    "squashed to a square": CLIPImageProcessorPil(size=SQUARE, do_center_crop=False),
    "short edge resized, centre cropped": CLIPImageProcessorPil(
        size={"shortest_edge": 96}, crop_size=SQUARE
    ),
    "short edge beyond the crop": CLIPImageProcessorPil(
        size={"shortest_edge": 120}, crop_size=SQUARE
    ),
    "padded to a square": LlavaImageProcessorPil(
        size={"shortest_edge": 96}, crop_size=SQUARE, do_pad=True
    ),
}


def boxes_of(image_processor: Any, size: tuple[int, int], n_tokens: int = GRID * GRID) -> Tensor:
    return placed(single_view(image_processor, *size, n_tokens)).boxes


def patches(image_processor: Any, picture: np.ndarray) -> Tensor:
    pixels = image_processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"][0]
    return (
        pixels.unfold(1, PATCH, PATCH)
        .unfold(2, PATCH, PATCH)
        .permute(1, 2, 0, 3, 4)
        .reshape(GRID * GRID, -1)
    )


@pytest.mark.parametrize("size", [(96, 96), (200, 96), (150, 250), (640, 480)], ids=str)
@pytest.mark.parametrize("name", PROCESSORS)
def test_a_spot_within_a_tokens_box_changes_that_token_most(
    name: str, size: tuple[int, int]
) -> None:
    image_processor = PROCESSORS[name]
    width, height = size
    boxes = boxes_of(image_processor, size)
    assert boxes.shape == (GRID * GRID, 4)
    blank = np.full((height, width, 3), 100, dtype=np.uint8)
    before = patches(image_processor, blank)
    checked = 0
    for token in range(0, GRID * GRID, 7):
        x0, y0, x1, y1 = boxes[token].tolist()
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            continue  # in the padding
        spot = blank.copy()
        spot[
            round(y0) : max(round(y1), round(y0) + 1), round(x0) : max(round(x1), round(x0) + 1)
        ] = 255
        change = (patches(image_processor, spot) - before).abs().sum(1)
        assert change.argmax() == token
        checked += 1
    assert checked >= 5


def test_boxes_of_a_squashed_image_tile_it_exactly() -> None:
    boxes = boxes_of(PROCESSORS["squashed to a square"], (300, 60))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert boxes[:, :2].min() == 0
    assert boxes[:, 2].max() == 300
    assert boxes[:, 3].max() == 60
    torch.testing.assert_close(areas.sum(), torch.tensor(300.0 * 60))


def test_the_grid_takes_the_shape_of_what_the_tower_sees() -> None:
    wide = CLIPImageProcessorPil(size={"height": 96, "width": 192}, do_center_crop=False)
    boxes = boxes_of(wide, (100, 100), n_tokens=12 * 24)
    torch.testing.assert_close(boxes[0], torch.tensor([0, 0, 100 / 24, 100 / 12]))
    torch.testing.assert_close(boxes[24], torch.tensor([0, 100 / 12, 100 / 24, 200 / 12]))
