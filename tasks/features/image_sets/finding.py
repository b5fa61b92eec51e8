"""Which columns of a data set are masks, by their names and types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....errors import UsageError
from ..imageset import CONCEPTS
from .columns import IndexMap, Objects, WholePicture
from .names import SPELLED, concept_of

if TYPE_CHECKING:
    from .columns import MaskColumn
    from .names import Names

MAPS = (
    *("annotation", "annotations", "label", "labels", "mask", "segmentation"),
    *("segmentation_mask", "semantic_segmentation"),
)
"""Columns that hold an index map when they hold pictures or rows of numbers."""
OBJECTS = ("objects", "annotations", "instances")
CATEGORIES = ("category", "categories", "category_id", "category_name", "label", "labels", "name")
SHAPES = ("segmentation", "segmentations", "mask", "masks", "rle", "polygon", "polygons")
_OURS = (*CONCEPTS, *SPELLED)

Column = Callable[[str], Iterator[Any]]
"""The values of a column, row by row."""


def mask_columns(
    features: Mapping[str, Any], names: Mapping[str | None, Names], column: Column
) -> list[MaskColumn]:
    """The columns that masks can be read from; none is a fair answer.

    Args:
        features: of a `datasets.Dataset`.
        names: by column, None for one that isn't named.

    Raises `UsageError` where nothing says what the numbers of a column mean, and for names of a
    column that isn't there.
    """
    if missing := [name for name in names if name is not None and name not in features]:
        raise UsageError(
            f"names are given for the column {missing[0]!r}, which isn't there; "
            f"there are {', '.join(features)}"
        )
    found = [_column(name, kind, names, column) for name, kind in features.items()]
    return [one for one in found if one is not None]


def _column(
    name: str, kind: Any, names: Mapping[str | None, Names], column: Column
) -> MaskColumn | None:
    lower = name.lower()
    if lower == "image":
        return None
    if lower in OBJECTS and (inside := _fields(kind)):
        return _objects(name, inside, names, column)
    if _is_map(kind) and (lower in MAPS or lower in _OURS or name in names):
        return IndexMap(name, concept_of(name), _known(name, names))
    if lower in _OURS:
        return _whole(name, kind, names, column)
    return None


def _objects(
    name: str, inside: Mapping[str, Any], names: Mapping[str | None, Names], column: Column
) -> MaskColumn | None:
    category = next((key for key in CATEGORIES if key in inside), None)
    shape = next((key for key in SHAPES if key in inside), None)
    if category is None or shape is None:
        return None
    known, labels = _meaning(name, inside[category], names)
    found = Objects(name, concept_of(name), labels, known, category, shape)
    if known is not None:
        return found
    said = (pair[0] for row in column(name) for pair in found.pairs({name: row}))
    return Objects(name, concept_of(name), _distinct(said), None, category, shape)


def _whole(name: str, kind: Any, names: Mapping[str | None, Names], column: Column) -> MaskColumn:
    known, labels = _meaning(name, kind, names)
    if known is None:
        rows = (row if isinstance(row, list) else [row] for row in column(name))
        labels = _distinct(value for row in rows for value in row)
    return WholePicture(name, concept_of(name), labels, known)


def _meaning(
    name: str, kind: Any, names: Mapping[str | None, Names]
) -> tuple[Names | None, Sequence[str]]:
    """What values mean, and all labels; None and no labels where values are labels themselves."""
    inner = _inner(kind)
    listed = getattr(inner, "names", None)
    if listed is not None:
        return dict(enumerate(listed)), list(dict.fromkeys(listed))
    if "string" in str(getattr(inner, "dtype", "")):
        return None, []
    known = _known(name, names)
    return known, list(dict.fromkeys(known.values()))


def _known(name: str, names: Mapping[str | None, Names]) -> Names:
    found = names.get(name, names.get(None))
    if found is None:
        raise UsageError(
            f"nothing says what the numbers in the column {name!r} mean; give --label-names FILE, "
            "or put names.json into the folder"
        )
    return found


def _distinct(said: Iterator[Any]) -> list[str]:
    return sorted({str(label) for label in said if label})


def _inner(kind: Any) -> Any:
    """Of a list's type, what it is a list of."""
    while True:
        if isinstance(kind, list):
            kind = kind[0]
        elif hasattr(kind, "feature"):
            kind = kind.feature
        else:
            return kind


def _fields(kind: Any) -> Mapping[str, Any]:
    inner = _inner(kind)
    return inner if isinstance(inner, Mapping) else {}


def _is_map(kind: Any) -> bool:
    """A picture, or rows of numbers."""
    name = type(kind).__name__
    if name in ("Image", "Array2D"):
        return True
    depth = 0
    while hasattr(kind, "feature"):
        kind, depth = kind.feature, depth + 1
    return depth == 2 and "int" in str(getattr(kind, "dtype", ""))
