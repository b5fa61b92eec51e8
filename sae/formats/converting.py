"""From one family's files to another's."""

from __future__ import annotations

import shutil
from pathlib import Path

from ...errors import UnknownNameError, UsageError
from ..files import told_in_one_line
from .loading import FAMILIES, stored_at

WRITTEN = {family.name: family.write for family in FAMILIES if family.write}


def convert(ref: str | Path, out: Path, to: str) -> list[Path]:
    """Write every SAE at `ref` into `out` in the layout of family `to`, and return the places.

    `reconstruct(x)` stays the same. All is written, or nothing: a disk that was full can be freed
    and the same command typed again. Raises `UsageError` for an SAE that the layout can't express
    and an `out` that isn't empty, `IncompleteError` for a full disk.
    """
    if to not in WRITTEN:
        raise UnknownNameError("format", to, WRITTEN)
    saes = stored_at(ref)
    for hookpoint, _, _ in saes:
        # It becomes a folder's name, and comes from somebody's file.
        if not hookpoint or Path(hookpoint).name != hookpoint or hookpoint == "..":
            raise UsageError(f"{ref} names a hookpoint {hookpoint!r}; mend it, it can be no folder")
    whole = out.resolve()
    there = whole.is_dir()
    # A folder that is there stays itself: it may be where a shell stands, or a mount.
    partial = (whole if there else whole.parent) / f".{whole.name}.partial"
    with told_in_one_line(out):
        if out.is_file() or (there and any(file != partial for file in whole.iterdir())):
            raise UsageError(f"{out} is not empty; choose a new folder, or remove it first")
    shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
    try:
        places = WRITTEN[to](saes, partial)
        with told_in_one_line(out):
            _take(partial, whole)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [out / place.relative_to(partial) for place in places]


def _take(partial: Path, whole: Path) -> None:
    if partial.parent != whole:
        partial.replace(whole)
        return
    for place in list(partial.iterdir()):
        place.replace(whole / place.name)
