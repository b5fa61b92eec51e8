"""What chat models were asked and replied: `judge.jsonl`, replayable without key or cost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .identity import canonical
from .writing import read_lines

if TYPE_CHECKING:
    from pathlib import Path

    from .rundir import RunDirectory

Entry = Mapping[str, Any]
"""`{key, role, request_sha256, requested, served, system, parts, form, params, reply, usage,
seconds, attempts, error}`."""


class Transcript:
    """Keeps entries in memory until a run directory is opened, then writes each as it comes.

    A resumed run finds in it what was paid for already.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.lost = 0
        """Calls of earlier processes that ended before the reply was recorded: made again."""
        self.tokens: Counter[str] = Counter()
        self._replies: dict[tuple[str, str, str], Entry] = {}
        self._served: dict[str, str] = {}
        self._directory: RunDirectory | None = None
        self._lock = threading.Lock()

    def open(self, directory: RunDirectory) -> None:
        """From now on entries go to this run; those that it has already are known again."""
        from .rundir import CALLS, JUDGE

        waiting, self.entries = self.entries, []
        self.tokens.clear()
        for known in read_lines(directory.path / JUDGE):
            self._remember(known)
        begun = Counter(call["request_sha256"] for call in read_lines(directory.path / CALLS))
        ended = Counter(entry["request_sha256"] for entry in self.entries)
        self.lost = (begun - ended).total()
        self._directory = directory
        for entry in waiting:
            self.record(entry)

    def begin(self, request_sha256: str) -> None:
        """Note that a call is about to be made: should the process die, it is known as lost."""
        with self._lock:
            if self._directory is not None:
                self._directory.append_call({"request_sha256": request_sha256})

    def record(self, entry: Entry) -> None:
        """Store one request with its reply or error. Safe to call from several threads."""
        with self._lock:
            if self._directory is not None:
                self._directory.append_judge(entry)
            self._remember(entry)

    def find(
        self, request_sha256: str, requested: str, params: Mapping[str, Any] | None = None
    ) -> Entry | None:
        """The entry of a request that this model has answered before, with these parameters."""
        return self._replies.get((request_sha256, requested, canonical(params or {})))

    def served(self, requested: str) -> str | None:
        """The name under which this model has answered first."""
        return self._served.get(requested)

    def summary(self) -> dict[str, Any]:
        """Counts for `run.json`; empty when nothing was asked."""
        if not self.entries:
            return {}
        failed = sum(entry["error"] is not None for entry in self.entries)
        served = sorted({str(entry["served"]) for entry in self.entries if entry["served"]})
        tokens = {name: self.tokens[name] for name in ("prompt_tokens", "completion_tokens")}
        counts = {"calls": len(self.entries), "failed": failed, "lost": self.lost}
        return {**counts, "served": served, **tokens}

    def _remember(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.tokens.update(
            {name: int(count) for name, count in (entry["usage"] or {}).items() if count}
        )
        if entry["error"] is None:
            params = canonical(entry["params"])
            self._replies[entry["request_sha256"], entry["requested"], params] = entry
            self._served.setdefault(entry["requested"], str(entry["served"]))


def recorded_replies(file: Path) -> dict[str, Entry]:
    """The answered entries of a `judge.jsonl`, by request digest."""
    entries = read_lines(file)
    return {entry["request_sha256"]: entry for entry in entries if entry["error"] is None}
