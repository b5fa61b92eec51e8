"""The segmenter role: where in an image a label is true."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from .imageset import ImageSet
    from .masks import Mask

    LabelMaps = Mapping[str, npt.NDArray[np.uint8]]


class Segmenter(Protocol):
    """Finds a label's pixels."""

    @property
    def identity(self) -> str: ...

    def segment(self, images: ImageSet, index: int, label: str) -> Mask | None:
        """`(height, width)` bool, empty when nothing is found; None when it knows no such label."""


class ExactMasks:
    """The image set's own label maps. It knows the labels of the set's vocabulary and no other."""

    identity = "exact"

    def __init__(self, keep: int = 1024) -> None:
        self._keep = keep
        self._kept: OrderedDict[tuple[str, ...], LabelMaps] = OrderedDict()

    def segment(self, images: ImageSet, index: int, label: str) -> Mask | None:
        concept = images.vocabulary.get(label)
        if concept is None:
            return None
        value = images.labels[concept].index(label) + 1
        return np.asarray(self._label_maps(images, index)[concept] == value)

    def _label_maps(self, images: ImageSet, index: int) -> LabelMaps:
        key = (images.name, images.revision, images.ids[index])
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = images.label_maps(index)
            if len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        return self._kept[key]
