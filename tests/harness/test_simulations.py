"""Error rates, power and coverage by simulation: a seeded sample; the whole with `campaign`."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from lmmsae_eval.harness.difference import Scores, changes, is_drop, worse_p
from lmmsae_eval.harness.power import detectable
from lmmsae_eval.harness.statistics import mean_interval

DATA = Path(__file__).resolve().parents[3] / "shared/data/hallusionbench/HallusionBench.json"
ALPHA = 0.05
BATCH = 50
FAMILIES = ["answers", "rare answers", "net changes", "skewed scores"]


@cache
def family_sizes() -> np.ndarray:
    """Questions of each image family of HallusionBench: 167 families of 2 to 24."""
    if not DATA.is_file():
        pytest.skip(f"needs {DATA.name} in the folder shared/data/hallusionbench beside the clone")
    questions = json.loads(DATA.read_text(encoding="utf-8"))
    keys = ("category", "subcategory", "set_id")
    return np.array(list(Counter(tuple(q[key] for key in keys) for q in questions).values()))


def sample(random: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Values of all questions, their families, and the true mean; families differ in theirs."""
    sizes = family_sizes()
    family = np.repeat(np.arange(len(sizes)), sizes)
    if kind == "skewed scores":
        effects = random.exponential(0.6, len(sizes))[family]
        return effects + random.normal(0, 0.3, len(family)), family, 0.6
    ability = (0.4, 3.6) if kind == "rare answers" else (1.2, 0.8)
    right = random.random(len(family)) < random.beta(*ability, len(sizes))[family]
    if kind == "net changes":
        again = random.random(len(family)) < 0.6
        changed = random.random(len(family)) < 0.15
        return np.where(changed, again * 1.0 - right, 0.0), family, 0.0
    return right * 1.0, family, 0.1 if kind == "rare answers" else 0.6


def coverage(kind: str, repeats: int) -> float:
    random, hits = np.random.default_rng(29), 0
    for _ in range(repeats):
        values, family, truth = sample(random, kind)
        interval = mean_interval(values.tolist(), family.tolist(), resamples=1000)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= truth <= interval.high
    return hits / repeats


def run_pair(random: np.random.Generator, paired: bool, drop: float) -> tuple[Scores, Scores]:
    """Two runs of 100 families of 3, scores correlated by item and family when paired."""
    family = np.repeat(np.arange(100), 3)
    shared = random.normal(0, 0.2, 100)[family] + random.normal(0, 0.2, 300)
    own = [random.normal(0, 0.1, 100)[family] + random.normal(0, 0.2, 300) for _ in range(2)]
    other = random.normal(0, 0.2, 100)[family] + random.normal(0, 0.2, 300)
    after = (shared if paired else other) + own[1] - drop
    return _scores(shared + own[0], family, ""), _scores(after, family, "" if paired else "x")


def _scores(values: np.ndarray, family: np.ndarray, prefix: str) -> Scores:
    ids = [f"{prefix}{i:03d}" for i in range(len(values))]
    return Scores(ids, [f"{prefix}{f}" for f in family], values.tolist())


def alarms(repeats: int, paired: bool, drop: float = 0.0) -> float:
    """Share of pairs of runs in which the gate's rule sees a drop."""
    random, n = np.random.default_rng(31), 0
    for start in range(0, repeats, BATCH):
        cells = [run_pair(random, paired, drop) for _ in range(BATCH)]
        for made in changes(cells, resamples=1000, seed=start):
            p = worse_p(made, higher_is_better=True)
            n += is_drop(made, p, higher_is_better=True, alpha=ALPHA)
    return n / repeats


def standard_error(share: float, repeats: int) -> float:
    return (share * (1 - share) / repeats) ** 0.5


@pytest.mark.parametrize("kind", FAMILIES)
def test_intervals_over_hallusionbenchs_families_cover_the_truth(kind: str) -> None:
    repeats = 200
    margin = 3 * standard_error(0.95, repeats)
    assert 0.95 - margin <= coverage(kind, repeats) <= 0.95 + margin


@pytest.mark.campaign
@pytest.mark.parametrize("kind", FAMILIES)
def test_intervals_over_hallusionbenchs_families_cover_as_often_as_they_say(kind: str) -> None:
    assert 0.93 <= coverage(kind, 4000) <= 0.97


@pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
def test_without_a_change_the_gates_rule_seldom_alarms(paired: bool) -> None:
    repeats = 300
    assert alarms(repeats, paired) <= ALPHA + 3 * standard_error(ALPHA, repeats)


@pytest.mark.campaign
@pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
def test_without_a_change_the_gates_rule_alarms_in_alpha_of_2000_runs(paired: bool) -> None:
    repeats = 2000
    # Alpha is the true rate's bound; what 2,000 runs show of it has a standard error of its own.
    assert alarms(repeats, paired) <= ALPHA + 2 * standard_error(ALPHA, repeats)


def stated_drop(paired: bool) -> float:
    """What 100 such families can show with power .8, by the run's spread; one-sided is 2 alpha."""
    # Family means: family effects, and item effects over 3 items.
    own, shared = 0.1**2 + 0.2**2 / 3, 0.2**2 + 0.2**2 / 3
    sd = (2 * own) ** 0.5 if paired else (own + shared) ** 0.5
    return detectable(sd, 100, paired=paired, power=0.8, alpha=2 * ALPHA)


@pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
def test_a_drop_of_the_stated_size_is_caught_with_about_the_stated_power(paired: bool) -> None:
    repeats = 300
    caught = alarms(repeats, paired, stated_drop(paired))
    assert abs(caught - 0.8) <= 3 * standard_error(0.8, repeats)


@pytest.mark.campaign
@pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
def test_a_drop_of_the_stated_size_is_caught_with_the_stated_power(paired: bool) -> None:
    repeats = 2000
    caught = alarms(repeats, paired, stated_drop(paired))
    assert caught >= 0.8 - 2 * standard_error(0.8, repeats)
