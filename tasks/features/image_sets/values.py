"""Single values of a data set's rows: pictures, maps of numbers, and what they are made of."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import BadImageError

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

_PLAIN = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Picture modes with one whole number a pixel."""


def open_picture(value: Any) -> Image:
    """A stored picture, its pixels not yet read. Raises `BadImageError`."""
    from PIL import Image

    if isinstance(value, Image.Image):
        return value
    try:
        return Image.open(io.BytesIO(stored_bytes(value)))
    except (
        *(OSError, ValueError, SyntaxError, TypeError, KeyError),
        Image.DecompressionBombError,
    ) as error:
        raise BadImageError(f"it can't be read ({error})") from error


def stored_bytes(value: Mapping[str, Any]) -> bytes:
    """Of a file in a row, or beside it."""
    return bytes(value["bytes"] or Path(value["path"]).read_bytes())


def read_rgb(value: Any) -> Image:
    """A stored picture as RGB. Raises `BadImageError`."""
    from PIL import Image

    try:
        return open_picture(value).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImageError(f"it can't be read ({error})") from error


def read_numbers(value: Any) -> npt.NDArray[np.int64]:
    """`(height, width)` of a picture with a number a pixel, or of a list of rows.

    Raises `BadImageError` for pictures in colour: their numbers are anybody's code.
    """
    if isinstance(value, list | np.ndarray):
        found = np.asarray(value)
    else:
        picture = open_picture(value)
        if picture.mode not in _PLAIN:
            raise BadImageError(
                f"it is in colour (mode {picture.mode}); a mask holds one number a pixel"
            )
        try:
            found = np.asarray(picture)
        except (OSError, ValueError, SyntaxError) as error:
            raise BadImageError(f"it can't be read ({error})") from error
    if found.ndim != 2:
        raise BadImageError(f"it has {found.ndim} dimensions where a mask has 2")
    return found.astype(np.int64)


def digest(value: Any) -> bytes:
    """sha256 of a value's content, wherever its files lie."""
    return hashlib.sha256(_content(value)).digest()


def _content(value: Any) -> bytes:
    if isinstance(value, Mapping) and set(value) == {"bytes", "path"}:
        return stored_bytes(value)
    if isinstance(value, Mapping):
        parts = [digest(key) + digest(inner) for key, inner in sorted(value.items())]
        return b"map" + b"".join(parts)
    if isinstance(value, list):
        return b"list" + b"".join(digest(inner) for inner in value)
    if isinstance(value, bytes | np.ndarray):
        return bytes(value)
    if hasattr(value, "tobytes"):
        return f"{value.mode} {value.size}".encode() + bytes(value.tobytes())
    return repr(value).encode()
