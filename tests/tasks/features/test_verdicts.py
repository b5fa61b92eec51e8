"""Youden's J: what judges of known quality must score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lmmsae_eval.tasks.features.verdicts import verdict_rows, youden


def lines(true: list[int | None], foils: list[int | None], kind: str = "moved") -> list[Any]:
    made = []
    for arm, item, score, values in (
        ("main", "true", "tpr", true),
        ("foil", kind, "fpr", foils),
    ):
        for latent, value in enumerate(values):
            made.append(
                {
                    "id": f"s/h/main/{latent}/{item}",
                    "sae": "s",
                    "hookpoint": "model.layers.1",
                    "latent": latent,
                    "arm": arm,
                    "concept": "object",
                    "cluster": f"s/h/main/{latent}",
                    "status": "unscorable" if value is None else "ok",
                    "scores": {} if value is None else {score: float(value)},
                    "detail": {},
                }
            )
    return made


def total(rows: Any, metric: str, arm: str = "main") -> Any:
    found = [
        r for r in rows if (r.metric, r.arm, r.hookpoint, r.concept) == (metric, arm, None, None)
    ]
    assert len(found) == 1
    return found[0]


def test_an_always_1_judge_has_j_0_and_is_flagged() -> None:
    rows = list(verdict_rows(lines([1] * 50, [1] * 50)))
    assert total(rows, "youden_j").value == 0
    assert total(rows, "youden_j").note == "the judge always says 1"
    assert total(rows, "tpr").value == 1
    assert total(rows, "balanced_accuracy").value == 0.5


def test_an_always_0_judge_has_j_0_and_is_flagged() -> None:
    found = total(verdict_rows(lines([0] * 50, [0] * 50)), "youden_j")
    assert (found.value, found.note) == (0, "the judge always says 0")


def test_a_perfect_judge_has_j_1_with_an_interval() -> None:
    found = total(verdict_rows(lines([1] * 50, [0] * 50)), "youden_j")
    assert (found.value, found.note) == (1, None)
    assert 0.8 < found.ci_low < 1
    assert found.ci_high == pytest.approx(1)
    assert found.ci_method == "Newcombe"


def test_j_is_tpr_minus_fpr() -> None:
    rows = list(verdict_rows(lines([1] * 40 + [0] * 10, [1] * 5 + [0] * 45)))
    assert total(rows, "youden_j").value == pytest.approx(0.7)
    assert total(rows, "tpr").value == pytest.approx(0.8)
    assert total(rows, "fpr").value == pytest.approx(0.1)
    assert total(rows, "balanced_accuracy").value == pytest.approx(0.85)
    assert total(rows, "youden_j").ci_low < 0.7 < total(rows, "youden_j").ci_high


def test_shares_have_wilson_intervals() -> None:
    found = total(verdict_rows(lines([1] * 89 + [0] * 11, [0] * 100)), "tpr")
    assert (found.ci_low, found.ci_high) == pytest.approx((0.814, 0.937), abs=0.001)
    assert found.ci_method == "Wilson"


def test_a_coin_judge_covers_0() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        coin = rng.integers(0, 2, (2, 80)).tolist()
        found = total(verdict_rows(lines(*coin)), "youden_j")
        hits += found.ci_low <= 0 <= found.ci_high
    assert hits >= 53


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n", [100, 300])
def test_a_coin_judge_covers_0_in_93_to_97_percent_of_2000_draws(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(2000):
        coin = rng.integers(0, 2, (2, n)).tolist()
        found = total(verdict_rows(lines(*coin)), "youden_j")
        hits += found.ci_low <= 0 <= found.ci_high
    assert 0.93 <= hits / 2000 <= 0.97


def test_foils_of_one_kind_are_counted_by_themselves() -> None:
    mixed = lines([1] * 4, [1] * 4, "moved") + lines([], [0] * 4, "edited")
    rows = list(verdict_rows(mixed))
    assert total(rows, "fpr", "foil_moved").value == 1
    assert total(rows, "fpr", "foil_edited").value == 0
    assert total(rows, "fpr").value == 0.5


def test_what_a_judge_did_not_answer_is_coverage_not_a_verdict() -> None:
    rows = list(verdict_rows(lines([1, None, 1], [0, 0, None])))
    assert (total(rows, "tpr").n_ok, total(rows, "tpr").n_total) == (2, 3)
    assert (total(rows, "youden_j").n_ok, total(rows, "youden_j").n_total) == (4, 6)
    assert total(rows, "youden_j").value == 1


def test_without_judged_foils_there_is_no_j() -> None:
    found = total(verdict_rows(lines([1, 1], [None, None])), "youden_j")
    assert (found.value, found.note) == (None, "insufficient")


def test_youden_of_many_draws_is_taken_row_by_row() -> None:
    sums = np.array([[3.0, 4.0, 1.0, 4.0], [0.0, 0.0, 1.0, 1.0]])
    found = youden(sums)
    assert found[0] == 0.5
    assert np.isnan(found[1])
