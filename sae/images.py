"""A folder of pictures as prompts, for training SAEs on one's own data."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

from ..errors import BadImageError, UsageError
from .lmm import Prompt

if TYPE_CHECKING:
    from PIL.Image import Image

QUESTION = "describe the image ."
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class PromptSequence(Sequence[Prompt]):
    """Prompts that are made when they are asked for."""

    @abstractmethod
    def prompt(self, place: int) -> Prompt:
        """The one at a place, 0 to `len(self) - 1`. Raises `BadImageError` on a broken picture."""

    @overload
    def __getitem__(self, place: int) -> Prompt: ...

    @overload
    def __getitem__(self, place: slice) -> list[Prompt]: ...

    def __getitem__(self, place: int | slice) -> Prompt | list[Prompt]:
        if isinstance(place, slice):
            return [self.prompt(i) for i in range(*place.indices(len(self)))]
        return self.prompt(place)


class ImageFolder(PromptSequence):
    """Every picture under a folder, in name order, with one question. Each is read when it is
    asked for.

    Raises `UsageError` at once when there is none, `BadImageError` on reaching a broken one.
    """

    def __init__(self, folder: Path, text: str = QUESTION) -> None:
        self.text = text
        self.folder = folder
        if not folder.is_dir():
            raise UsageError(f"no folder of images at {folder}; check the path")
        self.files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        if not self.files:
            raise UsageError(
                f"{folder} holds no image; known endings: {', '.join(sorted(SUFFIXES))}"
            )

    def __len__(self) -> int:
        return len(self.files)

    def prompt(self, place: int) -> Prompt:
        return Prompt(self.text, read_image(self.files[place]))

    @cached_property
    def identity(self) -> str:
        """sha256 of the question and of every picture's name and size in bytes."""
        digest = hashlib.sha256(self.text.encode())
        for file in self.files:
            digest.update(f"\n{file.relative_to(self.folder)} {file.stat().st_size}".encode())
        return digest.hexdigest()


def read_image(file: Path) -> Image:
    """One picture as RGB. Raises `BadImageError` naming the file."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImageError(f"can't read the image {file} ({error}); mend or remove it") from error
