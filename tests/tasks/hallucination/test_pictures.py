"""Cards of question families: answers, edited features, where these fire, and the named case."""

from __future__ import annotations

import numpy as np
import pytest
from lmmsae_eval.harness.results import line_document
from lmmsae_eval.harness.task import Outcome, Sample
from lmmsae_eval.tasks.features.explain import Explanation
from lmmsae_eval.tasks.halluc import Halluc
from lmmsae_eval.tasks.hallucination import firing
from lmmsae_eval.tasks.hallucination.bench import Bench
from lmmsae_eval.tasks.hallucination.firing import features_of, fired, most_attributed
from lmmsae_eval.tasks.hallucination.pictures import family_cards
from lmmsae_eval.tasks.hallucination.questions import Question
from lmmsae_eval.tasks.hallucination.scoring import question_detail
from PIL import Image

SAE, PLACE = "mine", "model.layers.3"
BOLIVIA = [
    {
        "category": "VS", "subcategory": "map", "set_id": "9", "figure_id": str(figure),
        "question_id": "0", "visual_input": str(figure), "gt_answer": truth, "topic": "VS/map",
        "question": "Does Bolivia cover part of the Amazon Basin?",
        "filename": f"./VS/map/9_{figure}.png" if figure else None,
    }
    for figure, truth in enumerate("110")
]  # fmt: skip


def line(question, arm, answer, sae=None, prefix=PLACE):
    place = None if sae is None else PLACE
    name = f"{prefix}/{arm}/{question.id}" if sae else f"{arm}/{question.id}"
    sample = Sample(name, question.family, arm, sae, place)
    outcome = Outcome.ok({"m": 1.0}, **question_detail(question), answer=answer)
    return line_document(Halluc.spec, "strict", sample, outcome)


def figure_of(record):
    if record["visual_input"] == "0":
        return None
    return Image.new("RGB", (8, 8), (255, 255, 255))


def cards_of(after, **more):
    questions = [Question(record) for record in BOLIVIA]
    lines = [line(q, "untouched", "yes") for q in questions]
    for sae, answers in after.items():
        prefix = PLACE if sae == SAE else f"{PLACE}#2"
        pairs = zip(questions, answers, strict=True)
        lines += [line(q, "main", answer, sae, prefix) for q, answer in pairs]
    return list(family_cards(lines, {q.id: q for q in questions}, figure_of, **more))


def test_the_bolivia_triple_is_a_named_case_whatever_became_of_it():
    (fixed,) = cards_of({SAE: ["yes", "yes", "no"]})
    assert (fixed.tags["case"], fixed.tags["verdict"]) == ("the paper's Bolivia example", "fixed")
    assert fixed.text["truth"] == "figure 0: yes, figure 1: yes, figure 2: no"
    assert fixed.text["main"] == "figure 0: yes, figure 1: yes, figure 2: no"
    assert [caption[:8] for caption, _ in fixed.images] == ["figure 1", "figure 2"]
    (broken,) = cards_of({SAE: ["yes", "no", "yes"]})
    assert broken.tags["verdict"] == "broken"


def test_two_saes_at_one_hookpoint_have_each_their_own_cards():
    cards = cards_of({SAE: ["yes", "yes", "no"], "other": ["no", "yes", "yes"]})
    assert [card.tags["verdict"] for card in cards] == ["fixed", "broken"]
    assert cards[0].sample == f"{PLACE}/main/VS/map/9/0/0"
    assert cards[1].sample == f"{PLACE}#2/main/VS/map/9/0/0"


def test_what_is_known_of_the_features_is_told_and_shown_behind_the_figures():
    seen = []

    def features(sae, hookpoint, pair):
        seen.append((sae, hookpoint, len(pair)))
        return {"latent 7": "a map"}, [("where latent 7 fires", Image.new("RGB", (4, 4)))]

    (card,) = cards_of({SAE: ["yes", "yes", "no"]}, features=features)
    assert seen == [(SAE, PLACE, 3)]
    assert card.text["latent 7"] == "a map"
    assert [caption for caption, _ in card.images][2:] == ["where latent 7 fires"]


@pytest.fixture
def bench(planted):
    return Bench.of(planted.context(n_test=None))


def pair_of(bench, topic="boat"):
    """With the thing and without, its prior strong in both."""
    of_topic = [q for q in bench.test if q.topic == topic and q.kind == "prior_yes"]
    return [q for q in of_topic if q.family == of_topic[0].family]


def test_evidence_fires_in_the_image_that_has_the_thing_and_the_prior_in_the_text(planted, bench):
    pair = pair_of(bench)
    evidence, prior = fired(bench.asker, planted.sae, pair, [4, 0], bench.image_for)
    assert evidence.where == (
        "figure 1: 1 of 3 image, 0 of 2 text tokens; figure 2: 0 of 3 image, 0 of 2 text tokens"
    )
    assert "figure 1: 0 of 3 image" in prior.where
    assert "figure 2: 0 of 3 image" in prior.where
    assert "0 of 2 text" not in prior.where
    # Dark pictures alone would say nothing.
    assert prior.maps is None
    assert evidence.maps is not None


def test_a_map_is_lit_where_the_latent_fires_and_dark_where_it_is_silent(planted, bench):
    (one,) = fired(
        bench.asker, planted.sae, pair_of(bench), [4],
        lambda record: Image.new("RGB", (16, 16), (200, 200, 200)),
    )  # fmt: skip
    pixels = np.asarray(one.maps.convert("RGB"), dtype=int)
    left, right = pixels[4:12, 4:12], pixels[4:12, -12:-4]
    assert left.mean() > 180
    assert right.mean() < 150


def test_a_question_without_a_figure_has_no_map(planted, bench):
    blind = next(q for q in bench.test if q.kind == "blind")
    latent = ("boat", "tree", "car", "moon").index(blind.topic)
    (one,) = fired(bench.asker, planted.sae, [blind], [latent], lambda record: None)
    assert one.maps is None
    assert one.where in ("figure 0: 1 of 2 text tokens", "figure 0: 2 of 2 text tokens")


def test_where_nothing_was_edited_the_latents_that_answers_hang_on_are_shown(planted, bench):
    found = most_attributed(bench.asker, planted.sae, pair_of(bench))
    assert set(found[:2]) == {0, 4}


def test_explanations_are_told_where_they_were_made_and_nobody_is_asked(planted, monkeypatch):
    context = planted.context(n_test=None)
    bench = Bench.of(context)
    pair = pair_of(bench)
    text, _ = features_of(context, bench)(planted.sae.name, planted.sae.hookpoint.name, pair)
    assert text
    assert all("no task here explains" in told for told in text.values())
    edited = int(next(iter(text)).removeprefix("latent "))
    name = f"{planted.sae.name}/{planted.sae.hookpoint.name}/main/{edited}"
    known = {name: Explanation("ok", label="boat")}
    monkeypatch.setattr("lmmsae_eval.tasks.features.study.explanations_at_hand", lambda _: known)
    told, maps = firing.features_of(context, bench)(
        planted.sae.name, planted.sae.hookpoint.name, pair
    )
    assert told[f"latent {edited}"].startswith("boat; figure 1: ")
    assert all(caption.startswith("where latent ") for caption, _ in maps)
