"""SIGKILL before each single change of a file, and in its middle: the run always goes on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.harness.runner import Plan, PlannedTask, execute
from lmmsae_eval.harness.task import Context, Sample
from lmmsae_eval.harness.transcript import Transcript

if not hasattr(os, "fork"):
    pytest.skip("needs a process that can be copied", allow_module_level=True)

WRITING = os.O_WRONLY | os.O_RDWR
MOVING = ("os.rename", "os.remove", "os.mkdir", "os.truncate")
SAMPLES = 10


@pytest.fixture
def begin(toy: Any) -> Callable[[Path], Plan]:
    """A run in a folder whose every score is a reply that is paid for."""

    def make(folder: Path) -> Plan:
        transcript = Transcript()

        def ask(sample: Sample) -> float:
            known = transcript.find(sample.id, "judge")
            if known is None:
                transcript.begin(sample.id)
                reply = {"request_sha256": sample.id, "requested": "judge", "served": "judge"}
                known = {**reply, "reply": f"0.{sample.id[1:]}", "usage": {}, "params": {}}
                transcript.record({**known, "error": None})
            return float(known["reply"])

        context: Context[Any] = Context(ask, ArtefactStore(), SilentProgress())
        planned = [PlannedTask(toy(), context)]
        return Plan(planned, folder, identity={}, comparability={}, transcript=transcript)

    return make


def changed_file(event: str, arguments: tuple[Any, ...], folder: Path) -> Path | None:
    """The file below the folder that an audited event is about to change."""
    if event not in ("open", *MOVING) or not isinstance(arguments[0], str | Path):
        return None
    if event == "open" and not (arguments[2] or 0) & WRITING:
        return None
    path = Path(arguments[0])
    return path if path.is_relative_to(folder) else None


def killed_before(change: int, plan: Plan) -> tuple[Path, int] | None:
    """Execute in a process that dies before its change number `change`, from 0.

    Returns the file that was changed last and how long it was before that; None when the run ended.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        seen: list[str] = []

        def die(event: str, arguments: tuple[Any, ...]) -> None:
            path = changed_file(event, arguments, plan.directory)
            if path is None:
                return
            if len(seen) == change:
                os.write(writing, (seen[-1] if seen else f"{path}\n0").encode())
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(f"{path}\n{path.stat().st_size if path.is_file() else 0}")

        sys.addaudithook(die)
        try:
            execute(plan)
        finally:
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, encoding="utf-8") as told:
        path, _, size = told.read().partition("\n")
    return (Path(path), int(size)) if os.WIFSIGNALED(status) else None


def tear(path: Path, before: int) -> None:
    """As if the kill had come while the last change was half written."""
    if path.is_file():
        os.truncate(path, (before + path.stat().st_size) // 2)


def facts(run: Run) -> tuple[Any, ...]:
    documents = (run.cards("toy/mean"), run.plots("toy/mean"), run.document["counts"])
    asked = sorted(entry["request_sha256"] for entry in run.judge())
    return run.status, run.damage(), run.metrics, run.lines("toy/mean"), asked, documents


def check_kills(
    folder: Path, begin: Callable[[Path], Plan], torn: bool, first: int, step: int
) -> int:
    """Kill before every `step`-th change, go on, compare. How many changes a whole run makes."""
    whole = facts(execute(begin(folder / "whole")))
    assert whole[:2] == ("complete", [])
    assert len(whole[4]) == SAMPLES

    change = first
    while last := killed_before(change, begin(folder / str(change))):
        if torn:
            tear(*last)
        assert facts(execute(begin(folder / str(change)))) == whole, (change, last)
        change += step
    return change


@pytest.mark.parametrize(("torn", "first"), [(False, 0), (True, 4)], ids=["between", "amid"])
def test_a_kill_at_some_writes_changes_nothing_and_no_reply_is_paid_twice(
    tmp_path: Path, begin: Callable[[Path], Plan], torn: bool, first: int
) -> None:
    assert check_kills(tmp_path, begin, torn, first, step=7) > 2 * SAMPLES


@pytest.mark.campaign
@pytest.mark.parametrize("torn", [False, True], ids=["between", "amid"])
def test_a_kill_at_any_write_changes_nothing_and_no_reply_is_paid_twice(
    tmp_path: Path, begin: Callable[[Path], Plan], torn: bool
) -> None:
    assert check_kills(tmp_path, begin, torn, first=0, step=1) > 2 * SAMPLES
