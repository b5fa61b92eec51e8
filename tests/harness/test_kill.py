"""A real process, killed for real, or on a disk that is full."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lmmsae_eval.harness.rundir import Run, load_run

SCRIPT = Path(__file__).with_name("interrupted_run.py")


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(folder), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, *options: str) -> tuple[int, str]:
    process = start(folder, *options)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def only_run(folder: Path) -> Run:
    (path,) = folder.iterdir()
    return load_run(path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, float]:
    """The run as it should be, and how many seconds its work takes."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder)
    while not list(folder.glob("*/run.json")):
        time.sleep(0.005)
    begun = time.monotonic()
    process.communicate(timeout=120)
    return only_run(folder), time.monotonic() - begun


def killed_while_working(folder: Path, delay: float) -> bool:
    """Whether the kill came before the run was complete."""
    process = start(folder)
    while not list(folder.glob("*/run.json")) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    return process.returncode == -signal.SIGKILL


def check_killed_run(folder: Path, delays: list[float], whole: Run) -> int:
    """Kill the same run after each delay, let it finish, compare. How many kills hit it at work."""
    hits = sum(killed_while_working(folder, delay) for delay in delays)
    assert finish(folder) == (0, "")
    run = only_run(folder)
    assert run.complete
    assert run.damage() == []
    assert run.metrics == whole.metrics
    assert run.lines("toy/slow") == whole.lines("toy/slow")
    assert run.cards("toy/slow") == whole.cards("toy/slow")
    return hits


def test_a_run_killed_at_random_moments_ends_with_exactly_the_same_metrics(
    tmp_path: Path, uninterrupted: tuple[Run, float]
) -> None:
    whole, seconds = uninterrupted
    moments = random.Random(0)
    hits = 0
    for kills in (1, 2, 3):
        delays = [moments.uniform(0, seconds / kills) for _ in range(kills)]
        hits += check_killed_run(tmp_path / str(kills), delays, whole)
    assert hits > 0


@pytest.mark.campaign
def test_two_hundred_kills_never_change_a_metric(
    tmp_path: Path, uninterrupted: tuple[Run, float]
) -> None:
    whole, seconds = uninterrupted
    moments, hits, round_ = random.Random(1), 0, 0
    while hits < 200:
        kills = moments.randint(1, 6)
        delays = [moments.uniform(0, 1.2 * seconds / kills) for _ in range(kills)]
        hits += check_killed_run(tmp_path / str(round_), delays, whole)
        round_ += 1


@pytest.mark.parametrize("size", [1500, 6000, 20000])
def test_a_full_disk_ends_in_one_line_and_leaves_a_run_that_goes_on(
    tmp_path: Path, uninterrupted: tuple[Run, float], size: int
) -> None:
    code, errors = finish(tmp_path, str(size))

    assert code == 3
    assert errors.count("\n") == 1
    assert "free some space and type the same command again" in errors
    check_killed_run(tmp_path, [], uninterrupted[0])


def test_ctrl_c_on_the_process_leaves_a_run_that_goes_on(
    tmp_path: Path, uninterrupted: tuple[Run, float]
) -> None:
    process = start(tmp_path)
    while not list(tmp_path.glob("*/samples/*.jsonl")):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode != 0
    assert only_run(tmp_path).status == "partial"
    check_killed_run(tmp_path, [], uninterrupted[0])
