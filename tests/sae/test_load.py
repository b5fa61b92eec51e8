"""From a reference to an LMM, and what is said when that fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.lmm import LMM, Prompt
from lmmsae_eval.sae.load import folder_identity, load_lmm, weights_identity
from lmmsae_eval.sae.residual import yes_no


@pytest.fixture
def copy(tiny_lmm_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_lmm_folder, folder)
    return folder


def refused(ref: str | Path) -> str:
    with pytest.raises(UsageError) as error:
        load_lmm(ref)
    message = str(error.value)
    assert 0 < len(message) < 400
    assert "\n" not in message
    return message


def test_a_saved_model_reloads_with_its_depth_and_width(tiny_lmm: LMM) -> None:
    assert (tiny_lmm.n_layers, tiny_lmm.d_model) == (6, 64)


def test_the_same_folder_gives_the_same_answers_and_identity(copy: Path, tiny_lmm: LMM) -> None:
    again = load_lmm(str(copy))
    assert again.identity == tiny_lmm.identity
    prompts = [Prompt("is there a boat ?")]
    assert torch.equal(
        yes_no(again, again.prepare(prompts)), yes_no(tiny_lmm, tiny_lmm.prepare(prompts))
    )


def test_identity_changes_with_the_weights_and_with_the_template(copy: Path, tiny_lmm: LMM) -> None:
    template = next(file for file in copy.iterdir() if file.suffix == ".jinja")
    template.write_text(template.read_text() + " ")
    new_template = folder_identity(copy)
    assert new_template != tiny_lmm.identity
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert folder_identity(copy) not in (new_template, tiny_lmm.identity)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.pt", "tokenizer.model", "merges.txt"])
def test_identity_changes_with_every_kind_of_weights_and_tokenizer_file(
    copy: Path, name: str
) -> None:
    (copy / name).write_bytes(b"a")
    before = folder_identity(copy)
    (copy / name).write_bytes(b"b")
    assert folder_identity(copy) != before


def test_a_hub_model_without_a_commit_is_known_by_what_lies_in_its_folder(
    copy: Path, tiny_lmm: LMM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy.parent)
    (copy.parent / "owner").mkdir()
    copy.rename(copy.parent / "owner" / "name")
    # A folder under a hub id's name: transformers reads it, and knows no commit of it.
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    assert load_lmm("owner/name").identity == tiny_lmm.identity


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_a_processor_that_lacks_a_package_is_one_line(
    copy: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise error("\nAutoProcessor requires the Torchvision library\nbut it was not found.\n")

    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", lacking)
    assert "requires the Torchvision library" in refused(copy)


def test_identity_ignores_files_that_no_output_depends_on(copy: Path, tiny_lmm: LMM) -> None:
    (copy / "README.md").write_text("read me")
    assert folder_identity(copy) == tiny_lmm.identity


def test_a_dtype_can_be_asked_for(tiny_lmm_folder: Path) -> None:
    lmm = load_lmm(tiny_lmm_folder, device="cpu", dtype=torch.float64)
    x = yes_no(lmm, lmm.prepare([Prompt("is it red ?")]))
    assert x.dtype == torch.float64


@pytest.mark.parametrize("ref", ["nowhere", "./nowhere/at-all", "/nowhere", "~/nowhere", "a/b/c"])
def test_a_missing_folder_is_one_line(ref: str) -> None:
    assert "no model folder" in refused(ref)


def test_corrupt_weights_are_one_line(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert str(copy) in refused(copy)


def test_weights_of_other_shapes_are_one_line(copy: Path) -> None:
    config = copy / "config.json"
    config.write_text(
        config.read_text().replace('"intermediate_size": 128', '"intermediate_size": 96')
    )
    refused(copy)


def test_missing_weights_are_refused_not_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors[next(key for key in tensors if "layers.2.mlp" in key)]
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    assert "layers.2.mlp" in refused(copy)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file_is_one_line(copy: Path, file: str) -> None:
    (copy / file).unlink()
    refused(copy)


def test_a_folder_that_holds_no_model_is_one_line(tmp_path: Path) -> None:
    refused(tmp_path)


def test_a_text_only_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    refused(tmp_path)


def test_a_hub_id_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "nobody/nothing" in refused("nobody/nothing@main")


def test_a_hub_id_is_known_by_the_commit_that_it_stands_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = "0123456789" * 4
    snapshot = tmp_path / "models--owner--name" / "snapshots" / commit / "config.json"
    monkeypatch.setattr("transformers.utils.cached_file", lambda *_, **__: str(snapshot))
    assert weights_identity("owner/name") == commit


def test_weights_of_a_folder_are_known_by_their_content(copy: Path) -> None:
    assert weights_identity(str(copy)) == folder_identity(copy)


def test_a_hub_id_that_can_not_be_looked_up_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no connection\nand no cache")

    monkeypatch.setattr("transformers.utils.cached_file", offline)
    with pytest.raises(UsageError, match="can't tell which owner/name is meant: no connection and"):
        weights_identity("owner/name")
