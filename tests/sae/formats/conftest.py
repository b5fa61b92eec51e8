"""Checkpoints as each family writes them, made here: exact tensor names, shapes and cfg keys, and
the family's own arithmetic in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.sae.architectures import ARCHITECTURES
from lmmsae_eval.sae.sae import SAE
from lmmsae_eval.sae.topk import TopK
from safetensors.torch import save_file
from torch import Tensor

N, D, K = 24, 8, 3
Tensors = dict[str, Tensor]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def top(pre: Tensor, k: int = K) -> Tensor:
    """Dense: everything but the k largest is 0, and so is what is negative."""
    values, indices = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter_(-1, indices, values.relu())


@pytest.fixture
def sae() -> TopK:
    """Untied, biases not zero, decoder rows of many lengths."""
    return TopK(draw(N, D, seed=1), draw(N, seed=2), draw(N, D, seed=3), draw(D, seed=4), K)


def kind_of_sae(name: str) -> SAE:
    """The same weights in any architecture, with thresholds and gates that matter."""
    weights = draw(N, D, seed=1), draw(N, seed=2), draw(N, D, seed=3), draw(D, seed=4)
    own: dict[str, dict[str, Any]] = {
        "topk": {},
        "batch_topk": {"threshold": torch.tensor(2.7)},
        "matryoshka": {"threshold": torch.tensor(2.7), "sizes": (4, 9, N)},
        "jump_relu": {"threshold": 2 + draw(N, seed=6).abs()},
        "gated": {"r_mag": 0.3 * draw(N, seed=6), "b_mag": draw(N, seed=7)},
    }
    return ARCHITECTURES[name](*weights, K, **own[name])


@pytest.fixture
def sae_of_kind() -> Callable[[str], SAE]:
    return kind_of_sae


@pytest.fixture
def x() -> Tensor:
    return 2 * draw(50, D, seed=5) + 0.5


@dataclass(frozen=True)
class Layout:
    """One family: its tensors, how they are written, what they compute."""

    family: str
    tensors: Tensors
    write: Callable[[Path, Tensors], Path]
    """Into a folder; returns what a user would name."""
    weights: str
    """The file that the tensors are in."""
    reconstruct: Callable[[Tensors, Tensor], Tensor]


def _sparsify(folder: Path, tensors: Tensors) -> Path:
    cfg = {"activation": "topk", "expansion_factor": 3, "normalize_decoder": True}
    cfg |= {"num_latents": N, "k": K, "multi_topk": False, "skip_connection": False}
    _json(folder / "model.layers.3" / "cfg.json", cfg | {"transcode": False, "d_in": D})
    save_file(tensors, folder / "model.layers.3" / "sae.safetensors")
    return folder


def _saelens(folder: Path, tensors: Tensors) -> Path:
    cfg = {"architecture": "topk", "d_in": D, "d_sae": N, "k": K, "dtype": "float32"}
    cfg |= {"device": "cpu", "apply_b_dec_to_input": True, "normalize_activations": "none"}
    cfg |= {"reshape_activations": "none", "rescale_acts_by_decoder_norm": False}
    hook = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post"}
    _json(folder / "cfg.json", cfg | {"metadata": hook | {"sae_lens_version": "6.54.12"}})
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


def _dictionary_learning(folder: Path, tensors: Tensors) -> Path:
    trainer = {"trainer_class": "TopKTrainer", "dict_class": "AutoEncoderTopK", "lr": 1e-4}
    trainer |= {"steps": 10, "auxk_alpha": 0.03125, "activation_dim": D, "dict_size": N, "k": K}
    trainer |= {"layer": 3, "lm_name": "gpt2", "submodule_name": "resid_post_layer_3"}
    _json(folder / "trainer_0" / "config.json", {"trainer": trainer, "buffer": {"d_submodule": D}})
    buffers = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.7)}
    torch.save(buffers | tensors, folder / "trainer_0" / "ae.pt")
    return folder


def _peft(folder: Path, tensors: Tensors) -> Path:
    cfg = {"peft_type": "TOPK_SAE", "k": K, "num_latents": N, "expansion_factor": 32}
    cfg |= {"target_modules": ["layers.3.mlp.down_proj"], "base_model_name_or_path": "qwen"}
    cfg |= {"dead_tokens_threshold": 10_000_000, "task_type": None, "inference_mode": True}
    _json(folder / "adapter_config.json", cfg)
    prefix = "base_model.model.model.layers.3.mlp.down_proj."
    named = {prefix + key: tensor for key, tensor in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def _openai(folder: Path, tensors: Tensors) -> Path:
    stats = {"stats_last_nonzero": torch.zeros(N, dtype=torch.long)}
    stats |= {"latents_activation_frequency": torch.ones(N), "latents_mean_square": torch.zeros(N)}
    activation = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors | stats | activation, folder / "3.pt")
    return folder / "3.pt"


def _json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def _eleuther_maths(t: Tensors, x: Tensor) -> Tensor:
    pre = (x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    return top(pre) @ t["W_dec"] + t["b_dec"]


def _saelens_maths(t: Tensors, x: Tensor) -> Tensor:
    return top((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) @ t["W_dec"] + t["b_dec"]


def _dictionary_learning_maths(t: Tensors, x: Tensor) -> Tensor:
    pre = (x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    return top(pre.relu()) @ t["decoder.weight"].T + t["b_dec"]


def _peft_maths(t: Tensors, x: Tensor) -> Tensor:
    values, indices = ((x - t["sae_b_dec"]) @ t["sae_encoder.weight"].T).topk(K, dim=-1)
    dense = torch.zeros(len(x), N, dtype=x.dtype).scatter_(-1, indices, values)
    return dense @ t["sae_W_dec"] + t["sae_b_dec"]


def _openai_maths(t: Tensors, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    std = (x - mean).std(-1, keepdim=True)
    y = (x - mean) / (std + 1e-5)
    pre = (y - t["pre_bias"]) @ t["encoder.weight"].T + t["latent_bias"]
    return (top(pre) @ t["decoder.weight"].T + t["pre_bias"]) * std + mean


def _layouts() -> list[Layout]:
    enc, b, dec, bias = draw(N, D, seed=1), draw(N, seed=2), draw(N, D, seed=3), draw(D, seed=4)
    enc_t, dec_t = enc.T.contiguous(), dec.T.contiguous()
    linear = {"encoder.weight": enc, "encoder.bias": b}
    eleuther = linear | {"W_dec": dec, "b_dec": bias}
    lens = {"W_enc": enc_t, "b_enc": b, "W_dec": dec, "b_dec": bias}
    marks = linear | {"decoder.weight": dec_t, "b_dec": bias}
    successor = {"sae_encoder.weight": enc, "sae_W_dec": dec, "sae_b_dec": bias}
    v5 = {"pre_bias": bias, "encoder.weight": enc, "latent_bias": b, "decoder.weight": dec_t}
    return [
        Layout("sparsify", eleuther, _sparsify, "sae.safetensors", _eleuther_maths),
        Layout("saelens", lens, _saelens, "sae_weights.safetensors", _saelens_maths),
        Layout(
            "dictionary_learning", marks, _dictionary_learning, "ae.pt", _dictionary_learning_maths
        ),
        Layout("peft", successor, _peft, "adapter_model.safetensors", _peft_maths),
        Layout("openai", v5, _openai, "3.pt", _openai_maths),
    ]


LAYOUTS = {layout.family: layout for layout in _layouts()}


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS.keys())
def layout(request: pytest.FixtureRequest) -> Layout:
    """Every family in turn."""
    chosen: Layout = request.param
    return chosen


@pytest.fixture
def saelens() -> Layout:
    return LAYOUTS["saelens"]


@pytest.fixture
def dictionary_learning() -> Layout:
    return LAYOUTS["dictionary_learning"]


@pytest.fixture
def peft() -> Layout:
    return LAYOUTS["peft"]


@pytest.fixture
def openai() -> Layout:
    return LAYOUTS["openai"]
