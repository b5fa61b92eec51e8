"""Dataset IoU: equal to the pixels counted one by one, and as planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.tasks.dissect import Dissect
from lmmsae_eval.tasks.features.dissection import (
    THRESHOLDS,
    Overlaps,
    detector,
    dissect,
    load_overlaps,
    save_overlaps,
)


def overlaps(world: Any, n: int = 16, maximum: float = 2.0) -> Overlaps:
    saes = [world.perfect_sae()]
    maxima = [np.full(world.n_latents, maximum, np.float32)]
    return dissect(world.SeeingLMM(), saes, world.Drawn(n), [range(8)], maxima, SilentProgress())[0]


def by_hand(world: Any, latent: int, label: str, half: int, shift: int, n: int = 16) -> float:
    """The latent's mask is its own label's; the labels are of the image `shift` further on."""
    images = world.Drawn(n)
    own = [*world.vocabulary][latent]
    pairs = [(images.mask(i, own), images.mask((i + shift) % n, label)) for i in range(half, n, 2)]
    inside = sum((a & b).sum() for a, b in pairs)
    return float(inside / max(sum((a | b).sum() for a, b in pairs), 1))


def test_dataset_iou_is_the_ratio_of_summed_pixels(world: Any) -> None:
    found = overlaps(world)
    for latent in (0, 3, 6):
        for column, label in enumerate(world.vocabulary):
            for half in (0, 1):
                for source in (0, 1):
                    value = found.iou(latent)[source, half, 0, column]
                    expected = by_hand(world, latent, label, half, source)
                    assert value == pytest.approx(expected), (latent, label, half, source)


def test_a_threshold_is_a_share_of_the_search_maximum(world: Any) -> None:
    high = overlaps(world, maximum=1e6)
    assert (high.active[:, :, 0] > 0).any()
    assert (high.active[:, :, 1:] == 0).all()
    assert high.iou(0)[0, 0, 1].tolist() == [0.0] * 8


def test_a_planted_latent_detects_its_own_label(world: Any) -> None:
    found = overlaps(world, 40)
    for latent, label in enumerate(world.vocabulary):
        best = detector(found.iou(latent)[0])
        assert [*world.vocabulary][best.label] == label
        assert best.iou == pytest.approx(1)


def test_label_and_threshold_are_scored_on_the_half_they_were_not_picked_on() -> None:
    halves = np.zeros((2, len(THRESHOLDS), 3))
    halves[0, 1, 2], halves[1, 1, 2] = 0.9, 0.1
    halves[1, 0, 0], halves[0, 0, 0] = 0.8, 0.3
    best = detector(halves)
    assert (best.label, best.threshold) == (2, THRESHOLDS[1])
    assert best.iou == pytest.approx((0.1 + 0.3) / 2)


def test_overlaps_come_back_from_disk_as_they_were(world: Any, tmp_path: Path) -> None:
    found = overlaps(world)
    save_overlaps([found], tmp_path)
    again = load_overlaps(tmp_path)[0]
    for name in ("inside", "active", "truth"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))


def test_the_task_finds_what_was_planted_and_its_null_is_far_below(
    study_context: Any, run_task: Any
) -> None:
    lines, rows = run_task(Dissect(), study_context())
    total = {r.arm: r for r in rows if r.metric == "dissect" and not r.hookpoint and not r.concept}
    assert total["main"].value == pytest.approx(1)
    assert total["shuffled"].value < 0.25
    assert total["untrained"].value < total["main"].value
    assert total["main"].null == total["shuffled"].value
    assert {line["status"] for line in lines} == {"ok"}


def test_detectors_and_the_labels_that_have_one_are_counted(
    study_context: Any, run_task: Any
) -> None:
    lines, rows = run_task(Dissect(), study_context())
    found = {(r.metric, r.arm): r for r in rows if not r.hookpoint and not r.concept}
    assert found["detectors", "main"].value == 1
    assert found["unique_detectors", "main"].value == 8
    # A twin of a latent detects nothing new.
    twins = [*lines, *({**one, "cluster": "twin"} for one in lines)]
    again = {(r.metric, r.arm): r.value for r in Dissect().aggregate(twins)
             if not r.hookpoint and not r.concept}  # fmt: skip
    assert again["unique_detectors", "main"] == 8
    weak = [{**one, "scores": {"dissect": 0.03, "detectors": 0.0}} for one in lines]
    none = {r.metric: r.value for r in Dissect().aggregate(weak) if r.arm == "main"}
    assert (none["detectors"], none["unique_detectors"]) == (0, 0)


def test_the_task_needs_no_explanation(world: Any, study_context: Any, run_task: Any) -> None:
    class Mute(world.SeeingLMM):  # type: ignore[name-defined]
        def _logits(self, pixels: np.ndarray) -> Any:
            raise AssertionError("nobody was to be asked")

    lines, _ = run_task(Dissect(), study_context(lmm=Mute()))
    assert len(lines) > 16


def test_concepts_are_those_of_the_best_label(
    world: Any, study_context: Any, run_task: Any
) -> None:
    lines, rows = run_task(Dissect(), study_context([world.perfect_sae()]))
    for one in lines:
        assert one["concept"] == world.vocabulary[one["detail"]["label"]]
    main = [r for r in rows if (r.metric, r.arm, r.hookpoint) == ("dissect", "main", None)]
    assert {r.concept: r.n_ok for r in main} == {None: 8, "scene": 2, "object": 3, "colour": 3}


def test_mass_weighs_latents_by_their_activation(study_context: Any, run_task: Any) -> None:
    lines, rows = run_task(Dissect(), study_context())
    shuffled = [one for one in lines if one["arm"] == "shuffled"]
    mass = np.array([one["detail"]["mass"] for one in shuffled])
    values = np.array([one["scores"]["dissect"] for one in shuffled])
    found = next(
        r
        for r in rows
        if (r.metric, r.arm, r.hookpoint, r.concept) == ("dissect_mass", "shuffled", None, None)
    )
    assert found.value == pytest.approx(float((mass * values).sum() / mass.sum()))
