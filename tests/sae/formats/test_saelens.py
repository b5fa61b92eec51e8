"""SAELens: what its cfg switches on is folded in, or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import convert, load_sae, save_sae
from lmmsae_eval.sae.topk import TopK
from safetensors.torch import load_file, save_file
from torch import Tensor

MEAN = torch.linspace(-1, 1, 8, dtype=torch.float64)
MATRIX = torch.randn(8, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
SCALE = 0.3
SWITCHES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an encoder of x itself": {"apply_b_dec_to_input": False},
    "rescaled latents": {"rescale_acts_by_decoder_norm": True},
    "a scaled input": {"normalize_activations": "expected_average_only_in"},
    "a whitened input": {"normalize_activations": "covariance_whitening"},
    "layer norm": {"normalize_activations": "layer_norm"},
}
PAIRS = [
    pytest.param(first | second, id=f"{name} and {other}")
    for name, first in SWITCHES.items()
    for other, second in list(SWITCHES.items())[:3]
]


def switched(folder: Path, cfg: Mapping[str, Any]) -> Path:
    """The same checkpoint with other cfg keys, and the files that those need."""
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(cfg)))
    (folder / "activation_scaler.json").write_text(
        json.dumps({"scaling_factor": SCALE, "has_whitening": True})
    )
    inverse = torch.linalg.inv(MATRIX).contiguous()
    save_file(
        {"mean": MEAN, "matrix": MATRIX, "inverse_matrix": inverse},
        folder / "activation_whitening.safetensors",
    )
    return folder


def their_reconstruction(t: Mapping[str, Tensor], x: Tensor, cfg: Mapping[str, Any]) -> Tensor:
    """SAELens' own order of things, dense."""
    kind = cfg.get("normalize_activations", "none")
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    if kind == "expected_average_only_in":
        z = x * SCALE
    elif kind == "covariance_whitening":
        z = (x - MEAN) @ MATRIX
    elif kind == "layer_norm":
        z = (x - mean) / (std + 1e-5)
    else:
        z = x
    pre = (z - t["b_dec"] * cfg.get("apply_b_dec_to_input", True)) @ t["W_enc"] + t["b_enc"]
    norms = t["W_dec"].norm(dim=-1) if cfg.get("rescale_acts_by_decoder_norm") else 1.0
    values, indices = (pre * norms).topk(3, dim=-1)
    acts = torch.zeros_like(pre).scatter_(-1, indices, values.relu())
    out = (acts / norms) @ t["W_dec"] + t["b_dec"]
    return {
        "expected_average_only_in": lambda: out / SCALE,
        "covariance_whitening": lambda: out @ torch.linalg.inv(MATRIX) + MEAN,
        "layer_norm": lambda: out * std + mean,
    }.get(kind, lambda: out)()


@pytest.mark.parametrize("cfg", PAIRS)
def test_a_switch_of_the_cfg_changes_the_weights_and_not_the_reconstruction(
    cfg: dict[str, Any], saelens: Any, x: Tensor, tmp_path: Path
) -> None:
    [(_, sae)] = load_sae(switched(saelens.write(tmp_path, saelens.tensors), cfg))
    exact = {key: tensor.double() for key, tensor in saelens.tensors.items()}
    theirs = their_reconstruction(exact, x.double(), cfg)
    torch.testing.assert_close(sae.reconstruct(x).double(), theirs, rtol=1e-3, atol=1e-3)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a norm of each token": ({"normalize_activations": "constant_norm_rescale"}, "token to token"),
    "attention heads": ({"reshape_activations": "hook_z"}, "attention heads"),
    "another architecture": ({"architecture": "temporal"}, "'temporal'"),
    "fine-tuned scales": ({"finetuning_scaling_factor": True}, "finetuning"),
    "no k": ({"k": None}, "names no k"),
    "k beyond the latents": ({"k": 99}, "k is 99 but there are 24 latents"),
    "k of a fraction": ({"k": 2.5}, "not a whole number"),
    "another width": ({"d_in": 9}, r"is \(8,\), expected \(9,\)"),
}


@pytest.mark.parametrize(("cfg", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_folded_is_refused_with_the_reason(
    cfg: dict[str, Any], said: str, saelens: Any, tmp_path: Path
) -> None:
    folder = switched(saelens.write(tmp_path, saelens.tensors), cfg)
    with pytest.raises(UsageError, match=said) as error:
        load_sae(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scaler", ["{}", '{"scaling_factor": null}', None])
def test_a_scaled_input_whose_factor_is_lost_is_refused(
    scaler: str | None, saelens: Any, tmp_path: Path
) -> None:
    cfg = {"normalize_activations": "expected_average_only_in"}
    folder = switched(saelens.write(tmp_path, saelens.tensors), cfg)
    (folder / "activation_scaler.json").unlink()
    if scaler is not None:
        (folder / "activation_scaler.json").write_text(scaler)
    with pytest.raises(UsageError, match=r"activation_scaler\.json"):
        load_sae(folder)


def test_a_cfg_of_saelens_3_loads(saelens: Any, x: Tensor, tmp_path: Path) -> None:
    folder = saelens.write(tmp_path, saelens.tensors)
    [(_, today)] = load_sae(folder)
    old = {"architecture": "standard", "d_in": 8, "d_sae": 24, "dtype": "float32"}
    old |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}, "hook_layer": 3}
    old |= {"normalize_activations": "none", "hook_name": "blocks.4.hook_resid_pre"}
    (folder / "cfg.json").write_text(json.dumps(old | {"finetuning_scaling_factor": False}))
    [(name, sae)] = load_sae(folder)
    assert name == "model.layers.3"
    assert torch.equal(sae.reconstruct(x), today.reconstruct(x))


def test_the_files_are_exactly_those_of_saelens(sae: TopK, x: Tensor, tmp_path: Path) -> None:
    save_sae(sae, tmp_path / "ours" / "model.layers.24")
    [place] = convert(tmp_path / "ours", tmp_path / "theirs", "saelens")
    assert sorted(file.name for file in place.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    tensors = load_file(place / "sae_weights.safetensors")
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    assert shapes == {"W_enc": (8, 24), "b_enc": (24,), "W_dec": (24, 8), "b_dec": (8,)}
    cfg = json.loads((place / "cfg.json").read_text())
    keys = "architecture d_in d_sae k dtype device apply_b_dec_to_input normalize_activations"
    assert cfg.keys() == {
        *keys.split(),
        *("reshape_activations", "rescale_acts_by_decoder_norm", "metadata"),
    }
    assert cfg["metadata"]["hook_name"] == "blocks.24.hook_resid_post"
    theirs = their_reconstruction(tensors, x, cfg)
    torch.testing.assert_close(theirs, sae.reconstruct(x), rtol=1e-4, atol=1e-4)
