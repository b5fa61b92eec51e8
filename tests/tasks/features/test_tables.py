"""Rows from stored lines: cells, means, macro means, gains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lmmsae_eval.tasks.features.tables import (
    cells,
    cluster_totals,
    gain_rows,
    macro_rows,
    mean_rows,
    pooled_interval,
    weighted_rows,
)


def line(
    latent: int,
    value: float | None,
    arm: str = "main",
    concept: str | None = "object",
    hookpoint: str = "model.layers.1",
    sae: str = "a",
) -> dict[str, Any]:
    return {
        "id": f"{sae}/{hookpoint}/{latent}/{arm}",
        "sae": sae,
        "hookpoint": hookpoint,
        "latent": latent,
        "arm": arm,
        "concept": concept,
        "cluster": f"{sae}/{hookpoint}/{latent}",
        "status": "unscorable" if value is None else "ok",
        "scores": {} if value is None else {"iou": value},
        "detail": {"mass": float(latent + 1)},
    }


def only(rows: Any, **wanted: Any) -> Any:
    found = [r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


TOTAL = {"hookpoint": None, "concept": None}


def test_there_is_a_cell_per_sae_hookpoint_concept_and_both() -> None:
    lines = [line(0, 1), line(1, 0, concept="part"), line(2, 0, hookpoint="model.layers.2")]
    found = {(c.hookpoint, c.concept): len(c.lines) for c in cells(lines)}
    assert found == {
        (None, None): 3,
        ("model.layers.1", None): 2,
        ("model.layers.2", None): 1,
        (None, "object"): 2,
        (None, "part"): 1,
        ("model.layers.1", "object"): 1,
        ("model.layers.1", "part"): 1,
        ("model.layers.2", "object"): 1,
    }


def test_saes_are_never_pooled() -> None:
    rows = list(mean_rows([line(0, 1), line(0, 0, sae="b")], "iou", ["main"]))
    assert only(rows, sae="a", **TOTAL).value == 1
    assert only(rows, sae="b", **TOTAL).value == 0


def test_a_line_without_concept_counts_in_totals_only() -> None:
    rows = list(mean_rows([line(0, 0.5), line(1, None, concept=None)], "iou", ["main"]))
    total = only(rows, **TOTAL)
    assert (total.value, total.n_ok, total.n_total) == (0.5, 1, 2)
    assert only(rows, hookpoint=None, concept="object").n_total == 1


def test_unscorable_and_error_lines_lower_coverage_not_the_mean() -> None:
    broken = line(2, None) | {"status": "error"}
    total = only(mean_rows([line(0, 1), line(1, None), broken], "iou", ["main"]), **TOTAL)
    assert (total.value, total.n_ok, total.n_total) == (1, 1, 3)


def test_a_cell_with_nothing_scored_has_no_value() -> None:
    total = only(mean_rows([line(0, None)], "iou", ["main"]), **TOTAL)
    assert (total.value, total.ci_low, total.n_ok, total.n_total) == (None, None, 0, 1)


def test_few_latents_are_insufficient_and_still_have_a_value() -> None:
    few = only(mean_rows([line(i, i % 2) for i in range(19)], "iou", ["main"]), **TOTAL)
    many = only(mean_rows([line(i, i % 2) for i in range(20)], "iou", ["main"]), **TOTAL)
    assert few.note == "insufficient"
    assert few.value is not None
    assert many.note is None
    assert many.ci_low < 0.5 < many.ci_high


def test_the_null_stands_beside_main_and_nowhere_else() -> None:
    lines = [line(0, 0.8), line(0, 0.1, "hard_shuffled")]
    rows = list(mean_rows(lines, "iou", ["main", "hard_shuffled"], null="hard_shuffled"))
    assert only(rows, arm="main", **TOTAL).null == 0.1
    assert only(rows, arm="hard_shuffled", **TOTAL).null is None


def test_the_macro_mean_weighs_concepts_alike() -> None:
    lines = [line(i, 1) for i in range(9)] + [line(9, 0, concept="part")]
    found = only(macro_rows(lines, "iou", ["main"]), **TOTAL)
    assert found.metric == "iou_macro"
    assert found.value == pytest.approx(0.5)


def test_the_weighted_mean_weighs_latents_by_mass() -> None:
    rows = weighted_rows([line(0, 1), line(2, 0)], "iou", "mass", ["main"])
    assert only(rows, **TOTAL).value == pytest.approx(0.25)


def gain_lines(main: float, null: float, ceiling: float) -> list[dict[str, Any]]:
    lines = []
    for i in range(30):
        wobble = 0.01 * (i % 3 - 1)
        lines += [
            line(i, main + wobble),
            line(i, null + wobble, "hard_shuffled"),
            line(i, ceiling + wobble, "ceiling"),
        ]
    return lines


def gains(main: float, null: float, ceiling: float) -> float | None:
    lines = gain_lines(main, null, ceiling)
    return only(gain_rows(lines, "iou", "gain", "hard_shuffled", "ceiling"), **TOTAL).value


def test_the_gains_note_prints_null_and_ceiling() -> None:
    rows = [*gain_rows(gain_lines(0.5, 0.1, 0.8), "iou", "gain", "hard_shuffled", "ceiling")]
    assert len(rows) == 4
    assert {row.note for row in rows} == {"hard_shuffled 0.100, ceiling 0.800"}
    assert all(row.ci_method and row.ci_low < row.value < row.ci_high for row in rows)
    few = gain_rows(gain_lines(0.5, 0.1, 0.8)[:57], "iou", "gain", "hard_shuffled", "ceiling")
    assert {row.note for row in few} == {"insufficient"}


def test_arms_of_a_latent_are_drawn_together_for_the_gain() -> None:
    """Easy latents are easy for all three arms: drawn apart the gain would move far more."""
    lines = []
    for i in range(40):
        easy = 0.5 + 0.4 * (i % 2)
        arms = {"main": 0.5 * easy, "hard_shuffled": 0.1 * easy, "ceiling": easy}
        lines += [line(i, value, arm) for arm, value in arms.items()]
    row = only(gain_rows(lines, "iou", "gain", "hard_shuffled", "ceiling"), **TOTAL)
    assert row.value == pytest.approx(0.4 / 0.9)
    assert row.ci_low is None or row.ci_high - row.ci_low < 1e-9


def test_the_gain_is_1_at_the_ceiling_and_0_at_the_null() -> None:
    assert gains(0.8, 0.1, 0.8) == pytest.approx(1)
    assert gains(0.1, 0.1, 0.8) == pytest.approx(0)
    assert gains(0.45, 0.1, 0.8) == pytest.approx(0.5)


def test_the_gain_has_no_value_when_the_ceiling_is_the_null() -> None:
    lines = [line(0, 1), line(0, 1, "hard_shuffled"), line(0, 1, "ceiling")]
    assert only(gain_rows(lines, "iou", "gain", "hard_shuffled", "ceiling"), **TOTAL).value is None


def test_the_bootstrap_covers_a_known_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        totals = np.stack([rng.normal(0.3, 1, 60), np.ones(60)], 1)
        found = pooled_interval(totals, lambda sums: sums[:, 0] / sums[:, 1], 60, seed)
        hits += found.low < 0.3 < found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_totals_are_summed_by_cluster() -> None:
    lines = [line(0, 1), line(0, 2, "rolled"), line(1, 5)]
    totals = cluster_totals(lines, 1, lambda one: [(0, one["scores"]["iou"])])
    assert totals.tolist() == [[3], [5]]
