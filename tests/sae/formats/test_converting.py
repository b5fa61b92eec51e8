"""From any family to any other, the reconstruction stays."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import IncompleteError, UnknownNameError, UsageError
from lmmsae_eval.sae.formats import convert, load_sae, save_sae
from lmmsae_eval.sae.topk import TopK
from torch import Tensor

WRITTEN = ("sparsify", "saelens", "dictionary_learning", "peft")


@pytest.mark.parametrize("route", list(permutations(WRITTEN)), ids=" to ".join)
def test_a_way_through_every_layout_leaves_every_bit_of_every_layer(
    route: tuple[str, ...], sae: TopK, tmp_path: Path
) -> None:
    first = replace(sae, b_enc=torch.zeros(24))
    second = replace(first, W_dec=-sae.W_dec)
    save_sae(first, tmp_path / "start" / "model.layers.2")
    save_sae(second, tmp_path / "start" / "model.layers.10")
    here = tmp_path / "start"
    for step, family in enumerate(route):
        convert(here, tmp_path / str(step), family)
        here = tmp_path / str(step)
    loaded = load_sae(here)
    assert [name for name, _ in loaded] == ["model.layers.2", "model.layers.10"]
    assert [sae.identity for _, sae in loaded] == [first.identity, second.identity]


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 12), d=st.integers(1, 6), seed=st.integers(0, 99), to=st.sampled_from(WRITTEN)
)
def test_an_sae_of_any_size_comes_back(
    tmp_path_factory: pytest.TempPathFactory, n: int, d: int, seed: int, to: str
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    made = TopK.random(n, d, 1 + seed % n, seed, b_dec=torch.arange(float(d)))
    save_sae(made, tmp_path / "a" / "model.layers.0")
    convert(tmp_path / "a", tmp_path / "b", to)
    [(_, back)] = load_sae(tmp_path / "b")
    assert back.identity == made.identity


def test_the_model_is_passed_on(saelens: Any, tmp_path: Path) -> None:
    convert(saelens.write(tmp_path / "a", saelens.tensors), tmp_path / "b", "dictionary_learning")
    convert(tmp_path / "b", tmp_path / "c", "saelens")
    assert '"model_name": "gpt2"' in (tmp_path / "c" / "model.layers.3" / "cfg.json").read_text()


def test_a_folder_that_has_something_in_it_is_not_written_to(sae: TopK, tmp_path: Path) -> None:
    save_sae(sae, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty"):
        convert(tmp_path / "a", tmp_path / "b", "saelens")
    with pytest.raises(UsageError, match="is not empty"):
        convert(tmp_path / "a", tmp_path / "b" / "mine.txt", "saelens")
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("hookpoint", ["../../out", "/tmp/out", "a/b", "..", "."])
def test_a_hookpoint_that_leads_elsewhere_writes_nothing(
    hookpoint: str, sae: TopK, tmp_path: Path
) -> None:
    save_sae(sae, tmp_path / "a", {"hookpoint": hookpoint})
    with pytest.raises(UsageError, match="it can be no folder"):
        convert(tmp_path / "a", tmp_path / "deep" / "b", "saelens")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_two_saes_of_one_hookpoint_are_told_apart_by_their_folder(
    dictionary_learning: Any, x: Tensor, tmp_path: Path
) -> None:
    folder = dictionary_learning.write(tmp_path, dictionary_learning.tensors)
    copytree(folder / "trainer_0", folder / "trainer_1")
    with pytest.raises(UsageError, match=r"more than one SAE for model\.layers\.3.*trainer_1"):
        load_sae(folder)
    assert load_sae(folder / "trainer_1")[0][0] == "model.layers.3"


def test_an_unknown_or_read_only_format_is_refused(sae: TopK, tmp_path: Path) -> None:
    save_sae(sae, tmp_path / "a")
    with pytest.raises(UnknownNameError, match="did you mean 'saelens'"):
        convert(tmp_path / "a", tmp_path / "b", "saelense")
    with pytest.raises(UnknownNameError, match="unknown format 'openai'"):
        convert(tmp_path / "a", tmp_path / "b", "openai")


@pytest.mark.parametrize("to", WRITTEN)
def test_a_full_disk_is_one_line_and_the_same_call_does_it_when_there_is_space(
    to: str, sae: TopK, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_sae(replace(sae, b_enc=torch.zeros(24)), tmp_path / "a" / "model.layers.1")

    def disk_full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(IncompleteError, match="No space left on device; free space") as error:
        convert(tmp_path / "a", tmp_path / "b", to)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    monkeypatch.undo()
    convert(tmp_path / "a", tmp_path / "b", to)
    assert len(load_sae(tmp_path / "b")) == 1


def test_what_a_killed_conversion_left_is_not_taken_for_its_own(sae: TopK, tmp_path: Path) -> None:
    save_sae(sae, tmp_path / "a" / "model.layers.1")
    save_sae(sae, tmp_path / ".b.partial" / "model.layers.9")
    convert(tmp_path / "a", tmp_path / "b", "sparsify")
    assert [name for name, _ in load_sae(tmp_path / "b")] == ["model.layers.1"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


def test_an_empty_folder_may_be_written_to_also_as_the_present_one(
    sae: TopK, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_sae(sae, tmp_path / "a" / "model.layers.1")
    (tmp_path / "b").mkdir()
    inode = (tmp_path / "b").stat().st_ino
    monkeypatch.chdir(tmp_path / "b")
    save_sae(sae, Path(".b.partial", "model.layers.9"))  # of a conversion that was killed
    places = convert(tmp_path / "a", Path(), "saelens")
    assert places == [Path("model.layers.1")]
    assert len(load_sae(places[0])) == 1
    assert [file.name for file in Path().iterdir()] == ["model.layers.1"]
    assert (tmp_path / "b").stat().st_ino == inode


def test_layouts_of_several_families_in_one_folder_are_all_read(
    saelens: Any, sae: TopK, x: Tensor, tmp_path: Path
) -> None:
    saelens.write(tmp_path / "theirs", saelens.tensors)
    save_sae(sae, tmp_path / "model.layers.1")
    assert [name for name, _ in load_sae(tmp_path)] == ["model.layers.1", "model.layers.3"]
