"""From what a user types for a run to the run."""

from __future__ import annotations

from pathlib import Path

from ..errors import UnknownNameError, UsageError
from ..harness.rundir import Run, load_run
from .options import RUNS


def find_part(ref: str, folder: Path = RUNS) -> Run:
    """A run as `find_run` finds it, or `RUN:SAE`, the part of one of its SAEs."""
    found, _, sae = ref.rpartition(":")
    if not found or Path(ref).exists() or (folder / ref).is_dir():
        return find_run(ref, folder)
    from ..harness.one_sae import of_sae

    return of_sae(find_run(found, folder), sae)


def find_run(ref: str, folder: Path = RUNS) -> Run:
    """A run by its path, or by its id in the runs' folder. Raises `UsageError`."""
    if Path(ref).exists():
        return load_run(ref)
    if (folder / ref).is_dir():
        return load_run(folder / ref)
    known = [path.parent.name for path in folder.glob("*/run.json")]
    if known:
        raise UnknownNameError("run", ref, known)
    raise UsageError(f"no run {ref!r}, and none in {folder}/; make one with `lmmsae-eval run`")
