"""Task `iou` on planted truth: the ceiling is reached, nulls are low, failures are no numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.errors import UnknownNameError
from lmmsae_eval.harness.task import Sample
from lmmsae_eval.tasks.clip import Clip
from lmmsae_eval.tasks.consistency import Consistency
from lmmsae_eval.tasks.dissect import Dissect
from lmmsae_eval.tasks.features import study
from lmmsae_eval.tasks.iou import Iou


def totals(rows: Any, metric: str) -> dict[str, Any]:
    found = [r for r in rows if r.metric == metric and not r.hookpoint and not r.concept]
    return {r.arm: r for r in found}


@pytest.fixture(scope="module")
def scored(study_context: Any, run_task: Any) -> tuple[list[Any], list[Any]]:
    return run_task(Iou(), study_context())


def test_latents_that_equal_their_labels_masks_score_the_ceiling(scored: Any) -> None:
    for group in ("top", "decile"):
        found = totals(scored[1], f"iou_{group}")
        assert found["main"].value == pytest.approx(1)
        assert found["ceiling"].value == pytest.approx(1)
        assert totals(scored[1], f"gain_{group}")["main"].value == pytest.approx(1)


def test_the_gain_stands_beside_the_raw_score_with_its_null_and_its_ceiling(scored: Any) -> None:
    gains = [r for r in scored[1] if r.metric == "gain_top"]
    raw = [r for r in scored[1] if (r.metric, r.arm) == ("iou_top", "main")]
    places = [(r.sae, r.hookpoint, r.concept) for r in gains]
    assert places == [(r.sae, r.hookpoint, r.concept) for r in raw]
    shown = {metric.name for metric in Iou.spec.metrics if metric.headline}
    assert {"iou_top", "gain_top", "iou_decile", "gain_decile"} <= shown


def test_pixels_summed_over_images_weigh_them_by_their_area(scored: Any) -> None:
    """Of a rolled box: its summed IoU is that of all its images drawn on one sheet."""
    ours = [one for one in scored[0] if one["id"].endswith("/top") and one["status"] == "ok"]
    for one in ours:
        if one["arm"] != "random_images":
            low, high = min(known(one)), max(known(one))
            assert low - 1e-6 <= one["scores"]["pooled_top"] <= high + 1e-6
    main = totals(scored[1], "pooled_top")
    assert main["main"].value == pytest.approx(1)
    assert main["main"].null == main["hard_shuffled"].value < 0.15


def known(line: Any) -> list[float]:
    return [value for value in line["detail"]["each"] if value is not None]


def test_the_area_of_a_mask_is_its_share_of_the_picture(world: Any, scored: Any) -> None:
    images = world.Drawn(60, 2, "score")
    [box] = [o for o in scored[0] if o["latent"] == 2 and o["id"].endswith("/main/top")]
    drawn = [images.mask(int(name.rpartition("-")[2]), "box") for name in box["detail"]["images"]]
    assert box["scores"]["area_top"] == pytest.approx(np.mean([mask.mean() for mask in drawn]))
    rows = [r for r in scored[1] if r.metric == "area_top" and r.concept == "scene"]
    assert {r.value for r in rows if r.arm == "main"} == {1.0}


def test_rolled_and_shuffled_nulls_are_far_below(scored: Any) -> None:
    for group in ("top", "decile"):
        found = totals(scored[1], f"iou_{group}")
        assert found["rolled"].value < 0.5
        assert found["hard_shuffled"].value < 0.15
        assert found["main"].null == found["hard_shuffled"].value


def test_nulls_of_the_same_images_lie_between_nothing_and_the_score(scored: Any) -> None:
    found = totals(scored[1], "iou_top")
    for arm in ("other_latent", "whole_image", "centre"):
        assert 0 < found[arm].value < 0.7, arm


def test_the_whole_image_is_a_perfect_mask_of_a_scene(scored: Any) -> None:
    rows = [r for r in scored[1] if r.metric == "iou_top" and r.arm == "whole_image"]
    by_concept = {r.concept: r.value for r in rows if not r.hookpoint}
    assert by_concept["scene"] == pytest.approx(1)
    assert by_concept["object"] < 0.2


def test_neurons_that_are_the_features_score_as_the_features(scored: Any) -> None:
    """The fake LMM has one neuron a label; the sides below the mean say other things."""
    neurons = [one for one in scored[0] if one["arm"] == "neuron" and one["latent"] < 8]
    assert neurons
    top = [one["scores"]["iou_top"] for one in neurons if one["id"].endswith("/top")]
    assert np.mean(top) == pytest.approx(1, abs=0.05)


def test_the_papers_null_is_flagged_as_degenerate(scored: Any) -> None:
    rows = [r for r in scored[1] if r.metric == "iou_top" and r.arm == "random_images"]
    assert rows
    assert all((r.note or "").startswith(("degenerate", "insufficient")) for r in rows)


def test_a_rolled_scene_stays_where_it_is(scored: Any) -> None:
    rows = [r for r in scored[1] if r.metric == "iou_top" and r.arm == "rolled" and not r.hookpoint]
    by_concept = {r.concept: r.value for r in rows}
    assert by_concept["scene"] == pytest.approx(1)
    assert by_concept["object"] < 0.2


def test_the_groups_are_reported_apart_and_never_share_an_image(scored: Any) -> None:
    mine = [one for one in scored[0] if one["arm"] == "main" and one["latent"] == 3]
    images = {one["id"].rpartition("/")[2]: one["detail"].get("images") for one in mine}
    assert len(images["top"]) == len(images["decile"]) == 5
    assert not set(images["top"]) & set(images["decile"])
    assert all(name.startswith("score-") for name in images["top"] + images["decile"])


def test_the_untrained_sae_is_an_arm_with_explanations_of_its_own(scored: Any) -> None:
    untrained = [one for one in scored[0] if one["arm"] == "untrained"]
    assert {one["id"].rpartition("/")[2] for one in untrained} == {"top", "decile", "clip"}
    assert all("/untrained/" in one["cluster"] for one in untrained)
    assert totals(scored[1], "iou_top")["untrained"].n_ok > 0


def test_live_dead_and_dense_latents_are_counted(world: Any, scored: Any) -> None:
    rows = {(r.metric, r.arm): r for r in scored[1] if r.metric.endswith("_latents")}
    assert rows["live_latents", "main"].value == 8
    assert rows["dead_latents", "main"].value == world.n_latents - 8
    assert rows["dense_latents", "main"].value >= 2
    assert ("live_latents", "untrained") in rows


def test_metrics_come_from_the_lines_alone(scored: Any) -> None:
    lines, rows = scored
    assert Iou().aggregate(lines) == rows


def test_ids_are_unique_and_stable(study_context: Any) -> None:
    first, again = ([s.id for s in Iou().samples(study_context())] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(first)


def test_a_wrong_explanation_scores_0_and_is_ok(
    world: Any, study_context: Any, run_task: Any
) -> None:
    lines, _ = run_task(Iou(), study_context([world.perfect_sae()], world.SeeingLMM(says="day")))
    night = [one for one in lines if one["latent"] == 1 and one["arm"] == "main"]
    for one in night:
        if not one["id"].endswith("/clip"):
            assert one["status"] == "ok"
            group = one["id"].rpartition("/")[2]
            assert one["scores"][f"iou_{group}"] == one["scores"][f"pooled_{group}"] == 0


def test_the_ceiling_of_a_label_that_is_on_no_image_is_unscorable(
    world: Any, study_context: Any, run_task: Any
) -> None:
    lines, _ = run_task(Iou(), study_context([world.perfect_sae()], world.SeeingLMM(says="day")))
    night = [one for one in lines if one["latent"] == 1 and one["arm"] == "ceiling"]
    assert {one["detail"]["reason"] for one in night} == {"the label is on none of the images"}


@pytest.mark.parametrize("says", ["unclear", "something"])
def test_without_explanations_everything_is_unscorable(
    world: Any, study_context: Any, run_task: Any, says: str
) -> None:
    lines, rows = run_task(Iou(), study_context(lmm=world.SeeingLMM(says=says)))
    scored = [one for one in lines if one["latent"] is not None]
    assert {one["status"] for one in scored} == {"unscorable"}
    found = totals(rows, "iou_top")["main"]
    assert (found.value, found.n_ok, found.n_total) == (None, 0, 8)


def test_a_latent_that_is_silent_on_held_out_images_is_unscorable(
    world: Any, study_context: Any, run_task: Any
) -> None:
    context = study_context([world.perfect_sae()])

    class Daylight(world.Drawn):  # type: ignore[name-defined]
        def label_maps(self, i: int) -> Any:
            maps = super().label_maps(i)
            maps["scene"][:] = 1
            return maps

    context.subject.__dict__["score"] = Daylight(60, 2, "score")
    lines, _ = run_task(Iou(), context)
    night = [one for one in lines if one["latent"] == 1 and one["arm"] != "census"]
    assert {one["status"] for one in night} == {"unscorable"}
    assert {one["detail"]["reason"] for one in night} == {"silent on held-out images"}


def test_a_label_that_the_segmenter_does_not_know_is_unscorable(study_context: Any) -> None:
    class Blind:
        identity = "blind"

        def segment(self, images: Any, index: int, label: str) -> None:
            return None

    context, task = study_context(), Iou()
    task._segmenter = Blind()
    samples = [s for s in task.samples(context) if s.id.endswith("/top")]
    found = task.evaluate(samples, context)
    assert {outcome.status for outcome in found} == {"unscorable"}


def test_an_exception_is_left_to_the_runner(study_context: Any) -> None:
    class Broken:
        identity = "broken"

        def segment(self, images: Any, index: int, label: str) -> None:
            raise RuntimeError("out of memory")

    context, task = study_context(), Iou()
    task._segmenter = Broken()
    sample = next(iter(task.samples(context)))
    with pytest.raises(RuntimeError, match="out of memory"):
        task.evaluate([sample], context)


def test_outcomes_do_not_depend_on_the_batch(study_context: Any) -> None:
    context = study_context()
    samples: list[Sample] = list(Iou().samples(context))
    together = Iou().evaluate(samples, context)
    alone = [Iou().evaluate([sample], context)[0] for sample in samples]
    for a, b in zip(together, alone, strict=True):
        assert a.status == b.status
        assert a.scores == pytest.approx(b.scores)


def test_a_second_run_asks_the_model_nothing(
    world: Any, study_context: Any, run_task: Any, tmp_path: Path
) -> None:
    first = world.SeeingLMM()
    lines, rows = run_task(Iou(), study_context(lmm=first, root=tmp_path))
    assert first.n_images > 0
    second = world.SeeingLMM()
    again, rows_again = run_task(Iou(), study_context(lmm=second, root=tmp_path))
    assert second.n_images == 0
    assert again == lines
    assert rows_again == rows


def test_another_model_makes_its_own_artefacts(
    world: Any, study_context: Any, run_task: Any, tmp_path: Path
) -> None:
    run_task(Iou(), study_context(root=tmp_path))
    other = world.SeeingLMM(identity="seeing-2")
    run_task(Iou(), study_context(lmm=other, root=tmp_path))
    assert other.n_images > 0


def test_more_live_latents_than_the_limit_are_sampled(study_context: Any, run_task: Any) -> None:
    lines, rows = run_task(Iou(), study_context(latents_per_sae=3))
    asked = {one["latent"] for one in lines if one["arm"] == "main" and one["latent"] is not None}
    assert len(asked) == 3
    assert {r.value for r in rows if (r.metric, r.arm) == ("live_latents", "main")} == {8.0}


def test_hookpoints_have_rows_of_their_own(world: Any, study_context: Any, run_task: Any) -> None:
    saes = [world.perfect_sae(), world.perfect_sae(layer=1)]
    _, rows = run_task(Iou(), study_context(saes))
    found = Counter(r.hookpoint for r in rows if r.metric == "iou_top" and not r.concept)
    assert set(found) == {None, "model.layers.0", "model.layers.1"}
    total = totals(rows, "iou_top")["main"]
    assert total.n_total == 16


def test_cards_show_exemplars_explanation_and_scores(study_context: Any, run_task: Any) -> None:
    context = study_context()
    lines, _ = run_task(Iou(), context)
    cards = list(Iou().cards(lines, context))
    assert len(cards) == 8
    for card in cards:
        assert [caption for caption, _ in card.images] == [
            "exemplars (the explainer saw these)",
            "held out, top",
        ]
        assert card.scores["iou_top"] == pytest.approx(1)
        assert card.tags["concept"] in ("scene", "object", "colour")


def test_every_scored_latent_has_a_card_of_its_own_and_knows_its_neighbours(
    study_context: Any, run_task: Any
) -> None:
    context = study_context()
    lines, _ = run_task(Iou(), context)
    cards = list(Iou().cards(lines, context))
    keys = [card.key for card in cards]
    assert len(set(keys)) == len({line["latent"] for line in lines if line["arm"] == "main"}) == 8
    (study_,) = [s for s in study.studies(context) if s.arm == "main"]
    rows = torch.nn.functional.normalize(study_.sae.sae.W_dec, dim=1)
    for card in cards:
        latent = int(card.key.rpartition("/")[2])
        cosines = rows @ rows[latent]
        cosines[latent] = -2
        near, name = card.related[0]
        where, _, neighbour = near.rpartition("/")
        assert where == card.key.rpartition("/")[0]
        assert float(cosines[int(neighbour)]) == pytest.approx(float(cosines.max()), abs=1e-6)
        assert float(name.rpartition(" ")[2]) == pytest.approx(float(cosines.max()), abs=0.006)


def test_plots_have_a_series_per_arm(study_context: Any, run_task: Any) -> None:
    lines, rows = run_task(Iou(), study_context())
    plots = list(Iou().plots(lines, rows))
    by_layer = next(plot for plot in plots if plot.title == "IoU by layer, top images")
    assert {point["series"] for point in by_layer.points} == {
        "main",
        "rolled",
        "other_latent",
        "hard_shuffled",
        "untrained",
        "neuron",
        "whole_image",
        "centre",
        "random_images",
        "ceiling",
    }
    assert {point["x"] for point in by_layer.points} == {"layer 1"}
    assert all(np.isfinite(point["y"]) for plot in plots for point in plot.points)


@pytest.mark.parametrize("task", [Iou, Clip, Dissect, Consistency])
def test_a_mistyped_parameter_is_refused(study_context: Any, task: Any) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'latents_per_sae'"):
        list(task().samples(study_context(latents_per_sea=3)))
