"""The gate: what counts as a drop, what chance explains, what can't be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import NotComparableError, RegressionError, UnknownNameError, UsageError
from lmmsae_eval.harness.gate import check
from lmmsae_eval.harness.rules import Allowed, Rules
from lmmsae_eval.harness.snapshot import Item, Snapshot

Scores = Sequence[float]
Make = Callable[..., Snapshot]


def made(
    quality: dict[str, Scores],
    *,
    name: str = "run",
    clusters: Sequence[str] | None = None,
    weights: str = "w",
    sae: str = "sae",
    coverage: float = 1.0,
    metric: str = "quality",
    higher: bool | None = True,
) -> Snapshot:
    """A run of one task: `quality` maps hookpoints to the scores of latents 0, 1, 2 ..."""
    rows, items = [], []
    for hookpoint, values in quality.items():
        n = len(values)
        rows.append(_row(hookpoint, float(np.mean(values)), n, coverage, sae, metric, higher))
        items += [
            Item(
                f"{hookpoint}/{i}",
                clusters[i] if clusters else str(i),
                sae,
                hookpoint,
                i,
                {metric: v},
            )
            for i, v in enumerate(values)
        ]
    return Snapshot(
        run_id=name,
        harness={"version": "0.1.0"},
        comparability={"data": "d", "limit": None},
        tasks=[
            {"name": "t", "version": 1, "headline": [metric], "comparability": {"version": 1}},
        ],
        saes=[{"name": sae, "hookpoint": h, "weights_sha256": weights} for h in quality],
        metrics=rows,
        samples={"t": items},
    )


def _row(
    hookpoint: str,
    value: float,
    n: int,
    coverage: float,
    sae: str,
    metric: str,
    higher: bool | None,
) -> dict[str, Any]:
    return {
        "task": "t",
        "protocol": "strict",
        "sae": sae,
        "hookpoint": hookpoint,
        "layer": int(hookpoint[-1]) + 1,
        "metric": metric,
        "value": value,
        "n_ok": n,
        "n_total": round(n / coverage),
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "higher_is_better": higher,
    }


def without_samples(of: Snapshot, **row: Any) -> Snapshot:
    """Numbers that are no mean of samples, such as an AUROC."""
    return replace(of, samples={"t": []}, metrics=[{**r, **row} for r in of.metrics])


GOOD = [0.8] * 20 + [0.6] * 20
BAD = [0.5] * 40


def test_a_run_holds_against_itself() -> None:
    gate = check(made({"layers.0": GOOD}), made({"layers.0": GOOD}), Rules())

    assert gate.failed == []
    assert gate.summary == "check passed: 1 numbers held against run (exit 0)"
    gate.raise_if_failed()


def test_a_clear_drop_fails_and_the_message_is_the_printed_verdict() -> None:
    gate = check(
        made({"layers.0": BAD, "layers.1": GOOD}),
        made({"layers.0": GOOD, "layers.1": GOOD}),
        Rules(),
    )

    assert [v.hookpoint for v in gate.failed] == ["layers.0"]
    assert "t quality at layer 1 dropped by 0.2, more than 0" in gate.summary
    assert gate.summary.endswith("(exit 4)")
    with pytest.raises(RegressionError, match="dropped by") as raised:
        gate.raise_if_failed()
    assert gate.summary in str(raised.value)


def test_a_rise_is_no_regression() -> None:
    assert not check(made({"layers.0": GOOD}), made({"layers.0": BAD}), Rules()).failed


def test_where_lower_is_better_a_rise_is_the_drop() -> None:
    low = made({"layers.0": BAD}, higher=False)
    high = made({"layers.0": GOOD}, higher=False)

    assert check(high, low, Rules()).failed
    assert not check(low, high, Rules()).failed


def test_a_number_without_a_good_side_is_never_gated() -> None:
    either = made({"layers.0": BAD}, higher=None)

    with pytest.raises(UsageError, match="nothing to gate"):
        check(either, made({"layers.0": GOOD}, higher=None), Rules())


@pytest.mark.parametrize(
    ("allowed", "fails"),
    [
        (Allowed(0.19), True),
        (Allowed(0.21), False),
        (Allowed(0.28, relative=True), True),
        (Allowed(0.29, relative=True), False),
    ],
)
def test_a_drop_within_what_is_allowed_passes_however_sure_it_is(
    allowed: Allowed, fails: bool
) -> None:
    """From .7 to .5: .2, or 28.6 %."""
    rules = Rules(max_drop={"quality": allowed})

    gate = check(made({"layers.0": BAD}), made({"layers.0": GOOD}), rules)

    assert bool(gate.failed) == fails


def test_a_drop_that_chance_explains_passes() -> None:
    """Six answers flipped, four of them for the worse."""
    before = [1.0] * 20 + [0.0] * 20
    now = [0.0] * 4 + before[4:38] + [1.0] * 2

    gate = check(made({"layers.0": now}), made({"layers.0": before}), Rules())

    (verdict,) = gate.verdicts
    assert verdict.change is not None
    assert verdict.change.value == pytest.approx(-0.05)
    assert verdict.change.paired
    assert verdict.p_holm == pytest.approx(22 / 64)
    assert verdict.word == "held"


def test_the_p_of_flipped_answers_is_mcnemars_for_the_bad_side() -> None:
    """Seven of seven for the worse: 1 / 2^7."""
    before = [1.0] * 40
    now = [0.0] * 7 + [1.0] * 33

    (verdict,) = check(made({"layers.0": now}), made({"layers.0": before}), Rules()).verdicts

    assert verdict.p_holm == pytest.approx(1 / 2**7)


def test_a_cluster_counts_once_however_many_samples_it_has() -> None:
    """Four families of ten questions fall together: that is four observations, not forty."""
    families = [f"family {i // 10}" for i in range(40)]
    now, before = (made({"layers.0": values}, clusters=families) for values in (BAD, GOOD))

    floor = Rules(max_drop={"t": Allowed()}, minimum={"t": 0.1})
    (verdict,) = check(now, before, floor).verdicts
    assert verdict.word == "too few clusters or no interval for a test"
    assert not verdict.problems


def test_a_gate_that_can_test_nothing_does_not_pass() -> None:
    few = made({"layers.0": [0.8, 0.6] * 5})

    with pytest.raises(UsageError, match=r"none of the 1 numbers can be tested.*--min"):
        check(few, few, Rules())
    assert "1 numbers held" in check(few, few, Rules(minimum={"t": 0.1})).summary


def test_what_could_not_be_tested_is_counted_apart() -> None:
    both = made({"layers.0": GOOD, "layers.1": [0.8] * 10})

    gate = check(both, both, Rules())

    assert gate.summary == "check passed: 1 numbers held, 1 not tested against run (exit 0)"


@pytest.mark.parametrize("noted", ["before", "now"])
def test_a_number_of_too_few_clusters_is_no_evidence_though_it_is_no_mean(noted: str) -> None:
    """Youden's J from .7 to .2, each with a narrow interval: only a floor can fail it."""
    rows = {"before": 0.7, "now": 0.2}
    sides = {
        side: without_samples(
            made({"layers.0": [value] * 9}),
            note="insufficient" if side == noted else None,
        )
        for side, value in rows.items()
    }

    with pytest.raises(UsageError, match="none of the 1 numbers can be tested"):
        check(sides["now"], sides["before"], Rules())
    floor = Rules(max_drop={"t": Allowed()}, minimum={"t": 0.3})
    (verdict,) = check(sides["now"], sides["before"], floor).failed
    assert verdict.problems == ("is 0.2, below the minimum 0.3",)
    assert verdict.change is not None
    assert (verdict.change.p, verdict.change.test) == (None, None)


