"""Tasks `mono`, `detect` and `fuzz` on planted truth."""

from __future__ import annotations

from typing import Any

import pytest
from lmmsae_eval.tasks.detect import Detect
from lmmsae_eval.tasks.fuzz import Fuzz
from lmmsae_eval.tasks.mono import Mono


def total(rows: Any, metric: str, arm: str = "main") -> Any:
    [row] = [
        r for r in rows
        if (r.metric, r.arm) == (metric, arm) and not r.concept and not r.hookpoint
    ]  # fmt: skip
    return row


def test_a_true_explanation_detects_all_and_a_wrong_one_nothing(
    study_context: Any, run_task: Any
) -> None:
    _, rows = run_task(Detect(), study_context())
    assert total(rows, "detect").value == pytest.approx(1)
    assert total(rows, "detect_lift").value == pytest.approx(1)
    assert total(rows, "detect_hard").value == pytest.approx(1)
    assert total(rows, "detect_auprc").value == pytest.approx(1)
    assert total(rows, "detect_auprc", "hard_shuffled").value < 0.6
    assert total(rows, "detect", "hard_shuffled").value < 0.65
    assert total(rows, "detect").null == total(rows, "detect", "hard_shuffled").value


def test_detection_of_a_latent_that_fires_on_all_images_is_unscorable(
    study_context: Any, run_task: Any
) -> None:
    lines, _ = run_task(Detect(), study_context())
    for one in lines:
        if one["status"] == "ok":
            assert 0 < one["detail"]["prevalence"] < 1
            assert len(one["detail"]["recall_by_decile"]) <= 10


def test_without_explanations_nothing_is_detected_or_located(
    world: Any, study_context: Any, run_task: Any
) -> None:
    for task in (Detect(), Fuzz()):
        lines, rows = run_task(task, study_context(lmm=world.SeeingLMM(says="unclear")))
        assert {one["status"] for one in lines} == {"unscorable"}
        assert all(row.value is None for row in rows)


def test_a_true_explanation_tells_the_highlight_from_a_moved_one(
    study_context: Any, run_task: Any
) -> None:
    lines, rows = run_task(Fuzz(), study_context())
    objects = [
        one["scores"]["fuzz"] for one in lines
        if one["arm"] == "main" and one["concept"] == "object"
    ]  # fmt: skip
    scenes = [
        one["scores"]["fuzz"] for one in lines if one["arm"] == "main" and one["concept"] == "scene"
    ]
    assert objects == pytest.approx([1.0] * len(objects), abs=0.1)
    assert scenes == pytest.approx([0.5] * len(scenes))
    assert total(rows, "fuzz", "hard_shuffled").value == pytest.approx(0.5, abs=0.1)
    assert total(rows, "fuzz_other").value > total(rows, "fuzz_other", "hard_shuffled").value


def test_monosemanticity_stands_beside_its_null(study_context: Any, run_task: Any) -> None:
    lines, rows = run_task(Mono(), study_context())
    main = [one for one in lines if one["arm"] == "main"]
    assert len(main) == 8
    for one in main:
        assert one["scores"]["mono"] == pytest.approx(
            one["scores"]["mono_raw"] - one["detail"]["null"], abs=1e-5
        )
    assert total(rows, "moran").value > 0.3
