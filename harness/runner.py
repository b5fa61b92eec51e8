"""Runs tasks: list samples, skip what is stored, evaluate the rest, make metrics from the lines.

Killed at any moment, the same plan goes on where it stopped and ends with the same metrics:
outcomes are on disk before the next batch begins, batches are fixed slices of the sample list, and
metrics are made from the stored lines alone.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..errors import BadImageError, IncompleteError, LmmsaeEvalError, UsageError
from .novelty import what_is_new
from .plan import Plan, PlannedTask, run_document
from .progress import Progress, SilentProgress
from .results import count_statuses, error_document, line_document, metric_document
from .rundir import Run, RunDirectory, load_run
from .selection import check_selection
from .task import Outcome, Sample
from .writing import encode_line

__all__ = ["Plan", "PlannedTask", "execute"]

GIVE_UP_AFTER = 50
"""So many errors in a row mean that something common to all is broken: a dead judge, a full GPU."""


def execute(plan: Plan, progress: Progress | None = None) -> Run:
    """Carry out a plan in `plan.path`, or go on with it; a complete run is returned untouched.

    Samples that broke are stored as `error`, and tried again by the next call. Unless
    `plan.fail_on_error` tolerates their number, the run then stays `partial`; it still has metrics.
    Raises `UsageError`, `IncompleteError` or `KeyboardInterrupt` (also on SIGTERM); in each case
    what was done is kept.
    """
    directory = RunDirectory(plan.path)
    if directory.begun:
        _check_same(plan, load_run(plan.path))
    if directory.sealed:
        return load_run(plan.path)
    shown = progress or SilentProgress()
    check_selection(plan)
    if not directory.begun and (news := what_is_new(plan)):
        shown.say(news)
    with directory.lock(), _sigterm_interrupts():
        return _Execution(plan, directory, shown).run()


class _Execution:
    """One process's work on one run."""

    def __init__(self, plan: Plan, directory: RunDirectory, progress: Progress) -> None:
        self.plan = plan
        self.directory = directory
        self.progress = progress
        self.started = time.monotonic()
        before = load_run(plan.path).document if directory.begun else {}
        self.document = run_document(plan, before)
        self.seconds_before = float(self.document["timing"]["seconds"])

    def run(self) -> Run:
        self._write("partial")
        self.plan.transcript.open(self.directory)
        for work in (self._evaluate, self._conclude):
            for planned in self.plan.tasks:
                self._timed(work, planned)
        return self._finish()

    def _timed(self, work: Callable[[PlannedTask], None], planned: PlannedTask) -> None:
        """Seconds by task: what later plans estimate theirs from."""
        start = time.monotonic()
        work(planned)
        spent = self.document["timing"]["tasks"]
        spent[planned.name] = spent.get(planned.name, 0.0) + time.monotonic() - start

    def _evaluate(self, planned: PlannedTask) -> None:
        samples = self._list_samples(planned)
        done = {line["id"] for line in self._lines(planned) if line["status"] != "error"}
        self._ask_ahead(planned, samples, done)
        in_a_row = 0
        with self.progress.step(planned.name, len(samples)) as step:
            for batch in _slices(samples, planned.task.batch_size):
                missing = {sample.id for sample in batch} - done
                if missing:
                    lines = [
                        line for line in _evaluate_batch(planned, batch) if line["id"] in missing
                    ]
                    self.directory.append(planned.name, lines)
                    in_a_row = _errors_in_a_row(lines, in_a_row)
                step.advance(len(batch))

    def _ask_ahead(
        self, planned: PlannedTask, samples: Sequence[Sample], done: Collection[str]
    ) -> None:
        """Have the questions of all missing samples answered, where they are asked in batches."""
        if planned.ahead is None or all(sample.id in done for sample in samples):
            return
        for _ in planned.ahead.rounds(self.directory, self.progress):
            for batch in _slices(samples, planned.task.batch_size):
                if not all(sample.id in done for sample in batch):
                    _evaluate_batch(planned, batch)

    def _list_samples(self, planned: PlannedTask) -> list[Sample]:
        self.progress.say(f"{planned.name}: listing samples")
        samples = self.plan.listed(planned)
        ids = [sample.id for sample in samples]
        if len(set(ids)) != len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise LmmsaeEvalError(f"bug in task {planned.name!r}: two samples are called {twice!r}")
        strangers = {line["id"] for line in self._lines(planned)} - set(ids)
        if strangers:
            raise LmmsaeEvalError(
                f"bug in task {planned.name!r}: it lists other samples than when "
                f"{self.plan.path} was begun ({min(strangers)!r} is gone); "
                "samples must be fixed by the seed"
            )
        return samples

    def _conclude(self, planned: PlannedTask) -> None:
        """Metrics, cards and plots of a task, from its stored lines."""
        lines = self._lines(planned)
        rows = list(planned.task.aggregate(lines))
        spec, protocol = planned.task.spec, planned.context.protocol
        self.document["metrics"] += [metric_document(spec, protocol, row) for row in rows]
        self.document["counts"][planned.name] = count_statuses(lines)
        self.progress.say(f"{planned.name}: drawing")
        self.directory.write_cards(planned.name, planned.task.cards(lines, planned.context))
        self.directory.write_plots(planned.name, planned.task.plots(lines, rows))

    def _finish(self) -> Run:
        if not self._tolerable():
            self._write("partial")
            return load_run(self.plan.path)
        self._write("limited" if self.plan.limited else "complete")
        self.directory.seal()
        return load_run(self.plan.path)

    def _tolerable(self) -> bool:
        counts = self.document["counts"].values()
        errors, total = (sum(c[key] for c in counts) for key in ("error", "total"))
        allowed = self.plan.fail_on_error
        return bool(errors <= (allowed * total if 0 < allowed < 1 else allowed))

    def _write(self, status: str) -> None:
        self.document["status"] = status
        self.document["judge"] |= self.plan.transcript.summary()
        self.document["timing"]["seconds"] = self.seconds_before + time.monotonic() - self.started
        self.directory.write_document(self.document)

    def _lines(self, planned: PlannedTask) -> list[Mapping[str, Any]]:
        return Run(self.plan.path, self.document).lines(planned.name)


