"""Blessing a run: with a reason, in a file that a person can review, with the story of earlier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lmmsae_eval.errors import IncompleteError, UsageError
from lmmsae_eval.harness.baseline import bless, load_baseline
from lmmsae_eval.harness.runner import Plan, execute
from lmmsae_eval.harness.snapshot import snapshot

MakePlan = Callable[..., Plan]


def test_a_baseline_reads_back_as_the_snapshot_of_its_run(plan: MakePlan, tmp_path: Path) -> None:
    run = execute(plan())
    file = tmp_path / "deep" / "baseline.json"

    made = bless(run, " first good run ", file)

    found = load_baseline(file)
    assert found.snapshot == made.snapshot == snapshot(run)
    assert (found.reason, found.history) == ("first good run", ())
    assert [item.scores for item in found.snapshot.samples["toy/mean"]][3] == {"score": 0.3}


def test_every_sample_is_a_line_of_the_file(plan: MakePlan, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    bless(execute(plan()), "good", file)

    lines = file.read_text().splitlines()
    assert sum(line.startswith('["s') for line in lines) == 10


def test_blessing_again_keeps_the_story(plan: MakePlan, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    first, second = execute(plan()), execute(plan(identity={"model": "n"}))
    bless(first, "one", file)

    bless(second, "two", file)
    third = bless(first, "three", file)

    assert [(h["run_id"], h["reason"]) for h in third.history] == [
        (first.id, "one"),
        (second.id, "two"),
    ]


def test_a_run_can_stand_as_baseline_without_being_blessed(plan: MakePlan) -> None:
    run = execute(plan())

    found = load_baseline(run.path)

    assert (found.snapshot, found.reason) == (snapshot(run), None)


def test_a_baseline_without_a_reason_is_refused(plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        bless(execute(plan()), "  ", tmp_path / "baseline.json")


def test_half_a_run_is_never_blessed(plan: MakePlan, tmp_path: Path) -> None:
    run = execute(plan())
    (run.path / "manifest.json").unlink()

    with pytest.raises(IncompleteError, match="partial"):
        bless(run, "good", tmp_path / "baseline.json")


def test_a_run_over_a_part_of_the_samples_is_never_blessed(plan: MakePlan, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"

    with pytest.raises(UsageError, match="is limited; bless a run that was made without --limit"):
        bless(execute(plan(limit=5)), "good", file)
    assert not file.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "baseline set RUN --reason"),
        ("{", "restore or bless again"),
        ("[]", "no schema_version"),
        (json.dumps({"schema_version": 99}), "upgrade"),
        (json.dumps({"schema_version": 1}), "is no baseline"),
        (json.dumps({"schema_version": 1, "samples": {"t": [[1]]}}), "is no baseline"),
    ],
)
def test_what_is_no_baseline_is_told_in_one_line(
    tmp_path: Path, content: str | None, message: str
) -> None:
    file = tmp_path / "baseline.json"
    if content is not None:
        file.write_text(content)

    with pytest.raises(UsageError, match=message) as raised:
        load_baseline(file)
    assert "\n" not in str(raised.value)
