"""Training pictures drawn ahead, and the patches that a highlight leaves lit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..world.labels import INDEX, LABELS, VOCABULARY
from ..world.render import GRID, PATCH, coverage, render
from ..world.scene import Rates, Scene, random_scene

PIXELS_A_PATCH = PATCH * PATCH
DIMMED = 0.25
"""Brightness that patches outside a highlight keep."""

_COLUMNS = {
    concept: np.array([INDEX[label] for label in labels]) for concept, labels in LABELS.items()
}


@dataclass(slots=True)
class Pictures:
    """`images` `(n, 96, 96, 3)` uint8, `cover` `(n, 144, n_labels)` uint8 and the scenes drawn."""

    scenes: list[Scene]
    images: npt.NDArray[np.uint8]
    cover: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.scenes)


def draw(scenes: Sequence[Scene]) -> Pictures:
    pictures = [render(scene) for scene in scenes]
    return Pictures(
        list(scenes),
        np.stack([picture.image for picture in pictures]),
        np.stack([coverage(picture.maps) for picture in pictures]),
    )


def draw_random(n: int, seed: int, rates: Rates | None = None) -> Pictures:
    rng = np.random.default_rng(seed)
    return draw([random_scene(rng, rates=rates) for _ in range(n)])


def pixel_values(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """`(n, 3, 96, 96)` float as the shipped processor makes them: scaled to -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def highlighted(image: npt.NDArray[np.uint8], lit: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The picture with everything but the lit patches `(144,)` dimmed."""
    gain = np.where(lit.reshape(GRID, GRID), 1.0, DIMMED).astype(np.float32)
    gain = gain.repeat(PATCH, 0).repeat(PATCH, 1)[:, :, None]
    return np.asarray(image * gain + 0.5, np.uint8)


def random_highlight(
    cover: npt.NDArray[np.uint8], rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """`(144,)` patches to light: most of some label's own, as a latent would fire on it.

    One in eight is a random block of patches that means nothing in particular.
    """
    if rng.random() < 0.125:
        return _random_block(rng)
    concept = list(LABELS)[rng.integers(len(LABELS))]
    columns = _COLUMNS[concept]
    # at least two patches, or one for what is never larger
    present = columns[(cover[:, columns] >= PIXELS_A_PATCH // 2).sum(0) >= 2]
    if not len(present):
        return _random_block(rng)
    lit = cover[:, present[rng.integers(len(present))]] >= PIXELS_A_PATCH // 2
    kept = lit & (rng.random(len(lit)) < rng.choice([1.0, 1.0, 0.8, 0.6]))
    strays = rng.random(len(lit)) < rng.choice([0.0, 0.0, 0.01, 0.03])
    return kept | strays if kept.any() else lit


def _random_block(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    lit = np.zeros((GRID, GRID), bool)
    if rng.random() < 0.5:
        lit |= rng.random((GRID, GRID)) < rng.uniform(0.02, 0.4)
    else:
        height, width = rng.integers(1, 7, 2)
        top, left = rng.integers(0, GRID - height + 1), rng.integers(0, GRID - width + 1)
        lit[top : top + height, left : left + width] = True
    return lit.ravel()


def best_labels(
    cover: npt.NDArray[np.uint8], lit: npt.NDArray[np.bool_]
) -> dict[str, tuple[str, float]]:
    """Per concept, the label whose pixels best match the lit patches, and that IoU."""
    pixels = cover.astype(np.float32)
    inside = pixels[lit].sum(0)
    union = pixels.sum(0) + lit.sum() * PIXELS_A_PATCH - inside
    iou = inside / np.maximum(union, 1)
    names = list(VOCABULARY)
    best = {}
    for concept, columns in _COLUMNS.items():
        top = columns[iou[columns].argmax()]
        best[concept] = (names[top], float(iou[top]))
    return best
