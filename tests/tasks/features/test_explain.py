"""The model explains its own latents from highlighted exemplars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.tasks.features import explaining
from lmmsae_eval.tasks.features.explain import (
    OUTSIDE,
    Explanation,
    SelfExplainer,
    load_explanations,
    normalised,
    save_explanations,
)
from lmmsae_eval.tasks.features.masks import dimmed
from lmmsae_eval.tasks.features.study import studies
from PIL import Image


def exemplars(world: Any, label: str, n: int = 5) -> list[Image.Image]:
    """Images with the label, dimmed but for it."""
    images = world.Drawn(60)
    found = [i for i in range(60) if images.mask(i, label).any()][:n]
    return [dimmed(images.image(i), images.mask(i, label)) for i in found]


def explainer(world: Any, says: str | None = None, **kwargs: Any) -> SelfExplainer:
    vocabulary = kwargs.pop("vocabulary", world.vocabulary)
    return SelfExplainer(world.SeeingLMM(says=says), "what is highlighted ?", vocabulary, **kwargs)


def test_the_highlighted_label_becomes_explanation_and_concept(world: Any) -> None:
    labels = [*world.vocabulary]
    found = explainer(world).explain([exemplars(world, x) for x in labels], SilentProgress())
    assert [said.label for said in found] == labels
    assert [said.concept for said in found] == [world.vocabulary[label] for label in labels]
    assert {said.status for said in found} == {"ok"}


def test_a_refusal_is_unscorable_and_no_label(world: Any) -> None:
    said = explainer(world, says="unclear").explain([exemplars(world, "box")], SilentProgress())[0]
    assert (said.status, said.label, said.reason) == ("unscorable", None, "refused")


def test_an_answer_outside_the_vocabulary_is_not_mapped_onto_a_label(world: Any) -> None:
    found = explainer(world, says="something").explain([exemplars(world, "box")], SilentProgress())
    assert (found[0].status, found[0].label, found[0].reason) == ("unscorable", None, OUTSIDE)


def test_one_odd_exemplar_is_no_veto(world: Any) -> None:
    pictures = [*exemplars(world, "night", 4), Image.fromarray(np.zeros((32, 32, 3), np.uint8))]
    said = explainer(world).explain([pictures], SilentProgress())[0]
    assert said.label == "night"
    assert said.detail["each"][:4] == ["night"] * 4


def test_a_latent_without_exemplars_is_unscorable(world: Any) -> None:
    said = explainer(world).explain([[], exemplars(world, "day")], SilentProgress())
    assert [one.status for one in said] == ["unscorable", "ok"]


def test_labels_of_several_tokens_are_decided_by_greedy_answers(world: Any) -> None:
    longer = {**world.vocabulary, "railway station": "scene"}
    found = explainer(world, vocabulary=longer).explain(
        [exemplars(world, label) for label in ("day", "night")], SilentProgress()
    )
    assert [said.label for said in found] == ["day", "night"]


@pytest.mark.parametrize(("says", "reason"), [("unclear", "refused"), ("something", OUTSIDE)])
def test_greedy_answers_refuse_and_miss_in_the_same_way(world: Any, says: str, reason: str) -> None:
    longer = {**world.vocabulary, "railway station": "scene"}
    role = explainer(world, says=says, vocabulary=longer)
    said = role.explain([exemplars(world, "day")], SilentProgress())[0]
    assert (said.status, said.label, said.reason) == ("unscorable", None, reason)


def test_explanations_do_not_depend_on_the_batch(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [exemplars(world, label) for label in world.vocabulary]
    whole = explainer(world).explain(asked, SilentProgress())
    monkeypatch.setattr(SelfExplainer, "batch_size", 3)
    assert explainer(world).explain(asked, SilentProgress()) == whole


def test_identity_changes_with_model_question_and_vocabulary(world: Any) -> None:
    lmm, words = world.SeeingLMM(), world.vocabulary
    other = world.SeeingLMM(identity="seeing-2")
    identities = {
        SelfExplainer(lmm, "what ?", words).identity,
        SelfExplainer(other, "what ?", words).identity,
        SelfExplainer(lmm, "which ?", words).identity,
        SelfExplainer(lmm, "what ?", {"day": "scene"}).identity,
        SelfExplainer(lmm, "what ?", words, unclear="no idea").identity,
    }
    assert len(identities) == 5


def test_explanations_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    said = [
        [Explanation("ok", "box", "box", "object", detail={"each": ["box"]})],
        [Explanation("unscorable", text="unclear", reason="refused")],
    ]
    save_explanations(said, tmp_path)
    assert load_explanations(tmp_path) == said


@pytest.mark.parametrize("reply", ["Box", " a box. ", "The box!", "an  BOX"])
def test_case_article_and_full_stop_do_not_matter(reply: str) -> None:
    assert normalised(reply) == "box"


def test_explanations_do_not_depend_on_how_many_pictures_fit_into_memory(
    study_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [study.explanations for study in studies(study_context())]
    asked: list[int] = []
    explain = SelfExplainer.explain

    def counted(self: Any, exemplars: Any, *rest: Any) -> Any:
        asked.append(len(exemplars))
        return explain(self, exemplars, *rest)

    monkeypatch.setattr(SelfExplainer, "explain", counted)
    # Pictures of 32 x 32 in colour, 5 a latent: three latents at once.
    monkeypatch.setattr(explaining._at_once, "__defaults__", (3 * 5 * 3 * 32 * 32,))
    assert [study.explanations for study in studies(study_context())] == whole
    assert max(asked) == 3
    assert sum(asked) == sum(len(one) for one in whole)
