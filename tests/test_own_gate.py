"""This repository's own gate: its baseline is of what is shipped, and CI ends as it says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from lmmsae_eval.harness.baseline import BASELINE, load_baseline
from lmmsae_eval.harness.config import read_config
from lmmsae_eval.harness.registry import TASKS
from lmmsae_eval.sae.load import folder_identity
from lmmsae_eval.testbed.provider import WEIGHTS, Testbed

ROOT = Path(__file__).resolve().parent.parent
RENEW = "renew it: scripts/gate --bless REASON"


def test_the_baseline_is_of_the_shipped_testbed_and_of_the_tasks_versions() -> None:
    baseline = load_baseline(ROOT / BASELINE).snapshot
    gated = read_config(ROOT / BASELINE.parent / "gate.toml")

    assert baseline.comparability["model"] == folder_identity(WEIGHTS / "lmm"), RENEW
    assert baseline.comparability["data"] == Testbed.revision, RENEW
    versions = {task["name"]: task["version"] for task in baseline.tasks}
    assert versions == {name: TASKS.get(name).spec.version for name in gated["tasks"]}, RENEW
    assert load_baseline(ROOT / BASELINE).reason


def test_the_baseline_has_clusters_enough_for_a_test_of_every_number_that_is_gated() -> None:
    baseline = load_baseline(ROOT / BASELINE).snapshot
    gated = [row for row in baseline.metrics if (row["task"], row["metric"]) in baseline.headline]

    assert {"iou_top", "iou_decile", "youden_j", "tpr", "fpr"} <= {row["metric"] for row in gated}
    assert [row["metric"] for row in gated if row["note"] == "insufficient"] == []


@pytest.mark.parametrize(
    ("check", "gate", "tests", "end"),
    [(0, 0, 0, 0), (1, 0, 0, 1), (0, 4, 0, 4), (0, 5, 0, 5), (0, 4, 1, 1), (1, 4, 2, 2)],
)
def test_ci_fails_when_linters_gate_or_tests_do_and_ends_on_pytests_summary(
    tmp_path: Path, check: int, gate: int, tests: int, end: int
) -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    _, marker, rest = script.partition("\nscripts/check\n")
    stubs = {"scripts/check": check, "scripts/gate": gate, "pytest": tests}
    for name, code in stubs.items():
        stub = tmp_path / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/bin/sh\necho {name} was here\nexit {code}\n")
        stub.chmod(0o755)

    done = subprocess.run(
        ["bash", "-c", f"set -uo pipefail{marker}{rest}"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert marker
    assert done.returncode == end
    assert done.stdout.splitlines()[-1] == "pytest was here"
    assert done.stdout.count("was here") == 3
