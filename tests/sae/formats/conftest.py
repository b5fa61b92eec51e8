"""Checkpoints as each family writes them, made here: exact tensor names, shapes and cfg keys, and
the family's own arithmetic in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
Maths = Callable[[Tensors, Tensor], Tensor]


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


def _sparsify(folder: Path, tensors: Tensors, **other: Any) -> Path:
    cfg = {"activation": "topk", "expansion_factor": 3, "normalize_decoder": True}
    cfg |= {"num_latents": N, "k": K, "multi_topk": False, "skip_connection": False} | other
    _json(folder / "model.layers.3" / "cfg.json", cfg | {"transcode": False, "d_in": D})
    save_file(tensors, folder / "model.layers.3" / "sae.safetensors")
    return folder


def _saelens(folder: Path, tensors: Tensors, **other: Any) -> Path:
    cfg: dict[str, Any] = {"d_in": D, "d_sae": N, "dtype": "float32"}
    cfg |= {"device": "cpu", "apply_b_dec_to_input": True, "normalize_activations": "none"}
    of_topk = {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": False}
    cfg |= {"reshape_activations": "none"} | (other or of_topk)
    hook = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post"}
    _json(folder / "cfg.json", cfg | {"metadata": hook | {"sae_lens_version": "6.54.12"}})
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


_K_AND_THRESHOLD = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.7)}
_OF_TOPK = {"trainer_class": "TopKTrainer", "dict_class": "AutoEncoderTopK", "k": K}


def _dictionary_learning(
    folder: Path,
    tensors: Tensors,
    of_class: dict[str, Any] = _OF_TOPK,
    buffers: Tensors = _K_AND_THRESHOLD,
) -> Path:
    trainer = {"lr": 1e-4, "steps": 10, "activation_dim": D, "dict_size": N, "layer": 3} | of_class
    trainer |= {"lm_name": "gpt2", "submodule_name": "resid_post_layer_3"}
    _json(folder / "trainer_0" / "config.json", {"trainer": trainer, "buffer": {"d_submodule": D}})
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


def _native() -> dict[str, Layout]:
    """sparsify's layout with the tensors that other architectures add."""
    enc, b, dec, bias = draw(N, D, seed=1), draw(N, seed=2), draw(N, D, seed=3), draw(D, seed=4)
    eleuther = {"encoder.weight": enc, "encoder.bias": b, "W_dec": dec, "b_dec": bias}

    def layout(own: Tensors, maths: Maths, **cfg: Any) -> Layout:
        write = partial(_sparsify, **cfg)
        return Layout("sparsify", eleuther | own, write, "sae.safetensors", maths)

    one, each = {"threshold": ONE}, {"threshold": EACH}
    return {
        "batch_topk": layout(one, _native_threshold, activation="batch_topk"),
        "matryoshka": layout(one, _native_threshold, activation="matryoshka", sizes=[4, 9, N]),
        "jump_relu": layout(each, _native_threshold, activation="jump_relu", k=0),
        "gated": layout(GATE, _native_gate, activation="gated"),
    }


def _lenses() -> dict[str, Layout]:
    """SAELens' other architectures. The last two are checkpoints of a training."""
    enc, b, dec, bias = draw(N, D, seed=1), draw(N, seed=2), draw(N, D, seed=3), draw(D, seed=4)
    plain = {"W_enc": enc.T.contiguous(), "b_enc": b, "W_dec": dec, "b_dec": bias}
    gated = {"W_enc": plain["W_enc"], "b_gate": b, "W_dec": dec, "b_dec": bias} | GATE

    def layout(tensors: Tensors, maths: Maths, **cfg: Any) -> Layout:
        write = partial(_saelens, **cfg)
        return Layout("saelens", tensors, write, "sae_weights.safetensors", maths)

    on_the_way = {"k": 2.6, "rescale_acts_by_decoder_norm": True, "architecture": "batchtopk"}
    widths = {"architecture": "matryoshka_batchtopk", "matryoshka_widths": [4, 9]}
    running = plain | {"topk_threshold": ONE}
    return {
        "jumprelu": layout(plain | {"threshold": EACH}, _lens_threshold, architecture="jumprelu"),
        "gated of SAELens": layout(gated, _lens_gate, architecture="gated"),
        "batchtopk": layout(running, _lens_running, **on_the_way),
        "matryoshka_batchtopk": layout(running, _lens_running, **on_the_way | widths),
    }


