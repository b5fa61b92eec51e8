"""What a family of checkpoints has to say for itself: one file a family beside this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...errors import UsageError
from ..sae import SAE


class Stored(NamedTuple):
    """An SAE and what its checkpoint says of its place."""

    hookpoint: str
    sae: SAE
    model: str = ""
    """The model that it was trained on, where that is known."""


@dataclass(frozen=True)
class Family:
    """One layout of files, both ways."""

    name: str
    files: tuple[str, ...]
    """Of one place, by name, everything that belongs to the SAE."""
    find: Callable[[Path], list[Path]]
    """The places under a folder (itself, or its children) that this family has written."""
    read: Callable[[Path], list[Stored]]
    """What is at one place, in float32. Raises `UsageError` in one line for what doesn't fit."""
    write: Callable[[Sequence[Stored], Path], list[Path]] | None = None
    """Into an empty folder; gives the places. None: this family is only read. Raises `UsageError`
    for an SAE that the layout can't express.
    """


def places_with(root: Path, name: str) -> list[Path]:
    """The folder itself if it holds a file of that name, else those of its children that do."""
    if (root / name).is_file():
        return [root]
    return sorted(file.parent for file in root.glob(f"*/{name}"))


def refuse_others(saes: Sequence[Stored], layout: str, architectures: Sequence[str]) -> None:
    """Raises `UsageError` for an SAE of an architecture that a layout has no words for."""
    for hookpoint, sae, _ in saes:
        if sae.architecture not in architectures:
            raise UsageError(
                f"the {layout} layout can't express the {sae.architecture} SAE at {hookpoint}; it "
                f"has {', '.join(architectures)}"
            )
