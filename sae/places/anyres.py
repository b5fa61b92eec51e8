"""AnyRes: the whole picture squashed to a base grid, then again at a higher resolution in tiles.

Source: `pack_image_features` of LLaVA-NeXT and LLaVA-OneVision in transformers. The tiles' tokens
are put together to one grid, rows and columns that only see padding are cut off, and a newline
token ends each row. A tower whose side is no multiple of its patch (384 / 14) looks at no more than
whole patches: a strip at the right and lower edge of every tile is never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, sqrt
from typing import Any

from ..lmm import TokenKind
from .views import Span, View


def anyres_views(config: Any, width: int, height: int) -> list[View]:
    """The base grid and the grid of all tiles."""
    side, patch = int(config.vision_config.image_size), int(config.vision_config.patch_size)
    canvas_width, canvas_height = _canvas(config.image_grid_pinpoints, width, height)
    rows, columns = (_patches(edge, side, patch) for edge in (canvas_height, canvas_width))
    rows, columns = _unpadded(rows, columns, width / height)
    limit = getattr(config, "vision_aspect_ratio", None)
    if limit is not None:
        rows, columns = _shrunk(
            rows, columns, int(limit.removeprefix("anyres_max_")), side // patch
        )
    to_x, to_y = _to_original(canvas_width, canvas_height, width, height)
    base = _patches(side, side, patch)
    return [
        View(_mapped(base, lambda y: y * height / side), _mapped(base, lambda x: x * width / side)),
        View(_mapped(rows, to_y), _mapped(columns, to_x), TokenKind.TILE, newline=True),
    ]


def _canvas(pinpoints: Any, width: int, height: int) -> tuple[int, int]:
    """Width and height of the canvas that fits the picture best."""
    from transformers.image_processing_utils import select_best_resolution

    best_height, best_width = select_best_resolution((height, width), pinpoints)
    return int(best_width), int(best_height)


def _patches(canvas: int, side: int, patch: int) -> list[Span]:
    """Along one axis of the canvas: the patches of all tiles, in its pixels."""
    starts = [tile + i * patch for tile in range(0, canvas, side) for i in range(side // patch)]
    return [(start, start + patch) for start in starts]


def _unpadded(
    rows: list[Span], columns: list[Span], aspect: float
) -> tuple[list[Span], list[Span]]:
    """What is left where whole patches of padding are cut off, from both ends alike."""
    if aspect > len(columns) / len(rows):
        cut = (len(rows) - int(round(len(columns) / aspect, 7))) // 2
        return rows[cut : len(rows) - cut], columns
    cut = (len(columns) - int(round(len(rows) * aspect, 7))) // 2
    return rows, columns[cut : len(columns) - cut]


def _shrunk(
    rows: list[Span], columns: list[Span], limit: int, side: int
) -> tuple[list[Span], list[Span]]:
    """OneVision interpolates a grid of more tokens than `limit` tiles have."""
    ratio = sqrt(len(rows) * len(columns) / (limit * side**2))
    if ratio <= 1.1:
        return rows, columns
    return _resampled(rows, int(len(rows) // ratio)), _resampled(
        columns, int(len(columns) // ratio)
    )


def _resampled(cells: Sequence[Span], n: int) -> list[Span]:
    """The same stretch in `n` parts, which begin and end within cells."""
    step = len(cells) / n

    def at(place: float, cell: int) -> float:
        start, end = cells[cell]
        return start + (place - cell) * (end - start)

    bounds = [(i * step, (i + 1) * step) for i in range(n)]
    return [
        (at(low, min(int(low), len(cells) - 1)), at(high, ceil(high - 1e-9) - 1))
        for low, high in bounds
    ]


def _to_original(
    canvas_width: int, canvas_height: int, width: int, height: int
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From pixels of the canvas, on which the picture lies in the middle, to the original's."""
    wide = canvas_width / width < canvas_height / height
    scale = min(canvas_width / width, canvas_height / height)
    seen_width = canvas_width if wide else min(ceil(width * scale), canvas_width)
    seen_height = min(ceil(height * scale), canvas_height) if wide else canvas_height
    left, top = (canvas_width - seen_width) // 2, (canvas_height - seen_height) // 2
    return (
        lambda x: (x - left) * width / seen_width,
        lambda y: (y - top) * height / seen_height,
    )


def _mapped(cells: Sequence[Span], to: Callable[[float], float]) -> list[Span]:
    return [(to(start), to(end)) for start, end in cells]
