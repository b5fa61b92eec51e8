"""What chat models were asked and replied: `judge.jsonl`, replayable without key or cost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .writing import read_lines

if TYPE_CHECKING:
    from pathlib import Path

    from .rundir import RunDirectory

Entry = Mapping[str, Any]
"""`{key, role, request_sha256, requested, served, system, parts, params, reply, usage, seconds,
error}`."""


class Transcript:
    """Keeps entries in memory until a run directory is opened, then writes each as it comes.

    A resumed run finds in it what was paid for already.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._replies: dict[tuple[str, str], Entry] = {}
        self._directory: RunDirectory | None = None
        self._lock = threading.Lock()

    def open(self, directory: RunDirectory) -> None:
        """From now on entries go to this run; those that it has already are known again."""
        from .rundir import JUDGE

        waiting, self.entries = self.entries, []
        for known in read_lines(directory.path / JUDGE):
            self._remember(known)
        self._directory = directory
        for entry in waiting:
            self.record(entry)

    def record(self, entry: Entry) -> None:
        """Store one request with its reply or error. Safe to call from several threads."""
        with self._lock:
            if self._directory is not None:
                self._directory.append_judge(entry)
            self._remember(entry)

    def find(self, request_sha256: str, requested: str) -> Entry | None:
        """The entry of a request that this model has answered before."""
        return self._replies.get((request_sha256, requested))

    def summary(self) -> dict[str, Any]:
        """Counts for `run.json`; empty when nothing was asked."""
        if not self.entries:
            return {}
        failed = sum(entry["error"] is not None for entry in self.entries)
        served = sorted({str(entry["served"]) for entry in self.entries if entry["served"]})
        tokens = {name: self._tokens(name) for name in ("prompt_tokens", "completion_tokens")}
        return {"calls": len(self.entries), "failed": failed, "served": served, **tokens}

    def _remember(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry["error"] is None:
            self._replies[entry["request_sha256"], entry["requested"]] = entry

    def _tokens(self, name: str) -> int:
        return sum(int((entry["usage"] or {}).get(name, 0)) for entry in self.entries)


def recorded_replies(file: Path) -> dict[str, Entry]:
    """The answered entries of a `judge.jsonl`, by request digest."""
    entries = read_lines(file)
    return {entry["request_sha256"]: entry for entry in entries if entry["error"] is None}
