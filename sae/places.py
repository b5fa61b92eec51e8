"""Where each image token looks: boxes in pixels of the original image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .lmm import Prompt, TokenKind

Box = tuple[float, float, float, float]


def image_boxes(prompts: Sequence[Prompt], processor: Any, kinds: Tensor) -> list[Tensor]:
    """Per prompt `(n_image_tokens, 4)` x0, y0, x1, y1; no rows for a prompt without an image."""
    counts = (kinds == TokenKind.IMAGE).sum(1).tolist()
    known: dict[tuple[int, int, int], Tensor] = {}
    boxes = []
    for prompt, n in zip(prompts, counts, strict=True):
        width, height = prompt.image.size if prompt.image is not None else (0, 0)
        if (width, height, n) not in known:
            known[width, height, n] = _base_boxes(processor.image_processor, width, height, n)
        boxes.append(known[width, height, n])
    return boxes


def _base_boxes(image_processor: Any, width: int, height: int, n_tokens: int) -> Tensor:
    """The base view is a grid of square patches over what the tower sees, in reading order."""
    if n_tokens == 0:
        return torch.zeros(0, 4)
    view, (seen_width, seen_height) = _view(image_processor, width, height)
    columns = max(1, round((n_tokens * seen_width / seen_height) ** 0.5))
    return grid_boxes(view, n_tokens // columns, columns)


def grid_boxes(view: Box, rows: int, columns: int) -> Tensor:
    """The cells of a grid over `view`, in reading order: `(rows * columns, 4)`."""
    x0, y0, x1, y1 = view
    xs = torch.linspace(x0, x1, columns + 1)
    ys = torch.linspace(y0, y1, rows + 1)
    top, left = torch.meshgrid(ys[:-1], xs[:-1], indexing="ij")
    bottom, right = torch.meshgrid(ys[1:], xs[1:], indexing="ij")
    return torch.stack([left, top, right, bottom], -1).reshape(-1, 4)


def _view(image_processor: Any, width: int, height: int) -> tuple[Box, tuple[int, int]]:
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
    if image_processor.do_center_crop:
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
