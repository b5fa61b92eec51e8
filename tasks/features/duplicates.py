"""Near-duplicates: pictures whose hashes differ in a few bits, and which would fill a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

    from .imageset import ImageSet

BITS = 64
Hashes = npt.NDArray[np.uint64]


def image_hash(image: Image) -> int:
    """The difference hash: of 8 x 9 grey means, whether each is brighter than its right neighbour.

    Scale, compression and brightness change few of its 64 bits (Krawetz, 2013).
    """
    from PIL.Image import Resampling

    grey = np.asarray(image.convert("L").resize((9, 8), Resampling.BOX), np.int16)
    bits = np.packbits(grey[:, :-1] > grey[:, 1:])
    return int.from_bytes(bits.tobytes(), "big")


def hashes(images: ImageSet) -> Hashes:
    """`(n,)` of every picture of a set."""
    return np.array([image_hash(images.image(i)) for i in range(len(images))], np.uint64)


def distinct(found: Hashes, bits: int, seen: Hashes | None = None) -> list[int]:
    """Indices of pictures more than `bits` away from every earlier one, and from all of `seen`."""
    kept: list[int] = []
    known = np.empty(len(found) + (0 if seen is None else len(seen)), np.uint64)
    n = 0
    for one in () if seen is None else seen:
        known[n], n = one, n + 1
    for i, one in enumerate(found):
        if n == 0 or int(np.bitwise_count(known[:n] ^ one).min()) > bits:
            kept.append(i)
            known[n], n = one, n + 1
    return kept
