"""Versions mean something: tasks are locked to their source, old runs are read, faults are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval import __version__
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness import fingerprint as fingerprints
from lmmsae_eval.harness.advisories import SHIPPED, Advisory, advised, read_advisories
from lmmsae_eval.harness.lock import LOCK, Locked, drift, read_lock, renew
from lmmsae_eval.harness.registry import TASKS
from lmmsae_eval.harness.results import SCHEMA_VERSION
from lmmsae_eval.harness.rundir import Run, load_run
from lmmsae_eval.harness.runner import Plan, execute

ROOT = Path(__file__).resolve().parents[2]
OLD_RUNS = Path(__file__).with_name("runs_by_schema")


def test_no_built_in_task_has_changed_without_its_version() -> None:
    tasks = {name: TASKS.get(name) for name in TASKS.names() if "/" not in name}

    assert drift(tasks, read_lock(ROOT / LOCK)) == []


@pytest.fixture
def versions(toy: Any) -> Callable[..., Any]:
    """A task class of this version whose fingerprint depends on `source`."""

    def make(version: int, source: str) -> Any:
        spec = replace(toy.spec, version=version, description=source)
        return type("Versioned", (toy,), {"spec": spec, "__module__": "typed_in_a_console"})

    return make


def test_a_change_without_a_bump_is_told_and_not_locked(versions: Any, tmp_path: Path) -> None:
    file = tmp_path / "tasks.lock"
    assert renew({"toy": versions(1, "old")}, file) == ["toy"]
    changed = {"toy": versions(1, "new")}

    (line,) = drift(changed, read_lock(file))
    assert "toy changed: raise its version from 1 and run `lmmsae-eval tasks lock`" in line
    with pytest.raises(UsageError, match="still version 1"):
        renew(changed, file)


def test_a_bump_is_locked_and_a_version_never_goes_back(versions: Any, tmp_path: Path) -> None:
    file = tmp_path / "tasks.lock"
    renew({"toy": versions(1, "old")}, file)
    bumped = {"toy": versions(2, "new")}

    assert "run `lmmsae-eval tasks lock`" in drift(bumped, read_lock(file))[0]
    assert renew(bumped, file) == ["toy"]
    assert drift(bumped, read_lock(file)) == []
    assert renew(bumped, file) == []
    with pytest.raises(UsageError, match="went back"):
        renew({"toy": versions(1, "old")}, file)


def test_a_change_that_moves_no_score_is_locked_when_somebody_says_so(
    versions: Any, tmp_path: Path
) -> None:
    file = tmp_path / "tasks.lock"
    renew({"toy": versions(1, "old")}, file)
    changed = {"toy": versions(1, "new")}

    assert renew(changed, file, same_scores=True) == ["toy"]
    assert read_lock(file) == {"toy": Locked.of(changed["toy"])}


def test_a_task_that_is_gone_or_new_is_drift(versions: Any, tmp_path: Path) -> None:
    file = tmp_path / "tasks.lock"
    renew({"toy/old": versions(1, "a")}, file)

    gone, new = sorted(drift({"toy/new": versions(1, "b")}, read_lock(file)), key=len)
    assert "toy/old is locked but there is no such task" in gone + new
    assert "toy/new is not in the lock" in gone + new


@pytest.mark.parametrize("content", [None, "x", "[iou]\nversion = 1\n"])
def test_a_lock_that_cannot_be_read_is_told(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tasks.lock"
    if content is not None:
        file.write_text(content)

    with pytest.raises(UsageError, match=r"no lock|is damaged"):
        read_lock(file)


def test_a_fingerprint_tells_constants_apart_and_not_positions() -> None:
    import ast

    def plain(source: str) -> str:
        return fingerprints._normalised(ast.parse(source))

    assert len({plain(f"x = {value}") for value in ("1", "1.0", "True", "'1'", "None")}) == 5
    assert plain("x = 1") == plain("\n\nx  =  1  # why")


def test_installed_packages_are_listed_once(monkeypatch: pytest.MonkeyPatch, toy: Any) -> None:
    calls = []
    monkeypatch.setattr(
        fingerprints.metadata, "packages_distributions", lambda: calls.append(1) or {}
    )
    fingerprints._distributions.cache_clear()
    stranger = type("Stranger", (toy,), {"__module__": "elsewhere.tasks"})

    for _ in range(3):
        fingerprints.package_of(stranger)
    fingerprints._distributions.cache_clear()

    assert len(calls) == 1


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_run_of_every_schema_is_read_and_its_metrics_made_again(version: int, toy: Any) -> None:
    run = load_run(OLD_RUNS / str(version))

    assert (run.complete, run.damage(), run.status) == (True, [], "complete")
    lines = run.lines("toy/mean")
    assert len(lines) == 10
    (row,) = toy().aggregate(lines)
    (stored,) = run.metrics
    assert (stored["value"], stored["n_ok"]) == (row.value, row.n_ok) == (0.45, 10)
    assert stored["harness_version"] == "0.1.0"


def test_every_number_names_the_harness_that_made_it(plan: Callable[..., Plan]) -> None:
    assert {row["harness_version"] for row in execute(plan()).metrics} == {__version__}


def test_the_shipped_advisories_can_be_read() -> None:
    assert isinstance(read_advisories(SHIPPED), list)


@pytest.mark.parametrize(
    ("advisory", "concerned"),
    [
        (Advisory("toy/mean", "bad"), True),
        (Advisory("toy/mean", "bad", versions="<2"), True),
        (Advisory("toy/mean", "bad", versions=">=2"), False),
        (Advisory("toy/mean", "bad", harness=">=0.1,<0.1.1"), True),
        (Advisory("toy/mean", "bad", harness="<0.1"), False),
        (Advisory("toy/other", "bad"), False),
    ],
)
def test_an_advisory_concerns_its_versions_alone(advisory: Advisory, concerned: bool) -> None:
    run: Run = load_run(OLD_RUNS / "1")

    assert advisory.concerns(run.tasks[0], run.document["harness"]["version"]) is concerned


def test_an_advisory_about_a_run_is_one_line_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "advisories.toml"
    file.write_text('[[advisory]]\ntask = "toy/mean"\nversions = "==1"\nreason = "Ties broken."\n')

    (line,) = advised(load_run(OLD_RUNS / "1"), file)

    assert line.endswith("toy/mean version 1 is known to be wrong: Ties broken.")


@pytest.mark.parametrize("content", ["[[advisory]]\ntask = 1\nwhy = 2\n", "x", "[[advisory]]\n"])
def test_a_damaged_list_of_advisories_is_told(tmp_path: Path, content: str) -> None:
    file = tmp_path / "advisories.toml"
    file.write_text(content)

    with pytest.raises(UsageError, match="no list of advisories"):
        read_advisories(file)