def _dictionaries() -> dict[str, Layout]:
    """dictionary_learning's other classes, each with its own names."""
    enc, b, dec, bias = draw(N, D, seed=1), draw(N, seed=2), draw(N, D, seed=3), draw(D, seed=4)
    enc_t, dec_t = enc.T.contiguous(), dec.T.contiguous()
    linear = {"encoder.weight": enc, "encoder.bias": b, "decoder.weight": dec_t, "b_dec": bias}
    plain = {"W_enc": enc_t, "b_enc": b, "W_dec": dec, "b_dec": bias}
    gated = {"decoder_bias": bias, "encoder.weight": enc, "r_mag": GATE["r_mag"]}
    gated |= {"gate_bias": b, "mag_bias": GATE["b_mag"], "decoder.weight": dec_t}
    k = {"k": torch.tensor(K, dtype=torch.int)}
    groups = k | {"group_sizes": torch.tensor([4, 5, N - 9])}

    def layout(trainer: str, kind: str, t: Tensors, buffers: Tensors, maths: Maths) -> Layout:
        of_class = {"trainer_class": trainer, "dict_class": kind, "target_l0": float(K)}
        write = partial(_dictionary_learning, of_class=of_class, buffers=buffers)
        return Layout("dictionary_learning", t, write, "ae.pt", maths)

    one, each = {"threshold": ONE}, {"threshold": EACH}
    found = [
        layout("BatchTopKTrainer", "BatchTopKSAE", linear | one, k, _dl_linear),
        layout(
            "MatryoshkaBatchTopKTrainer", "MatryoshkaBatchTopKSAE", plain | one, groups, _dl_plain
        ),
        layout("JumpReluTrainer", "JumpReluAutoEncoder", plain | each, {}, _dl_jump_relu),
        layout("GatedSAETrainer", "GatedAutoEncoder", gated, {}, _dl_gated),
    ]
    names = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder", "GatedAutoEncoder")
    return dict(zip(names, found, strict=True))


ONE = torch.tensor(2.7)
EACH = 2 + draw(N, seed=6).abs()
GATE = {"r_mag": 0.3 * draw(N, seed=6), "b_mag": draw(N, seed=7)}


def _above(pre: Tensor, threshold: Tensor) -> Tensor:
    return pre.relu() * (pre > threshold)


def _opened(raw: Tensor, gate: Tensor, r_mag: Tensor, b_mag: Tensor) -> Tensor:
    return (raw + gate > 0) * (r_mag.exp() * raw + b_mag).relu()


def _native_threshold(t: Tensors, x: Tensor) -> Tensor:
    pre = (x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    return _above(pre, t["threshold"]) @ t["W_dec"] + t["b_dec"]


def _native_gate(t: Tensors, x: Tensor) -> Tensor:
    raw = (x - t["b_dec"]) @ t["encoder.weight"].T
    return _opened(raw, t["encoder.bias"], t["r_mag"], t["b_mag"]) @ t["W_dec"] + t["b_dec"]


def _lens_threshold(t: Tensors, x: Tensor) -> Tensor:
    pre = (x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    return _above(pre, t["threshold"]) @ t["W_dec"] + t["b_dec"]


def _lens_gate(t: Tensors, x: Tensor) -> Tensor:
    raw = (x - t["b_dec"]) @ t["W_enc"]
    return _opened(raw, t["b_gate"], t["r_mag"], t["b_mag"]) @ t["W_dec"] + t["b_dec"]


def _lens_running(t: Tensors, x: Tensor) -> Tensor:
    """Their threshold is one of latents times the norms of their decoder rows."""
    norms = t["W_dec"].norm(dim=-1)
    acts = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * norms
    return _above(acts, t["topk_threshold"]) / norms @ t["W_dec"] + t["b_dec"]


def _dl_linear(t: Tensors, x: Tensor) -> Tensor:
    pre = (x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    return _above(pre, t["threshold"]) @ t["decoder.weight"].T + t["b_dec"]


def _dl_plain(t: Tensors, x: Tensor) -> Tensor:
    return _lens_threshold(t, x)


def _dl_jump_relu(t: Tensors, x: Tensor) -> Tensor:
    """It reads x itself."""
    return _above(x @ t["W_enc"] + t["b_enc"], t["threshold"]) @ t["W_dec"] + t["b_dec"]


def _dl_gated(t: Tensors, x: Tensor) -> Tensor:
    raw = (x - t["decoder_bias"]) @ t["encoder.weight"].T
    acts = _opened(raw, t["gate_bias"], t["r_mag"], t["mag_bias"])
    return acts @ t["decoder.weight"].T + t["decoder_bias"]


LAYOUTS = {layout.family: layout for layout in _layouts()}
LAYOUTS |= _native() | _lenses() | _dictionaries()


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
