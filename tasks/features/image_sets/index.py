"""What is known of every picture of a set before any is looked at: its content, size and hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ....errors import BadImageError
from ..duplicates import distinct, image_hash
from .rows import IMAGE
from .values import digest, open_picture, read_rgb

if TYPE_CHECKING:
    from ....harness.artefacts import ArtefactStore
    from ....harness.progress import Progress
    from ..duplicates import Hashes
    from .rows import Rows

    Places = npt.NDArray[np.int64]

HELD_OUT = 1 / 3
"""Share of the pictures that explanations are scored on."""
NEAR = 4
"""Bits of 64 in which a picture's hash must differ more from all others."""


@dataclass(frozen=True)
class Index:
    """Three numbers a picture: this much is held of a set, however large its pictures are."""

    content: str
    """sha256 over the contents of all rows, masks included, wherever the files lie."""
    sizes: npt.NDArray[np.int32]
    """`(n, 2)` width and height."""
    hashes: Hashes


def read_index(rows: Rows, store: ArtefactStore, progress: Progress) -> Index:
    """One pass over the files, and on the first time one over the pixels.

    Raises `BadImageError` naming a picture that can't be read.
    """
    content, sizes = _contents(rows, progress)
    key = {"hash": "difference/1", "content": content}
    hashes = store.get(
        "image-hashes", key, lambda: _hashes(rows, progress), _save_hashes, _load_hashes
    )
    return Index(content, sizes, hashes)


def split(hashes: Hashes, near: int) -> tuple[Places, Places]:
    """Places of the pictures to search in, and of those held out, near-duplicates left out.

    By the picture's hash alone: the same picture is on the same side in every set and order, and a
    copy of it, scaled or compressed, too. No held-out picture is near to a searched one.
    """
    held = np.array([_share(int(one)) < HELD_OUT for one in hashes], np.bool_)
    search, score = np.flatnonzero(~held), np.flatnonzero(held)
    search = search[distinct(hashes[search], near)]
    return search, score[distinct(hashes[score], near, seen=hashes[search])]


def _share(one: int) -> float:
    """Evenly between 0 and 1."""
    mixed = hashlib.sha256(one.to_bytes(8, "big")).digest()
    return int.from_bytes(mixed[:8], "big") / 2**64


def _contents(rows: Rows, progress: Progress) -> tuple[str, npt.NDArray[np.int32]]:
    whole = hashlib.sha256()
    sizes = np.zeros((len(rows), 2), np.int32)

    def read(place: int) -> None:
        row = rows.row(place)
        whole.update(digest(row))
        sizes[place] = open_picture(row[IMAGE]).size

    _through(rows, progress, "reading files", read)
    return whole.hexdigest(), sizes


def _hashes(rows: Rows, progress: Progress) -> Hashes:
    found = np.zeros(len(rows), np.uint64)

    def read(place: int) -> None:
        found[place] = image_hash(read_rgb(rows.row(place)[IMAGE]))

    _through(rows, progress, "hashing pictures", read)
    return found


def _through(rows: Rows, progress: Progress, what: str, read: Callable[[int], Any]) -> None:
    with progress.step(what, len(rows)) as step:
        for place in range(len(rows)):
            try:
                read(place)
            except (OSError, BadImageError) as error:
                raise BadImageError(
                    f"{rows.label(place)} of {rows.name}: {error}; mend or remove it"
                ) from error
            step.advance(1)


def _save_hashes(hashes: Hashes, folder: Path) -> None:
    np.save(folder / "hashes.npy", hashes)


def _load_hashes(folder: Path) -> Hashes:
    found: Hashes = np.load(folder / "hashes.npy", allow_pickle=False)
    return found
