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


def line(i: int, harm: float) -> dict[str, Any]:
    zero = {"error": 1.0, "spread": 2.0, "tokens": 5, "active": 5, "ce": 0.1, "ce_clean": 0.1,
            "ce_zero": 0.1 + harm, "margin": 0.1, "margin_zero": 1.0, "flip": 0}  # fmt: skip
    return {
        "id": f"q{i}", "sae": "s", "hookpoint": "model.layers.1", "arm": "main", "concept": None,
        "cluster": f"q{i}", "status": "ok", "scores": {"fvu": 0.5},
        "detail": {"losses": dict.fromkeys(("all", "image", "text"), zero)},
    }  # fmt: skip


@pytest.mark.parametrize(("harms", "noted"), [((1.0, 2.0), False), ((-1.0, 1.0), True)])
def test_a_share_of_a_harm_that_may_be_nothing_says_so(
    harms: tuple[float, float], noted: bool
) -> None:
    rows = Core().aggregate([line(i, harms[i % 2]) for i in range(40)])
    notes = {row.metric: row.note for row in rows if row.hookpoint}
    assert notes["ce_recovered"] == (core.NO_SCALE if noted else None)
    assert notes["logit_recovered"] is None
    assert notes["fvu"] is None


def test_a_silent_dictionary_is_zero_ablation(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured({"b_enc": torch.full((512,), -1e4)}, monkeypatch)
    assert rows["l0", "main"].value == 0
    assert rows["ce_recovered", "main"].value == pytest.approx(0, abs=1e-6)
    assert rows["logit_recovered", "main"].value == pytest.approx(0, abs=1e-6)
