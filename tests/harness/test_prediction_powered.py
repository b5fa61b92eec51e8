"""Many verdicts and few ratings: the closed form, and how often its interval holds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from lmmsae_eval.harness.prediction_powered import (
    Evidence,
    closed_form,
    half_widths,
    people_alone,
    prediction_powered,
)
from lmmsae_eval.harness.statistics import wilson

PEOPLE = [int(c) for c in "001111111011100011111101101001"]
JUDGED = [int(c) for c in "001111111011100011101100111001"]
OTHERS = [
    int(c)
    for c in "0110100101101000000100111011110001010111001111110111111001100101"
    "101001111111001110001010101011111110"
]


def test_the_closed_form_equals_the_authors_own_package() -> None:
    # ppi-python 0.2.3: ppi_mean_pointestimate and ppi_mean_ci with lam=100/130.
    estimate, variance = closed_form(Evidence(PEOPLE, JUDGED, OTHERS))

    assert estimate == pytest.approx(0.6333333333333333, abs=1e-9)
    half = 1.959963984540054 * variance**0.5
    assert estimate - half == pytest.approx(0.504775842728218, abs=1e-9)
    assert estimate + half == pytest.approx(0.7618908239384486, abs=1e-9)


def test_the_estimate_is_people_s_even_where_the_judge_is_biased() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(20_000) < 0.6).astype(int)
    judge = np.where(rng.random(20_000) < 0.3, 1, truth)  # says 1 far too often
    evidence = Evidence(truth[:4000].tolist(), judge[:4000].tolist(), judge[4000:].tolist())

    assert prediction_powered(evidence).value == pytest.approx(0.6, abs=0.02)
    assert judge.mean() > 0.7


def test_the_estimate_is_the_judge_s_mean_on_all_plus_the_mean_difference_on_some() -> None:
    estimate, _ = closed_form(Evidence(PEOPLE, JUDGED, OTHERS))
    judge = sum([*JUDGED, *OTHERS]) / 130
    assert estimate == pytest.approx(judge + sum(PEOPLE) / 30 - sum(JUDGED) / 30, abs=1e-12)


def test_with_all_items_rated_it_is_what_people_say() -> None:
    found = prediction_powered(Evidence(PEOPLE, JUDGED, []))
    assert found.value == pytest.approx(sum(PEOPLE) / 30)


def test_a_good_judge_makes_the_interval_narrower_and_a_useless_one_does_not() -> None:
    good = _evidence(np.random.default_rng(1), 100, 0.7, 0.95)
    useless = _evidence(np.random.default_rng(1), 100, 0.7, 0.5)

    def width(evidence: Evidence) -> float:
        found = prediction_powered(evidence)
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    alone = people_alone(good)
    assert alone.low is not None
    assert alone.high is not None
    assert width(good) < 0.8 * (alone.high - alone.low)
    assert width(useless) > width(good)


def test_without_ratings_there_is_no_estimate_and_with_few_no_interval() -> None:
    assert prediction_powered(Evidence([], [], OTHERS)).value is None
    few = prediction_powered(Evidence(PEOPLE[:10], JUDGED[:10], OTHERS))
    assert (few.low, few.insufficient) == (None, True)


def test_more_ratings_buy_narrower_intervals() -> None:
    for right in (0.5, 0.9, 1.0):
        evidence = _evidence(np.random.default_rng(2), 100, 0.7, right)
        widths = [half_widths(evidence, n) for n in (100, 200, 400)]
        assert widths[0][0] > widths[1][0] > widths[2][0]
        assert widths[2][1] == pytest.approx(widths[0][1] / 2)


def _evidence(rng: np.random.Generator, n: int, p: float, right: float) -> Evidence:
    """`n` items rated by three people who are right in 95 %, 500 others by the judge alone."""
    total = n + 500
    truth = rng.random(total) < p
    judge = np.where(rng.random(total) < right, truth, ~truth).astype(int)
    said = np.where(rng.random((3, n)) < 0.95, truth[:n], ~truth[:n])
    return Evidence(said.mean(0).tolist(), judge[:n].tolist(), judge[n:].tolist())


def _coverage(n: int, p: float, right: float, draws: int, seed: int = 0) -> float:
    rng = np.random.default_rng([seed, n, round(100 * p), round(100 * right)])
    theta = 0.95 * p + 0.05 * (1 - p)
    hits = 0
    for _ in range(draws):
        found = prediction_powered(_evidence(rng, n, p, right))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= theta <= found.high
    return hits / draws


def test_the_interval_holds_as_often_as_it_says_on_a_sample_of_cases() -> None:
    # 400 draws: three standard errors around .95 are .033.
    for n, p, right in ((100, 0.9, 0.9), (200, 0.5, 0.8)):
        assert 0.917 <= _coverage(n, p, right, 400) <= 0.983


@pytest.mark.campaign
@pytest.mark.parametrize("n", [100, 200, 400])
@pytest.mark.parametrize("p", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("right", [0.6, 0.8, 0.9, 0.97])
def test_the_interval_covers_the_truth_in_93_to_97_percent(n: int, p: float, right: float) -> None:
    assert 0.93 <= _coverage(n, p, right, 4000) <= 0.97


def _wilson_coverage(n: int, p: float) -> float:
    counts = np.random.default_rng([n, round(100 * p)]).binomial(n, p, 4000).tolist()
    bounds = {k: wilson(int(k), n) for k in set(counts)}
    return float(np.mean([bounds[k].low <= p <= bounds[k].high for k in counts]))


@pytest.mark.campaign
@pytest.mark.parametrize("n", [100, 200, 400])
@pytest.mark.parametrize("p", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_wilsons_interval_covers_the_truth_in_93_to_97_percent(n: int, p: float) -> None:
    assert 0.93 <= _wilson_coverage(n, p) <= 0.97


DOCS = Path(__file__).parents[2] / "docs" / "judges-and-people.md"
CELLS = [(n, p) for n in (20, 50, 100, 200) for p in (0.5, 0.7, 0.9, 0.97)]
RIGHT = (0.6, 0.8, 0.9, 0.97)


def _short(share: float) -> str:
    return f"{share:.3f}".removeprefix("0")


def _start_of_row(n: int, p: float) -> str:
    return f"| {n} | {p:g} | {_short(_wilson_coverage(n, p))} |".replace("| 0.", "| .")


@pytest.mark.parametrize(("n", "p"), CELLS)
def test_the_docs_say_how_often_wilsons_interval_holds(n: int, p: float) -> None:
    assert _start_of_row(n, p) in DOCS.read_text(encoding="utf-8")


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_the_docs_hold_the_coverage_table_that_this_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = []
    for n, p in CELLS:
        found = (_short(_coverage(n, p, right, 1500, seed=1)) for right in RIGHT)
        rows.append(f"{_start_of_row(n, p)} {' / '.join(found)} |")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(rows) + "\n")
    assert "\n".join(rows) in DOCS.read_text(encoding="utf-8")
