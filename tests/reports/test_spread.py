"""Repeats: how far the headline numbers lie apart, and where the seed plays no part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.reports.spread import spread

METRICS = [
    {"name": "score", "headline": True, "title": "Score", "unit": "", "range": [0, 1]},
    {"name": "detail", "headline": False, "title": "Detail", "unit": "", "range": [0, 1]},
]


def row(value: float | None, metric: str = "score", **place: Any) -> dict[str, Any]:
    where = {"sae": "s", "hookpoint": "model.layers.1", "layer": 2, "arm": "main", "concept": None}
    around = (None, None) if value is None else (value - 0.1, value + 0.3)
    bounds = {"ci_low": around[0], "ci_high": around[1], "null": None, "note": None}
    counts = {"n_ok": 30, "n_total": 30, "coverage": 1.0, "higher_is_better": True}
    told = {"task": "toy", "metric": metric, "value": value, "protocol": "strict"}
    return {**told, **where, **bounds, **counts, **place}


def run(*rows: dict[str, Any]) -> Run:
    tasks = [{"name": "toy", "metrics": METRICS}]
    return Run(Path("runs/x"), {"run_id": "x", "tasks": tasks, "metrics": list(rows)})


def test_mean_and_standard_deviation_are_between_repeats_and_the_width_within_them() -> None:
    (found,) = spread([run(row(value)) for value in (0.2, 0.4, 0.6)])

    assert found.values == [0.2, 0.4, 0.6]
    assert found.mean == pytest.approx(0.4)
    assert found.sd == pytest.approx(0.2)
    assert (found.lowest, found.highest) == (0.2, 0.6)
    assert found.half_width == pytest.approx(0.2)
    assert not found.same


def test_a_number_that_no_seed_moves_is_said_to_be_the_same() -> None:
    (found,) = spread([run(row(0.5)), run(row(0.5))])

    assert found.same
    assert found.sd == 0


def test_only_headline_numbers_of_the_main_arm_over_all_concepts_are_told() -> None:
    others = [row(0.1, "detail"), row(0.1, arm="foil"), row(0.1, concept="part")]

    (found,) = spread([run(row(0.5), *others), run(row(0.6), *others)])

    assert found.metric == "score"


def test_a_number_that_some_repeats_lack_is_of_the_others() -> None:
    gone, without = run(row(None)), run()

    (found,) = spread([run(row(0.5)), gone, without])

    assert found.values == [0.5, None, None]
    assert (found.mean, found.sd, found.half_width) == (0.5, None, pytest.approx(0.2))
    assert not found.same
    assert spread([gone, without]) == []


def test_layers_are_told_apart() -> None:
    here = [row(v, hookpoint=f"model.layers.{i}", layer=i + 1) for i, v in enumerate((0.1, 0.9))]

    assert [found.layer for found in spread([run(*here), run(*here)])] == [1, 2]
