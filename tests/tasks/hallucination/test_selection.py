"""Features and strengths are found on dev families, and on nothing else."""

from __future__ import annotations

import json

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.hallucination.bench import Bench
from lmmsae_eval.tasks.hallucination.candidates import screen, shortlist
from lmmsae_eval.tasks.hallucination.options import Options
from lmmsae_eval.tasks.hallucination.questions import (
    Question,
    crossing_families,
    read_questions,
    split_families,
    take_families,
)
from lmmsae_eval.tasks.hallucination.selection import Selection

TOPICS = ("boat", "tree", "car", "moon")


def choice(planted, **params):
    bench = Bench.of(planted.context(**params))
    return bench.selection(planted.sae)


def test_the_planted_prior_of_each_topic_is_weakened_or_its_evidence_strengthened(planted):
    found = choice(planted)
    for number, topic in enumerate(TOPICS):
        edit = found.plan.by_topic[topic]
        if edit.scale < 1:
            assert number in edit.latents
        else:
            assert 4 + number in edit.latents


def test_on_dev_everything_wrong_is_corrected_and_nothing_broken(planted):
    found = choice(planted)
    assert found.dev.correction == 1.0
    assert found.dev.regression == 0.0
    assert found.dev.n_wrong > 20


def test_one_edit_for_all_topics_can_not_do_as_well(planted):
    found = choice(planted)
    assert found.dev_everywhere.net < found.dev.net


def test_the_number_of_edits_tried_and_screened_is_counted(planted):
    found = choice(planted, tried=5, tried_global=3)
    assert found.n_tried == 4 * 5 + 3
    assert found.n_screened > found.n_tried


def test_test_labels_and_test_questions_have_no_say_in_the_choice(planted):
    before = choice(planted)
    for record in planted.provider.test:
        record["gt_answer"] = "1" if record["gt_answer"] == "0" else "0"
        record["topic"] = "boat"
    planted.provider.test[:] = planted.provider.test[: len(planted.provider.test) // 2]
    assert choice(planted) == before


def test_dev_labels_do_have_a_say_in_the_choice(planted):
    before = choice(planted)
    for record in planted.provider.dev:
        record["gt_answer"] = "1" if record["gt_answer"] == "0" else "0"
    assert choice(planted).plan != before.plan


def test_a_topic_with_fewer_wrong_answers_than_asked_for_is_left_alone(planted):
    found = choice(planted, min_wrong=1000)
    assert not any(found.plan.by_topic.values())
    assert not found.plan.everywhere
    assert found.n_tried == 0


def test_a_topic_that_dev_never_saw_gets_the_edit_for_all(planted):
    plan = choice(planted).plan
    question = Question({**planted.provider.dev[0], "topic": "kite"})
    assert plan.edit(question) == plan.everywhere


def test_a_choice_is_kept_on_disk_and_read_back_the_same(planted, tmp_path):
    made = Bench.of(planted.context(tmp_path)).selection(planted.sae)
    asked = planted.lmm.n_forwards
    again = Bench.of(planted.context(tmp_path)).selection(planted.sae)
    assert planted.lmm.n_forwards == asked
    assert again == made
    made.save(tmp_path)
    assert Selection.load(tmp_path) == made
    assert json.loads((tmp_path / "selection.json").read_text())["n_tried"] == made.n_tried


def test_a_family_in_both_dev_and_test_is_refused(planted):
    planted.provider.dev.append(planted.provider.test[0])
    with pytest.raises(UsageError, match="both dev and test"):
        Bench.of(planted.context())


def test_an_unknown_option_is_refused_with_the_known_ones(planted):
    with pytest.raises(UsageError, match=r"no option 'n_tests'.*n_test"):
        Options.read({"n_tests": 3})


@pytest.mark.parametrize("seed", range(5))
def test_splitting_records_never_tears_a_family_apart(planted, seed):
    records = planted.provider.test
    dev, test = split_families(records, seed)
    assert not crossing_families(map(Question, dev), map(Question, test))
    assert len(dev) + len(test) == len(records)
    assert dev
    assert test


def test_taking_some_questions_takes_whole_families(planted):
    questions = read_questions(planted.provider.test)
    taken = take_families(questions, 40)
    families = {q.family for q in taken}
    assert [q for q in questions if q.family in families] == taken
    assert 40 <= len(taken) < 44


def test_two_questions_with_one_key_are_refused(planted):
    with pytest.raises(UsageError, match="share one key"):
        read_questions([planted.provider.test[0]] * 2)


def test_screening_prefers_what_mends_wrong_items_without_harm_to_right_ones():
    margin = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    gain = torch.tensor(
        [
            [-2.0, -2.0, 0.0],
            [-2.0, -2.0, 0.0],
            [0.0, 3.0, 0.5],
            [0.0, 3.0, 0.5],
        ]
    )
    ranked = screen(gain, margin, max_latents=2)
    best = ranked[0][1]
    assert best.latents == (0,)
    assert best.scale < 1
    assert all(1 not in edit.latents for _, edit in ranked)


def test_the_shortlist_holds_every_strength_before_any_twice():
    margin = torch.tensor([-1.0, 1.0])
    gain = torch.tensor([[-2.0, 1.0, 2.0], [0.0, 1.0, 0.1]])
    ranked = screen(gain, margin, max_latents=3)
    scales = [edit.scale for edit in shortlist(ranked, 5)]
    assert len(set(scales)) == 5


def test_controls_are_drawn_from_all_latents_that_fire_and_not_only_those_that_matter(planted):
    live = choice(planted).plan.live
    assert {0, 1, 2, 3} <= set(live)
    assert len([latent for latent in live if latent >= 8]) > 25
