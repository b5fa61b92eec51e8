"""The successor's PEFT adapters: several layers in one file, no encoder bias."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import convert, load_sae, save_sae
from lmmsae_eval.sae.topk import TopK
from safetensors.torch import load_file, save_file
from torch import Tensor


def test_every_layer_of_an_adapter_is_an_sae(peft: Any, x: Tensor, tmp_path: Path) -> None:
    folder = peft.write(tmp_path, peft.tensors)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    mirrored = {key.replace("layers.3.", "layers.12."): -t for key, t in tensors.items()}
    save_file(tensors | mirrored, file)
    assert [name for name, _ in load_sae(folder)] == [
        f"model.layers.{layer}.mlp.down_proj" for layer in (12, 3)
    ]
    [(_, mirror)] = load_sae(folder, "model.layers.12.mlp.down_proj")
    theirs = -peft.reconstruct(peft.tensors, x)
    torch.testing.assert_close(mirror.reconstruct(-x), theirs, rtol=1e-4, atol=1e-4)


def test_negative_latents_that_theirs_would_choose_are_silent_here(
    peft: Any, x: Tensor, tmp_path: Path
) -> None:
    folder = peft.write(tmp_path, peft.tensors)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"k": 24}))
    [(_, sae)] = load_sae(folder)
    pre = (x - peft.tensors["sae_b_dec"]) @ peft.tensors["sae_encoder.weight"].T
    positive = pre.relu() @ peft.tensors["sae_W_dec"] + peft.tensors["sae_b_dec"]
    torch.testing.assert_close(sae.reconstruct(x), positive, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_another_kind_is_refused(peft: Any, tmp_path: Path) -> None:
    folder = peft.write(tmp_path, peft.tensors)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(UsageError, match="'LORA' is no SAE"):
        load_sae(folder)


def test_a_tensor_of_the_model_itself_is_refused(peft: Any, tmp_path: Path) -> None:
    folder = peft.write(tmp_path, peft.tensors)
    save_file({"lm_head.weight": torch.ones(2, 2)}, folder / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"lm_head\.weight, which is no tensor of an SAE"):
        load_sae(folder)


def test_the_files_are_exactly_those_of_an_adapter(sae: TopK, x: Tensor, tmp_path: Path) -> None:
    unbiased = replace(sae, b_enc=torch.zeros(24))
    save_sae(unbiased, tmp_path / "ours" / "model.layers.24")
    [place] = convert(tmp_path / "ours", tmp_path / "theirs", "peft")
    tensors = load_file(place / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.24."
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == {
        f"{prefix}sae_encoder.weight": (24, 8),
        f"{prefix}sae_W_dec": (24, 8),
        f"{prefix}sae_b_dec": (8,),
    }
    cfg = json.loads((place / "adapter_config.json").read_text())
    assert (cfg["peft_type"], cfg["k"], cfg["num_latents"]) == ("TOPK_SAE", 3, 24)
    [(_, back)] = load_sae(place)
    assert torch.equal(back.reconstruct(x), unbiased.reconstruct(x))


def test_an_encoder_bias_has_no_place_in_an_adapter(sae: TopK, tmp_path: Path) -> None:
    save_sae(sae, tmp_path / "ours" / "model.layers.24")
    with pytest.raises(UsageError, match="has an encoder bias and the PEFT layout has none"):
        convert(tmp_path / "ours", tmp_path / "theirs", "peft")
    assert not (tmp_path / "theirs").exists()


def test_one_adapter_has_one_k(sae: TopK, tmp_path: Path) -> None:
    unbiased = replace(sae, b_enc=torch.zeros(24))
    save_sae(unbiased, tmp_path / "ours" / "model.layers.2")
    save_sae(replace(unbiased, k=4), tmp_path / "ours" / "model.layers.3")
    with pytest.raises(UsageError, match=r"layers\.2 and model\.layers\.3 differ"):
        convert(tmp_path / "ours", tmp_path / "theirs", "peft")
