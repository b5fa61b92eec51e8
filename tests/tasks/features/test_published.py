"""The paper's explanation files, laid out exactly as its code writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.features.published import published_explanations

NAME = "model.layers.24_feature{}"
TEXTS = {
    3: "Kayaks on water.",
    7: "Unable to produce descriptions.",
    9: "Response The images show cats. Explanation could not be parsed.",
    12: 'The word "Los" on traffic signs.',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    entries = [{NAME.format(latent): text} for latent, text in TEXTS.items()]
    path = tmp_path / "model_layers_24.json"
    path.write_text(json.dumps(entries, indent=4, ensure_ascii=False))
    return tmp_path


def table(path: Path, entries: dict[int, str]) -> Path:
    path.write_text(json.dumps({NAME.format(k): text for k, text in entries.items()}, indent=4))
    return path


def test_explanations_are_found_by_hookpoint_and_latent(folder: Path) -> None:
    found = published_explanations(folder)["model.layers.24"]
    assert set(found) == set(TEXTS)
    assert (found[3].status, found[3].text, found[3].label) == ("ok", TEXTS[3], TEXTS[3])


def test_a_refusal_and_an_unparsed_reply_are_no_explanations(folder: Path) -> None:
    found = published_explanations(folder / "model_layers_24.json")["model.layers.24"]
    for latent, reason in ((7, "could not tell"), (9, "could not be parsed")):
        assert found[latent].status == "unscorable"
        assert reason in (found[latent].reason or "")
        assert found[latent].label is None


def test_refined_labels_and_concepts_come_from_their_own_files(folder: Path) -> None:
    refined = table(
        folder.parent / "refined.json",
        {3: "kayak", 12: "Response [x]. Explanation could not be parsed."},
    )
    concepts = table(folder.parent / "concepts.json", {3: "Color.", 12: "text"})
    found = published_explanations(folder, refined, concepts)["model.layers.24"]
    assert (found[3].label, found[3].concept) == ("kayak", "colour")
    assert found[12].status == "unscorable"


def test_a_concept_outside_the_six_is_none(folder: Path) -> None:
    concepts = table(folder.parent / "concepts.json", {3: "vehicle", 12: " OBJECT"})
    found = published_explanations(folder, concepts=concepts)["model.layers.24"]
    assert (found[3].concept, found[12].concept) == (None, "object")


def test_of_a_latent_explained_twice_the_last_counts(folder: Path) -> None:
    """A second run of the paper's code appends."""
    path = folder / "model_layers_24.json"
    entries = [*json.loads(path.read_text()), {NAME.format(3): "Boats."}]
    path.write_text(json.dumps(entries))
    assert published_explanations(folder)["model.layers.24"][3].text == "Boats."


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "can't read explanations"), ('[{"a": 1}]', "holds no explanations"), ("[3]", "holds no"),
     ('[{"feature": "x"}]', "names no latent"), ("[]", "no explanations in")],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "model_layers_24.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=said) as error:
        published_explanations(path)
    assert "\n" not in str(error.value)