@pytest.mark.parametrize("bare", ["before", "now"])
def test_an_interval_on_one_side_only_is_no_certainty(bare: str) -> None:
    sides = {
        side: without_samples(
            made({"layers.0": [value] * 40}),
            **({"ci_low": None, "ci_high": None} if side == bare else {}),
        )
        for side, value in {"before": 0.7, "now": 0.69}.items()
    }

    with pytest.raises(UsageError, match="none of the 1 numbers can be tested"):
        check(sides["now"], sides["before"], Rules())


def test_each_number_more_makes_the_gate_more_careful() -> None:
    before, now = [1.0] * 40, [0.0] * 7 + [1.0] * 33
    alone = check(made({"layers.0": now}), made({"layers.0": before}), Rules())
    rest = {f"layers.{i}": before for i in range(1, 8)}

    among_others = check(
        made({"layers.0": now, **rest}), made({"layers.0": before, **rest}), Rules()
    )

    assert alone.failed
    assert not among_others.failed


def test_other_weights_have_other_latents_and_are_tested_unpaired() -> None:
    random = np.random.default_rng(0)
    low, high = random.normal(0.5, 0.05, 60), random.normal(0.6, 0.05, 60)

    gate = check(
        made({"layers.0": low}, weights="new", sae="new"), made({"layers.0": high}), Rules()
    )

    (verdict,) = gate.failed
    assert verdict.change is not None
    assert not verdict.change.paired


