"""A training's state on disk, so that a killed one goes on as if nothing had happened.

A checkpoint is complete when every rank has written its file and the first one the file that they
share; each is whole or absent. The one before is deleted only after that.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UsageError
from .distributed import Ranks
from .files import told_in_one_line, write_tensors

_SECONDS = 60.0
_SHARE = 20
"""By the clock, writing takes at most one part in so many of the time."""
_STEPS = 1000
"""Several ranks can't go by their clocks: they must write at the same step."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read."""

    step: int
    """Steps that were done."""
    own: dict[str, Tensor]
    """What only this rank has."""
    shared: dict[str, Tensor]
    """What every rank has."""


class Checkpoints:
    """The checkpoints of one training in `folder`; `about` says what decides its weights."""

    def __init__(
        self, folder: Path, about: Mapping[str, Any], ranks: Ranks, every: int | None = None
    ) -> None:
        """`every` so many steps, or by the clock."""
        self.folder = folder
        self._about = about
        self._ranks = ranks
        self._every = every or (None if ranks.world == 1 else _STEPS)
        self._written, self._cost = time.monotonic(), 0.0

    def due(self, step: int) -> bool:
        """Whether to write after so many steps."""
        if self._every is not None:
            return step % self._every == 0
        return time.monotonic() - self._written >= max(_SECONDS, _SHARE * self._cost)

    def write(self, step: int, own: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> None:
        """Raises `IncompleteError` when the disk is full; the checkpoint before is still there."""
        start = time.monotonic()
        header = {"about": json.dumps(self._about)}
        with told_in_one_line(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._ranks.rank == 0:
                write_tensors(self._shared(step), shared, header)
            write_tensors(self._own(step), own, header)
        self._ranks.wait()
        for old in self._steps() - {step}:
            self._own(old).unlink(missing_ok=True)
            if self._ranks.rank == 0:
                self._shared(old).unlink(missing_ok=True)
        self._written = time.monotonic()
        self._cost = self._written - start

    def latest(self) -> Saved | None:
        """The newest that every rank has. Raises `UsageError` for that of another training and for
        a damaged one.
        """
        common = set.intersection(*self._ranks.gather_objects(self._steps()))
        if not common:
            self._refuse_other_world()
            return None
        step = max(common)
        shared, about = self._read(self._shared(step))
        self._compare(about)
        return Saved(step, self._read(self._own(step))[0], shared)

    def clear(self) -> None:
        """The training is over."""
        self._ranks.wait()
        if self._ranks.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _own(self, step: int) -> Path:
        name = f"{step:08d}.rank{self._ranks.rank}-of-{self._ranks.world}.safetensors"
        return self.folder / name

    def _shared(self, step: int) -> Path:
        return self.folder / f"{step:08d}.safetensors"

    def _steps(self) -> set[int]:
        found = (re.match(r"\d{8}", file.name) for file in self.folder.glob("*.safetensors"))
        steps = {int(match[0]) for match in found if match}
        return {s for s in steps if self._own(s).is_file() and self._shared(s).is_file()}

    def _refuse_other_world(self) -> None:
        for file in self.folder.glob("*-of-*.safetensors"):
            world = file.stem.rpartition("-of-")[2]
            if world != str(self._ranks.world):
                raise UsageError(
                    f"{self.folder.parent} holds an unfinished training of {world} processes, not "
                    f"{self._ranks.world}; start as many, or delete {self.folder}"
                )

    def _read(self, file: Path) -> tuple[dict[str, Tensor], Any]:
        try:
            with safe_open(file, framework="pt") as stream:
                tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
                return tensors, json.loads(stream.metadata()["about"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"can't read the checkpoint {file} ({error}); delete {self.folder} to start over"
            ) from error

    def _compare(self, about: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(self._about))
        for key in sorted(now.keys() | about.keys()):
            if now.get(key) != about.get(key):
                raise UsageError(
                    f"{self.folder.parent} holds an unfinished training whose {key} is "
                    f"{about.get(key)!r}, not {now.get(key)!r}; finish it by its own command, "
                    f"choose another -o, or delete {self.folder}"
                )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with a prefix before their names, for a file of several parts."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `under` put there."""
    start = f"{prefix}/"
    return {k.removeprefix(start): x for k, x in tensors.items() if k.startswith(start)}
