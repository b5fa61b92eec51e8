"""Why an answer was wrong, on a model where image and prior are known to do what they do."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.harness.task import Sample
from lmmsae_eval.sae.lmm import Batch, Prompt, TokenKind
from lmmsae_eval.tasks.halluc import Halluc
from lmmsae_eval.tasks.hallucination.bench import Bench
from lmmsae_eval.tasks.hallucination.questions import read_questions
from lmmsae_eval.tasks.hallucination.why import question_tokens, siblings


@pytest.fixture
def bench(planted):
    return Bench.of(planted.context(controls="all", n_test=None))


def seen(planted, kind, present):
    questions = read_questions(planted.provider.test)
    return [q for q in questions if q.kind == kind and q.record.get("present") == present][:4]


def test_a_thing_that_is_there_is_attributed_to_the_image_and_a_prior_to_the_text(planted, bench):
    there, absent = (seen(planted, "prior_yes", present) for present in ("1", "0"))
    for split in bench.why.splits(planted.sae, there):
        assert split.image > 0.4
        assert split.image + split.question + split.template == pytest.approx(1)
        assert split.error < 0.01
    assert all(s.image < 1e-4 for s in bench.why.splits(planted.sae, absent))


def test_the_siblings_image_tokens_shift_the_margin_by_exactly_its_evidence(planted, bench):
    questions = seen(planted, "prior_yes", "1") + seen(planted, "prior_yes", "0")
    partners = siblings(bench.test)
    patches = bench.why.patches(planted.sae, questions, [partners[q.id] for q in questions])
    assert [patch.shift for patch in patches] == pytest.approx([2.0] * len(patches), abs=1e-4)
    # The expected thing's absence is not believed; its presence already was.
    assert [patch.flipped for patch in patches] == [False] * len(patches)


def test_siblings_are_the_other_figures_of_a_pair_with_the_other_truth(planted):
    questions = read_questions(planted.provider.test)
    found = siblings(questions)
    by_id = {q.id: q for q in questions}
    assert all(
        by_id[i].pair == other.pair and by_id[i].gt != other.gt for i, other in found.items()
    )
    assert not any(by_id[i].record["visual_input"] == "0" for i in found)
    assert len(found) == sum(q.record["visual_input"] != "0" for q in questions)


def test_rows_say_that_wrong_answers_look_less_at_the_image_than_right_ones(planted):
    task, context = Halluc(), planted.context(controls="all", matched=1, random=1, n_test=60)
    samples = [s for s in task.samples(context) if s.arm in ("untouched", "why")]
    lines = lines_of(task, context, samples)
    rows = {(r.metric, r.concept): r for r in task.aggregate(lines) if r.hookpoint}
    assert rows["reliance_gap", None].value < -0.1
    assert rows["reliance", "wrong"].value < rows["reliance", "right"].value
    assert rows["patch_shift", None].value == pytest.approx(2.0, abs=1e-3)


def lines_of(task, context, samples: list[Sample]):
    from lmmsae_eval.harness.results import line_document

    lines = []
    for start in range(0, len(samples), 64):
        batch = samples[start : start + 64]
        outcomes = task.evaluate(batch, context)
        lines += [
            line_document(task.spec, "strict", s, o) for s, o in zip(batch, outcomes, strict=True)
        ]
    return lines


def test_the_question_is_what_differs_from_another_prompt_and_the_rest_is_template(tiny_lmm):
    texts = ("is there a boat ?", "what colour scene", "is there a house ?")
    batch, other = (
        tiny_lmm.prepare([Prompt(text) for text in each])
        for each in (texts, ["in the sea"] * len(texts))
    )
    mask = question_tokens(batch, other)
    assert mask.sum(1).tolist() == [5, 3, 5]
    assert not mask[:, -1].any()  # the answer's own token ends every template


def test_without_token_ids_all_text_is_the_question():
    kinds = torch.tensor([[TokenKind.BOS, TokenKind.IMAGE, TokenKind.TEXT]], dtype=torch.int8)
    batch = Batch({}, kinds, [])
    assert question_tokens(batch, batch).tolist() == [[False, False, True]]
