"""One view: the picture squashed, padded or cut to a square (LLaVA-1.5, PaliGemma, Gemma 3)."""

from __future__ import annotations

from typing import Any

from .views import Box, View, grid


def single_view(
    image_processor: Any, width: int, height: int, n_tokens: int, patch: int | None = None
) -> list[View]:
    """A grid of square patches over what the tower sees, in reading order.

    With the tower's `patch` a strip that is too narrow for one more is left out.
    """
    (x0, y0, x1, y1), (seen_width, seen_height) = _seen(image_processor, width, height)
    columns = max(1, round((n_tokens * seen_width / seen_height) ** 0.5))
    rows = n_tokens // columns
    share_x = _covered(columns, seen_width, patch)
    share_y = _covered(rows, seen_height, patch)
    return [grid((x0, y0, x0 + (x1 - x0) * share_x, y0 + (y1 - y0) * share_y), rows, columns)]


def _covered(cells: int, seen: int, patch: int | None) -> float:
    left_out = seen - cells * patch if patch else 0
    return 1 - left_out / seen if patch and 0 < left_out < patch else 1.0


def _seen(image_processor: Any, width: int, height: int) -> tuple[Box, tuple[int, int]]:
    """The part of the original image that the tower sees, in its pixels (beyond the edges where
    padded), and the size at which it is seen.
    """
    x0, y0 = 0, 0
    if getattr(image_processor, "do_pad", False):
        side = max(width, height)
        x0, y0 = -((side - width) // 2), -((side - height) // 2)
        width = height = side
    seen = (
        _resized(image_processor.size, width, height)
        if image_processor.do_resize
        else (width, height)
    )
    scale_x, scale_y = width / seen[0], height / seen[1]
    left, top, kept = 0, 0, seen
    if getattr(image_processor, "do_center_crop", False):
        kept = (image_processor.crop_size["width"], image_processor.crop_size["height"])
        left, top = int((seen[0] - kept[0]) / 2), int((seen[1] - kept[1]) / 2)
    right, bottom = left + kept[0], top + kept[1]
    return (
        x0 + left * scale_x,
        y0 + top * scale_y,
        x0 + right * scale_x,
        y0 + bottom * scale_y,
    ), kept


def _resized(size: Any, width: int, height: int) -> tuple[int, int]:
    short = size.get("shortest_edge")
    if not short:
        return size["width"], size["height"]
    # As transformers does it: the short edge becomes `short`, the long one is cut to a whole pixel.
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short
