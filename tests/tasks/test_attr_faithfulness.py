"""Faithfulness of attribution where it is known: a linear model has no second order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.plan import Plan, PlannedTask
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.harness.runner import execute
from lmmsae_eval.harness.task import Context
from lmmsae_eval.sae.topk import TopK, TrainedSae
from lmmsae_eval.tasks.attr_faithfulness import AttrFaithfulness, one_per_family
from lmmsae_eval.tasks.attribution.clean import Clean, kept_shares, random_importance, ranked
from lmmsae_eval.tasks.attribution.measuring import ARMS
from lmmsae_eval.tasks.attribution.scores import SHARES, agreement, area
from lmmsae_eval.tasks.hallucination.questions import read_questions
from lmmsae_eval.tasks.subject import Subject

PARAMS = {"n_questions": 24, "n_top": 4, "n_random": 2, "steps": 2}


def finished(context: Context[Subject], folder: Path) -> Run:
    task = PlannedTask(AttrFaithfulness(), context, context.params)
    run = execute(Plan([task], folder, {"model": "planted"}, {"model": "planted"}))
    assert run.complete
    return run


def values(run: Run, metric: str) -> dict[str, float]:
    """By arm, over all hookpoints."""
    rows = [m for m in run.metrics if m["metric"] == metric and m["hookpoint"] is None]
    return {row["arm"]: row["value"] for row in rows}


def scores(run: Run, arm: str) -> list[dict[str, float]]:
    lines = [line for line in run.lines("attr_faithfulness") if line["status"] == "ok"]
    return [line["scores"] for line in lines if line["arm"] == arm]


@pytest.fixture
def run(planted: Any, tmp_path: Path) -> Run:
    return finished(planted.context(**PARAMS), tmp_path)


def test_on_a_linear_model_attribution_is_exact(run: Run) -> None:
    for arm in ("main", "integrated"):
        assert values(run, "pearson")[arm] == pytest.approx(1, abs=1e-6)
        assert values(run, "spearman")[arm] == pytest.approx(1, abs=1e-6)
        assert values(run, "sign")[arm] == 1
        assert values(run, "worst")[arm] == pytest.approx(0, abs=1e-5)
        assert values(run, "completeness_error")[arm] == pytest.approx(0, abs=1e-5)
    assert values(run, "error_share")["main"] == pytest.approx(0, abs=1e-5)
    assert values(run, "faithfulness_no_error")["main"] == pytest.approx(1, abs=1e-5)


def test_on_a_linear_model_no_order_beats_that_of_attribution(run: Run) -> None:
    best = scores(run, "main")
    for arm in ARMS:
        for ours, other in zip(best, scores(run, arm), strict=True):
            assert ours["insertion"] >= other["insertion"] - 1e-6
            assert ours["deletion"] <= other["deletion"] + 1e-6
    assert values(run, "insertion")["main"] > values(run, "insertion")["magnitude"] + 0.05


def test_every_order_ends_with_the_whole_effect(run: Run) -> None:
    lines = [line for line in run.lines("attr_faithfulness") if line["status"] == "ok"]
    for line in lines:
        insertion, deletion = line["detail"]["insertion"], line["detail"]["deletion"]
        assert (insertion[0], insertion[-1]) == pytest.approx((0, 1), abs=1e-5)
        assert (deletion[0], deletion[-1]) == pytest.approx((1, 0), abs=1e-5)
        # What is left after taking some away is what they did not do.
        assert np.add(insertion, deletion) == pytest.approx(1, abs=1e-4)


def test_random_orders_stand_beside_attribution_as_the_null(run: Run) -> None:
    [row] = [
        m
        for m in run.metrics
        if (m["metric"], m["arm"], m["hookpoint"]) == ("insertion", "main", None)
    ]
    assert row["null"] == values(run, "insertion")["random"]
    assert row["null"] < row["value"]


def test_what_the_sae_leaves_out_is_the_errors_share(planted: Any, tmp_path: Path) -> None:
    """Half of every decoder row: half of the answer is the error's, and attribution still exact."""
    halved = planted.with_sae(W_dec=planted.sae.sae.W_dec / 2)
    run = finished(halved.context(**PARAMS), tmp_path)
    assert values(run, "pearson")["main"] == pytest.approx(1, abs=1e-6)
    assert values(run, "faithfulness_no_error")["main"] == pytest.approx(1, abs=1e-4)
    assert 0.2 < values(run, "error_share")["main"] <= 0.5 + 1e-6


