"""`run --questions`: any question file with a folder of images, or a published set by name."""

from __future__ import annotations

import json

import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.registry import TESTBEDS
from lmmsae_eval.sae.formats import save_sae
from lmmsae_eval.tasks.benchmarks.opening import open_questions
from lmmsae_eval.tasks.benchmarks.predictions import predictions_of_run
from lmmsae_eval.tasks.benchmarks.scorings import score_by
from lmmsae_eval.tasks.hallucination.questions import RecordQuestions, read_questions
from lmmsae_eval.tasks.session import run

WORLD = "tests/planted-files"
FEW = {"halluc": {"random": 1, "tried": 8, "tried_global": 1}}


def image_of(record):
    from PIL import Image

    keys = ("present", "strength", "noise")
    return Image.new("RGB", (2, 2), tuple(int(record[key]) for key in keys))


@pytest.fixture
def folder(planted, tmp_path, monkeypatch):
    """The planted subject's questions and figures as files, and its true SAE."""
    records = planted.provider.test
    for record in records:
        if record["filename"]:
            image_of(record).save(tmp_path / record["filename"])
    (tmp_path / "q.json").write_text(json.dumps(records))
    save_sae(planted.sae.sae, tmp_path / "sae" / planted.sae.hookpoint.name)
    monkeypatch.setitem(TESTBEDS._registered, WORLD, lambda: planted.provider)
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def halluc(**options):
    return run(["halluc"], **{"model": WORLD, "params": FEW, "saes": ["sae"], **options})


def test_a_users_questions_and_folder_are_split_by_family_and_answered(folder, planted):
    done = halluc(questions="q.json", images=".")
    assert done.complete
    asked = {line["detail"]["item"] for line in done.lines("halluc") if line["arm"] == "untouched"}
    families = {q.family for q in read_questions(planted.provider.test)}
    assert 0 < len({item.rsplit("/", 2)[0] for item in asked}) < len(families)
    value = {(m["metric"], m["arm"]): m["value"] for m in done.metrics if m["concept"] is None}
    assert value["correction", "main"] > 0.6  # half the families are few to choose from
    assert value["regression", "main"] == 0
    assert done.document["dataset"]["questions"]["n"] == len(planted.provider.test)
    features = {card["text"]["edit"] for card in done.cards("halluc")}
    assert any(text.startswith("latents ") for text in features)
    said = predictions_of_run(done, "untouched")
    assert score_by("paper", said.records, said.answers).overall["aacc"] == pytest.approx(
        value["aacc", "untouched"]
    )
    with pytest.raises(UsageError, match="choose with --arm"):
        predictions_of_run(done, "no_such_arm")


def test_answers_of_two_saes_at_one_hookpoint_are_not_scored_as_those_of_one(folder, planted):
    save_sae(planted.sae.sae, folder / "other" / planted.sae.hookpoint.name)
    done = halluc(questions="q.json", images=".", saes=["sae", "other"])
    assert predictions_of_run(done, "untouched").not_asked == 0
    with pytest.raises(UsageError, match="score runs of one SAE each"):
        predictions_of_run(done, "main", planted.sae.hookpoint.name)


def test_without_images_only_questions_that_need_none_are_asked(folder, planted):
    found = open_questions("q.json")
    unseen = [r for r in planted.provider.test if r["visual_input"] == "0"]
    assert len(found.records) == len(unseen) > 0
    assert len(found.left_out) == len(planted.provider.test) - len(unseen)
    assert isinstance(found.questions("dev"), RecordQuestions)
    assert all(found.questions("all").image_for(r) is None for r in found.records)


def test_a_missing_image_takes_only_its_own_questions_away(folder, planted):
    first = next(r["filename"] for r in planted.provider.test if r["filename"])
    (folder / first).unlink()
    found = open_questions("q.json", ".")
    assert found.left_out == [first]
    assert all(r["filename"] != first for r in found.records)


def test_the_revision_is_of_what_is_asked_and_shown_not_of_where_it_lies(folder, tmp_path):
    before = open_questions("q.json", ".")
    (folder / "elsewhere.json").write_text((folder / "q.json").read_text())
    assert open_questions("elsewhere.json", ".").revision == before.revision
    picture = next(p for p in folder.glob("*.png"))
    image_of({"present": "1", "strength": "200", "noise": "9"}).save(picture)
    assert open_questions("q.json", ".").revision != before.revision


def test_dev_and_test_share_no_family_and_are_the_same_for_every_seed(folder):
    found = open_questions("q.json", ".")
    dev, test = (read_questions(found.questions(split).records) for split in ("dev", "test"))
    assert {q.family for q in dev} & {q.family for q in test} == set()
    assert len(dev) + len(test) == len(found.records)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images": "."}, "give the questions too"),
        ({"questions": "nowhere.json"}, "no question file at"),
        ({"questions": "q.json", "images": "nowhere"}, "no folder or archive"),
        ({"questions": "hallusionbench"}, "data get hallusionbench"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_anything_is_loaded(
    folder, planted, monkeypatch, options, said
):
    monkeypatch.setenv("LMMSAE_EVAL_DATA", str(folder / "data"))
    planted.provider.load_lmm = None
    with pytest.raises(UsageError, match=said):
        halluc(**options)


def test_questions_for_another_task_are_refused(folder):
    with pytest.raises(UsageError, match="add one of them to --tasks"):
        run(["iou"], model=WORLD, questions="q.json")


def test_a_file_of_which_too_little_can_be_asked_is_refused(folder, planted):
    records = [r for r in planted.provider.test if r["visual_input"] != "0"]
    (folder / "seen.json").write_text(json.dumps(records))
    with pytest.raises(UsageError, match="--images FOLDER"):
        open_questions("seen.json")


def test_hallusionbenchs_178_questions_without_a_figure_can_be_asked_alone(
    published_folder, tmp_path, monkeypatch
):
    from lmmsae_eval.tasks.benchmarks.getting import get
    from lmmsae_eval.tasks.benchmarks.published import HALLUSIONBENCH

    monkeypatch.setenv("LMMSAE_EVAL_DATA", str(tmp_path))
    get(HALLUSIONBENCH, str(published_folder("hallusionbench")))
    found = open_questions("hallusionbench")
    assert len(found.records) == 178
    assert len(found.left_out) == 346
