"""Masks in pixels: from tokens, moved, at their best on the token grid, and how two overlap.

A mask is `(height, width)` bool. A token is a box x0, y0, x1, y1 in pixels of the original image;
base grids, tiles and dynamic resolution are all just lists of boxes.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

Mask = npt.NDArray[np.bool_]
Boxes = npt.NDArray[np.float32]
ScalarT = TypeVar("ScalarT", bound=np.generic)


def iou(a: Mask, b: Mask) -> float | None:
    """Intersection over union; None when both are empty, since then nothing was said or shown."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else None


def share(part: Mask, whole: Mask) -> float | None:
    """How much of `whole` lies in `part`; None when `whole` is empty."""
    area = int(np.count_nonzero(whole))
    return int(np.count_nonzero(part & whole)) / area if area else None


def pixel_boxes(boxes: Boxes) -> npt.NDArray[np.int64]:
    """Boxes as half-open ranges: a pixel belongs to a box when its centre does (nearest resize)."""
    return np.ceil(np.asarray(boxes, np.float64) - 0.5).astype(np.int64)


def around(boxes: Boxes) -> tuple[int, int, int, int] | None:
    """The smallest box of whole pixels around some boxes; None when no pixel lies in them."""
    ranges = pixel_boxes(boxes).clip(0)
    if not len(ranges):
        return None
    (x0, y0), (x1, y1) = ranges[:, :2].min(0).tolist(), ranges[:, 2:].max(0).tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def token_mask(boxes: Boxes, tokens: npt.NDArray[np.integer], size: tuple[int, int]) -> Mask:
    """The pixels of some tokens.

    Args:
        boxes: `(n_tokens, 4)`.
        tokens: indices of the active ones.
        size: (width, height) of the image.
    """
    width, height = size
    mask = np.zeros((height, width), np.bool_)
    for x0, y0, x1, y1 in pixel_boxes(boxes[tokens]).clip(0):
        mask[y0:y1, x0:x1] = True
    return mask


def packed(mask: Mask) -> str:
    """As text for a stored line: a bit a pixel, row by row, compressed; a hundred letters or so."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()


def unpacked(text: str, size: tuple[int, int]) -> Mask:
    """The mask of an image of (width, height) back. Raises `ValueError` for another size."""
    width, height = size
    limit = -(-width * height // 8)
    content = zlib.decompressobj().decompress(base64.b64decode(text), limit + 1)
    if len(content) != limit:
        raise ValueError(f"a mask of {len(content)} bytes does not fit {width} x {height} pixels")
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=width * height)
    return bits.reshape(height, width).astype(np.bool_)


def nearest(maps: npt.NDArray[ScalarT], size: tuple[int, int]) -> npt.NDArray[ScalarT]:
    """`(..., height, width)` maps at another (width, height): the pixel under each new centre."""
    if maps.shape[-2:] == (size[1], size[0]):
        return maps
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(reversed(size), maps.shape[-2:], strict=True)
    )
    return np.asarray(maps[..., rows[:, None], columns])


NO_PLACE = "the model's image tokens look at no part of the image in particular"
"""Why a latent of such a model has no mask to score."""


def has_place(boxes: Boxes) -> bool:
    """Whether any token looks somewhere: a Q-Former's queries have empty boxes."""
    return bool(np.any(boxes))


def shown_mask(boxes: Boxes, tokens: npt.NDArray[np.integer], size: tuple[int, int]) -> Mask:
    """What to show of an image: the pixels of some tokens, or all where tokens have no place."""
    if has_place(boxes):
        return token_mask(boxes, tokens, size)
    return np.ones((size[1], size[0]), np.bool_)


def rolled(mask: Mask, rng: np.random.Generator) -> Mask:
    """The same mask somewhere else, wrapped around the border: equal area and shape, another place.

    Each axis moves by a quarter to three quarters of its length: the copy is never in place.
    """
    shifts = [int(rng.integers(-(-n // 4), max(n * 3 // 4, -(-n // 4) + 1))) for n in mask.shape]
    return np.roll(mask, shifts, axis=(0, 1))


def centred(mask: Mask) -> Mask:
    """A box of the mask's area and the picture's shape in the middle: where photographers aim."""
    height, width = mask.shape
    scale = (np.count_nonzero(mask) / mask.size) ** 0.5
    rows, columns = round(height * scale), round(width * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    box = np.zeros_like(mask)
    box[top : top + rows, left : left + columns] = True
    return box


def cover(truth: Mask, boxes: Boxes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pixels of `truth` in each box, and pixels of each box, both `(n_tokens,)`."""
    height, width = truth.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    sums[1:, 1:] = truth.cumsum(0).cumsum(1)
    x0, y0, x1, y1 = np.clip(pixel_boxes(boxes), 0, [width, height, width, height]).T
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return inside, (x1 - x0) * (y1 - y0)


def best_tokens(truth: Mask, boxes: Boxes) -> npt.NDArray[np.int64]:
    """The tokens that match `truth` best: no set of (disjoint) boxes has a higher IoU.

    Tokens are taken in order of the share of them that is true; for a ratio of sums the best set is
    always such a prefix. Tokens without a true pixel are never taken.
    """
    inside, area = cover(truth, boxes)
    order = np.argsort(-inside / np.maximum(area, 1), kind="stable")
    order = order[inside[order] > 0]
    if not order.size:
        return order
    hit, taken = inside[order].cumsum(), area[order].cumsum()
    overlap = hit / (taken + np.count_nonzero(truth) - hit)
    return np.sort(order[: int(overlap.argmax()) + 1])


def dimmed(image: Image.Image, mask: Mask, factor: float = 0.25) -> Image.Image:
    """The image with everything outside the mask at `factor` of its brightness."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    kept = np.where(mask[..., None], pixels, pixels * factor)
    return Image.fromarray(kept.round().astype(np.uint8))


def outlined(
    image: Image.Image, mask: Mask, colour: Sequence[int] = (255, 40, 160), scale: int = 1
) -> Image.Image:
    """The image, dimmed outside the mask, with a line along the mask's inner border."""
    edge = mask.repeat(scale, 0).repeat(scale, 1)
    inner = edge.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(edge, step, axis)
    large = image.convert("RGB").resize((edge.shape[1], edge.shape[0]), Image.Resampling.NEAREST)
    pixels = np.asarray(dimmed(large, edge, 0.45)).copy()
    pixels[edge & ~inner] = colour
    return Image.fromarray(pixels)


def released_mask(active: Mask, side: int = 336) -> Mask:
    """The mask as the paper's released code makes it: it grows, the more so the more scattered.

    Inactive tokens are coded 224 and active ones 0, the grid is enlarged bilinearly in whole
    numbers, and every pixel below 224 counts. One isolated patch of 24 x 24 grows 3.98 times.

    Args:
        active: `(rows, columns)` bool.
        side: of the enlarged square, in pixels.
    """
    coded = np.where(active, 0, 224).astype(np.uint8)
    large = Image.fromarray(coded).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(large) < 224