def test_questions_that_no_latent_moves_are_unscorable_and_shown_as_coverage(
    planted: Any, tmp_path: Path
) -> None:
    mute = planted.with_sae(W_dec=planted.sae.sae.W_dec / 100)
    run = finished(mute.context(**PARAMS), tmp_path)
    assert {line["status"] for line in run.lines("attr_faithfulness")} == {"unscorable"}
    rows = [m for m in run.metrics if m["arm"] == "main" and m["hookpoint"] is None]
    assert {(m["value"], m["n_ok"], m["n_total"]) for m in rows} == {(None, 0, 24)}


def test_scores_do_not_depend_on_what_else_is_measured(planted: Any) -> None:
    """As after a resume: one sample alone, or a whole batch."""
    task, context = AttrFaithfulness(), planted.context(**PARAMS)
    samples = list(task.samples(context))
    together = dict(zip((s.id for s in samples), task.evaluate(samples, context), strict=True))
    for sample in samples[::11]:
        [alone] = task.evaluate([sample], context)
        assert alone.scores == pytest.approx(together[sample.id].scores, abs=1e-5)


def test_cards_and_plots_show_questions_curves_and_single_latents(run: Run) -> None:
    cards = run.cards("attr_faithfulness")
    assert cards
    assert all(any("exact" in text for text in card["text"].values()) for card in cards)
    plots = {plot["title"]: plot for plot in run.plots("attr_faithfulness")}
    curve = plots["Insertion at layer 1"]["points"]
    assert {point["series"] for point in curve} == set(ARMS)
    assert all(
        point["x"] == pytest.approx(point["y"], abs=1e-4)
        for point in plots["Predicted against exact at layer 1"]["points"]
    )


def test_without_steps_there_is_no_integrated_arm(planted: Any) -> None:
    arms = {s.arm for s in AttrFaithfulness().samples(planted.context(**PARAMS | {"steps": 0}))}
    assert arms == set(ARMS) - {"integrated"}


def test_an_unknown_option_is_a_usage_error(planted: Any) -> None:
    with pytest.raises(UsageError, match="no option 'n_latents'"):
        list(AttrFaithfulness().samples(planted.context(n_latents=3)))


def test_each_question_is_of_another_family(planted: Any) -> None:
    questions = read_questions(planted.provider.test)
    chosen = one_per_family(questions, 30, seed=0)
    assert len({q.family for q in chosen}) == len(chosen) == 30
    assert chosen == one_per_family(questions[::-1], 30, seed=0)
    assert len(one_per_family(questions, 1000, seed=0)) == 64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=40, max_size=60), st.integers(0, 1000))
def test_a_random_orders_area_is_a_half_where_effects_add_up(
    effects: list[float], seed: int
) -> None:
    """In expectation: exactly so, but for rounding a share of latents, over an order's turns."""
    effect, n = torch.tensor([effects], dtype=torch.float64), len(effects)
    active = torch.ones(1, n, dtype=torch.bool)
    ranks = ranked(random_importance([str(seed)], n, effect), active)
    areas = [
        area([float(effect[kept_shares((ranks + turn) % n, active, s)].sum()) for s in SHARES])
        for turn in range(n)
    ]
    assert np.mean(areas) == pytest.approx(sum(effects) / 2, abs=abs(sum(effects)) / n + 1e-9)


