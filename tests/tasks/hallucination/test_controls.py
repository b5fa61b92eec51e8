"""Controls: as far as the real edit at every token, and none of them does what it does."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.errors import UnknownNameError, UsageError
from lmmsae_eval.sae.lmm import Prompt
from lmmsae_eval.sae.residual import capture
from lmmsae_eval.tasks.halluc import Halluc
from lmmsae_eval.tasks.hallucination.arms import Activity, Asked, Edit, Plan, steering_hook
from lmmsae_eval.tasks.hallucination.bench import Bench
from lmmsae_eval.tasks.hallucination.controls import (
    DIRECTION,
    DOSES,
    OPPOSITE,
    PERMUTED,
    SHUFFLED,
    TOKENS,
    alike,
    control_arms,
    control_hooks,
    matched_edit,
)
from lmmsae_eval.tasks.hallucination.decoding import noised, prompted
from lmmsae_eval.tasks.hallucination.neutral import degenerate
from lmmsae_eval.tasks.hallucination.options import Options
from lmmsae_eval.tasks.hallucination.questions import Question, read_questions
from lmmsae_eval.tasks.hallucination.strategies import propose
from PIL import Image

ALL = {"controls": "all", "matched": 5, "random": 2, "n_test": 60}


@pytest.fixture
def stream(planted):
    """Questions with an edit each, their batch and its residual stream."""
    records = [r for r in planted.provider.test if r["filename"]][:8]
    questions = read_questions(records)
    image_for = planted.provider.questions("test").image_for
    prompts = [Prompt(q.text, image_for(q.record)) for q in questions]
    batch = planted.lmm.prepare(prompts)
    x = capture(planted.lmm, batch, [planted.sae.hookpoint])[planted.sae.hookpoint]
    edits = {q.topic: Edit((number,), 0.0) for number, q in enumerate(questions[:8:2])}
    activity = {j: Activity(0.1 + j / 100, 1.0) for j in range(planted.sae.sae.n_latents)}
    plan = Plan(edits, Edit(), tuple(activity), activity)
    return Asked(questions, [plan] * len(questions)), batch, x


@pytest.mark.parametrize("arm", ["matched_00", "matched_01", DIRECTION, PERMUTED, OPPOSITE])
def test_a_control_moves_every_token_as_far_as_the_real_edit_and_elsewhere(planted, stream, arm):
    asked, batch, x = stream
    rows = list(range(len(asked.questions)))
    real = steering_hook(planted.sae.sae, asked.edits).delta(x, batch)
    control = control_hooks(arm, planted.sae.sae, asked, 0)(rows)(x, batch) - x
    torch.testing.assert_close(control.norm(dim=-1), real.norm(dim=-1), atol=1e-4, rtol=1e-4)
    assert real.norm() > 0
    assert not torch.allclose(control, real, atol=1e-3)


def test_a_dose_multiplies_the_edit_and_the_opposite_sign_is_the_dose_minus_one(planted, stream):
    asked, batch, x = stream
    real = steering_hook(planted.sae.sae, asked.edits).delta(x, batch)
    for arm, dose in DOSES.items():
        got = control_hooks(arm, planted.sae.sae, asked, 0)(range(8))(x, batch) - x
        torch.testing.assert_close(got, dose * real, atol=1e-4, rtol=1e-4)
    assert DOSES[OPPOSITE] == -1


def test_editing_image_and_text_tokens_apart_adds_up_to_editing_all(planted, stream):
    asked, batch, x = stream
    real = steering_hook(planted.sae.sae, asked.edits).delta(x, batch)
    parts = {
        arm: control_hooks(arm, planted.sae.sae, asked, 0)(range(8))(x, batch) - x for arm in TOKENS
    }
    torch.testing.assert_close(
        parts["tokens_image"] + parts["tokens_text"], real, atol=1e-5, rtol=1e-5
    )
    assert not parts["tokens_last"][:, :-1].any()


def test_matched_latents_are_the_nearest_in_rate_and_strength_and_never_the_edited():
    activity = {j: Activity(0.001 * (j + 1), 1.0 + (j % 2)) for j in range(400)}
    plan = Plan({}, Edit(), tuple(activity), activity)
    pool = alike(plan, 300)
    assert 300 not in pool
    assert len(pool) == 100
    assert all(j % 2 == 0 and j > 100 for j in pool[:50])
    edit = Edit((300, 302), 0.0)
    draws = {matched_edit(plan, edit, "boat", draw, 0).latents for draw in range(30)}
    assert len(draws) > 20
    assert all(len(set(d)) == 2 and not {300, 302} & set(d) for d in draws)
    assert matched_edit(plan, edit, "boat", 3, 0) == matched_edit(plan, edit, "boat", 3, 0)


def test_in_a_run_with_all_controls_none_does_what_the_planted_causes_do(task_lines):
    lines = task_lines(Halluc(), **ALL)
    rows = {(r.metric, r.arm, r.concept): r for r in Halluc().aggregate(lines)}
    net = {arm: rows["net", arm, None].value for arm in (*control_arms(5), "main")}
    assert net["main"] > 0.3
    assert all(net[arm] < net["main"] / 2 for arm in (DIRECTION, PERMUTED, OPPOSITE))
    assert all(net[f"matched_0{draw}"] < net["main"] / 2 for draw in range(5))
    assert net[OPPOSITE] <= 0
    assert net[SHUFFLED] < net["main"]
    # Priors are weakened on text tokens, evidence is strengthened on image tokens.
    assert net["tokens_text"] + net["tokens_image"] == pytest.approx(net["main"], abs=0.1)
    assert rows["net_over_matched", "main", None].ci_low > 0
    assert rows["net_over_matched_p", "main", None].value == pytest.approx(1 / 6)
    assert rows["net_over_random_p", "main", None].value == pytest.approx(1 / 3)
    assert rows["net", "prompt", None].value == 0.0
    assert rows["accuracy", "vcd", None].n_total == rows["accuracy", "main", None].n_total
    assert rows["kl", "main", None].value >= 0
    assert (rows["degenerate", "main", None].value, rows["degenerate", "main", None].null) == (0, 0)
    assert rows["better", "main", None].value == pytest.approx(net["main"])
    assert "of" in rows["worse", "main", None].note
    assert rows["unrelated_net", "main", None].value == 0.0
    titles = [plot.title for plot in Halluc().plots(lines, list(rows.values()))]
    assert {"Dose and response", "Pareto: corrected against broken by dose"} <= set(titles)


def test_the_standard_run_has_none_of_these_arms(planted):
    arms = {s.arm for s in Halluc().samples(planted.context(random=1))}
    assert arms == {
        "untouched", "reconstruction", "reconstruction+error", "main", "steered_replace",
        "steered_global", "random_00", "selection",
    }  # fmt: skip


def planted_association():
    """24 items, 12 wrong; latent 3 fires with wrong answers, 5 with right ones, others anyhow."""
    wrong = torch.arange(24) < 12
    active = torch.rand(24, 40, generator=torch.Generator().manual_seed(0)) < 0.3
    active[:, 3], active[:, 5] = wrong, ~wrong
    return active, active * 2.0, wrong


@pytest.mark.parametrize("strategy", ["ssl", "save", "probe"])
def test_a_strategy_weakens_what_fires_with_wrong_answers_and_strengthens_the_rest(strategy):
    ranked = propose(strategy, *planted_association())
    best = {edit.scale < 1: edit.latents[0] for _, edit in reversed(ranked)}
    assert best == {True: 3, False: 5}
    latents = {edit.latents for _, edit in ranked}
    assert len(latents) == (2 if strategy == "ssl" else 20)


def test_where_nothing_or_everything_is_wrong_no_strategy_proposes_anything():
    active, strength, wrong = planted_association()
    for flags in (wrong | True, wrong & False):
        assert propose("save", active, strength, flags) == []


@pytest.mark.parametrize("strategy", ["ssl", "save", "probe"])
def test_what_fires_beside_wrong_answers_without_causing_them_is_not_chosen(planted, strategy):
    # Here wrong answers come with the absence of evidence, and their cause fires with all.
    found = Bench.of(planted.context(strategy=strategy)).selection(planted.sae)
    assert found.dev.regression <= 0.02
    assert found.dev.correction < 1
    assert found.n_screened >= found.n_tried > 0


def test_cross_fitting_tests_every_family_once_with_what_the_other_folds_have_chosen(planted):
    bench = Bench.of(planted.context(folds=3, n_test=None))
    families = {q.family for q in bench.test}
    assert len(families) == 48 + 64
    for fold, dev in enumerate(bench.dev):
        mine = {q.family for q in bench.test if bench.fold(q) == fold}
        assert mine == families - {q.family for q in dev}
        assert len(mine) > 30


def test_a_folds_own_labels_have_no_say_in_its_choice(planted):
    before = Bench.of(planted.context(folds=3, n_test=None))
    others, choice = (before.selection(planted.sae, fold) for fold in (0, 1))
    families = {q.family for q in before.test if before.fold(q) == 1}
    for record in [*planted.provider.dev, *planted.provider.test]:
        if Question(record).family in families:
            record["gt_answer"] = "1" if record["gt_answer"] == "0" else "0"
    after = Bench.of(planted.context(folds=3, n_test=None))
    assert after.selection(planted.sae, 1) == choice
    assert after.selection(planted.sae, 0) != others


def test_a_cross_fitted_run_reports_what_all_folds_have_tried(task_lines):
    lines = task_lines(Halluc(), folds=2, random=1, n_test=40, tried=3, tried_global=2)
    selections = [line for line in lines if line["arm"] == "selection"]
    rows = {(r.metric, r.arm): r for r in Halluc().aggregate(lines) if r.concept is None}
    assert len(selections) == 2
    tried = sum(line["scores"]["n_tried"] for line in selections)
    assert rows["n_tried", "main"].value == tried
    assert abs(rows["optimism_correction", "main"].value) <= 1


def test_an_unknown_strategy_or_set_of_controls_is_refused_with_what_there_is():
    with pytest.raises(UnknownNameError, match="did you mean 'save'"):
        Options(strategy="saves")
    with pytest.raises(UnknownNameError, match="set of controls"):
        Options(controls="some")
    with pytest.raises(UsageError, match="cross-fitting"):
        Options(folds=0)


def test_noise_leaves_a_share_of_the_image_and_is_the_same_for_the_same_name():
    image = Image.new("RGB", (64, 64), (255, 255, 255))
    first, again, other = (noised(image, name) for name in ("a", "a", "b"))
    assert first.tobytes() == again.tobytes() != other.tobytes()
    values = torch.tensor(list(first.tobytes()), dtype=torch.float)
    assert 10 < values.std() < 128
    assert 127 < values.mean() < 250


def test_only_questions_with_an_image_are_asked_to_answer_from_it(planted):
    texts = {q.record["visual_input"]: prompted(q) for q in read_questions(planted.provider.test)}
    assert texts["1"].endswith("? Answer only from the image.")
    assert texts["0"].endswith("?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("a boat on the sea", False),
        ("a boat " * 20, True),
        ("one two three", False),
        ("a b c d e a b c d e", False),
    ],
)
def test_a_description_is_degenerate_when_empty_or_mostly_repeated(text, expected):
    assert degenerate(text) is expected
