"""Task `core` on a linear model whose true dictionary is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.results import line_document
from lmmsae_eval.harness.task import Context
from lmmsae_eval.sae.topk import TrainedSae
from lmmsae_eval.tasks import core
from lmmsae_eval.tasks.core import Core
from lmmsae_eval.tasks.subject import Subject
from lmmsae_eval.testbed.planted import PlantedTestbed, true_sae


def measured(sae_changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    monkeypatch.setattr(core, "QUESTIONS", 24)
    world: Any = PlantedTestbed()
    lmm = world.load_lmm()
    hookpoint = lmm.hookpoint("model.layers.1")
    sae = TrainedSae("true", hookpoint, replace(true_sae(hookpoint), **sae_changes))
    subject = Subject(lmm, [sae, sae.untrained(1)], world, n_search=60, n_score=10)
    context = Context(subject, ArtefactStore(), SilentProgress())
    task = Core()
    samples = list(task.samples(context))
    lines = [
        line_document(task.spec, "strict", sample, outcome)
        for sample, outcome in zip(samples, task.evaluate(samples, context), strict=True)
    ]
    return {(r.metric, r.arm): r for r in task.aggregate(lines) if r.hookpoint}


def test_the_true_dictionary_loses_only_noise_and_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = measured({}, monkeypatch)
    assert rows["fvu_image", "main"].value < rows["fvu_image", "untrained"].value
    assert rows["ce_recovered", "main"].value == pytest.approx(1, abs=1e-3)
    assert rows["logit_recovered", "main"].value == pytest.approx(1, abs=1e-3)
    assert rows["flip", "main"].value == 0
    assert rows["fvu", "mean"].value > 0.99
    assert rows["logit_recovered", "mean"].value < 1
    assert 0 < rows["l0_image", "main"].value <= 10
    # The other latents are spare and never fire.
    assert rows["dead", "main"].value > 0.5


def test_a_silent_dictionary_is_zero_ablation(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured({"b_enc": torch.full((512,), -1e4)}, monkeypatch)
    assert rows["l0", "main"].value == 0
    assert rows["ce_recovered", "main"].value == pytest.approx(0, abs=1e-6)
    assert rows["logit_recovered", "main"].value == pytest.approx(0, abs=1e-6)