def test_agreement_is_none_where_nothing_has_an_effect() -> None:
    assert agreement([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) == {}
    assert agreement([1.0], [1.0]) == {}


def test_agreement_tells_a_wrong_sign_and_a_wrong_size() -> None:
    found = agreement([2.0, -1.0, 0.5, 0.0], [1.0, 1.0, 0.5, 0.0])
    assert found["sign"] == pytest.approx(2 / 3)
    assert found["worst"] == 2.0
    assert found["pearson"] < 0.5


def test_rounding_noise_is_no_difference_of_ranks() -> None:
    noise = [1e-9, -1e-9, 2e-9, 0.0]
    found = agreement([3.0, 2.0, 0.0, 0.0, 0.0, 0.0], [3.0, 2.0, *noise])
    assert found["spearman"] == pytest.approx(1)


def test_what_is_kept_alone_is_the_stream_without_the_others(planted: Any) -> None:
    questions = planted.provider.questions("test")
    asked = read_questions(questions.records)[:4]
    from lmmsae_eval.sae.lmm import Prompt
    from lmmsae_eval.sae.residual import yes_no
    from lmmsae_eval.sae.steering import reconstruct, steer

    lmm = planted.lmm
    batch = lmm.prepare([Prompt(q.text, questions.image_for(q.record)) for q in asked])
    clean = Clean.of(lmm, batch, planted.sae)
    hookpoint, sae = planted.sae.hookpoint, planted.sae.sae
    active = clean.active()
    torch.testing.assert_close(clean.margins(active), yes_no(lmm, batch))
    nothing = yes_no(lmm, batch, {hookpoint: steer(sae, torch.arange(40), 0.0)})
    torch.testing.assert_close(clean.margins(active & False), nothing)
    spliced = yes_no(lmm, batch, {hookpoint: reconstruct(sae, error=False)})
    torch.testing.assert_close(clean.margins(active, error=False), spliced)
    chosen = active.float().argmax(1)
    one = yes_no(lmm, batch, {hookpoint: steer(sae, chosen[:, None], 0.0)})
    torch.testing.assert_close(clean.without(chosen), one)


@pytest.mark.slow
def test_on_the_planted_testbed_attribution_is_exact_and_finds_the_prior(tmp_path: Path) -> None:
    from lmmsae_eval.testbed.planted import PlantedTestbed, load_lmm, true_sae

    lmm, provider = load_lmm(), PlantedTestbed()
    sae = TrainedSae("true", lmm.hookpoint(1), true_sae(1))
    subject = Subject(lmm, [sae], provider)
    params = {"n_questions": 12, "n_top": 3, "n_random": 5, "steps": 1}
    context = Context(subject, ArtefactStore(), SilentProgress(), params=params)
    run = finished(context, tmp_path)
    for arm in ("main", "integrated"):
        assert values(run, "pearson")[arm] == pytest.approx(1, abs=1e-4)
        assert values(run, "sign")[arm] == 1
        assert values(run, "completeness_error")[arm] == pytest.approx(0, abs=1e-3)
    assert values(run, "insertion")["main"] > values(run, "insertion")["magnitude"]
    # All that is read of a stream lies on its last token.
    assert values(run, "image_share")["main"] == 0


@pytest.mark.slow
def test_on_a_transformer_integrated_gradients_are_complete_where_first_order_is_not(
    tmp_path: Path,
) -> None:
    from lmmsae_eval.harness.registry import TESTBEDS
    from lmmsae_eval.sae.residual import capture
    from lmmsae_eval.sae.tokens import token_mask

    provider = TESTBEDS.get("testbed")()
    lmm = provider.load_lmm()
    hookpoint = lmm.hookpoint(3)
    batch = lmm.prepare(list(provider.sae_training_prompts(2)))
    x = capture(lmm, batch, [hookpoint])[hookpoint][token_mask(batch.kinds, "all")]
    sae = TrainedSae("random", hookpoint, TopK.random(64, lmm.d_model, 8, 0, x.mean(0)))
    params = {"n_questions": 3, "n_top": 3, "n_random": 2, "steps": 6}
    subject = Subject(lmm, [sae], provider)
    context = Context(subject, ArtefactStore(), SilentProgress(), params=params)
    run = finished(context, tmp_path)
    missed = values(run, "completeness_error")
    assert missed["integrated"] < 0.05 < missed["main"]
    assert 0 < values(run, "error_share")["main"] < 1
