"""What the numbers in masks mean: the names of labels, from a file or from the data set itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ....errors import UsageError
from ..imageset import CONCEPTS

FILES = ("names.json", "id2label.json")
"""Looked for in the folder of a data set."""
SPELLED = {"color": "colour"}
_FORM = '["wall", "sky"] by value from 0, {"1": "wall"}, or one of these for each column'

Names = Mapping[int, str]
"""Value -> label; a value that isn't there is nothing."""


def read_names(file: Path) -> dict[str | None, Names]:
    """Names by column; `None` is the key where the file doesn't say which.

    Raises `UsageError` in one line for another form.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is no JSON file of names: {error}") from error
    if isinstance(found, Mapping) and not _by_value(found):
        return {str(column): _names(names, file) for column, names in found.items()}
    return {None: _names(found, file)}


def names_file(folder: Path) -> Path | None:
    """The file of names that lies in a folder, if one does."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def concept_of(column: str) -> str:
    """A column called as one of the six concepts is about it, any other about objects."""
    said = SPELLED.get(column.lower(), column.lower())
    return said if said in CONCEPTS else "object"


def _by_value(found: Mapping[str, Any]) -> bool:
    return all(key.isdecimal() for key in found)


def _names(found: Any, file: Path) -> Names:
    if isinstance(found, list):
        return dict(_named(enumerate(found)))
    if isinstance(found, Mapping) and _by_value(found):
        return dict(_named((int(value), name) for value, name in found.items()))
    raise UsageError(f"{file} holds no names; write {_FORM}")


def _named(pairs: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, str]]:
    """Null and the empty string stand for nothing: unlabelled, void, background."""
    return ((value, str(name)) for value, name in pairs if name)
