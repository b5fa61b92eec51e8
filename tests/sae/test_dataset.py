"""A data set of the `datasets` library, here played by a list, as prompts with answers."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from lmmsae_eval.errors import BadImageError, UsageError
from lmmsae_eval.sae.dataset import ImageDataset
from PIL import Image

PICTURE = Image.new("L", (4, 3), 9)


class Rows(list[Any]):
    column_names = ("id", "image", "conversations")
    _fingerprint = "f00d"


class Broken:
    def convert(self, mode: str) -> None:
        raise OSError("truncated")


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Rows:
    rows = Rows()
    module = ModuleType("datasets")

    def load_dataset(name: str, revision: str | None, split: str) -> Rows:
        if name != "owner/name":
            raise FileNotFoundError(f"no {name}\non the hub")
        rows.asked = (name, revision, split)  # type: ignore[attr-defined]
        return rows

    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return rows


def test_revision_and_split_are_asked_for(stored: Rows) -> None:
    ImageDataset("owner/name@v1:test")
    assert stored.asked == ("owner/name", "v1", "test")  # type: ignore[attr-defined]
    ImageDataset("owner/name")
    assert stored.asked == ("owner/name", None, "train")  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["value", "content"])
def test_the_first_two_turns_are_question_and_answer(stored: Rows, key: str) -> None:
    turns = [{key: "<image>\nWhat is it?"}, {key: "A boat."}, {key: "Sure?"}]
    stored.append({"image": [PICTURE], "conversations": turns})
    [prompt] = ImageDataset("owner/name")
    assert (prompt.text, prompt.answer) == ("What is it?", "A boat.")
    assert prompt.image is not None
    assert (prompt.image.mode, prompt.image.size) == ("RGB", (4, 3))


def test_without_conversations_there_is_one_question_and_without_image_none(stored: Rows) -> None:
    stored.extend([{"image": PICTURE}, {"image": None, "conversations": [{"value": "Why?"}]}])
    first, second = ImageDataset("owner/name")[:]
    assert (first.text, first.answer) == ("describe the image .", "")
    assert (second.text, second.image) == ("Why?", None)


def test_a_broken_image_names_its_place(stored: Rows) -> None:
    stored.extend([{"image": PICTURE}, {"image": Broken()}])
    with pytest.raises(BadImageError, match="image 1 of the data set"):
        list(ImageDataset("owner/name"))


def test_what_cannot_be_loaded_is_one_line(stored: Rows) -> None:
    with pytest.raises(UsageError, match="can't load the data set nowhere: no nowhere on") as error:
        ImageDataset("nowhere")
    assert "\n" not in str(error.value)
    stored.column_names = ("text",)  # type: ignore[assignment]
    with pytest.raises(UsageError, match="no column 'image', only text"):
        ImageDataset("owner/name")


def test_without_the_library_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match="pip install datasets"):
        ImageDataset("owner/name")
