"""The image tokens of a batch: which they are, of what kind, and where each looks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .lmm import Batch, TokenKind
from .tokens import token_mask

WITH_BOX = (TokenKind.IMAGE, TokenKind.TILE, TokenKind.QUERY)
"""Image tokens that `Batch.boxes` has a row for; a separator has none."""


@dataclass(frozen=True, slots=True)
class ImageTokens:
    """The image tokens of one prompt."""

    positions: Tensor
    """`(n,)` int64: where in the row."""
    kinds: Tensor
    """`(n,)` int8 of `TokenKind`: IMAGE (base grid), TILE, SEPARATOR or QUERY."""
    boxes: Tensor
    """`(n, 4)` float: x0, y0, x1, y1 in pixels of the original image; all 0 without a place."""

    def __len__(self) -> int:
        return len(self.positions)


def image_tokens(batch: Batch) -> list[ImageTokens]:
    """Per prompt every image token, with its kind and the part of the image that it looks at."""
    found = []
    mask = token_mask(batch.kinds, "image")
    for row, kinds, boxes in zip(mask, batch.kinds, batch.boxes, strict=True):
        positions = row.nonzero()[:, 0]
        kinds = kinds[positions]
        every = boxes.new_zeros(len(positions), 4)
        every[torch.isin(kinds, kinds.new_tensor(WITH_BOX)).to(boxes.device)] = boxes
        found.append(ImageTokens(positions, kinds, every))
    return found