@pytest.mark.parametrize(("now", "fails"), [(0.5, True), (0.65, False)])
def test_a_number_that_is_no_mean_is_held_against_its_interval(now: float, fails: bool) -> None:
    """Half widths .1 on both sides: a drop of .119 is the edge."""
    before = without_samples(made({"layers.0": [0.7] * 9}))

    gate = check(
        without_samples(
            made({"layers.0": [now] * 9}), value=now, ci_low=now - 0.1, ci_high=now + 0.1
        ),
        before,
        Rules(),
    )

    assert bool(gate.failed) == fails
    assert gate.verdicts[0].change is not None
    assert gate.verdicts[0].change.test == "stored intervals"


def test_a_number_without_interval_or_samples_fails_by_its_size_alone() -> None:
    bare = {"ci_low": None, "ci_high": None}
    now = without_samples(made({"layers.0": BAD}), **bare)
    before = without_samples(made({"layers.0": GOOD}), **bare)

    assert check(now, before, Rules()).failed
    assert not check(now, before, Rules(max_drop={"t": Allowed(0.3)})).failed


@pytest.mark.parametrize(
    ("on_missing", "word", "fails"),
    [
        ("fail", "is missing in the run", True),
        ("warn", "is missing in the run", False),
        ("ignore", "held", False),
    ],
)
def test_a_missing_number_does_as_told(on_missing: Any, word: str, fails: bool) -> None:
    before = made({"layers.0": GOOD, "layers.1": GOOD})

    gate = check(made({"layers.0": GOOD}), before, Rules(on_missing=on_missing))

    assert gate.verdicts[1].word == word
    assert bool(gate.failed) == fails


def test_a_number_that_became_none_is_missing() -> None:
    gone = without_samples(made({"layers.0": GOOD}), value=None)

    assert check(gone, made({"layers.0": GOOD}), Rules()).failed


def test_coverage_is_gated_apart_from_scores() -> None:
    """Fewer scored samples can raise a mean."""
    now, before = made({"layers.0": GOOD}, coverage=0.5), made({"layers.0": GOOD})

    assert not check(now, before, Rules(min_coverage=0.5)).failed
    (verdict,) = check(now, before, Rules(min_coverage=0.51)).failed
    assert verdict.word == "has scores for 50% of its samples, below 51%"


def test_a_floor_needs_no_baseline() -> None:
    assert not check(made({"layers.0": GOOD}), None, Rules(minimum={"quality": 0.7})).failed
    (verdict,) = check(made({"layers.0": BAD}), None, Rules(minimum={"t:quality": 0.6})).failed
    assert verdict.word == "is 0.5, below the minimum 0.6"


def test_several_problems_of_a_number_are_all_named() -> None:
    now, before = made({"layers.0": BAD}, coverage=0.5), made({"layers.0": GOOD})

    rules = Rules(max_drop={"quality": Allowed()}, minimum={"quality": 0.6}, min_coverage=0.9)
    (verdict,) = check(now, before, rules).failed

    assert len(verdict.problems) == 3


def test_a_rule_about_nothing_is_refused_with_a_hint() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'quality'"):
        check(
            made({"layers.0": GOOD}),
            made({"layers.0": GOOD}),
            Rules(max_drop={"qualty": Allowed()}),
        )


