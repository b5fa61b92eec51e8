"""Progress is shown by whoever is asked to, and to nobody else."""

from __future__ import annotations

from io import StringIO

import pytest
from lmmsae_eval.harness.progress import (
    PlainProgress,
    Progress,
    RichProgress,
    SilentProgress,
    progress_for,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_progress_says_start_end_and_at_most_one_line_per_interval() -> None:
    out, clock = StringIO(), Clock()
    with PlainProgress(out, interval=20, clock=clock).step("iou", 100) as step:
        for _ in range(100):
            clock.now += 0.25
            step.advance()

    assert out.getvalue().splitlines() == [
        "iou: 0/100",
        "iou: 80/100, 5 s left",
        "iou: 100/100 done in 25 s",
    ]


def test_a_step_of_unknown_length_counts_without_a_guess() -> None:
    out, clock = StringIO(), Clock()
    with PlainProgress(out, clock=clock).step("reading") as step:
        clock.now = 70
        step.advance(3)

    assert out.getvalue().splitlines() == [
        "reading ...",
        "reading: 3",
        "reading: 3 done in 1 min 10 s",
    ]


def test_a_step_that_breaks_is_not_said_to_be_done() -> None:
    out = StringIO()
    with pytest.raises(RuntimeError), PlainProgress(out).step("iou", 2):
        raise RuntimeError
    assert "done" not in out.getvalue()


def test_bars_nest_and_close_and_brackets_are_not_taken_for_markup() -> None:
    out = StringIO()
    progress = RichProgress(out)
    with progress.step("outer [red]", 2) as outer:
        with progress.step("inner", None) as inner:
            inner.advance()
        progress.say("a [bold] remark")
        outer.advance(2)
    progress.say("after")

    assert "outer [red]" in out.getvalue()
    assert "a [bold] remark" in out.getvalue()
    assert out.getvalue().endswith("after\n")


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress: Progress = SilentProgress()
    with progress.step("x", 3) as step:
        step.advance()
    progress.say("y")
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_lines_are_plain_and_go_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress_for("auto").say("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_each_mode_has_its_display() -> None:
    assert isinstance(progress_for("none"), SilentProgress)
    assert isinstance(progress_for("rich"), RichProgress)
    assert isinstance(progress_for("plain"), PlainProgress)
