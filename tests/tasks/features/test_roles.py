"""Explainer, refiner and labeller as chat models: marks, refusals, broken replies, prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.errors import ChatError, UnknownNameError, UsageError
from lmmsae_eval.harness.chat import Reply
from lmmsae_eval.tasks.clip import Clip
from lmmsae_eval.tasks.detect import Detect
from lmmsae_eval.tasks.features.chat_explainer import BrokenReplyError, after_mark, one_concept
from lmmsae_eval.tasks.features.labels import kappa
from lmmsae_eval.tasks.features.prompts import ANSWER, EXPLANATION, NOTHING
from lmmsae_eval.tasks.features.roles import Roles, open_roles
from lmmsae_eval.tasks.features.soft_wpmi import soft_wpmi
from lmmsae_eval.tasks.features.study import studies
from lmmsae_eval.tasks.iou import Iou


@dataclass
class FakeChat:
    """Replies as it is told; what it was asked is kept."""

    says: Callable[[str], str]
    ref: str = "fake"
    asked: list[tuple[str, int]] = field(default_factory=list)

    def ask(self, system: str, parts: Sequence[Any], key: str) -> Reply:
        self.asked.append((key, sum(not isinstance(part, str) for part in parts)))
        return Reply(self.says(str(parts[-1])), "fake-1")

    def describe(self) -> dict[str, Any]:
        return {"provider": "fake", "requested": self.ref}

    def comparable(self) -> dict[str, Any]:
        return self.describe()


def roles(explains: str, refines: str = f"{ANSWER} box", sorts: str = "object") -> Roles:
    return Roles(
        "fake", FakeChat(lambda _: explains), FakeChat(lambda _: refines), FakeChat(lambda _: sorts)
    )


def explained(study_context: Any, asked: Roles, root: Path | None = None) -> Any:
    context = study_context(root=root)
    context.subject.roles = asked
    main = next(study for study in studies(context) if study.arm == "main")
    return context, main.explanations


def test_an_explanation_is_shortened_sorted_and_names_its_prompt(study_context: Any) -> None:
    asked = roles(f"{EXPLANATION} boxes of all kinds", f"{ANSWER} The Crate.", " Object\n")
    _, found = explained(study_context, asked)
    said = found[3]
    assert (said.status, said.text, said.label) == ("ok", "boxes of all kinds", "crate")
    assert said.concept == "object"
    assert said.detail["prompt"] == "explainer/1"
    assert len(said.detail["prompt_sha256"]) == 64
    names = {key for key, _ in asked.explainer_client.asked}
    assert len(names) == len(asked.explainer_client.asked)
    assert {n for _, n in asked.explainer_client.asked} == {5}


def test_a_label_of_the_vocabulary_is_not_sorted_by_anyone(study_context: Any) -> None:
    asked = roles(f"{EXPLANATION} a box", sorts="no concept at all")
    _, found = explained(study_context, asked)
    assert {said.concept for said in found.values()} == {"object"}
    assert asked.labeller.asked == []


@pytest.mark.parametrize("reply", [NOTHING, f"{EXPLANATION} {NOTHING}.", NOTHING.lower()])
def test_a_refusal_is_unscorable(study_context: Any, reply: str) -> None:
    _, found = explained(study_context, roles(reply))
    assert {(said.status, said.reason) for said in found.values()} == {("unscorable", "refused")}


@pytest.mark.parametrize(
    "asked",
    [
        roles("It is a box."),
        roles(f"{EXPLANATION} boxes", "Sure! Here it is"),
        roles(f"{EXPLANATION} boxes", f"{ANSWER} {'very ' * 40}long"),
        roles(f"{EXPLANATION} crates", f"{ANSWER} crate", "a thing"),
    ],
)
def test_a_broken_reply_is_an_error_in_every_role_and_is_never_stored(
    study_context: Any, run_task: Any, tmp_path: Path, asked: Roles
) -> None:
    context, found = explained(study_context, asked, tmp_path)
    assert {said.status for said in found.values()} == {"error"}
    assert all(said.label is None for said in found.values())
    assert not (tmp_path / "explanations").exists()
    for task in (Clip(), Detect()):
        lines, rows = run_task(task, context)
        assert {one["status"] for one in lines} == {"error"}
        assert all(row.value is None for row in rows)


def test_a_dead_endpoint_is_an_error_and_the_next_run_asks_again(
    study_context: Any, tmp_path: Path
) -> None:
    def dead(_: str) -> str:
        raise ChatError("nobody is there")

    asked = roles(f"{EXPLANATION} a box")
    _, found = explained(
        study_context, Roles("fake", FakeChat(dead), asked.refiner, asked.labeller), tmp_path
    )
    assert {said.status for said in found.values()} == {"error"}
    _, found = explained(study_context, asked, tmp_path)
    assert {said.label for said in found.values()} == {"box"}


def test_a_second_labeller_gives_kappa(study_context: Any, run_task: Any) -> None:
    context = study_context()
    second = FakeChat(lambda label: "scene" if "day" in label or "night" in label else "object")
    context.subject.roles = Roles(second_labeller=second)
    _, rows = run_task(Iou(), context)
    [found] = [r for r in rows if (r.metric, r.arm) == ("labeller_kappa", "main")]
    first = ["scene"] * 2 + ["object"] * 3 + ["colour"] * 3
    assert found.value == pytest.approx(kappa(first, ["scene"] * 2 + ["object"] * 6))
    assert found.n_ok == 8


def test_kappa_is_1_for_the_same_and_0_for_chance() -> None:
    assert kappa(["a", "b", "a"], ["a", "b", "a"]) == 1
    assert kappa(["a", "a", "b", "b"], ["a", "b", "a", "b"]) == 0
    assert kappa(["a", "a"], ["a", "a"]) is None
    assert kappa([], []) is None


def test_marks_are_read_strictly() -> None:
    assert after_mark(f"I think. {EXPLANATION} wheels ", EXPLANATION, "explainer") == "wheels"
    assert after_mark(f"Well, {NOTHING}!", EXPLANATION, "explainer") is None
    for broken in ("wheels", "", f"{EXPLANATION}  "):
        with pytest.raises(BrokenReplyError):
            after_mark(broken, EXPLANATION, "explainer")


def test_a_concept_is_one_of_six_whatever_its_case_or_spelling() -> None:
    assert one_concept("Color.") == "colour"
    assert one_concept(" SCENE ") == "scene"
    for broken in ("scene or object", "", "thing"):
        with pytest.raises(BrokenReplyError):
            one_concept(broken)


def test_prompts_of_ones_own_travel_by_name_and_hash(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"explainer": "Say what you see."}))
    opened = open_roles({"explainer": "fake"}, lambda ref, role: FakeChat(str), file)
    facts = opened.document()
    name, digest = facts["prompts"]["explainer"]
    assert name == "mine.json:explainer"
    assert len(digest) == 64
    assert facts["prompts"]["refiner"][0] == "refiner/1"
    assert {"explainer", "refiner", "labeller"} <= facts.keys()
    assert Roles().document() == {}


@pytest.mark.parametrize(
    ("text", "error"),
    [("[]", UsageError), ("{", UsageError), ('{"judge": "x"}', UnknownNameError)],
)
def test_a_bad_prompt_file_is_one_line(tmp_path: Path, text: str, error: type[Exception]) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(error):
        open_roles({"explainer": "fake"}, lambda ref, role: FakeChat(str), file)


def test_a_refiner_without_a_chat_explainer_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to do"):
        open_roles({"refiner": "fake"}, lambda ref, role: FakeChat(str))


def test_soft_wpmi_finds_each_latents_own_label() -> None:
    """Latent i fires on the images of label i, and CLIP sees them nearly right."""
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 6
    cosines = 0.25 * np.eye(6)[truth] + 0.02 * rng.normal(size=(300, 6))
    pooled = np.eye(6)[truth].T * rng.random((6, 300))
    assert soft_wpmi(pooled, cosines).argmax(1).tolist() == list(range(6))


def test_soft_wpmi_does_not_prefer_a_label_that_fits_everything() -> None:
    truth = np.arange(300) % 3
    cosines = np.hstack([0.1 * np.eye(3)[truth], np.full((300, 1), 0.2)])
    pooled = np.eye(3)[truth].T
    assert soft_wpmi(pooled, cosines).argmax(1).tolist() == [0, 1, 2]


def test_labels_by_clip_alone_explain_every_latent(study_context: Any) -> None:
    context = study_context()
    context.subject.roles = Roles("soft-wpmi")
    main = studies(context)[0]
    assert {said.status for said in main.explanations.values()} == {"ok"}
    assert all(said.concept for said in main.explanations.values())
