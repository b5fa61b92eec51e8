"""Columns of a data set that say what is where in its pictures: ADE's, COCO's and Broden's ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ....errors import BadImageError
from .names import Names
from .rle import from_polygons, from_run_lengths
from .values import read_numbers

if TYPE_CHECKING:
    from ..masks import Mask

    Row = Mapping[str, Any]


class MaskColumn(Protocol):
    """One column."""

    @property
    def column(self) -> str: ...

    @property
    def concept(self) -> str: ...

    @property
    def labels(self) -> Sequence[str]:
        """All that it can say."""

    @property
    def names(self) -> Names | None:
        """What its values mean; None where they are labels themselves."""

    def masks(self, row: Row, size: tuple[int, int]) -> Iterator[tuple[str, Mask]]:
        """(label, `(height, width)` bool) of a row; a label may come several times.

        Raises `BadImageError` for a mask that doesn't fit the picture's `size` (width, height).
        """


@dataclass(frozen=True)
class IndexMap:
    """A number a pixel: ADE's one map, or one of Broden's for each concept."""

    column: str
    concept: str
    names: Names

    @property
    def labels(self) -> Sequence[str]:
        return list(dict.fromkeys(self.names.values()))

    def masks(self, row: Row, size: tuple[int, int]) -> Iterator[tuple[str, Mask]]:
        if row[self.column] is None:
            return
        numbers = _fitting(read_numbers(row[self.column]), size)
        for value in np.unique(numbers).tolist():
            if value in self.names:
                yield self.names[value], numbers == value


@dataclass(frozen=True)
class WholePicture:
    """A label of the picture as a whole, as Broden's scenes and textures are."""

    column: str
    concept: str
    labels: Sequence[str]
    names: Names | None
    """None where the column holds the labels themselves."""

    def masks(self, row: Row, size: tuple[int, int]) -> Iterator[tuple[str, Mask]]:
        said = row[self.column]
        for value in said if isinstance(said, list) else [said]:
            label = value if self.names is None else self.names.get(value)
            if label:
                yield label, np.ones((size[1], size[0]), np.bool_)


@dataclass(frozen=True)
class Objects:
    """A list of things, each with a category and polygons, run lengths or a bitmask: COCO's way."""

    column: str
    concept: str
    labels: Sequence[str]
    names: Names | None
    category: str
    """Where an object's category is ..."""
    shape: str
    """... and its mask."""

    def masks(self, row: Row, size: tuple[int, int]) -> Iterator[tuple[str, Mask]]:
        for category, shape in self.pairs(row):
            label = category if self.names is None else self.names.get(category)
            if label and shape is not None:
                yield label, _fitting(_shape(shape, size), size)

    def pairs(self, row: Row) -> list[tuple[Any, Any]]:
        """(category, shape) of every object, stored as a list of objects or as lists."""
        things = row[self.column]
        if things is None:
            return []
        if isinstance(things, Mapping):
            return list(zip(things[self.category], things[self.shape], strict=True))
        return [(thing[self.category], thing[self.shape]) for thing in things]


def _shape(shape: Any, size: tuple[int, int]) -> Mask:
    """Run lengths, a polygon or several, else a bitmask."""
    if isinstance(shape, Mapping) and "counts" in shape:
        return from_run_lengths(shape)
    if isinstance(shape, list) and shape and not isinstance(shape[0], list):
        return from_polygons([shape], size)
    if isinstance(shape, list) and (len(shape) != size[1] or _uneven(shape, size[0])):
        return from_polygons(shape, size)
    return read_numbers(shape) > 0


def _uneven(rows: Sequence[Sequence[Any]], width: int) -> bool:
    """Whether lists are polygons: those of a bitmask have the picture's width."""
    return any(len(row) != width for row in rows)


def _fitting(found: Any, size: tuple[int, int]) -> Any:
    height, width = found.shape
    if (width, height) != size:
        raise BadImageError(
            f"its mask is {width} x {height} pixels, the picture {size[0]} x {size[1]}"
        )
    return found


def layers(masks: Iterator[tuple[str, Mask]], labels: Sequence[str], size: tuple[int, int]) -> Any:
    """`(layers, height, width)` uint16, at least one: `labels[v - 1]` where it is v.

    Each label is in the first layer in which it covers no other: none is lost where they overlap.
    """
    whole: dict[str, Mask] = {}
    for label, mask in masks:
        whole[label] = whole[label] | mask if label in whole else mask
    place = {label: i + 1 for i, label in enumerate(labels)}
    found = [np.zeros((size[1], size[0]), np.uint16)]
    for label, mask in whole.items():
        free = next((layer for layer in found if not layer[mask].any()), None)
        if free is None:
            free = np.zeros_like(found[0])
            found.append(free)
        free[mask] = place[label]
    return np.stack(found)
