"""Where a report's pictures are: linked when the run lies below the page, else copied beside it."""

from __future__ import annotations

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..errors import UsageError
from ..harness.writing import clear_errors

_TYPES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of one run for one page."""

    run: Path
    page: Path

    def source(self, name: str) -> Path:
        """The file of a picture that a card names. Raises `UsageError` outside the run, and for one
        that is lost.
        """
        root = self.run.resolve()
        source = (root / name).resolve()
        if not source.is_relative_to(root) or source.suffix.lower() not in _TYPES:
            raise UsageError(
                f"a card of {self.run} names {name!r}, no picture of the run; don't trust it"
            )
        if not source.is_file():
            raise UsageError(
                f"{self.run} has lost the picture {name!r}; restore it or make the run again"
            )
        return source

    def link(self, name: str) -> str:
        """A relative URL for a picture that a card names. Raises `UsageError` outside the run."""
        source = self.source(name)
        beside = self.page.resolve().parent
        if source.is_relative_to(beside):
            return quote(source.relative_to(beside).as_posix())
        target = assets(self.page) / source.relative_to(self.run.resolve()).as_posix().replace(
            "/", "-"
        )
        with clear_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return quote(f"{target.parent.name}/{target.name}")

    def inline(self, name: str) -> str:
        """The picture itself as a URL. Raises `UsageError` as `link` does."""
        source = self.source(name)
        kind = _TYPES[source.suffix.lower()]
        return f"data:image/{kind};base64,{base64.b64encode(source.read_bytes()).decode()}"


def assets(page: Path) -> Path:
    """The folder beside a page that holds what it loads."""
    return page.with_name(f"{page.stem}-files")
