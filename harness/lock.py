"""`tasks.lock`: which source belongs to which version of a task. A test holds the two together."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .fingerprint import fingerprint
from .task import Task
from .writing import replace_bytes

LOCK = Path("tasks.lock")
_HEAD = (
    "# Written by `lmmsae-eval tasks lock`; commit it with the change that moved a fingerprint.\n"
)


@dataclass(frozen=True, slots=True)
class Locked:
    """A task's version and the fingerprint of its spec and source."""

    version: int
    fingerprint: str

    @classmethod
    def of(cls, task: type[Task[Any]]) -> Locked:
        return cls(task.spec.version, fingerprint(task))


def read_lock(path: Path) -> dict[str, Locked]:
    """Entries by task. Raises `UsageError` when there is none or it can't be read."""
    if not path.is_file():
        raise UsageError(f"no lock at {path}; write one with `lmmsae-eval tasks lock`")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        return {
            name: Locked(int(entry["version"]), str(entry["fingerprint"]))
            for name, entry in found.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged ({error}); restore it") from error


def drift(
    tasks: Mapping[str, type[Task[Any]]], locked: Mapping[str, Locked], *, some: bool = False
) -> list[str]:
    """What is no longer as locked, a line a task that names the next step; empty when all is.

    With `some` there are other tasks than these, so a locked one that is not here is not gone.
    """
    now = {name: Locked.of(task) for name, task in tasks.items()}
    gone = [f"{name} is locked but there is no such task" for name in locked if name not in now]
    moved = filter(None, (_drift(n, locked.get(n), entry) for n, entry in now.items()))
    return [*moved, *(() if some else gone)]


def renew(
    tasks: Mapping[str, type[Task[Any]]],
    path: Path,
    *,
    same_scores: bool = False,
    some: bool = False,
) -> list[str]:
    """Write the lock anew; returns the names of the tasks that moved.

    With `some` there are other tasks than these: their entries stay as they are.
    Raises `UsageError` when a fingerprint moved and the version did not, unless `same_scores` says
    that no score can have changed.
    """
    before = read_lock(path) if path.exists() else {}
    now = {name: Locked.of(task) for name, task in tasks.items()}
    for name, entry in now.items():
        old = before.get(name)
        if old and entry.version < old.version:
            raise UsageError(f"{name} went back from version {old.version} to {entry.version}")
        if old and _unbumped(old, entry) and not same_scores:
            raise UsageError(
                f"{name} changed and is still version {entry.version}; raise its spec's version, "
                "or say --same-scores when no score can have changed"
            )
    entries = {**before, **now} if some else now
    replace_bytes(path, _text(entries.items()).encode())
    return [name for name, entry in now.items() if before.get(name) != entry]


def _unbumped(old: Locked, new: Locked) -> bool:
    return old.fingerprint != new.fingerprint and old.version == new.version


def _drift(name: str, old: Locked | None, new: Locked) -> str | None:
    if old == new:
        return None
    if old and _unbumped(old, new):
        return (
            f"{name} changed: raise its version from {new.version} and run `lmmsae-eval tasks lock`"
            " (with --same-scores instead when no score can have changed)"
        )
    return f"{name} is not in the lock as it is: run `lmmsae-eval tasks lock`"


def _text(entries: Iterable[tuple[str, Locked]]) -> str:
    parts = [
        f'\n[{json.dumps(name)}]\nversion = {entry.version}\nfingerprint = "{entry.fingerprint}"\n'
        for name, entry in sorted(entries)
    ]
    return _HEAD + "".join(parts)
