"""The task `chair` on a subject that says what a test has it say."""

from __future__ import annotations

import json

import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.results import line_document
from lmmsae_eval.harness.runner import Plan, PlannedTask, execute
from lmmsae_eval.tasks.benchmarks.opening import open_questions
from lmmsae_eval.tasks.chair import Chair

PARAMS = {"n_captions": 32, "random": 2, "n_dev": 60, "tried": 3, "tried_global": 1}
MADE_UP = "a boat and a car"
"""What the untouched model says of every picture."""


@pytest.fixture
def speaking(planted):
    """Names a car that is never there; where an edit moves the stream, only the boat.

    Only figures are known whose prior fires on a prompt that names nothing: an edit moves others
    nowhere.
    """

    def generate(batch, max_new_tokens, hooks=None):
        if hooks is None:
            return [MADE_UP] * len(batch)
        (hook,) = hooks.values()
        x = batch.inputs["x"]
        moved = (hook(x, batch) - x).abs().flatten(1).amax(1) > 1e-3
        return ["a boat" if edited else MADE_UP for edited in moved.tolist()]

    planted.lmm.generate = generate
    records = [r for r in planted.provider.test if r["filename"] and r["topic"] == "boat"]
    elsewhere = {"elsewhere.png": ["car"]}
    planted.provider.things = lambda: elsewhere | {str(r["filename"]): ["boat"] for r in records}
    return planted


@pytest.fixture
def captioned(speaking, task_lines):
    """Lines of the task, with the parameters that differ."""
    return lambda **params: task_lines(Chair(), speaking, **PARAMS, **params)


def table(lines):
    return {(r.metric, r.arm): r for r in Chair().aggregate(lines)}


def test_an_edit_that_silences_what_was_made_up_lowers_chair_and_costs_no_recall(captioned):
    rows = table(captioned())
    assert rows["chair_i", "untouched"].value == 0.5
    assert rows["chair_s", "untouched"].value == 1.0
    assert rows["chair_i", "main"].value == rows["chair_s", "main"].value == 0.0
    assert rows["chair_i_change", "main"].value == -0.5
    assert rows["object_recall", "main"].value == rows["object_recall", "untouched"].value == 1.0
    assert rows["object_recall_change", "main"].value == 0.0
    assert rows["words_change", "main"].value == 2.0 - 5.0
    assert rows["chair_i", "main"].n_ok == rows["chair_i", "main"].n_total == 32


def test_reconstruction_plus_error_says_what_the_untouched_model_says(captioned):
    lines = captioned()
    said = {
        arm: {x["detail"]["figure"]: x["detail"]["text"] for x in lines if x["arm"] == arm}
        for arm in ("untouched", "reconstruction+error")
    }
    assert said["untouched"] == said["reconstruction+error"]
    assert len(said["untouched"]) == 32
    assert table(lines)["chair_s_change", "reconstruction+error"].value == 0.0


def test_the_random_draws_are_the_null_beside_what_steering_did(captioned):
    rows = table(captioned())
    assert rows["chair_i", "main"].null == rows["chair_i", "random"].value
    assert rows["chair_i", "random"].n_total == 2 * 32


def test_an_empty_caption_is_unscorable_and_makes_no_number(speaking, captioned):
    speaking.lmm.generate = lambda batch, n, hooks=None: [" "] + [MADE_UP] * (len(batch) - 1)
    lines = captioned()
    mute = [x for x in lines if x["status"] == "unscorable"]
    assert {x["detail"]["reason"] for x in mute} == {"the caption is empty"}
    assert all(x["scores"] == {} for x in mute)
    row = table(lines)["chair_s", "untouched"]
    assert (row.value, row.n_ok, row.n_total) == (1.0, 31, 32)


def test_figures_that_nobody_annotated_are_not_described(speaking, captioned):
    names = speaking.provider.things()
    few = dict(list(names.items())[:7])
    speaking.provider.things = lambda: few
    assert {x["detail"]["figure"] for x in captioned() if x["arm"] == "main"} <= {
        x["detail"]["figure"] for x in captioned() if x["arm"] == "untouched"
    }
    assert table(captioned())["words", "main"].n_total == 6