def _slices(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Always the same slices, so that a resumed batch computes what the first would have."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _evaluate_batch(planned: PlannedTask, batch: Sequence[Sample]) -> list[dict[str, Any]]:
    """A line per sample. When the batch breaks, each is tried alone: only the culprit fails."""
    try:
        return _attempt(planned, batch)
    except Exception as error:
        _raise_if_fatal(error)
        if len(batch) == 1:
            return [error_document(planned.task.spec, planned.context.protocol, batch[0], error)]
        return [_evaluate_batch(planned, [sample])[0] for sample in batch]


def _attempt(planned: PlannedTask, batch: Sequence[Sample]) -> list[dict[str, Any]]:
    outcomes = planned.task.evaluate(batch, planned.context)
    if len(outcomes) != len(batch):
        raise RuntimeError(f"{len(outcomes)} outcomes for {len(batch)} samples")
    return [
        _line(planned, sample, outcome) for sample, outcome in zip(batch, outcomes, strict=True)
    ]


def _line(planned: PlannedTask, sample: Sample, outcome: Outcome) -> dict[str, Any]:
    line = line_document(planned.task.spec, planned.context.protocol, sample, outcome)
    encode_line(line)
    return line


def _raise_if_fatal(error: Exception) -> None:
    """What is wrong with the whole command stops it; what is wrong with one sample stays there."""
    if isinstance(error, UsageError | IncompleteError) and not isinstance(error, BadImageError):
        raise error


def _errors_in_a_row(lines: Sequence[Mapping[str, Any]], before: int) -> int:
    count = before
    for line in lines:
        count = count + 1 if line["status"] == "error" else 0
    if count >= GIVE_UP_AFTER:
        message = lines[-1]["error"]["message"]
        raise IncompleteError(
            f"stopped after {count} errors in a row, the last one: {message}; "
            "what was done is kept, type the same command again when that is mended"
        )
    return count


def _check_same(plan: Plan, found: Run) -> None:
    if found.document.get("identity_sha256") != plan.identity_sha256:
        raise UsageError(f"{plan.path} holds another run; choose another output folder")


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does. Only the main thread may set handlers; others leave it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("terminated")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
