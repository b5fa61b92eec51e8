"""Samples without a score: how many, why, and which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..harness.task import Line

SHOWN = 40
"""Samples named per reason; the rest are in the run's sample file."""


@dataclass(slots=True)
class Failure:
    """All samples of one task that have no score for the same reason."""

    task: str
    status: str
    reason: str
    count: int = 0
    samples: list[str] = field(default_factory=list)
    """The first ids."""

    @property
    def more(self) -> int:
        return self.count - len(self.samples)


def failures(task: str, lines: Iterable[Line]) -> list[Failure]:
    """Grouped by reason: what broke first, then the most frequent."""
    found: dict[tuple[str, str], Failure] = {}
    for line in lines:
        if line["status"] == "ok":
            continue
        key = (line["status"], reason(line))
        failure = found.setdefault(key, Failure(task, *key))
        failure.count += 1
        if len(failure.samples) < SHOWN:
            failure.samples.append(str(line["id"]))
    return sorted(found.values(), key=lambda f: (f.status != "error", -f.count))


def reason(line: Line) -> str:
    """Why a line has no score, in one line."""
    error: Any = line.get("error")
    if isinstance(error, dict):
        return f"{error.get('type', 'error')}: {error.get('message', '')}"
    return str(error or (line.get("detail") or {}).get("reason") or "no reason given")
