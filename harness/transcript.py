"""What chat models were asked and replied: `judge.jsonl`, replayable without key or cost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .chat import Reply
from .identity import canonical
from .writing import read_lines

if TYPE_CHECKING:
    from pathlib import Path

    from .kept_replies import KeptReplies
    from .rundir import RunDirectory

Entry = Mapping[str, Any]
"""`{key, role, request_sha256, requested, served, system, parts, form, params, reply, usage,
seconds, attempts, error}`; `kept` where the reply is one of an earlier run and was not paid for;
`batch`: the one that brought it."""


class Transcript:
    """Keeps entries in memory until a run directory is opened, then writes each as it comes.

    A resumed run finds in it what was paid for already, and with `kept` any run finds what another
    one has paid for.
    """

    def __init__(self, kept: KeptReplies | None = None) -> None:
        self.kept = kept
        self.entries: list[Entry] = []
        self.lost = 0
        """Calls of earlier processes that ended before the reply was recorded: made again."""
        self.tokens: Counter[str] = Counter()
        self.batch_tokens: Counter[str] = Counter()
        """Those of them that went in batches."""
        self._replies: dict[tuple[str, str, str], Entry] = {}
        self._served: dict[str, str] = {}
        self._directory: RunDirectory | None = None
        self._lock = threading.Lock()

    def open(self, directory: RunDirectory) -> None:
        """From now on entries go to this run; those that it has already are known again."""
        from .rundir import CALLS, JUDGE

        waiting, self.entries = self.entries, []
        self.tokens.clear()
        self.batch_tokens.clear()
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

    def known(self, request_sha256: str, requested: str, params: Mapping[str, Any]) -> Reply | None:
        """What this model has answered to the request in this run."""
        entry = self.find(request_sha256, requested, params)
        if entry is None:
            return None
        return Reply(entry["reply"], entry["served"], entry["usage"] or {}, cached=True)

    def from_before(self, entry: Mapping[str, Any], served: str | None) -> Reply | None:
        """What the model `served`, the one that answers today, has said to the very same request
        in an earlier run. The reply is recorded with this run's, at no cost.
        """
        found = self.kept.find(entry) if self.kept else None
        if found is None or found["served"] != served:
            return None
        said = {"reply": found["reply"], "served": found["served"], "kept": True}
        self.record({**entry, **said})
        return Reply(found["reply"], found["served"], found["usage"] or {}, cached=True)

    def keep(self, entry: Entry) -> None:
        """Keep a whole reply for other runs, where they are kept."""
        if self.kept is not None:
            self.kept.keep(entry)

    def served(self, requested: str) -> str | None:
        """The name under which this model has answered first."""
        return self._served.get(requested)

    def summary(self) -> dict[str, Any]:
        """Counts for `run.json`; empty when nothing was asked."""
        if not self.entries:
            return {}
        kept = sum(bool(entry.get("kept")) for entry in self.entries)
        failed = sum(entry["error"] is not None for entry in self.entries)
        served = sorted({str(entry["served"]) for entry in self.entries if entry["served"]})
        tokens = {name: self.tokens[name] for name in ("prompt_tokens", "completion_tokens")}
        counts = {"calls": len(self.entries) - kept, "failed": failed, "lost": self.lost}
        return {**counts, **({"kept": kept} if kept else {}), "served": served, **tokens}

    def _remember(self, entry: Entry) -> None:
        self.entries.append(entry)
        counts = {name: int(count) for name, count in (entry["usage"] or {}).items() if count}
        self.tokens.update(counts)
        if entry.get("batch"):
            self.batch_tokens.update(counts)
        if entry["error"] is None:
            params = canonical(entry["params"])
            self._replies[entry["request_sha256"], entry["requested"], params] = entry
            self._served.setdefault(entry["requested"], str(entry["served"]))


def recorded_replies(file: Path) -> dict[str, Entry]:
    """The answered entries of a `judge.jsonl`, by request digest."""
    entries = read_lines(file)
    return {entry["request_sha256"]: entry for entry in entries if entry["error"] is None}
