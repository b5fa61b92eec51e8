"""Images whose pixels are labelled: what features are searched in and scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

CONCEPTS = ("scene", "object", "part", "material", "texture", "colour")
"""The paper's (Network Dissection's) six, in the order of every table."""


SizeOf = Callable[[int], tuple[int, int]]
"""From an image's index to its (width, height) in pixels."""


class ImageSet(Protocol):
    """An ordered, fixed set of images with a label map per concept."""

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str:
        """Changes whenever a pixel or a label could."""

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """concept -> labels; value v > 0 of that concept's map means `labels[concept][v - 1]`."""

    @property
    def vocabulary(self) -> Mapping[str, str]:
        """label -> concept."""

    def __len__(self) -> int: ...

    def image(self, index: int, /) -> Image: ...

    def size_of(self, index: int, /) -> tuple[int, int]:
        """(width, height) in pixels."""

    def label_maps(self, index: int, /) -> Mapping[str, npt.NDArray[np.unsignedinteger]]:
        """concept -> `(height, width)`; 0 where nothing of the concept is.

        Where labels of one concept overlap it is `(layers, height, width)`, each label in one layer
        alone.
        """

    def mask(self, index: int, label: str, /) -> npt.NDArray[np.bool_]:
        """`(height, width)` bool: where the label is true."""


def fingerprint(images: ImageSet) -> dict[str, Any]:
    """What an artefact made from these images depends on."""
    ids = hashlib.sha256("\n".join(images.ids).encode()).hexdigest()
    return {"name": images.name, "revision": images.revision, "n": len(images), "ids": ids}
