"""All checks on a submission, cheapest first. What passes can be recomputed by anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from math import isclose
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..harness.identity import run_id
from ..harness.recompute import recompute_metrics
from ..harness.registry import TASKS
from ..harness.results import count_statuses, spec_document
from ..harness.rundir import JUDGE, MANIFEST, RUN, Run, load_run, samples_file
from .reading import (
    MAX_DOCUMENT,
    MAX_FILE,
    MAX_TOTAL,
    listed_files,
    parse,
    parse_lines,
    read_bytes,
)
from .refusal import refusal
from .schema import check_line, check_run

TOLERANCE = 1e-9
"""How far a metric may lie from what its samples give, absolutely and relatively."""

_NUMBERS = ("value", "ci_low", "ci_high", "null")
_EXACT = ("n_ok", "n_total", "note")
_CELL = ("task", "protocol", "sae", "hookpoint", "arm", "concept", "metric")


def verify(source: Path, staged: Path) -> Run:
    """Check a run's folder or a stored submission; its files are left, unpacked, in `staged`.

    Raises `InvalidSubmissionError`, its message beginning with a code of `refusal.CODES`.
    """
    files = _read(source)
    document = parse(files[RUN], RUN)
    check_run(document)
    _check_status(document)
    _check_lines(document, files)
    for name, content in files.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_bytes(content)
    run = load_run(staged)
    _check_consistent(run)
    _check_tasks(run)
    _check_metrics(run)
    _check_ranges(run)
    return run


def _read(source: Path) -> dict[str, bytes]:
    """Every file of the submission, as the manifest has it."""
    files = {MANIFEST: read_bytes(source, MANIFEST, MAX_DOCUMENT)}
    left = MAX_TOTAL
    for name, digest in listed_files(parse(files[MANIFEST], MANIFEST)).items():
        files[name] = read_bytes(source, name, MAX_DOCUMENT if name == RUN else MAX_FILE)
        left -= len(files[name])
        if left < 0:
            raise refusal("LB003", f"all files together have more than {MAX_TOTAL // 10**6} MB")
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise refusal("LB007", f"{name} was changed after the run had ended")
    return files


def _check_status(document: Mapping[str, Any]) -> None:
    if document["status"] != "complete":
        raise refusal("LB006", f"the run is {document['status']}; boards take complete runs only")


def _check_lines(document: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    for task in document["tasks"]:
        name = samples_file(task["name"])
        if name not in files:
            raise refusal("LB007", f"{name} is missing; submit the run's whole folder")
        for where, line in parse_lines(files[name], name):
            check_line(line, task, where)
    replies = sum(1 for _ in parse_lines(files.get(JUDGE, b""), JUDGE))
    calls = document["judge"].get("calls", 0)
    if replies < (calls if isinstance(calls, int) else 0):
        raise refusal("LB012", f"{JUDGE} has {replies} of {calls} replies of the judge")


def _check_consistent(run: Run) -> None:
    names = [task["name"] for task in run.tasks]
    if run.id != run_id(names, run.document["identity_sha256"]):
        raise refusal("LB008", f"run_id {run.id!r} doesn't follow from the run's identity")
    for name in names:
        if run.document["counts"].get(name) != count_statuses(run.lines(name)):
            raise refusal("LB008", f"the counts of {name!r} are not those of its samples")


def _check_tasks(run: Run) -> None:
    """What a task says of itself is shown on the board: it must be what the installed task says."""
    for task in run.tasks:
        try:
            spec = TASKS.get(task["name"]).spec
        except UsageError as error:
            raise refusal("LB010", str(error)) from error
        for key, right in spec_document(spec).items():
            if task.get(key) != right:
                reason = f"{key} of task {spec.name!r} is not that of installed version"
                raise refusal("LB010", f"{reason} {spec.version}; install what made the run")


def _check_metrics(run: Run) -> None:
    recomputed = _by_cell(_recompute(run))
    stored = _by_cell(run.metrics)
    if len(stored) != len(run.metrics):
        raise refusal("LB009", "run.json says a metric twice")
    for cell in stored.keys() ^ recomputed.keys():
        where = "run.json" if cell in stored else "the samples"
        raise refusal("LB009", f"{_name(cell)} is in {where} alone")
    for cell, row in stored.items():
        _check_row(cell, row, recomputed[cell])


def _recompute(run: Run) -> list[dict[str, Any]]:
    try:
        return recompute_metrics(run)
    # What a stranger's samples can make a task's aggregate raise; it is refused, not scored.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"no metrics can be made of the samples: {type(error).__name__}: {error}"
        raise refusal("LB009", reason) from error


def _check_row(cell: tuple[Any, ...], stored: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    for key in _NUMBERS:
        if not _same(stored[key], right[key]):
            reason = f"{_name(cell)}: {key} is {stored[key]}, its samples give {right[key]}"
            raise refusal("LB009", reason)
    for key in _EXACT:
        if stored[key] != right[key]:
            reason = f"{_name(cell)}: {key} is {stored[key]!r}, its samples give {right[key]!r}"
            raise refusal("LB009", reason)


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _check_ranges(run: Run) -> None:
    ranges = {(t["name"], m["name"]): m["range"] for t in run.tasks for m in t["metrics"]}
    for row in run.metrics:
        low, high = ranges.get((row["task"], row["metric"]), (None, None))
        if _outside(row["value"], low, high):
            reason = f"{row['metric']} of {row['task']!r} is {row['value']}, not in {low}..{high}"
            raise refusal("LB011", reason)


def _outside(value: float | None, low: float | None, high: float | None) -> bool:
    if value is None:
        return False
    too_low = low is not None and value < low - TOLERANCE
    return too_low or (high is not None and value > high + TOLERANCE)


def _by_cell(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    return {tuple(row[key] for key in _CELL): row for row in rows}


def _name(cell: tuple[Any, ...]) -> str:
    return " ".join(str(part) for part in cell if part is not None)
