"""Sets of drawn pictures whose every pixel is labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from .world.labels import CONCEPTS, LABELS, VOCABULARY
from .world.render import Picture, render
from .world.scene import SIZE, Scene, random_scene

REVISION = "world-1"
"""Changes whenever a seed would draw another picture."""

_SPLITS = {"train": 101, "search": 202, "score": 303}


@lru_cache(maxsize=512)
def _rendered(scene: Scene) -> Picture:
    return render(scene)


@dataclass(frozen=True, slots=True)
class DrawnImages:
    """Random pictures of one split. Pictures of different splits never share a seed."""

    name: str
    revision: str
    scenes: Sequence[Scene]

    size: tuple[int, int] = (SIZE, SIZE)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        return LABELS

    @property
    def vocabulary(self) -> Mapping[str, str]:
        return VOCABULARY

    @property
    def ids(self) -> Sequence[str]:
        return [f"{self.name}-{i}" for i in range(len(self.scenes))]

    def __len__(self) -> int:
        return len(self.scenes)

    def size_of(self, i: int) -> tuple[int, int]:
        return self.size

    def image(self, i: int) -> Image.Image:
        return Image.fromarray(_rendered(self.scenes[i]).image)

    def label_maps(self, i: int) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Per concept `(96, 96)`; value v is `labels[concept][v - 1]`, 0 is nothing."""
        return dict(zip(CONCEPTS, _rendered(self.scenes[i]).maps, strict=True))

    def mask(self, i: int, label: str) -> npt.NDArray[np.bool_]:
        return _rendered(self.scenes[i]).mask(label)


def drawn_images(split: str, n: int, seed: int = 0) -> DrawnImages:
    """`n` pictures of a split; the first m of a longer set are the shorter set."""
    rng = np.random.default_rng([_SPLITS[split], seed])
    return DrawnImages(
        f"testbed-{split}-{seed}",
        f"{REVISION}/{split}/{seed}/{n}",
        [random_scene(rng) for _ in range(n)],
    )
