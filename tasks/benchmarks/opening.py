"""Questions to run on: a published set by name or any file, with the images that can be found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import UsageError
from ...harness.identity import sha256
from ...harness.registry import TASKS
from ..hallucination.questions import (
    NO_FIGURE,
    Record,
    RecordQuestions,
    read_questions,
    split_families,
)
from ..needs import QUESTIONS, needs
from .figures import Figures, expected, open_figures
from .published import FIGURES, PUBLISHED, Published, data_root
from .reading import read_file, read_published

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.progress import Progress

HALLUC = "halluc"
"""The task that asks all of them."""
_SPLIT_SEED = 0
"""Dev and test are the same families in every run, whatever its seed."""


@dataclass(frozen=True)
class OpenedQuestions:
    """Records that can be asked, split by family into dev and test."""

    name: str
    records: Sequence[Record]
    left_out: Sequence[str]
    """File names that no image was found for; their questions are not asked."""
    figures: Figures | None
    revision: str
    """Of the records that are asked and of their images' contents."""

    def questions(self, split: Literal["dev", "test", "all"]) -> RecordQuestions:
        dev, test = split_families(self.records, _SPLIT_SEED)
        records = {"dev": dev, "test": test, "all": list(self.records)}[split]
        return RecordQuestions(records, self._image, f"{self.revision}/{split}")

    def document(self) -> dict[str, Any]:
        """For `run.json`."""
        return {
            "id": self.name,
            "revision": self.revision,
            "n": len(self.records),
            "images_missing": len(self.left_out),
        }

    def _image(self, record: Record) -> Image:
        assert self.figures is not None
        return self.figures.image(str(record["filename"]))


def open_questions(ref: str, images: str | None = None) -> OpenedQuestions:
    """`ref` is a published name or a file in HallusionBench's schema, `images` a folder or archive.

    Without images only questions that need none are asked. Raises `UsageError` when none is left,
    or when there is but one family: it can't be split.
    """
    known = PUBLISHED.get(ref)
    records = read_published(known, data_root() / known.name) if known else read_file(Path(ref))
    read_questions(records)
    figures = _figures(known, images)
    left_out = _lacking(records, figures)
    asked = [r for r in records if r["visual_input"] == NO_FIGURE or _has_figure(r, left_out)]
    name = known.name if known else Path(ref).name
    if len({q.family for q in read_questions(asked)}) < 2:
        raise UsageError(
            f"{name}: {len(asked)} of {len(records)} questions can be asked, which is too few; "
            f"give the {len(left_out)} missing images with --images FOLDER"
        )
    return OpenedQuestions(name, asked, sorted(left_out), figures, _revision(asked, figures))


def asked_questions(
    ref: str | None, images: str | None, tasks: Collection[str], progress: Progress
) -> OpenedQuestions | None:
    """What `run` was asked to put, or None; what lacks an image is told, not scored.

    Raises `UsageError` when an option has nothing to work on.
    """
    if ref is None:
        if images is not None:
            raise UsageError("--images are those of --questions; give the questions too")
        return None
    if not any(needs(TASKS.get(name), QUESTIONS) for name in tasks):
        raise UsageError(
            "--questions are for halluc, chair and attr_faithfulness; add one of them to --tasks"
        )
    asked = open_questions(ref, images)
    if asked.left_out:
        progress.say(
            f"{asked.name}: {len(asked.left_out)} images are missing, {asked.left_out[0]} first; "
            f"{len(asked.records)} questions are asked"
        )
    return asked


def _figures(known: Published | None, images: str | None) -> Figures | None:
    if images is not None:
        return open_figures(Path(images))
    kept = data_root() / known.name / FIGURES if known else None
    return open_figures(kept) if kept is not None and kept.is_dir() else None


def _lacking(records: Sequence[Record], figures: Figures | None) -> set[str]:
    names = expected(records)
    return set(names if figures is None else figures.missing(names))


def _has_figure(record: Record, left_out: set[str]) -> bool:
    names = expected([record])
    return bool(names) and names[0] not in left_out


def _revision(records: Sequence[Record], figures: Figures | None) -> str:
    images = figures.identity(expected(records)) if figures else None
    return sha256({"records": [dict(r) for r in records], "images": images})
