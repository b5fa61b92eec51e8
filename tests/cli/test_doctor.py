"""`doctor` says what there is, and never what a key is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from safetensors.torch import load_file

Type = Callable[..., Result]


def test_a_key_is_said_to_be_set_and_never_shown(type_command: Type) -> None:
    with_key = type_command("doctor", env={"OPENAI_API_KEY": "sk-very-secret"})
    without = type_command("doctor", "--json")

    assert with_key.exit_code == 0
    assert "very-secret" not in with_key.output
    assert "OPENAI_API_KEY     yes" in with_key.output
    assert json.loads(without.output)["keys set"] == {"OPENAI_API_KEY": False}


def test_versions_device_and_cache_are_named(type_command: Type, in_folder: Path) -> None:
    result = type_command("doctor", "--json", env={"LMMSAE_EVAL_CACHE": str(in_folder / "c")})

    found = json.loads(result.output)
    assert found["packages"]["torch"]
    assert {"datasets", "bitsandbytes", "wandb", "tensorboard"} <= found["packages"].keys()
    assert found["device"]["cpu cores"] >= 1
    assert found["cache"]["path"] == str(in_folder / "c")
    assert found["cache"]["writable"] is True
    assert found["cache"]["artefacts"] == 0


def test_a_model_is_looked_at_without_its_weights(
    type_command: Type, tiny_lmm_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "no-weights"
    shutil.copytree(tiny_lmm_folder, folder)
    (folder / "model.safetensors").unlink()
    result = type_command("doctor", "--json", "--model", folder)

    model = json.loads(result.output)["model"]
    assert (model["layers"], model["d_model"]) == (6, 64)
    assert model["class"] == "LlavaForConditionalGeneration"
    assert model["first block"].startswith("model.layers.0 (layer 1) at model.language_model")
    assert model["chat template"] == "<s> <image> is there a boat ? <answer>"
    assert model["yes and no"].startswith("one vocabulary entry each")
    assert model["image tokens"]["640 x 480"] == "144: 144 base (each 53.3 x 40.0 px)"
    weights = load_file(tiny_lmm_folder / "model.safetensors")
    assert model["memory"]["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert model["memory"]["fits"].startswith("yes, in float32")
    assert "answer" not in model


def test_the_testbed_is_meant_even_where_a_folder_has_its_name(
    type_command: Type, in_folder: Path
) -> None:
    (in_folder / "testbed").mkdir()
    result = type_command("doctor", "--json", "--model", "testbed")

    assert json.loads(result.output)["model"]["name"] == "testbed"


def test_weights_too_large_for_the_machine_are_said_to_be(
    type_command: Type, tiny_lmm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmmsae_eval.sae.examination._there", lambda options: 1000)
    result = type_command("doctor", "--model", tiny_lmm_folder, "--dtype", "bfloat16")

    assert "no, in bfloat16" in result.output


def test_asked_it_loads_the_weights_and_answers(type_command: Type, tiny_lmm_folder: Path) -> None:
    result = type_command("doctor", "--json", "--ask", "--model", tiny_lmm_folder)

    model = json.loads(result.output)["model"]
    assert isinstance(model["answer"], str)
    assert len(model["identity"]) == 64


def test_how_to_load_what_is_refused_without_a_model(type_command: Type) -> None:
    result = type_command("doctor", "--dtype", "float16")

    assert result.exit_code == 2
    assert "--model" in result.stderr


def test_a_model_that_does_not_load_is_one_line_and_2(type_command: Type) -> None:
    result = type_command("doctor", "--model", "./nowhere")

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