def test_objects_come_from_a_file_and_their_names_with_them(speaking, captioned, tmp_path):
    names = list(speaking.provider.things())
    document = {"objects": {"vehicle": ["car"]}, "images": {name: ["vehicle"] for name in names}}
    (tmp_path / "o.json").write_text(json.dumps(document))
    given = {"ref": str(tmp_path / "o.json"), "identity": "1"}
    rows = table(captioned(objects=given))
    assert rows["chair_i", "untouched"].value == 0.0
    assert rows["object_recall_change", "main"].value == -1.0


def test_objects_of_none_of_the_figures_are_refused(captioned, tmp_path):
    document = {"objects": {"boat": []}, "images": {"elsewhere.png": ["boat"]}}
    (tmp_path / "o.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="in any of the test figures; give --objects"):
        captioned(objects={"ref": str(tmp_path / "o.json"), "identity": "1"})


def test_of_ones_own_questions_someone_must_say_what_is_in_the_figures(speaking, tmp_path):
    (tmp_path / "q.json").write_text(json.dumps([
        {"category": "VS", "subcategory": "map", "set_id": str(n), "figure_id": "0",
         "question_id": "0", "question": "so?", "gt_answer": "1", "visual_input": "0",
         "filename": None}
        for n in range(2)
    ]))  # fmt: skip
    context = speaking.context(**PARAMS)
    context.subject.own_questions = open_questions(str(tmp_path / "q.json")).questions
    with pytest.raises(UsageError, match="give --objects"):
        list(Chair().samples(context))


def test_an_option_that_does_not_exist_is_refused(speaking):
    with pytest.raises(UsageError, match="no option 'captions'"):
        list(Chair().samples(speaking.context(captions=3)))


def test_a_run_ends_complete_with_captions_on_cards_and_arms_in_plots(speaking, tmp_path):
    context = speaking.context(tmp_path / "cache", **PARAMS)
    saes = [{"name": speaking.sae.name, "hookpoint": speaking.sae.hookpoint.name}]
    task = PlannedTask(Chair(), context, PARAMS)
    run = execute(Plan([task], tmp_path / "runs", {"model": "p"}, {"model": "p"}, saes=saes))
    assert run.complete
    cards = run.cards("chair")
    assert {card["tags"]["verdict"] for card in cards} == {"fixed"}
    assert cards[0]["text"]["made up, untouched"] == "car"
    assert cards[0]["text"]["made up, main"] == "nothing"
    assert cards[0]["text"]["steered_replace"] == "a boat"
    assert len(cards[0]["images"]) == 1
    assert [plot["title"] for plot in run.plots("chair")] == [
        "Objects made up, by arm", "Recall against objects made up",
    ]  # fmt: skip
    arms = {point["x"] for point in run.plots("chair")[0]["points"]}
    assert {"untouched", "main", "random"} <= arms
    assert not any(arm.startswith("random_") for arm in arms)


@pytest.mark.slow
def test_the_testbeds_own_model_makes_up_what_its_priors_expect(tmp_path):
    from lmmsae_eval.harness.artefacts import ArtefactStore
    from lmmsae_eval.harness.progress import SilentProgress
    from lmmsae_eval.harness.task import Context
    from lmmsae_eval.tasks.subject import Subject
    from lmmsae_eval.testbed.provider import Testbed

    testbed = Testbed()
    subject = Subject(testbed.load_lmm(), [], testbed)
    context = Context(subject, ArtefactStore(), SilentProgress(), params={"n_captions": 32})
    task = Chair()
    samples = list(task.samples(context))
    outcomes = task.evaluate(samples, context)
    lines = [
        line_document(task.spec, "strict", s, o) for s, o in zip(samples, outcomes, strict=True)
    ]
    rows = table(lines)
    assert 0 < rows["chair_i", "untouched"].value < 0.2
    assert rows["object_recall", "untouched"].value > 0.6
    assert rows["mentions", "untouched"].value > 2
