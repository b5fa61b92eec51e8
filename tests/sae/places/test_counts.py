"""At published sizes: a layout has just the tokens that the family's own processor asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lmmsae_eval.sae.lmm import TokenKind
from lmmsae_eval.sae.places.anyres import anyres_views
from lmmsae_eval.sae.places.families import Picture, place
from lmmsae_eval.sae.places.tiled import canvas_views, crop_views, split_views
from lmmsae_eval.sae.places.views import placed
from transformers import (
    Gemma3ImageProcessorPil,
    GotOcr2ImageProcessorPil,
    Idefics3ImageProcessorPil,
    LlavaNextProcessor,
    LlavaOnevisionProcessor,
)

EDGE = st.integers(20, 2000)
NEXT = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
ONEVISION = [[384 * h, 384 * w] for h in range(1, 7) for w in range(1, 7)]


def anyres_config(side: int, pinpoints: Any, **more: str) -> Any:
    vision = SimpleNamespace(image_size=side, patch_size=14)
    return SimpleNamespace(vision_config=vision, image_grid_pinpoints=pinpoints, **more)


def asks(processor_class: Any, pinpoints: Any, size: tuple[int, int], **fields: Any) -> int:
    """What the processor's own arithmetic says, without a tokenizer to build it."""
    processor = object.__new__(processor_class)
    processor.__dict__.update(
        image_processor=SimpleNamespace(image_grid_pinpoints=pinpoints), patch_size=14, **fields
    )
    width, height = size
    side = 336 if pinpoints is NEXT else 384
    return int(processor._get_number_of_features(height, width, side, side))


@given(EDGE, EDGE)
@example(640, 480)
@example(1441, 20)
@settings(max_examples=60, deadline=None)
def test_llava_next(width: int, height: int) -> None:
    views = anyres_views(anyres_config(336, NEXT), width, height)
    wanted = asks(LlavaNextProcessor, NEXT, (width, height), num_additional_image_tokens=0)
    assert sum(map(len, views)) == wanted
    assert_covered(placed(views), width, height)


@given(EDGE, EDGE)
@example(1500, 1500)
@example(20, 769)
@settings(max_examples=60, deadline=None)
def test_llava_onevision(width: int, height: int) -> None:
    config = anyres_config(384, ONEVISION, vision_aspect_ratio="anyres_max_9")
    views = anyres_views(config, width, height)
    wanted = asks(
        LlavaOnevisionProcessor,
        ONEVISION,
        (width, height),
        num_image_tokens=729,
        vision_aspect_ratio="anyres_max_9",
    )
    assert sum(map(len, views)) == wanted
    assert_covered(placed(views), width, height)


def assert_covered(tokens: Any, width: int, height: int) -> None:
    """The tiles leave no more than a sliver of the picture out: cutting is in whole patches."""
    tiles = tokens.boxes[tokens.kinds == TokenKind.TILE]
    if not len(tiles):
        return  # so thin that not one whole patch of it is left
    cell = (tiles[0, 2:] - tiles[0, :2]).tolist()
    low, high = tiles[:, :2].amin(0).tolist(), tiles[:, 2:].amax(0).tolist()
    assert low[0] <= cell[0]
    assert low[1] <= cell[1]
    assert high[0] >= width - cell[0]
    assert high[1] >= height - cell[1]


@given(EDGE, EDGE)
@settings(max_examples=60, deadline=None)
def test_internvl(width: int, height: int) -> None:
    pixels = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, crop_to_patches=True)
    n_views = pixels.get_number_of_image_patches(height, width, {})
    processor = SimpleNamespace(image_processor=pixels, image_seq_length=256)
    views = canvas_views(processor, width, height, 256 * n_views)
    assert views is not None
    assert len(views) == n_views
    _, columns = grid_of(views)
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    wanted, _ = get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)
    assert columns == wanted


@given(EDGE, EDGE)
@settings(max_examples=60, deadline=None)
def test_idefics3(width: int, height: int) -> None:
    pixels = Idefics3ImageProcessorPil()
    n_views, rows, columns = pixels.get_number_of_image_patches(height, width, {})
    processor = SimpleNamespace(image_processor=pixels, image_seq_len=169)
    views = split_views(processor, width, height, 169 * n_views)
    assert views is not None
    assert len(views) == n_views
    assert grid_of(views) == (max(rows, 1), max(columns, 1))


def grid_of(views: Any) -> tuple[int, int]:
    """Rows and columns of tiles, by where they begin."""
    tiles = [view.box for view in views if view.kind == TokenKind.TILE] or [views[0].box]
    return len({box[1] for box in tiles}), len({box[0] for box in tiles})


@pytest.mark.parametrize("size", [(900, 300), (300, 900), (1000, 350), (512, 512)])
def test_gemma_3_pans_and_scans_along_the_longer_edge(size: tuple[int, int]) -> None:
    import numpy as np

    width, height = size
    marked = np.stack(np.meshgrid(np.arange(width), np.arange(height)))
    crops = Gemma3ImageProcessorPil().pan_and_scan(marked, 256, 4, 1.2)
    processor = SimpleNamespace(image_seq_length=256)
    views = crop_views(processor, width, height, 256 * (1 + len(crops)))
    assert views is not None
    assert views[0].box == (0, 0, width, height)
    found = [view.box for view in views[1:]]
    assert found == [
        (crop[0].min(), crop[1].min(), crop[0].max() + 1, crop[1].max() + 1) for crop in crops
    ]


def test_tokens_that_do_not_add_up_have_no_place_rather_than_a_wrong_one() -> None:
    config = anyres_config(336, NEXT)
    config.model_type = "llava_next"
    tokens = place(config, None, Picture(640, 480, 1000))
    assert len(tokens) == 1000
    assert (tokens.kinds == TokenKind.QUERY).all()
    assert not tokens.boxes.any()


def test_a_family_that_nobody_has_described_gets_places_only_if_it_has_one_view() -> None:
    squashed = SimpleNamespace(size={"height": 448, "width": 448}, do_resize=True)
    processor = SimpleNamespace(image_processor=squashed)
    config = SimpleNamespace(model_type="of tomorrow")
    one = place(config, processor, Picture(100, 50, 256, one_view=True))
    assert (one.kinds == TokenKind.IMAGE).all()
    assert one.boxes[-1].tolist() == [93.75, 46.875, 100, 50]
    several = place(config, processor, Picture(100, 50, 256))
    assert (several.kinds == TokenKind.QUERY).all()
    odd = place(config, processor, Picture(100, 50, 257, one_view=True))
    assert (odd.kinds == TokenKind.QUERY).all()
