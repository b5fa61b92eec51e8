"""Tiles of one size with their own grids, and the whole picture squashed to one more."""

from __future__ import annotations

from math import ceil, isqrt
from typing import Any

from ..lmm import TokenKind
from .views import Box, View, grid, tiles


def split_views(processor: Any, width: int, height: int, n_tokens: int) -> list[View] | None:
    """Idefics3, SmolVLM: tiles in reading order, then the whole picture; small ones whole only."""
    side = isqrt(int(processor.image_seq_len))
    if n_tokens == side * side:
        return [grid(_whole(width, height), side, side)]
    _, rows, columns = processor.image_processor.get_number_of_image_patches(height, width, {})
    return _then_whole(width, height, rows, columns, side)


def canvas_views(processor: Any, width: int, height: int, n_tokens: int) -> list[View] | None:
    """InternVL: the same order; the tiles' arrangement has the aspect ratio closest to the
    picture's.
    """
    side = isqrt(int(processor.image_seq_length))
    n_tiles = n_tokens // (side * side) - 1
    if n_tiles < 1:
        return [grid(_whole(width, height), side, side)]
    size = processor.image_processor.size
    roomy = width * height > 0.5 * n_tiles * size["height"] * size["width"]
    rows, columns = _arrangement(n_tiles, width / height, roomy)
    return _then_whole(width, height, rows, columns, side)


def crop_views(processor: Any, width: int, height: int, n_tokens: int) -> list[View] | None:
    """Gemma 3: the whole picture, then, with pan and scan, crops along its longer edge."""
    side = isqrt(int(processor.image_seq_length))
    whole = grid(_whole(width, height), side, side)
    n_crops = n_tokens // (side * side) - 1
    if n_crops < 1:
        return [whole]
    along = width if width >= height else height
    step = ceil(along / n_crops)
    edges = [(i * step, min((i + 1) * step, along)) for i in range(n_crops)]
    boxes: list[Box] = [
        (a, 0, b, height) if width >= height else (0, a, width, b) for a, b in edges
    ]
    return [whole, *(grid(box, side, side, TokenKind.TILE) for box in boxes)]


def _then_whole(width: int, height: int, rows: int, columns: int, side: int) -> list[View]:
    whole = _whole(width, height)
    return [*tiles(whole, rows, columns, side), grid(whole, side, side)]


def _whole(width: int, height: int) -> Box:
    return (0.0, 0.0, float(width), float(height))


def _arrangement(n_tiles: int, aspect: float, roomy: bool) -> tuple[int, int]:
    """Rows and columns of `n_tiles`; of two that fit as well, the wider one if there is room."""
    columns = [c for c in range(1, n_tiles + 1) if n_tiles % c == 0]
    misfit = {c: abs(aspect - c / (n_tiles // c)) for c in columns}
    best = [c for c in columns if misfit[c] == min(misfit.values())]
    chosen = best[-1] if roomy else best[0]
    return n_tiles // chosen, chosen
