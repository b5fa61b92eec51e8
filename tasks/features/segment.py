"""The segmenter role: where in an image a label is true."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .kept import BYTES, Kept

if TYPE_CHECKING:
    import numpy.typing as npt

    from ...harness.task import Context
    from ..subject import Subject
    from .imageset import ImageSet
    from .masks import Mask

    LabelMaps = Mapping[str, npt.NDArray[np.unsignedinteger]]


RELEASED = "IDEA-Research/grounding-dino-base+facebook/sam-vit-huge"
"""What the paper's code loads."""
ORIGINAL = "original:"
"""Before a ref: groundingdino-py and segment-anything instead of transformers."""


class Segmenter(Protocol):
    """Finds a label's pixels."""

    @property
    def identity(self) -> str: ...

    def segment(self, images: ImageSet, index: int, label: str) -> Mask | None:
        """`(height, width)` bool, empty when nothing is found; None when it knows no such label."""


def chosen_segmenter(context: Context[Subject], united: bool = False) -> Segmenter:
    """The one that the task was given, else the image set's own masks."""
    if "segmenter" not in context.params:
        return ExactMasks()
    return open_segmenter(context.params["segmenter"]["ref"], united)


def open_segmenter(ref: str, united: bool = False) -> Segmenter:
    """`DETECTOR+SAM` of transformers, or `original:CONFIG+CHECKPOINT+SAM` of the first packages.

    `united` takes all of SAM's proposals for a box together, as the released code does.
    """
    if ref.startswith(ORIGINAL):
        from .original_sam import OriginalSam

        return OriginalSam(ref.removeprefix(ORIGINAL), united=united)
    from .grounded_sam import GroundedSam

    return GroundedSam(ref, united=united)


class ExactMasks:
    """The image set's own label maps. It knows the labels of the set's vocabulary and no other."""

    identity = "exact"

    def __init__(self, keep: int = BYTES) -> None:
        """`keep`: bytes of label maps."""
        self._kept: Kept[LabelMaps] = Kept(_size, keep)
        self._there: dict[Hashable, dict[str, frozenset[int]]] = {}

    def segment(self, images: ImageSet, index: int, label: str) -> Mask | None:
        concept = images.vocabulary.get(label)
        if concept is None:
            return None
        value = images.labels[concept].index(label) + 1
        key = (images.name, images.revision, index)
        # Most labels are on few pictures: which ones, is known without looking again.
        if key in self._there and value not in self._there[key][concept]:
            width, height = images.size_of(index)
            return np.zeros((height, width), np.bool_)
        there = self._label_maps(images, index, key)[concept] == value
        return np.asarray(there if there.ndim == 2 else there.any(0))

    def _label_maps(self, images: ImageSet, index: int, key: Hashable) -> LabelMaps:
        maps = self._kept.get(key, lambda: images.label_maps(index))
        if key not in self._there:
            self._there[key] = {concept: _values(labels) for concept, labels in maps.items()}
        return maps


def _values(labels: npt.NDArray[np.unsignedinteger]) -> frozenset[int]:
    return frozenset(np.flatnonzero(np.bincount(labels.ravel())).tolist())


def _size(maps: LabelMaps) -> int:
    return sum(labels.nbytes for labels in maps.values())
