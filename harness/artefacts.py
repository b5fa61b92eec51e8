"""What is expensive and shared between tasks: kept by content key, in memory and on disk."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from ..digests import cache_root
from ..errors import UsageError
from .identity import canonical, sha256
from .writing import clear_errors

__all__ = ["Artefact", "ArtefactStore", "cache_root"]

T = TypeVar("T")

_KEY_FILE = "key.json"
_UNFINISHED = ".unfinished-"
_STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Artefact:
    """One thing on disk."""

    kind: str
    key: Mapping[str, Any] | None
    """None where `key.json` is damaged: nothing finds the thing again, it can only be removed."""
    path: Path

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    @property
    def idle(self) -> float:
        """Seconds since it was made or last read."""
        return max(0.0, time.time() - (self.path / _KEY_FILE).stat().st_mtime)

    def remove(self) -> None:
        """Moved aside first, so that a process that looks for it finds all of it or nothing."""
        aside = self.path.with_name(f"{_UNFINISHED}{self.path.name}-{os.getpid()}")
        with clear_errors(self.path):
            self.path.rename(aside)
            shutil.rmtree(aside)


class ArtefactStore:
    """`get` builds a thing once per key. With a root and save/load it survives the process.

    On disk: `root/kind/<sha256 of the key>/` with `key.json` beside the files of `save`. A folder
    is written elsewhere and renamed, so a half-written one is never seen.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.path = root
        self._memory: dict[tuple[str, str], Any] = {}

    def get(
        self,
        kind: str,
        key: Mapping[str, Any],
        build: Callable[[], T],
        save: Callable[[T, Path], None] | None = None,
        load: Callable[[Path], T] | None = None,
    ) -> T:
        """The thing of this kind and key. `save` fills an empty folder, `load` reads it back."""
        digest = sha256(key)
        if (kind, digest) not in self._memory:
            self._memory[kind, digest] = self._find(kind, key, build, save, load)
        return cast("T", self._memory[kind, digest])

    def place(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where such a thing is, or would be. Raises `UsageError` for a store without a root."""
        if self.path is None:
            raise UsageError("a store in memory has no folders; give it a root")
        return self.path / kind / sha256(key)

    def folder(self, kind: str, key: Mapping[str, Any]) -> Path:
        """A thing that grows: its folder, empty at first. Who adds to it replaces whole files."""
        folder = self.place(kind, key)
        if (folder / _KEY_FILE).is_file():
            with suppress(OSError):
                (folder / _KEY_FILE).touch()
        else:
            _write(folder, key, lambda path: None)
        return folder

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether `get` would build nothing."""
        digest = sha256(key)
        there = self.path is not None and (self.path / kind / digest / _KEY_FILE).is_file()
        return there or (kind, digest) in self._memory

    def ls(self) -> list[Artefact]:
        """Everything on disk that can be read."""
        return [artefact for artefact in self.everything() if artefact.key is not None]

    def everything(self) -> list[Artefact]:
        """What `ls` gives, and what is damaged."""
        if self.path is None or not self.path.is_dir():
            return []
        files = sorted(self.path.glob(f"*/*/{_KEY_FILE}"))
        finished = [file for file in files if not file.parent.name.startswith(_UNFINISHED)]
        return [
            Artefact(file.parent.parent.name, _read_key(file), file.parent) for file in finished
        ]

    def _find(
        self,
        kind: str,
        key: Mapping[str, Any],
        build: Callable[[], T],
        save: Callable[[T, Path], None] | None,
        load: Callable[[Path], T] | None,
    ) -> T:
        if self.path is None or save is None or load is None:
            return build()
        folder = self.place(kind, key)
        if (folder / _KEY_FILE).is_file():
            if _read_key(folder / _KEY_FILE) is not None:
                return _read(folder, load)
            Artefact(kind, None, folder).remove()
        thing = build()
        _write(folder, key, lambda path: save(thing, path))
        return thing


def _read_key(file: Path) -> dict[str, Any] | None:
    try:
        key = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return key if isinstance(key, dict) else None


def _read(folder: Path, load: Callable[[Path], T]) -> T:
    try:
        # A read-only cache serves as well; only `prune` then knows no better.
        with suppress(OSError):
            (folder / _KEY_FILE).touch()
        return load(folder)
    except (OSError, ValueError, KeyError, UsageError) as error:
        raise UsageError(
            f"cached {folder} can't be read ({error}); delete that folder and try again"
        ) from error


def _write(folder: Path, key: Mapping[str, Any], save: Callable[[Path], None]) -> None:
    with clear_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder.parent)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
        try:
            save(unfinished)
            (unfinished / _KEY_FILE).write_text(canonical(key))
            _publish(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _publish(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        # Another process was faster with the same content.
        if not (folder / _KEY_FILE).is_file():
            raise


def _remove_stale(parent: Path) -> None:
    """Folders of processes that were killed while writing."""
    for folder in parent.glob(f"{_UNFINISHED}*"):
        if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
