"""The baseline: a run that somebody has blessed, with a reason. Nothing else ever changes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import IncompleteError, UsageError
from .rundir import RUN, Run, load_run
from .snapshot import SNAPSHOT_VERSION, Snapshot, from_document, snapshot, to_text
from .writing import replace_bytes

BASELINE = Path(".lmmsae-eval/baseline.json")
"""Where a repository keeps its own."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A snapshot with its story."""

    path: Path
    snapshot: Snapshot
    blessed: str | None = None
    """When (UTC); None for a run that is used as one without being blessed."""
    reason: str | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    """Those before it, oldest first: `{run_id, blessed, reason}`."""


def bless(run: Run, reason: str, path: Path = BASELINE) -> Baseline:
    """Make a complete run the baseline in `path`. The story of earlier ones is kept.

    Raises `UsageError` without a reason or for a run over a part of the samples, `IncompleteError`
    for a run that isn't at its end.
    """
    if not reason.strip():
        raise UsageError("a baseline needs a reason; say with --reason why these are good scores")
    require_complete(run)
    if run.status != "complete":
        raise UsageError(f"{run.path} is {run.status}; bless a run that was made without --limit")
    history = _history(path)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    head = {"schema_version": SNAPSHOT_VERSION, "blessed": now, "reason": reason.strip()}
    taken = snapshot(run)
    replace_bytes(path, to_text({**head, "history": history}, taken).encode())
    return Baseline(path, taken, now, reason.strip(), tuple(history))


def load_baseline(path: Path) -> Baseline:
    """A baseline file, or a run's folder used as one. Raises `UsageError` when it is neither."""
    if path.is_dir() or path.name == RUN:
        run = load_run(path)
        require_complete(run)
        return Baseline(path, snapshot(run))
    document = _read(path)
    return Baseline(
        path,
        from_document(document, path),
        document.get("blessed"),
        document.get("reason"),
        tuple(document.get("history", ())),
    )


def require_complete(run: Run) -> None:
    """Half a run has other numbers than the whole."""
    if not run.complete:
        raise IncompleteError(f"{run.path} is partial; run its command again to complete it first")


def _history(path: Path) -> list[Mapping[str, Any]]:
    if not path.exists():
        return []
    before = load_baseline(path)
    last = {"run_id": before.snapshot.run_id, "blessed": before.blessed, "reason": before.reason}
    return [*before.history, last]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            f"no baseline at {path}; bless a run with "
            f"`lmmsae-eval baseline set RUN --reason ... --file {path}`"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no baseline ({error}); restore or bless again") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise UsageError(f"{path} is no baseline: it has no schema_version; name another file")
    if version > SNAPSHOT_VERSION:
        raise UsageError(f"{path} was made by a newer lmmsae-eval; upgrade to read it")
    return dict(document)
