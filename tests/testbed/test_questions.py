"""The embedded question set: HallusionBench's schema, answers true by construction."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from lmmsae_eval.testbed.questions import QuestionSet, drawn_questions, families
from lmmsae_eval.testbed.recipe.words import yes_no_text
from lmmsae_eval.testbed.world.labels import PRIORS, VOCABULARY
from lmmsae_eval.testbed.world.render import render

SCHEMA = {
    "category",
    "subcategory",
    "visual_input",
    "set_id",
    "figure_id",
    "sample_note",
    "question_id",
    "question",
    "gt_answer",
    "gt_answer_details",
    "filename",
}


@pytest.fixture(scope="module")
def questions() -> QuestionSet:
    return drawn_questions()


def test_there_are_at_least_two_thousand_records_of_the_benchmark_schema(
    questions: QuestionSet,
) -> None:
    assert len(questions) >= 2000
    for record in questions.records:
        assert record.keys() >= SCHEMA
        assert all(isinstance(value, str) or value is None for value in record.values())
        assert (record["filename"] is None) == (record["visual_input"] == "0")


def test_the_key_of_a_record_is_unique(questions: QuestionSet) -> None:
    names = ("category", "subcategory", "set_id", "figure_id", "question_id")
    keys = Counter(tuple(record[name] for name in names) for record in questions.records)

    assert max(keys.values()) == 1


def test_the_same_seed_gives_the_same_set() -> None:
    assert drawn_questions().records == drawn_questions().records


def test_answers_about_things_are_true_of_the_pixels(questions: QuestionSet) -> None:
    checked = 0
    for record in questions.records[::7]:
        if record["filename"] is None or record["topic"] not in VOCABULARY:
            continue
        label = record["topic"]
        assert label is not None
        shown = render(questions.scenes[record["filename"]]).mask(label).sum()
        assert (record["gt_answer"] == "1") == (shown >= 32), record
        checked += 1
    assert checked > 300


def test_a_family_holds_the_same_questions_about_an_original_and_an_edited_figure(
    questions: QuestionSet,
) -> None:
    asked: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for family, record in zip(families(questions.records), questions.records, strict=True):
        if record["visual_input"] != "0":
            asked[family][str(record["visual_input"])].add(str(record["question"]))
    assert all(set(by) == {"1", "2"} and by["1"] == by["2"] for by in asked.values())


def test_the_edit_flips_the_answer_to_the_family_question(questions: QuestionSet) -> None:
    truth: dict[str, dict[str, str]] = defaultdict(dict)
    for family, record in zip(families(questions.records), questions.records, strict=True):
        if record["question_id"] == "0" and record["visual_input"] != "0":
            truth[family][str(record["visual_input"])] = str(record["gt_answer"])
    assert all(by == {"1": "1", "2": "0"} for by in truth.values())


def test_dev_and_test_families_are_apart_and_cover_every_prior() -> None:
    dev, test = drawn_questions("dev"), drawn_questions("test")

    assert not set(families(dev.records)) & set(families(test.records))
    for half in (dev, test):
        topics = {(r["sample_note"], r["topic"]) for r in half.records if "prior" in str(r["kind"])}
        assert topics == {(prior.scene, prior.thing) for prior in PRIORS}


def test_figures_of_a_family_differ_only_where_the_edit_is(questions: QuestionSet) -> None:
    for record in questions.records[:200]:
        if record["edit"] != "removed" or record["question_id"] != "0":
            continue
        original = str(record["filename"]).replace(
            f"_{record['figure_id']}.png", f"_{int(str(record['figure_id'])) - 1}.png"
        )
        before = render(questions.scenes[original])
        after = np.asarray(questions.image_for(record))
        outside = ~before.mask(str(record["topic"]))
        assert (before.image[outside] == after[outside]).all()


def test_questions_use_the_words_that_the_model_was_taught(questions: QuestionSet) -> None:
    from lmmsae_eval.testbed.recipe.assembly import token_ids

    words = {word for record in questions.records for word in str(record["question"]).split()}

    assert words <= set(token_ids())
    assert yes_no_text("boat") in {record["question"] for record in questions.records}
