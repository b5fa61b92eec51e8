"""Bringing a published question set onto this machine: upstream, a path, or the hub."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ...errors import IncompleteError, UsageError
from ...harness.writing import replace_bytes
from ..hallucination.questions import NO_FIGURE, Question
from .figures import Figures, expected, open_figures, plain
from .published import FIGURES, HALLUSIONBENCH, File, Published, data_root
from .reading import read_published

_TIMEOUT = 60
HUB = "hub:"
"""`hub:owner/name[@revision]` as a source of questions or images."""
_FIELDS = (
    "category", "subcategory", "visual_input", "set_id", "figure_id", "sample_note", "question_id",
    "question", "gt_answer_details", "gt_answer", "filename",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Got:
    """What is now there."""

    folder: Path
    n_questions: int
    n_text_only: int
    n_figures: int
    """Names that the questions ask for."""
    missing: Sequence[str]
    """Those without an image."""


def get(
    what: Published, source: str | None = None, images: str | None = None, root: Path | None = None
) -> Got:
    """Put a set's files, and images where some are given, under `root / name`.

    `source`: None is upstream, else a file, a folder or `hub:ID`. `images`: a folder, an archive or
    `hub:ID`. Files that are there already and whole are kept. Raises `UsageError` on a file with
    another sha256, `IncompleteError` when upstream can't be reached.
    """
    folder = (root or data_root()) / what.name
    if source is not None and source.startswith(HUB):
        _store(what, folder, _questions_of_rows(what, _hub_rows(source)))
    else:
        for file in what.files:
            _bring(file, folder, source)
    if images is not None:
        _bring_images(what, folder, images)
    return state(what, root)


def state(what: Published, root: Path | None = None) -> Got:
    """What of a set is there. Raises `UsageError` when its questions are not."""
    folder = (root or data_root()) / what.name
    records = read_published(what, folder)
    names = expected(records)
    place = folder / FIGURES
    lacking = open_figures(place).missing(names) if place.is_dir() else names
    text_only = sum(record["filename"] is None for record in records)
    return Got(folder, len(records), text_only, len(names), lacking)


def verified(file: File, content: bytes) -> bytes:
    """The content itself. Raises `UsageError` unless it is the published one to the last byte."""
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise UsageError(
            f"{file.name} is not the published file: sha256 {found[:12]}..., not "
            f"{file.sha256[:12]}...; take it from {file.url}"
        )
    return content


def _bring(file: File, folder: Path, source: str | None) -> None:
    place = folder / file.name
    if source is None and place.is_file():
        verified(file, place.read_bytes())
        return
    content = _download(file.url) if source is None else _read(Path(source), file.name)
    replace_bytes(place, verified(file, content))


def _read(source: Path, name: str) -> bytes:
    path = source / name if source.is_dir() else source
    if not path.is_file():
        raise UsageError(f"no {name} at {source}; give the file or the folder that holds it")
    if path.name != name and not source.is_dir():
        raise UsageError(f"{source} is not called {name}; give the folder of the published files")
    return path.read_bytes()


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            return bytes(answer.read())
    except (OSError, HTTPException) as error:
        raise IncompleteError(
            f"can't reach {url} ({error}); try again, or give a path with --from"
        ) from error


def _bring_images(what: Published, folder: Path, images: str) -> None:
    if images.startswith(HUB):
        pictured = (row for row in _hub_rows(images) if row.get("image") is not None)
        _write_images(folder, {_filename(row): _png(row["image"]) for row in pictured})
        return
    figures = open_figures(Path(images))
    _write_found(folder, figures, expected(read_published(what, folder)))


def _write_found(folder: Path, figures: Figures, names: Sequence[str]) -> None:
    found = {name: figures.find(name) for name in names}
    if not any(found.values()):
        raise UsageError(
            f"{figures.place} holds none of the {len(names)} images, such as {names[0]}; "
            "check the path"
        )
    for name in (name for name, path in found.items() if path):
        replace_bytes(folder / FIGURES / name, figures.read(name))


def _write_images(folder: Path, pictures: Mapping[str, bytes]) -> None:
    for name, content in pictures.items():
        replace_bytes(folder / FIGURES / name, content)


def _hub_rows(ref: str) -> list[Mapping[str, Any]]:
    """All rows of all splits."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UsageError("the hub needs the package datasets; pip install datasets") from error
    name, _, revision = ref.removeprefix(HUB).partition("@")
    try:
        splits = load_dataset(name, revision=revision or None)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"can't load {name} from the hub: {reason}") from error
    return [row for split in splits.values() for row in split]


def _questions_of_rows(what: Published, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """HallusionBench's rows as the upstream file has them, in its order of keys."""
    if what is not HALLUSIONBENCH:
        raise UsageError(f"{what.name} is read from upstream or a path; leave out --from hub:")
    return [
        {key: _text(row.get(key)) for key in _FIELDS}
        | {"filename": None if str(row["visual_input"]) == NO_FIGURE else f"./{_filename(row)}"}
        for row in rows
    ]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _filename(row: Mapping[str, Any]) -> str:
    """HallusionBench's names follow from the keys; not every copy on the hub has kept them."""
    return plain(f"{row['category']}/{row['subcategory']}/{row['set_id']}_{row['figure_id']}.png")


def _store(what: Published, folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Rows of a hub have no file to compare with: their keys and answers are compared instead."""
    if answers_sha256(records) != what.answers_sha256:
        raise UsageError(
            f"the hub's {what.name} ({len(records)} questions) differs from the published "
            f"{what.n_questions} in keys or answers; take another id or the upstream file"
        )
    replace_bytes(folder / what.files[0].name, json.dumps(list(records)).encode())


def answers_sha256(records: Iterable[Mapping[str, Any]]) -> str:
    """Of every question's key and true answer, whatever their order."""
    lines = sorted(f"{Question(record).id} {record['gt_answer']}\n" for record in records)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _png(picture: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
