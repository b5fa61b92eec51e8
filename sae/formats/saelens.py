"""SAELens 6: `cfg.json` beside `sae_weights.safetensors`, W_enc transposed.

What its cfg can switch on is folded into the weights while reading, so that `reconstruct` is the
same on the raw activations: `apply_b_dec_to_input` off, `rescale_acts_by_decoder_norm`, a scaling
factor or a whitening of the input that a training checkpoint keeps beside the weights. What can't
be folded is refused with the reason. Files of SAELens 3 to 5 with a TopK activation are read too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ...errors import UsageError
from ..files import told_in_one_line, write_atomically
from ..layernorm import LayerNormTopK
from ..sae import SAE
from ..topk import TopK
from .family import Family, Stored, places_with, refuse_others
from .folds import Parts, input_bias, input_scale, input_whitening, unit_decoder
from .names import layer_of, published
from .tensors import checked_k, fitted, read_json, read_tensors, whole_number

_CFG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_SCALER, _WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
_LAYOUT = {"W_enc": "dn", "b_enc": "n", "W_dec": "nd", "b_dec": "d"}
_MATRICES = {"mean": "d", "matrix": "de", "inverse_matrix": "ed"}
_VERSION = "6.0.0"
"""The oldest whose cfg has these keys: without a version SAELens takes a cfg for an older one's."""


def _find(root: Path) -> list[Path]:
    places = places_with(root, _WEIGHTS)
    return [place for place in places if not (place / "sae.safetensors").exists()]


def _read(place: Path) -> list[Stored]:
    path = place / _CFG
    cfg = _modern(read_json(path))
    _refuse_other_maths(cfg, path)
    n, d = whole_number(cfg, "d_sae", path), whole_number(cfg, "d_in", path)
    weights = place / _WEIGHTS
    raw = fitted(read_tensors(weights), _LAYOUT, weights, n=n, d=d)
    parts = {name: tensor.double() for name, tensor in raw.items()}
    parts["W_enc"] = parts["W_enc"].T
    if cfg.get("rescale_acts_by_decoder_norm"):
        parts = unit_decoder(parts)
    if not cfg.get("apply_b_dec_to_input", True):
        parts = input_bias(parts)
    k = checked_k(cfg.get("k"), len(parts["b_enc"]), path)
    metadata = {**cfg, **(cfg.get("metadata") or {})}
    hookpoint = metadata.get("hookpoint") or metadata.get("hook_name") or place.name
    model = str(metadata.get("model_name") or "")
    return [Stored(published(str(hookpoint)), _unnormalised(parts, k, cfg, place), model)]


def _modern(cfg: dict[str, Any]) -> dict[str, Any]:
    """A cfg of SAELens 3 to 5 in the words of 6."""
    activation = cfg.get("activation_fn", cfg.get("activation_fn_str"))
    if activation == "topk":
        more = {"architecture": "topk", **(cfg.get("activation_fn_kwargs") or {})}
        return {**cfg, **more}
    return cfg


def _refuse_other_maths(cfg: Mapping[str, Any], path: Path) -> None:
    if (architecture := cfg.get("architecture")) != "topk":
        raise UsageError(f"{path}: architecture {architecture!r} can't be loaded; topk can")
    if cfg.get("reshape_activations", "none") != "none":
        raise UsageError(f"{path}: it reads attention heads; only residual streams can be read")
    if cfg.get("finetuning_scaling_factor"):
        raise UsageError(f"{path}: a finetuning scaling factor can't be loaded; fold it in first")


def _unnormalised(parts: Parts, k: int, cfg: Mapping[str, Any], place: Path) -> TopK:
    """The SAE of raw activations, whatever its own were."""
    kind = cfg.get("normalize_activations") or "none"
    if kind == "layer_norm":
        b_pre = parts.pop("b_dec")
        return LayerNormTopK.of(**parts, b_pre=b_pre, k=k).to(torch.float32)
    if kind in ("expected_average_only_in", True):
        parts = input_scale(parts, _scale(place))
    elif kind == "covariance_whitening":
        parts = input_whitening(parts, *_whitening(place, len(parts["b_dec"])))
    elif kind != "none":
        raise UsageError(
            f"{place / _CFG}: normalize_activations {kind!r} can't be folded into weights, it "
            "differs from token to token; train without it"
        )
    return TopK(**{name: tensor.contiguous() for name, tensor in parts.items()}, k=k).to(
        torch.float32
    )


def _whitening(place: Path, d: int) -> list[Tensor]:
    """Mean, matrix and its inverse, in float64 as they were written: `fitted` only checks them."""
    path = place / _WHITENING
    tensors = read_tensors(path)
    fitted(tensors, _MATRICES, path, d=d, e=d)
    return [tensors[name].double() for name in _MATRICES]


def _scale(place: Path) -> float:
    scale = read_json(place / _SCALER).get("scaling_factor")
    if not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise UsageError(
            f"{place / _SCALER} names no scaling_factor; save the SAE with the factor folded in"
        )
    return float(scale)


def _write(saes: Sequence[Stored], folder: Path) -> list[Path]:
    refuse_others(saes, "SAELens", ["topk", "layer_norm_topk"])
    return [_save(stored, folder / stored.hookpoint) for stored in saes]


def _save(stored: Stored, place: Path) -> Path:
    tensors = {name: tensor.detach().cpu().float() for name, tensor in _parts(stored.sae).items()}
    tensors["W_enc"] = tensors["W_enc"].T
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with told_in_one_line(place):
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / _WEIGHTS, save(contiguous))
        write_atomically(place / _CFG, json.dumps(_cfg(stored), indent=1) + "\n")
    return place


def _parts(sae: SAE) -> dict[str, Tensor]:
    return (
        sae.inner
        if isinstance(sae, LayerNormTopK)
        else {name: getattr(sae, name) for name in _LAYOUT}
    )


def _cfg(stored: Stored) -> dict[str, Any]:
    normed = isinstance(stored.sae, LayerNormTopK)
    layer = layer_of(stored.hookpoint)
    hook = stored.hookpoint if layer is None else f"blocks.{layer}.hook_resid_post"
    return {
        "architecture": "topk",
        "d_in": stored.sae.d_model,
        "d_sae": len(_parts(stored.sae)["b_enc"]),
        "k": stored.sae.k,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not normed,
        "normalize_activations": "layer_norm" if normed else "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {
            "sae_lens_version": _VERSION,
            "sae_lens_training_version": None,
            "model_name": stored.model or None,
            "hook_name": hook,
            "hookpoint": stored.hookpoint,
        },
    }


FAMILY = Family("saelens", (_CFG, _WEIGHTS), _find, _read, _write)
