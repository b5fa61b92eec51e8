"""`doctor` says what there is, and never what a key is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

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


def test_a_model_is_loaded_asked_and_its_blocks_are_found(
    type_command: Type, tiny_lmm_folder: Path
) -> None:
    result = type_command("doctor", "--json", "--model", tiny_lmm_folder)

    model = json.loads(result.output)["model"]
    assert (model["layers"], model["d_model"]) == (6, 64)
    assert model["first block"].startswith("model.layers.0 (layer 1) at model.language_model")
    assert isinstance(model["answer"], str)


def test_a_model_that_does_not_load_is_one_line_and_2(type_command: Type) -> None:
    result = type_command("doctor", "--model", "./nowhere")

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
