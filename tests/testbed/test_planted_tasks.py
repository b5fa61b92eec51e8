"""Built-in tasks on the planted subject with its true SAE: the scores they must give are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.plan import Plan, PlannedTask
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.harness.runner import execute
from lmmsae_eval.harness.task import Context, Task
from lmmsae_eval.sae.topk import TrainedSae
from lmmsae_eval.tasks.halluc import Halluc
from lmmsae_eval.tasks.iou import Iou
from lmmsae_eval.tasks.subject import Subject
from lmmsae_eval.testbed.planted import PlantedTestbed, causal_latents, true_sae
from lmmsae_eval.testbed.planted.dictionary import FEATURES

HOOKPOINT = "model.layers.1"


def score(task: Task[Subject], world: PlantedTestbed, folder: Path, **params: Any) -> Run:
    lmm = world.load_lmm()
    hookpoint = lmm.hookpoint(HOOKPOINT)
    sae = TrainedSae("true", hookpoint, true_sae(hookpoint))
    provider: Any = world
    subject = Subject(lmm, [sae], provider, n_search=300, n_score=150)
    context = Context(subject, ArtefactStore(), SilentProgress(), params=params)
    return execute(Plan([PlannedTask(task, context, params)], folder, {}, {}))


def value(run: Run, metric: str, arm: str = "main", hookpoint: str | None = HOOKPOINT) -> float:
    [row] = [
        row
        for row in run.metrics
        if (row["metric"], row["arm"], row["hookpoint"], row["concept"])
        == (metric, arm, hookpoint, None)
    ]
    return float(row["value"])


@pytest.mark.slow
def test_iou_gives_the_true_sae_the_ceiling_of_the_patch_grid(
    world: PlantedTestbed, tmp_path: Path
) -> None:
    run = score(Iou(), world, tmp_path)
    lines = [line for line in run.lines("iou") if line["latent"] is not None]
    explained = {line["latent"]: line["detail"]["label"] for line in lines if line["arm"] == "main"}
    right = {latent for latent, label in explained.items() if label == FEATURES[latent]}

    assert run.complete
    assert len(explained) >= 55
    # What is always seen together, as snow and white, can't be told apart by its best images.
    assert len(right) >= 0.95 * len(explained)
    for group in ("top", "decile"):
        scores = {
            arm: [
                line["scores"][f"iou_{group}"]
                for line in lines
                if line["id"].endswith(f"/{arm}/{group}") and line["latent"] in right
            ]
            for arm in ("main", "ceiling")
        }
        assert np.mean(scores["main"]) == pytest.approx(np.mean(scores["ceiling"]), rel=0.02)
        assert value(run, f"iou_{group}") > 2 * value(run, f"iou_{group}", "rolled")
        assert value(run, f"iou_{group}") > 3 * value(run, f"iou_{group}", "hard_shuffled")


@pytest.mark.slow
def test_halluc_finds_the_causal_latents_and_mends_all_without_breaking_any(
    world: PlantedTestbed, tmp_path: Path
) -> None:
    run = score(Halluc(), world, tmp_path, n_test=200, random=4)
    [chosen] = [line for line in run.lines("halluc") if line["arm"] == "selection"]

    assert chosen["detail"]["edits"] == {
        topic: {"latents": causal_latents(topic), "scale": 0.0}
        for topic in chosen["detail"]["edits"]
    }
    assert len(chosen["detail"]["edits"]) == 12
    assert value(run, "accuracy", "untouched", None) < 0.95
    for arm in ("main", "steered_replace"):
        assert (value(run, "correction", arm), value(run, "regression", arm)) == (1, 0)
        assert value(run, "accuracy", arm) == 1
    for arm in ("reconstruction", "reconstruction+error"):
        assert (value(run, "correction", arm), value(run, "regression", arm)) == (0, 0)
    assert value(run, "correction", "random") <= 0.1
    assert value(run, "net", "offset_best", None) <= 0.02
    assert value(run, "net_over_offset") > 0
    assert value(run, "net_over_random") > 0
