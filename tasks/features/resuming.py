"""An unfinished survey on disk: the next process goes on where the last one was stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from ...harness.identity import sha256
from ...harness.writing import clear_errors

if TYPE_CHECKING:
    from ...harness.artefacts import ArtefactStore
    from .surveying import Layouts, Surveyor

EVERY = 2048
"""Images between two savings."""


@dataclass(frozen=True, slots=True)
class State:
    """One survey's file. It is replaced in one go, so a kill while saving loses one saving."""

    file: Path
    every: int = EVERY

    def load(self, surveyors: Sequence[Surveyor], layouts: Layouts) -> int:
        """Bring everything to where it was; how many images were done. A damaged file is none."""
        try:
            with self.file.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, BadZipFile):
            return 0
        layouts.restore(_part(found, "layouts"))
        for i, surveyor in enumerate(surveyors):
            surveyor.restore(_part(found, str(i)))
        return int(found["done"])

    def save(self, surveyors: Sequence[Surveyor], layouts: Layouts, done: int) -> None:
        arrays: dict[str, Any] = {"done": np.array(done)}
        parts = {"layouts": layouts.arrays()}
        parts |= {str(i): surveyor.arrays() for i, surveyor in enumerate(surveyors)}
        for name, part in parts.items():
            arrays |= {f"{name}/{key}": value for key, value in part.items()}
        with clear_errors(self.file.parent):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            new = self.file.with_name(f"new-{os.getpid()}.npz")
            np.savez(new, **arrays)
            new.replace(self.file)

    def forget(self) -> None:
        """The survey is whole and stored elsewhere."""
        self.file.unlink(missing_ok=True)
        if self.file.parent.is_dir() and not any(self.file.parent.iterdir()):
            self.file.parent.rmdir()


def state_of(store: ArtefactStore, key: dict[str, Any]) -> State | None:
    """Beside the surveys of a store on disk, where what is a day old is swept away."""
    if store.path is None:
        return None
    return State(store.path / "survey" / f".unfinished-{sha256(key)}" / "state.npz")


def _part(arrays: dict[str, Any], name: str) -> dict[str, Any]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
