"""Two-level intervals, layers at one mix of concepts, and rows that are not ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lmmsae_eval.tasks.features.published_rows import NOTE, published_rows
from lmmsae_eval.tasks.features.tables import mean_rows
from lmmsae_eval.tasks.features.two_levels import (
    METHOD,
    common_mix_rows,
    of_images,
    two_level_interval,
)


def line(latent: int, concept: str, layer: int, each: list[float | None]) -> dict[str, Any]:
    known = [value for value in each if value is not None]
    hookpoint = f"model.layers.{layer}"
    return {
        "id": f"{layer}/{latent}", "cluster": f"{layer}/{latent}", "arm": "main", "sae": "s",
        "hookpoint": hookpoint, "latent": latent, "concept": concept, "status": "ok",
        "scores": {"iou_top": float(np.mean(known))}, "detail": {"each": each},
    }  # fmt: skip


def test_the_value_is_the_mean_of_the_latents_means_whatever_their_images() -> None:
    found = two_level_interval([np.array([0.0, 1.0]), np.array([1.0]), np.zeros(0)])
    assert found.value == pytest.approx(0.75)
    assert found.n_clusters == 2


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Latents differ, and images differ within latents."""
    rng, hits, n = np.random.default_rng(0), 0, 120
    for _ in range(n):
        means = rng.normal(0.5, 0.2, 40)
        found = two_level_interval([rng.normal(mean, 0.2, 5) for mean in means])
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 0.9 <= hits / n <= 1.0


def test_images_that_differ_within_latents_alone_still_give_an_interval() -> None:
    found = two_level_interval([np.array([0.0, 1.0])] * 30)
    assert found.value == 0.5
    assert found.low is not None
    assert found.low < 0.5
    assert found.method == METHOD


def test_cells_of_concept_and_layer_have_two_levels_and_others_as_before() -> None:
    rng = np.random.default_rng(1)
    lines = [line(i, "scene", 1, rng.random(5).tolist()) for i in range(25)]
    plain = {(r.hookpoint, r.concept): r for r in mean_rows(lines, "iou_top", ["main"])}
    both = list(mean_rows(lines, "iou_top", ["main"], of_images=of_images))
    for found in both:
        before = plain[found.hookpoint, found.concept]
        assert found.value == before.value
        if found.hookpoint and found.concept:
            assert found.ci_method == METHOD
        else:
            assert found == before


def test_layers_that_differ_in_their_mix_alone_are_equal_at_the_common_mix() -> None:
    lines = [line(i, "scene", 0, [0.8] * 5) for i in range(30)]
    lines += [line(100 + i, "part", 0, [0.2] * 5) for i in range(10)]
    lines += [line(200 + i, "scene", 1, [0.8] * 5) for i in range(10)]
    lines += [line(300 + i, "part", 1, [0.2] * 5) for i in range(30)]
    lines += [line(400, "colour", 1, [0.0] * 5)]
    rows = list(common_mix_rows(lines, "iou_top", ["main"]))
    assert [r.hookpoint for r in rows] == ["model.layers.0", "model.layers.1"]
    assert [r.value for r in rows] == pytest.approx([0.5, 0.5])
    assert all("scene 0.50" in (r.note or "") for r in rows)


def test_controls_are_weighed_by_the_concepts_of_what_they_control() -> None:
    """The control has more of the easy concept, and is as good as the other in each of the two."""
    lines = [line(i, "scene", 0, [0.8] * 5) for i in range(10)]
    lines += [line(100 + i, "part", 0, [0.2] * 5) for i in range(30)]
    lines += [line(200 + i, "scene", 0, [0.8] * 5) | {"arm": "untrained"} for i in range(60)]
    lines += [line(300 + i, "part", 0, [0.2] * 5) | {"arm": "untrained"} for i in range(20)]
    plain = {row.arm: row.value for row in mean_rows(lines, "iou_top", ["main", "untrained"])
             if row.hookpoint and not row.concept}  # fmt: skip
    assert plain["untrained"] > plain["main"] + 0.2
    mixed = {row.arm: row.value for row in common_mix_rows(lines, "iou_top", ["main", "untrained"])}
    assert mixed == {"main": pytest.approx(0.35), "untrained": pytest.approx(0.35)}


def test_a_concept_that_a_control_lacks_is_in_no_mix() -> None:
    lines = [line(i, "scene", 0, [0.8] * 5) for i in range(10)]
    lines += [line(100 + i, "part", 0, [0.2] * 5) for i in range(30)]
    lines += [line(200 + i, "part", 0, [0.1] * 5) | {"arm": "untrained"} for i in range(20)]
    rows = list(common_mix_rows(lines, "iou_top", ["main", "untrained"]))
    assert [(row.arm, row.value) for row in rows] == [
        ("main", pytest.approx(0.2)), ("untrained", pytest.approx(0.1)),
    ]  # fmt: skip
    assert {row.note for row in rows} == {"mix of part 1.00"}


def test_without_a_concept_in_common_there_is_no_such_row() -> None:
    lines = [line(i, "scene", 0, [0.8] * 5) for i in range(5)]
    lines += [line(i, "part", 1, [0.8] * 5) for i in range(5)]
    assert list(common_mix_rows(lines, "iou_top", ["main"])) == []


@pytest.mark.parametrize("metric", ["iou_search", "clip"])
def test_published_rows_say_that_they_are_not_ours(metric: str) -> None:
    rows = list(published_rows(metric))
    assert all(NOTE in (row.note or "") for row in rows)
    assert {row.arm for row in rows} == {"published", "published_random"}
    assert all(row.sae is None and row.n_total == 0 for row in rows)
    random = [row for row in rows if row.arm == "published_random"]
    assert all(row.ci_low is not None and row.ci_low < (row.value or 0) for row in random)
