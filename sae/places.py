"""Where each image token looks: boxes in pixels of the original image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .lmm import Prompt, TokenKind


def image_boxes(prompts: Sequence[Prompt], processor: Any, kinds: Tensor) -> list[Tensor]:
    """Per prompt `(n_image_tokens, 4)` x0, y0, x1, y1; no rows for a prompt without an image."""
    counts = (kinds == TokenKind.IMAGE).sum(1).tolist()
    return [_boxes(prompt, processor.image_processor, n) for prompt, n in zip(prompts, counts, strict=True)]


def _boxes(prompt: Prompt, image_processor: Any, n_tokens: int) -> Tensor:
    if prompt.image is None or n_tokens == 0:
        return torch.zeros(0, 4)
    width, height = prompt.image.size
    x0, y0, x1, y1 = _view(image_processor, width, height)
    # The tokens of a base view are a grid over it, in reading order, of the view's own aspect.
    columns = round((n_tokens * (x1 - x0) / (y1 - y0)) ** 0.5) if n_tokens else 0
    return grid_boxes((x0, y0, x1, y1), n_tokens // columns, columns)


def grid_boxes(view: tuple[float, float, float, float], rows: int, columns: int) -> Tensor:
    """The cells of a grid over `view`, in reading order: `(rows * columns, 4)`."""
    x0, y0, x1, y1 = view
    xs = torch.linspace(x0, x1, columns + 1)
    ys = torch.linspace(y0, y1, rows + 1)
    top, left = torch.meshgrid(ys[:-1], xs[:-1], indexing="ij")
    bottom, right = torch.meshgrid(ys[1:], xs[1:], indexing="ij")
    return torch.stack([left, top, right, bottom], -1).reshape(-1, 4)


def _view(image_processor: Any, width: int, height: int) -> tuple[float, float, float, float]:
    """The part of the original image that the vision tower sees, in its pixels; beyond the edges where padded."""
    x0, y0, x1, y1 = 0.0, 0.0, float(width), float(height)
    if getattr(image_processor, "do_pad", False):
        side = max(width, height)
        x0, y0 = -float((side - width) // 2), -float((side - height) // 2)
        x1, y1 = x0 + side, y0 + side
    size, crop = image_processor.size, getattr(image_processor, "crop_size", None)
    resized_w, resized_h = _resized(size, x1 - x0, y1 - y0) if image_processor.do_resize else (x1 - x0, y1 - y0)
    if not getattr(image_processor, "do_center_crop", False) or crop is None:
        return x0, y0, x1, y1
    scale_x, scale_y = (x1 - x0) / resized_w, (y1 - y0) / resized_h
    left, top = int((resized_w - crop["width"]) / 2), int((resized_h - crop["height"]) / 2)
    view = (left, top, left + crop["width"], top + crop["height"])
    return x0 + view[0] * scale_x, y0 + view[1] * scale_y, x0 + view[2] * scale_x, y0 + view[3] * scale_y


def _resized(size: Any, width: float, height: float) -> tuple[int, int]:
    short = size.get("shortest_edge") if hasattr(size, "get") else size.shortest_edge
    if not short:
        return int(size["width"]), int(size["height"])
    # transformers: the short edge becomes `short`, the long one is cut to a whole pixel
    if width <= height:
        return int(short), int(short * height / width)
    return int(short * width / height), int(short)