def test_named_metrics_are_gated_alone() -> None:
    two = {"layers.0": GOOD}
    before = replace(made(two), metrics=[*made(two).metrics, *made(two, metric="other").metrics])
    before = replace(before, tasks=[{**before.tasks[0], "headline": ["quality", "other"]}])

    everything = check(before, before, Rules())
    named = check(before, before, Rules(max_drop={"other": Allowed(0.1)}))

    assert [v.metric for v in everything.verdicts] == ["quality", "other"]
    assert [v.metric for v in named.verdicts] == ["other"]


@pytest.mark.parametrize(
    "other",
    [
        {"comparability": {"data": "other", "limit": None}},
        {"comparability": {"data": "d", "limit": 3}},
        {"tasks": [{"name": "t", "version": 2, "headline": [], "comparability": {"version": 2}}]},
        {"tasks": [{"name": "u", "version": 1, "headline": [], "comparability": {}}]},
    ],
)
def test_runs_that_measure_something_else_are_not_compared(other: dict[str, Any]) -> None:
    now = replace(made({"layers.0": GOOD}), **other)

    with pytest.raises(NotComparableError):
        check(now, made({"layers.0": GOOD}), Rules())


def test_two_saes_at_a_layer_are_told_apart_by_name() -> None:
    both = {
        name: made({"layers.0": scores}, sae=name, weights=name)
        for name, scores in (("a", GOOD), ("b", BAD))
    }
    before = replace(
        both["a"],
        metrics=[*both["a"].metrics, *both["b"].metrics],
        saes=[*both["a"].saes, *both["b"].saes],
        samples={"t": [*both["a"].samples["t"], *both["b"].samples["t"]]},
    )

    assert not check(before, before, Rules()).failed
    (missing,) = check(both["b"], before, Rules()).failed
    assert missing.sae == "a"


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=20, max_size=24),
    st.lists(st.floats(0, 1), min_size=20, max_size=24),
    st.floats(0, 1),
)
def test_a_looser_gate_never_fails_what_a_tighter_one_passes(
    before: list[float], now: list[float], allowed: float
) -> None:
    tight, loose = (
        check(
            made({"layers.0": now}),
            made({"layers.0": before}),
            Rules(max_drop={"quality": Allowed(amount)}),
        )
        for amount in (0.0, allowed)
    )

    assert not (loose.failed and not tight.failed)


N_CLUSTERS, N_CELLS = 30, 6


def simulated(random: np.random.Generator, drop: float = 0.0) -> tuple[Snapshot, Snapshot]:
    """Two runs over the same questions of uneven families; the second is worse by `drop`."""
    sizes = random.integers(1, 12, N_CLUSTERS)
    clusters = [str(c) for c, size in enumerate(sizes) for _ in range(size)]
    hard = np.repeat(random.normal(0, 1, N_CLUSTERS), sizes)

    def side(shift: float) -> dict[str, Scores]:
        family = np.repeat(random.normal(0, 0.3, N_CLUSTERS), sizes)
        noise = random.normal(0, 0.5, (N_CELLS, len(clusters)))
        return {f"layers.{i}": list(hard + family + noise[i] - shift) for i in range(N_CELLS)}

    return made(side(0), clusters=clusters), made(side(drop), clusters=clusters)


def alarms(runs: int, seed: int, drop: float = 0.0, rules: Rules | None = None) -> int:
    random = np.random.default_rng(seed)
    pairs = (simulated(random, drop) for _ in range(runs))
    return sum(
        bool(check(now, before, rules or Rules(max_drop={"t": Allowed()})).failed)
        for before, now in pairs
    )


def test_without_a_true_change_few_runs_alarm() -> None:
    """A sample of the campaign: of 40 runs, 2 may alarm; 5 have p < .05."""
    assert alarms(40, seed=0) <= 4


def test_a_large_true_drop_is_caught() -> None:
    assert alarms(10, seed=1, drop=1.0) == 10


@pytest.mark.campaign
def test_without_a_true_change_at_most_alpha_of_2000_runs_alarm() -> None:
    found = alarms(2000, seed=2)
    assert found <= 0.05 * 2000, found


@pytest.mark.campaign
def test_the_tolerated_drop_itself_alarms_in_about_half_the_runs_and_twice_it_in_most() -> None:
    rules = Rules(max_drop={"t": Allowed(0.3)})
    assert alarms(200, seed=3, drop=0.0, rules=rules) <= 10
    assert alarms(200, seed=4, drop=0.6, rules=rules) >= 180
