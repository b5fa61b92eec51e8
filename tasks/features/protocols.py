"""The rules of interpretation scores: the paper as written, its code as released, and ours.

| | strict | paper | released |
|---|---|---|---|
| images | held out, 5 top and 5 of random deciles | the 5 of the explanation | the same |
| mask | the patches, exactly | the patches, exactly | enlarged in whole numbers: it grows |
| the model sees | as `--image-tokens` says | squashed, the base grid alone | the same |
| scored picture | as it is | as it is | squashed to a square of 336 |
| SAM | the proposal it rates best | the same | the union of its three |
| mean | over images that say something | over 5, missing ones 0 | the same |

In no protocol does an exception become a number: the released code counted it as IoU 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import UsageError
from .masks import nearest, released_mask, token_mask
from .surveying import TOP

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

    from ..subject import Subject
    from .imageset import ImageSet
    from .masks import Boxes, Mask
    from .study import Split

SIDE = 336
"""Of the squashed picture in pixels, as the released code has it."""
STRICT_ARMS = (
    "main",
    "rolled",
    "other_latent",
    "hard_shuffled",
    "untrained",
    "neuron",
    "whole_image",
    "centre",
    "random_images",
    "ceiling",
)
PAPER_ARMS = ("main", "random_images", "rolled", "hard_shuffled", "untrained")


@dataclass(frozen=True, slots=True)
class Rules:
    """One protocol."""

    groups: tuple[Split, ...]
    """Which images of a latent are scored."""
    arms: tuple[str, ...]
    squashed: bool = False
    """Pictures and masks are squares of `SIDE` pixels, masks grow; SAM's proposals are united."""
    missing: int = 0
    """A mean is over at least so many images: those without a score count as 0."""

    def images(self, subject: Subject) -> ImageSet:
        """What is scored on."""
        images = subject.search if self.groups == ("search",) else subject.score
        return Squashed(images, SIDE) if self.squashed else images

    def mask(self, boxes: Boxes, tokens: npt.NDArray[np.integer], size: tuple[int, int]) -> Mask:
        """The pixels of a latent's active tokens; `size` is that of `images`."""
        if not self.squashed:
            return token_mask(boxes, tokens, size)
        rows, columns = base_grid(boxes)
        active = np.zeros(rows * columns, np.bool_)
        active[tokens[tokens < active.size]] = True
        return released_mask(active.reshape(rows, columns), SIDE)


RULES: Mapping[str, Rules] = {
    "strict": Rules(("top", "decile"), STRICT_ARMS),
    "paper": Rules(("search",), PAPER_ARMS, missing=TOP),
    "released": Rules(("search",), PAPER_ARMS, squashed=True, missing=TOP),
}
PROTOCOLS = tuple(RULES)


def base_grid(boxes: Boxes) -> tuple[int, int]:
    """Rows and columns of the base view: the leading tokens that tile the picture row by row.

    Tokens of tiles come after it. Raises `UsageError` where there is no such grid.
    """
    edges = np.asarray(boxes, np.float64)
    again = np.flatnonzero(np.isclose(edges[1:, 0], edges[0, 0])) + 1 if len(edges) else edges
    columns = int(again[0]) if len(again) else len(edges)
    bottom = edges[:, 3].max(initial=0)
    ends = np.flatnonzero(np.isclose(edges[columns - 1 :: max(columns, 1), 3], bottom))
    if not ends.size:
        raise UsageError("protocol 'released' needs a base grid of image tokens; use 'paper'")
    return int(ends[0]) + 1, columns


class Squashed:
    """An image set whose pictures have lost their aspect ratio, as the model's base view has."""

    def __init__(self, images: ImageSet, side: int) -> None:
        self._images, self._size = images, (side, side)
        self.name, self.revision = f"{images.name}@{side}", images.revision
        self.labels, self.vocabulary = images.labels, images.vocabulary

    @property
    def ids(self) -> Sequence[str]:
        return self._images.ids

    def __len__(self) -> int:
        return len(self._images)

    def size_of(self, index: int) -> tuple[int, int]:
        return self._size

    def image(self, index: int) -> Image:
        return self._images.image(index).resize(self._size)

    def label_maps(self, index: int) -> Mapping[str, npt.NDArray[np.unsignedinteger]]:
        maps = self._images.label_maps(index)
        return {concept: nearest(labels, self._size) for concept, labels in maps.items()}

    def mask(self, index: int, label: str) -> Mask:
        return nearest(self._images.mask(index, label), self._size)
