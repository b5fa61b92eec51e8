"""Two keys of a run: *identity* says what may be resumed, *comparability* what may be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

IDENTITY_VERSION = 1
"""Bumped when the key is made in another way, so that old runs are never taken for new ones."""

_LONGEST_STEM = 80


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Raises on NaN and what isn't JSON."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256(value: Any) -> str:
    """Hex digest of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity_key(tasks: Iterable[Mapping[str, Any]], parts: Mapping[str, Any]) -> str:
    """Digest of all that can change an outcome: task versions, protocols, params, models, seed."""
    return sha256(
        {"version": IDENTITY_VERSION, "tasks": [dict(t) for t in tasks], "parts": dict(parts)}
    )


def comparability_key(tasks: Iterable[Mapping[str, Any]], parts: Mapping[str, Any]) -> str:
    """Digest of what two runs must share: task versions, data, sample set, base model, judge."""
    ordered = sorted((dict(t) for t in tasks), key=lambda t: str(t["name"]))
    return sha256({"version": IDENTITY_VERSION, "tasks": ordered, "parts": dict(parts)})


def file_stem(name: str) -> str:
    """A task's name as part of a file name: `package/task` becomes `package.task`."""
    return name.replace("/", ".")


def run_id(task_names: Iterable[str], identity: str) -> str:
    """`iou-halluc-0123456789ab`: readable, and different for every identity."""
    stem = "-".join(file_stem(name) for name in task_names)
    return f"{stem[:_LONGEST_STEM]}-{identity[:12]}"
