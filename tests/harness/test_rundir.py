"""A run as it lies on disk: sound, damaged, foreign, or from the future."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import NotComparableError, UnknownNameError, UsageError
from lmmsae_eval.harness.recompute import recompute_metrics
from lmmsae_eval.harness.registry import TASKS
from lmmsae_eval.harness.rundir import Run, list_runs, load_run
from lmmsae_eval.harness.runner import Plan, execute


@pytest.fixture
def run(plan: Callable[..., Plan]) -> Run:
    return execute(plan())


@pytest.fixture
def toy_is_known(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS._registered, "toy/mean", toy)


def change(run: Run, **fields: Any) -> None:
    document = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(document | fields))


def test_the_manifest_has_the_sha256_of_every_file_but_itself(run: Run) -> None:
    files = json.loads((run.path / "manifest.json").read_text())["files"]
    found = {
        file.relative_to(run.path).as_posix() for file in run.path.rglob("*") if file.is_file()
    }

    assert set(files) == found - {"manifest.json"}
    assert {"run.json", "samples/toy.mean.jsonl", "cards/toy.mean.json"} <= set(files)
    for name, digest in files.items():
        assert digest == hashlib.sha256((run.path / name).read_bytes()).hexdigest()
    assert run.damage() == []


@pytest.mark.parametrize("name", ["run.json", "samples/toy.mean.jsonl", "cards/toy.mean.json"])
def test_a_changed_or_missing_file_is_told_by_name(run: Run, name: str) -> None:
    with (run.path / name).open("a") as file:
        file.write(" ")
    assert run.damage() == [f"{name}: changed"]
    (run.path / name).unlink()
    assert run.damage() == [f"{name}: missing"]


def test_a_manifest_that_points_outside_the_run_is_not_followed(run: Run) -> None:
    outside = run.path.parent / "secret"
    outside.write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    (run.path / "manifest.json").write_text(json.dumps({"files": {"../secret": digest}}))

    assert run.damage() == ["../secret: outside the run"]


def test_a_run_is_found_by_its_folder_or_by_its_file(run: Run) -> None:
    assert load_run(run.path).metrics == run.metrics
    assert load_run(str(run.path / "run.json")).path == run.path


def test_a_folder_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run in .*; name a folder that holds run\.json"):
        load_run(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00\xff"])
def test_garbage_is_one_clear_line(run: Run, text: str) -> None:
    (run.path / "run.json").write_text(text)

    with pytest.raises(UsageError, match="restore it or delete the run") as caught:
        load_run(run.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [None, "1", 0])
def test_a_document_of_something_else_is_refused(run: Run, version: Any) -> None:
    change(run, schema_version=version)

    with pytest.raises(UsageError, match="no schema_version"):
        load_run(run.path)


def test_a_run_from_the_future_asks_for_an_upgrade(run: Run) -> None:
    change(run, schema_version=99)

    with pytest.raises(UsageError, match=r"newer lmmsae-eval \(schema 99\); upgrade"):
        load_run(run.path)


def test_a_document_without_its_parts_is_called_damaged(run: Run) -> None:
    (run.path / "run.json").write_text('{"schema_version": 1}')

    with pytest.raises(UsageError, match="no comparability, metrics, run_id, saes, status, tasks"):
        load_run(run.path)


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("metrics", [{}], "a metric row has no arm"),
        ("metrics", [3], "a metric row has no arm"),
        ("metrics", {}, "metrics is no list"),
        ("tasks", [{"name": "x"}], "a task has no comparability"),
        ("saes", [{}], "a SAE has no name"),
        ("comparability", None, "a run has no comparability"),
    ],
)
def test_a_document_without_its_parts_is_one_clear_line(
    run: Run, part: str, value: object, said: str
) -> None:
    document = {**run.document, part: value}
    if value is None:
        del document[part]
    (run.path / "run.json").write_text(json.dumps(document))

    with pytest.raises(UsageError, match=f"is damaged: {said}.*; restore it or delete") as error:
        load_run(run.path)
    assert "\n" not in str(error.value)


def test_sample_lines_without_their_parts_are_one_clear_line(run: Run) -> None:
    (run.path / "samples" / "toy.mean.jsonl").write_text('{"id": "s1"}\n')

    with pytest.raises(UsageError, match="a line has no id or status"):
        run.lines("toy/mean")


def test_runs_are_listed_oldest_first(run: Run, plan: Callable[..., Plan]) -> None:
    other = execute(plan(seed=1))
    change(other, created="2020-01-01T00:00:00+00:00")

    assert [found.id for found in list_runs(run.path.parent)] == [other.id, run.id]
    assert list_runs(run.path / "nowhere") == []


@pytest.mark.usefixtures("toy_is_known")
def test_every_metric_is_recomputed_from_the_samples_without_the_subject(run: Run) -> None:
    assert recompute_metrics(load_run(run.path)) == run.metrics


@pytest.mark.usefixtures("toy_is_known")
def test_a_tampered_sample_shows_in_the_recomputed_metrics(run: Run) -> None:
    file = run.path / "samples" / "toy.mean.jsonl"
    file.write_text(file.read_text().replace('"score": 0.0', '"score": 1.0'))

    assert recompute_metrics(run)[0]["value"] == pytest.approx(0.55)


@pytest.mark.usefixtures("toy_is_known")
def test_another_version_of_the_task_does_not_recompute(run: Run) -> None:
    tasks = [dict(task, version=7) for task in run.tasks]

    with pytest.raises(NotComparableError, match="made by version 7"):
        recompute_metrics(Run(run.path, {**run.document, "tasks": tasks}))


def test_a_task_that_is_not_installed_does_not_recompute(run: Run) -> None:
    with pytest.raises(UnknownNameError):
        recompute_metrics(run)
