"""`tasks lock`, and advisories wherever scores are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from lmmsae_eval.harness import advisories
from lmmsae_eval.harness.rundir import Run

Type = Callable[..., Result]


def test_a_lock_is_written_checked_and_found_moved(type_command: Type) -> None:
    assert "tasks.lock: iou" in type_command("tasks", "lock", "iou").output
    assert type_command("tasks", "lock", "iou", "--check").exit_code == 0

    lock = Path("tasks.lock")
    lock.write_text(lock.read_text().replace('fingerprint = "', 'fingerprint = "0'))
    moved = type_command("tasks", "lock", "iou", "--check")
    assert moved.exit_code == 2
    assert "raise its version" in moved.stderr
    assert type_command("tasks", "lock", "iou").exit_code == 2
    assert type_command("tasks", "lock", "iou", "--same-scores").exit_code == 0
    assert type_command("tasks", "lock", "iou", "--check").exit_code == 0


def test_a_task_that_is_named_is_locked_and_checked_among_the_others(type_command: Type) -> None:
    assert type_command("tasks", "lock").exit_code == 0
    whole = Path("tasks.lock").read_text()

    assert type_command("tasks", "lock", "iou").output == "tasks.lock: nothing moved\n"

    assert Path("tasks.lock").read_text() == whole
    assert type_command("tasks", "lock", "iou", "--check").exit_code == 0
    assert type_command("tasks", "lock", "--check").exit_code == 0


@pytest.mark.parametrize("words", [("show",), ("submit",), ("compare", "runs/{id}")])
def test_a_known_fault_is_told_where_scores_are_shown(
    words: tuple[str, ...],
    make_run: Callable[..., Run],
    type_command: Type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run()
    fault = advisories.Advisory("consistency", "The judge was deaf.")
    monkeypatch.setattr(advisories, "read_advisories", lambda path: [fault])

    result = type_command(*(word.format(id=run.id) for word in words), run.id)

    assert "is known to be wrong: The judge was deaf." in result.stderr
