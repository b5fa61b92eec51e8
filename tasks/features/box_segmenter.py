"""What segmenters have in common that find boxes of a label first and fill them then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from .kept import Kept

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

    from .imageset import ImageSet
    from .masks import Mask

BOX_THRESHOLD = 0.3
TEXT_THRESHOLD = 0.25


class BoxSegmenter(ABC):
    """Open vocabulary: every label is known, and its mask empty where nothing is found."""

    def __init__(self) -> None:
        self._kept: Kept[npt.NDArray[np.uint8]] = Kept(lambda bits: bits.nbytes)

    @property
    @abstractmethod
    def identity(self) -> str:
        """Changes whenever a mask could."""

    @abstractmethod
    def boxes(self, image: Image, label: str) -> list[list[float]]:
        """Left, top, right, bottom in pixels of every box that the detector sees the label in."""

    @abstractmethod
    def proposals(self, image: Image, boxes: list[list[float]]) -> list[Mask]:
        """One mask a box."""

    def segment(self, images: ImageSet, index: int, label: str) -> Mask:
        """`(height, width)` bool: the union over boxes.

        Found once: arms and nulls ask for the same again. Kept at a bit a pixel.
        """
        width, height = images.size_of(index)
        found = self._kept.get(
            (images.name, images.revision, index, label),
            lambda: np.packbits(self.mask(images.image(index).convert("RGB"), label)),
        )
        bits = np.unpackbits(found, count=width * height)
        return bits.reshape(height, width).astype(bool)

    def mask(self, image: Image, label: str) -> Mask:
        """The same of one picture."""
        boxes = self.boxes(image, label)
        mask = np.zeros((image.height, image.width), bool)
        for proposal in self.proposals(image, boxes) if boxes else ():
            mask |= proposal
        return mask
