"""Published explanations, by the released code's files, scored without asking anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.lmm import Hookpoint
from lmmsae_eval.tasks.clip import Clip
from lmmsae_eval.tasks.features.imported import read_published
from lmmsae_eval.tasks.features.roles import Roles
from lmmsae_eval.tasks.features.study import studies
from lmmsae_eval.tasks.iou import Iou

HERE = Hookpoint("model.layers.24", 24, "layers.24")
OTHER = Hookpoint("model.layers.7", 7, "layers.7")
RAW = [
    {"model.layers.24_feature3": "[EXPLANATION]: kayaks on a river"},
    {"model.layers.24_feature9": "Unable to produce descriptions"},
    {"model.layers.24_feature11": "Response could not be parsed."},
    {"model.layers.7_feature5": "dogs"},
]


def folder(path: Path) -> Path:
    (path / "model_layers_24.json").write_text(json.dumps(RAW))
    (path / "refined.json").write_text(json.dumps({"model.layers.24_feature3": "Kayak"}))
    (path / "concepts.json").write_text(json.dumps({"model.layers.24_feature3": "Object"}))
    return path


def test_raw_refined_and_concept_files_are_told_apart(tmp_path: Path) -> None:
    found = read_published(folder(tmp_path))
    said = found.explanation(HERE, 3, released=False)
    assert (said.status, said.label, said.concept) == ("ok", "kayak", "object")
    assert found.latents(HERE) == [3, 9, 11]
    assert found.latents(OTHER) == [5]
    assert found.explanation(OTHER, 5, released=False).label == "dogs"


def test_refusals_and_broken_replies_are_no_labels_but_in_released(tmp_path: Path) -> None:
    found = read_published(folder(tmp_path))
    assert found.explanation(HERE, 9, released=False).reason == "refused"
    broken = found.explanation(HERE, 11, released=False)
    assert (broken.status, broken.label) == ("unscorable", None)
    as_it_was = found.explanation(HERE, 11, released=True)
    assert (as_it_was.status, as_it_was.label) == ("ok", "response could not be parsed")
    assert found.explanation(HERE, 9, released=True).status == "unscorable"


def test_concepts_are_the_six_whatever_their_case_and_spelling(tmp_path: Path) -> None:
    said = {"3": "Color.", "9": " OBJECT", "11": "scene"}
    (tmp_path / "concepts.json").write_text(json.dumps(said))
    (tmp_path / "labels.json").write_text(json.dumps({key: f"label {key}" for key in said}))
    found = read_published(tmp_path)
    concepts = [found.explanation(HERE, i, released=False).concept for i in (3, 9, 11)]
    assert concepts == ["colour", "object", "scene"]


def test_of_a_latent_explained_twice_the_last_counts(tmp_path: Path) -> None:
    """A second run of the paper's code appends."""
    entries = [*RAW, {"model.layers.24_feature3": "Boats."}]
    (tmp_path / "model_layers_24.json").write_text(json.dumps(entries))
    assert read_published(tmp_path).explanation(HERE, 3, released=False).text == "Boats."


def test_bare_numbers_take_the_layer_of_the_file_or_of_any(tmp_path: Path) -> None:
    named, bare = tmp_path / "model_layers_7.json", tmp_path / "labels.json"
    for file in (named, bare):
        file.write_text(json.dumps({"5": "dog"}))
    assert read_published(named).latents(HERE) == []
    assert read_published(named).latents(OTHER) == [5]
    assert read_published(bare).latents(HERE) == [5]


@pytest.mark.parametrize("text", ["{", '{"x": "dog"}', '{"5": 1}', "[1]"])
def test_what_is_no_file_of_explanations_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.json"):
        read_published(file)


def test_a_folder_without_json_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no explanations"):
        read_published(tmp_path)


def test_only_what_was_published_is_scored_and_no_model_is_asked(
    study_context: Any, world: Any, run_task: Any, tmp_path: Path
) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"2": "box", "1": "night", "30": "day", "999": "x"}))
    context = study_context(lmm=world.SeeingLMM(says="never asked"))
    context.subject.roles = Roles(published=read_published(file))
    lines, rows = run_task(Iou(), context)
    main = {one["latent"]: one for one in lines if one["id"].endswith("/main/top")}
    assert {latent: one["status"] for latent, one in main.items()} == {
        1: "ok", 2: "ok", 30: "unscorable",
    }  # fmt: skip
    assert main[2]["scores"]["iou_top"] == pytest.approx(1)
    assert {one["arm"] for one in lines if one["latent"] is not None}.isdisjoint(
        {"untrained", "neuron"}
    )
    assert rows


def test_a_published_label_is_one_of_the_identity(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"3": "box"}))
    first = Roles(published=read_published(file)).document()
    file.write_text(json.dumps({"3": "bar"}))
    assert Roles(published=read_published(file)).document() != first


def test_clip_rescores_published_labels_under_each_protocol(
    study_context: Any, run_task: Any, tmp_path: Path
) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"3": "box", "4": "bar"}))
    for protocol in ("strict", "paper", "released"):
        context = replace(study_context(), protocol=protocol)
        context.subject.roles = Roles(published=read_published(file))
        lines, _ = run_task(Clip(), context)
        assert {one["latent"] for one in lines} == {3, 4}
        assert len([s for s in studies(context) if s.explanations]) == 1
