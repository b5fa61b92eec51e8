"""A folder of pictures as prompts, for training SAEs on one's own data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadImageError, UsageError
from .lmm import Prompt

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class ImageFolder:
    """Every picture under a folder, in name order, with one question. Can be gone through again.

    Raises `UsageError` at once when there is none, `BadImageError` on reaching a broken one.
    """

    def __init__(self, folder: Path, text: str = "describe the image .") -> None:
        self.text = text
        if not folder.is_dir():
            raise UsageError(f"no folder of images at {folder}; check the path")
        self.files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        if not self.files:
            raise UsageError(
                f"{folder} holds no image; known endings: {', '.join(sorted(SUFFIXES))}"
            )

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Prompt]:
        for file in self.files:
            yield Prompt(self.text, read_image(file))


def read_image(file: Path) -> Image:
    """One picture as RGB. Raises `BadImageError` naming the file."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImageError(f"can't read the image {file} ({error}); mend or remove it") from error
