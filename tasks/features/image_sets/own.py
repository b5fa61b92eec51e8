"""A user's own pictures as an image set: some rows of a folder or data set, masks where it has any.

A picture is read when it is asked for, and none is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import BadImageError
from ..imageset import CONCEPTS
from .columns import layers
from .rows import IMAGE
from .values import read_rgb

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

    from ..masks import Mask
    from .columns import MaskColumn
    from .rows import Rows


class Words:
    """What the masks of a data set can say.

    A label is of one concept. One that several concepts have keeps its name in the first of them,
    in the order of the six, and gets the concept's behind it in the others: 'wood (material)'.
    """

    def __init__(self, columns: Sequence[MaskColumn]) -> None:
        self.columns = sorted(columns, key=lambda one: CONCEPTS.index(one.concept))
        self._called: dict[tuple[str, str], str] = {}
        self.labels: dict[str, list[str]] = {}
        taken: dict[str, str] = {}
        for one in self.columns:
            mine = self.labels.setdefault(one.concept, [])
            for label in one.labels:
                first = taken.setdefault(label, one.concept)
                called = label if first == one.concept else f"{label} ({one.concept})"
                self._called[one.concept, label] = called
                if called not in mine:
                    mine.append(called)

    @cached_property
    def vocabulary(self) -> dict[str, str]:
        """label -> concept."""
        return {label: concept for concept, labels in self.labels.items() for label in labels}

    @property
    def meaning(self) -> list[Any]:
        """All that labels hang on: the same ones, of other numbers, are other masks."""
        return [
            [one.column, one.concept, list(one.labels), sorted((one.names or {}).items())]
            for one in self.columns
        ]

    def maps(self, row: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """concept -> `(layers, height, width)`. Raises `BadImageError`."""
        found = {}
        for concept, labels in self.labels.items():
            mine = [one for one in self.columns if one.concept == concept]
            masks = chain.from_iterable(one.masks(row, size) for one in mine)
            named = ((self._called[concept, label], mask) for label, mask in masks)
            found[concept] = layers(named, labels, size)
        return found


class OwnImages:
    """Chosen rows, in their order."""

    def __init__(
        self,
        name: str,
        revision: str,
        rows: Rows,
        chosen: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int32],
        words: Words,
    ) -> None:
        """`sizes` is `(n, 2)`, (width, height) of every chosen picture."""
        self.name, self.revision = name, revision
        self._rows, self._chosen, self._sizes, self._words = rows, chosen, sizes, words

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        return self._words.labels

    @property
    def vocabulary(self) -> Mapping[str, str]:
        return self._words.vocabulary

    @cached_property
    def ids(self) -> Sequence[str]:
        return [self._rows.label(int(place)) for place in self._chosen]

    def first(self, n: int) -> OwnImages:
        """The first `n` alone; all of them when there are no more."""
        if n >= len(self):
            return self
        chosen, sizes = self._chosen[:n], self._sizes[:n]
        revision = f"{self.revision}/{n}"
        return OwnImages(self.name, revision, self._rows, chosen, sizes, self._words)

    def __len__(self) -> int:
        return len(self._chosen)

    def size_of(self, index: int) -> tuple[int, int]:
        width, height = self._sizes[index].tolist()
        return width, height

    def image(self, index: int) -> Image:
        try:
            return read_rgb(self._row(index)[IMAGE])
        except BadImageError as error:
            raise self._named(index, error) from error

    def label_maps(self, index: int) -> Mapping[str, npt.NDArray[np.uint16]]:
        try:
            return self._words.maps(self._row(index), self.size_of(index))
        except BadImageError as error:
            raise self._named(index, error) from error

    def mask(self, index: int, label: str) -> Mask:
        concept = self.vocabulary[label]
        value = self.labels[concept].index(label) + 1
        return np.asarray((self.label_maps(index)[concept] == value).any(0))

    def _row(self, index: int) -> Mapping[str, Any]:
        return self._rows.row(int(self._chosen[index]))

    def _named(self, index: int, error: BadImageError) -> BadImageError:
        where = f"{self._rows.label(int(self._chosen[index]))} of {self._rows.name}"
        return BadImageError(f"{where}: {error}; mend or remove it")
