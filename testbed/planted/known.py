"""From pixels back to the scene that they were drawn from.

The planted subject does not see: it knows every picture that its testbed has handed out. One with
dimmed patches, as explainers show it, is known by those that are as they were; they are lit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ..recipe.pictures import highlighted
from ..world.render import GRID, PATCH, render
from ..world.scene import SIZE, Scene

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
Prints = npt.NDArray[np.uint64]

_MULTIPLIERS = (
    np.random.default_rng(8).integers(2**63, size=PATCH * PATCH * 3 // 8, dtype=np.uint64) * 2 + 1
)
ROUNDING = 1
"""Grey levels by which two ways of dimming the same pixel can differ."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A picture that was recognised."""

    scene: Scene
    lit: npt.NDArray[np.bool_]
    """`(144,)`: the patches that are not dimmed."""
    key: int
    """The undimmed picture's own number, from its pixels."""


def fingerprints(pixels: Pixels) -> Prints:
    """`(96, 96, 3)` to `(144,)`: one number for each patch's content."""
    patches = pixels.reshape(GRID, PATCH, GRID, PATCH, 3).swapaxes(1, 2).reshape(GRID * GRID, -1)
    words = np.ascontiguousarray(patches).view(np.uint64)
    return np.asarray((words * _MULTIPLIERS).sum(1, dtype=np.uint64))


@dataclass
class KnownPictures:
    """Every picture handed out, by the fingerprints of its patches: about 1.2 kB each."""

    _scenes: list[Scene] = field(default_factory=list, repr=False)
    _places: dict[bytes, int] = field(default_factory=dict, repr=False)
    _prints: Prints = field(
        default_factory=lambda: np.zeros((64, GRID * GRID), np.uint64), repr=False
    )

    def __len__(self) -> int:
        return len(self._scenes)

    def add(self, scene: Scene, image: Image) -> Image:
        """Remember that `image` was drawn from `scene`; returns the image."""
        prints = fingerprints(np.asarray(image))
        place = self._places.setdefault(prints.tobytes(), len(self))
        if place == len(self):
            if place == len(self._prints):
                self._prints = np.concatenate([self._prints, np.zeros_like(self._prints)])
            self._prints[place] = prints
            self._scenes.append(scene)
        return image

    def find(self, image: Image) -> Sight:
        """Raises `UsageError` for a picture that was never handed out, whole or dimmed."""
        pixels = np.asarray(image.convert("RGB"))
        if pixels.shape == (SIZE, SIZE, 3):
            prints = fingerprints(pixels)
            whole = self._places.get(prints.tobytes())
            if whole is not None:
                return Sight(self._scenes[whole], np.ones(GRID * GRID, bool), self._key(whole))
            for sight in self._candidates(prints):
                if _is_dimmed(pixels, sight):
                    return sight
        raise UsageError(
            "the planted subject knows only pictures that its own testbed handed out, and this is "
            "none of them; take images and questions from testbed:planted, or use another --model"
        )

    def _candidates(self, prints: Prints) -> Iterator[Sight]:
        """Pictures that share the most patches: none shares more than the one that was dimmed."""
        same = self._prints[: len(self)] == prints
        shared = same.sum(1)
        most = shared.max(initial=0)
        for place in np.flatnonzero(shared == most).tolist() if most else ():
            yield Sight(self._scenes[place], same[place], self._key(place))

    def _key(self, place: int) -> int:
        return int(self._prints[place].sum(dtype=np.uint64))


def _is_dimmed(pixels: Pixels, sight: Sight) -> bool:
    """Edited figures share patches with their originals: what is dimmed tells them apart."""
    expected = highlighted(render(sight.scene).image, sight.lit)
    return bool((np.abs(pixels.astype(np.int16) - expected) <= ROUNDING).all())
