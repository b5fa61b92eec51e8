"""The `halluc` task on a subject whose causal latents are known."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.harness.runner import Plan, PlannedTask, execute
from lmmsae_eval.tasks.halluc import Halluc
from lmmsae_eval.tasks.hallucination.benchmark import score

PARAMS = {"random": 10, "n_test": None}


def table(lines):
    """(metric, arm, concept) -> row."""
    return {(r.metric, r.arm, r.concept): r for r in Halluc().aggregate(lines)}


def margins(lines, arm):
    return {
        x["detail"]["item"]: x["scores"]["m"]
        for x in lines
        if x["arm"] == arm and x["status"] == "ok"
    }


@pytest.fixture
def lines(task_lines):
    return task_lines(Halluc(), **PARAMS)


def test_known_causal_latents_correct_everything_and_break_nothing(lines):
    rows = table(lines)
    assert rows["correction", "main", None].value == 1.0
    assert rows["regression", "main", None].value == 0.0
    assert rows["correction", "main", None].n_ok > 20
    assert rows["net", "main", None].value == pytest.approx(
        1 - rows["accuracy", "untouched", None].value
    )


def test_other_live_latents_moved_equally_far_gain_nothing(lines):
    rows = table(lines)
    null = rows["net", "random", None]
    assert null.ci_low <= 0.02
    assert null.value < 0.1
    assert rows["net", "main", None].null == null.value
    assert rows["net_over_random", "main", None].ci_low > 0.1
    assert rows["net_over_random_p", "main", None].value == pytest.approx(1 / 11)


def test_reconstruction_plus_error_equals_untouched_even_with_a_poor_dictionary(
    planted, task_lines
):
    rows = planted.sae.sae.W_enc.clone()
    rows[4:] = torch.randn(rows[4:].shape, generator=torch.Generator().manual_seed(0)) * 0.1
    lines = task_lines(
        Halluc(), planted.with_sae(W_enc=rows, W_dec=rows), **{**PARAMS, "random": 0}
    )
    untouched, kept = (margins(lines, a) for a in ("untouched", "reconstruction+error"))
    assert kept == pytest.approx(untouched, abs=1e-5)
    assert margins(lines, "reconstruction") != pytest.approx(untouched, abs=1e-2)
    assert table(lines)["net", "reconstruction", None].value < 0


def test_an_exact_dictionary_costs_nothing_to_splice_in(lines):
    rows = table(lines)
    assert rows["net", "reconstruction", None].value == 0.0
    assert rows["effect", "steered_replace", None].value == rows["net", "main", None].value


def test_the_offset_arm_leaves_paired_discrimination_exactly_unchanged(lines):
    rows = table(lines)
    assert rows["pda", "offset_matched", None].value == rows["pda", "untouched", None].value
    assert rows["auroc", "offset_matched", None].value == pytest.approx(
        rows["auroc", "untouched", None].value
    )


def test_with_priors_in_both_directions_steering_beats_the_offset(lines):
    rows = table(lines)
    assert rows["net_over_offset", "main", None].ci_low > 0
    constant, by_topic = (
        rows["net", arm, "prior"].value for arm in ("offset_best", "offset_topic")
    )
    assert constant < by_topic == rows["net", "main", "prior"].value


def test_wrong_answers_follow_the_priors_and_not_the_matched_questions(lines):
    rows = table(lines)
    assert rows["wrong_yes", "untouched", "prior_yes"].value == 1.0
    assert rows["wrong_no", "untouched", "prior_no"].value == 1.0
    assert rows["wrong_no", "untouched", "prior_yes"].value == 0.0
    assert rows["wrong_yes", "untouched", "matched"].value == 0.0
    assert rows["wrong_yes", "main", "prior_yes"].value == 0.0


def test_questions_without_a_figure_are_asked_and_scored_by_kind(lines):
    unseen = [x for x in lines if x["detail"].get("visual_input") == "0"]
    assert {x["arm"] for x in unseen} > {"untouched", "main"}
    assert table(lines)["wrong_yes", "untouched", "blind"].n_ok > 0


def test_every_mean_metric_can_be_had_from_the_scores_of_the_lines(lines):
    rows = table(lines)
    for metric in ("accuracy", "net", "correction", "regression"):
        scores = [
            x["scores"][metric] for x in lines if x["arm"] == "main" and metric in x["scores"]
        ]
        assert sum(scores) / len(scores) == pytest.approx(rows[metric, "main", None].value)


def test_benchmark_accuracies_are_those_of_the_scorer(planted, lines):
    said = {x["detail"]["item"]: x["detail"]["answer"] for x in lines if x["arm"] == "untouched"}
    records = planted.provider.test
    keys = ("category", "subcategory", "set_id", "figure_id", "question_id")
    answers = [said["/".join(r[key] for key in keys)] for r in records]
    expected, rows = score(records, answers), table(lines)
    for metric in ("aacc", "facc", "qacc"):
        assert rows[metric, "untouched", None].value == getattr(expected, metric)


def test_an_answer_that_is_neither_yes_nor_no_is_unscorable(planted, task_lines):
    for record in planted.provider.test[:4]:
        record["question"] = f"mumble {record['question']}"
    lines = task_lines(Halluc(), **{**PARAMS, "random": 1})
    mute = [x for x in lines if x["status"] == "unscorable"]
    assert {x["arm"] for x in mute} >= {"untouched", "main", "random_00"}
    assert all(x["scores"] == {} and x["detail"]["text"] == "maybe" for x in mute)
    rows = table(lines)
    assert rows["accuracy", "main", None].n_ok == rows["accuracy", "main", None].n_total - 4
    assert rows["aacc", "main", None].value < rows["accuracy", "main", None].value


def test_sample_ids_are_unique_fixed_and_name_no_sae(planted):
    task = Halluc()
    first = [s.id for s in task.samples(planted.context())]
    assert len(set(first)) == len(first)
    planted.sae = type(planted.sae)("another name", planted.sae.hookpoint, planted.sae.sae)
    assert [s.id for s in task.samples(planted.context())] == first


def test_no_batch_of_the_runner_tears_an_arm_apart(planted):
    task = Halluc()
    samples = list(task.samples(planted.context(**PARAMS)))
    asked = {}
    for start in range(0, len(samples), task.batch_size):
        groups = {}
        for s in samples[start : start + task.batch_size]:
            if s.payload.question is not None:
                groups.setdefault((s.arm, s.hookpoint), []).append(s.payload.question.id)
        for (arm, _), ids in groups.items():
            asked.setdefault(arm, set()).add(tuple(ids))
    assert all(batches == asked["untouched"] for batches in asked.values())


def plan(planted, folder, **params):
    merged = {**PARAMS, "random": 2, **params}
    context = planted.context(folder / "cache", **merged)
    task = PlannedTask(Halluc(), context, merged)
    saes = [{"name": planted.sae.name, "hookpoint": planted.sae.hookpoint.name}]
    return Plan([task], folder / "runs", {"model": "planted"}, {"model": "planted"}, saes=saes)


def test_a_run_ends_complete_with_cards_of_figures_and_plots_of_arms(planted, tmp_path):
    run = execute(plan(planted, tmp_path))
    assert run.complete
    assert {m["metric"] for m in run.metrics} >= {"correction", "regression", "net", "pda"}
    cards = run.cards("halluc")
    assert {card["tags"]["verdict"] for card in cards} == {"fixed"}
    captions = [picture["caption"] for picture in cards[0]["images"]]
    assert [caption[:8] for caption in captions[:2]] == ["figure 1", "figure 2"]
    assert all(caption.startswith("where latent") for caption in captions[2:])
    assert any(name.startswith("latent ") for name in cards[0]["text"])
    assert "figure 1: yes" in cards[0]["text"]["truth"]
    assert run.plots("halluc")[0]["title"] == "Net change of accuracy by arm"
    lines = run.lines("halluc")
    again = [(r.metric, r.arm, r.concept, r.value) for r in Halluc().aggregate(lines)]
    assert again == [(m["metric"], m["arm"], m["concept"], m["value"]) for m in run.metrics]


def test_a_figure_that_breaks_becomes_error_lines_and_no_number(planted, tmp_path):
    planted.provider.test[0]["question"] = "is there a cursed boat ?"
    planted.lmm.breaks_on = "cursed"
    run = execute(plan(planted, tmp_path))
    assert not run.complete
    broken = [x for x in run.lines("halluc") if x["status"] == "error"]
    assert len(broken) == 1 + 5 + 2
    assert all(x["error"]["message"] == "this figure is broken" for x in broken)
    assert all(x["scores"] == {} for x in broken)
    accuracy = next(m for m in run.metrics if (m["metric"], m["arm"]) == ("accuracy", "untouched"))
    assert accuracy["n_total"] == len(planted.provider.test) - 1


def test_a_run_cut_short_goes_on_to_the_same_metrics(planted, tmp_path):
    whole = execute(plan(planted, tmp_path / "a"))
    started = plan(planted, tmp_path / "b")
    task = started.tasks[0].task
    evaluate, calls = task.evaluate, []

    def stop_later(samples, context):
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return evaluate(samples, context)

    task.evaluate = stop_later
    with pytest.raises(KeyboardInterrupt):
        execute(started)
    assert execute(plan(planted, tmp_path / "b")).metrics == whole.metrics


def test_optimism_of_the_choice_is_reported(lines):
    rows = table(lines)
    assert rows["optimism_correction", "main", None].value == 0.0
    assert rows["optimism_regression", "main", None].value == 0.0
    assert rows["n_tried", "main", None].value > 0
    chosen = next(x for x in lines if x["arm"] == "selection")["detail"]["edits"]
    assert set(chosen) == {"boat", "tree", "car", "moon"}


@pytest.mark.slow
def test_on_the_planted_testbed_its_true_latents_correct_all_and_random_ones_nothing(tmp_path):
    from lmmsae_eval.harness.artefacts import ArtefactStore
    from lmmsae_eval.harness.progress import SilentProgress
    from lmmsae_eval.harness.task import Context
    from lmmsae_eval.sae.topk import TrainedSae
    from lmmsae_eval.tasks.subject import Subject
    from lmmsae_eval.testbed.planted import PlantedTestbed, load_lmm, true_sae

    lmm = load_lmm()
    sae = TrainedSae("true", lmm.hookpoint(1), true_sae(1))
    params = {"n_test": 150, "random": 3, "tried": 4, "tried_global": 1}
    subject = Subject(lmm, [sae], PlantedTestbed())
    context = Context(subject, ArtefactStore(), SilentProgress(), params=params)
    task = PlannedTask(Halluc(), context, params)
    run = execute(Plan([task], tmp_path, {"model": "planted"}, {"model": "planted"}))
    rows = {(m["metric"], m["arm"]): m for m in run.metrics if m["concept"] is None}
    assert rows["correction", "main"]["value"] == 1.0
    assert rows["regression", "main"]["value"] == 0.0
    # Not one answer changes, and so there is no spread to make an interval of.
    assert (rows["net", "random"]["value"], rows["net", "random"]["ci_low"]) == (0.0, None)
    assert rows["net_over_offset", "main"]["ci_low"] > 0
