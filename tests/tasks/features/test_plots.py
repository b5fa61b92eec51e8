"""What the plots of arms show."""

from __future__ import annotations

from lmmsae_eval.harness.task import TOO_FEW, MetricRow
from lmmsae_eval.tasks.features.plots import by_concept, by_layer


def row(arm: str, concept: str | None, note: str | None = None) -> MetricRow:
    place = None if concept else "model.layers.1"
    return MetricRow("iou", 0.5, 30, 30, hookpoint=place, arm=arm, concept=concept, note=note)


ROWS = [
    *(row(arm, None) for arm in ("main", "rolled")),
    *(row(arm, concept) for arm in ("main", "rolled") for concept in ("colour", "object")),
    row("rolled", "scene"),
    row("main", "part", TOO_FEW),
]


def test_a_concept_with_too_few_samples_for_a_number_has_no_bar() -> None:
    drawn = by_concept(ROWS, "iou", "IoU by concept").points
    assert {point["x"] for point in drawn} == {"object", "colour", "scene"}


def test_arms_come_in_one_order_so_that_their_colours_are_the_same_in_both_plots() -> None:
    concepts, layers = by_concept(ROWS, "iou", "a").points, by_layer(ROWS, "iou", "b").points
    assert [*dict.fromkeys(p["series"] for p in concepts)] == [p["series"] for p in layers]
    assert [p["x"] for p in concepts if p["series"] == "main"] == ["object", "colour"]
