"""COCO's masks: polygons and run lengths to pixels.

The compressed form is that of `pycocotools` (Lin et al. 2014): runs down the columns, zeros first,
each run but the first three told as the difference from the last but one, six bits a letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import BadImageError

if TYPE_CHECKING:
    from ..masks import Mask


def from_run_lengths(rle: Mapping[str, Any]) -> Mask:
    """`{"size": [height, width], "counts": ...}`, the counts as numbers or as COCO's letters.

    Raises `BadImageError` when they don't fill the picture.
    """
    height, width = (int(side) for side in rle["size"])
    counts = rle["counts"]
    letters = counts.encode() if isinstance(counts, str) else counts
    runs = list(_runs(letters) if isinstance(letters, bytes) else letters)
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise BadImageError(f"run lengths of {sum(runs)} pixels for {width} x {height}")
    values = np.arange(len(runs)) % 2 == 1
    return np.asarray(np.repeat(values, runs).reshape(width, height).T)


def _runs(letters: bytes) -> Iterator[int]:
    runs: list[int] = []
    places = iter(letters)
    for letter in places:
        value, shift, part = 0, 0, letter - 48
        while True:
            value |= (part & 0x1F) << shift
            shift += 5
            if not part & 0x20:
                break
            part = _more(places) - 48
        if part & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    yield from runs


def _more(letters: Iterator[int]) -> int:
    letter = next(letters, None)
    if letter is None:
        raise BadImageError("its run lengths break off")
    return letter


def from_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Mask:
    """The pixels whose centre lies in one of the polygons, each `x0, y0, x1, y1, ...`."""
    width, height = size
    mask = np.zeros((height, width), np.bool_)
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64).reshape(-1, 2)
        if len(corners) > 2:
            mask |= _inside(corners, width, height)
    return mask


def _inside(corners: Any, width: int, height: int) -> Mask:
    """By the even-odd rule: how many edges are crossed on the way from the left."""
    following = np.roll(corners, -1, 0)
    crossings = np.zeros((height, width + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(corners, following, strict=True):
        low, high = sorted((y0, y1))
        # Rows whose centre the edge passes, its lower end left out: a corner is met once.
        rows = np.arange(max(0, np.ceil(low - 0.5)), min(height, np.ceil(high - 0.5))).astype(int)
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            first = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
            np.add.at(crossings, (rows, first), 1)
    return np.asarray(crossings.cumsum(1)[:, :width] % 2 == 1)
