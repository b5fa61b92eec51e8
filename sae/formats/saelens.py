"""SAELens 6: `cfg.json` beside `sae_weights.safetensors`, W_enc transposed.

What its cfg can switch on is folded into the weights while reading, so that `reconstruct` is the
same on the raw activations: `apply_b_dec_to_input` off, `rescale_acts_by_decoder_norm`, a scaling
factor or a whitening of the input that a training checkpoint keeps beside the weights. What can't
be folded is refused with the reason. Files of SAELens 3 to 5 with a TopK activation are read too.

SAELens keeps a trained BatchTopK or Matryoshka as a `jumprelu` whose latents have one threshold,
and so do we. What such a file has no words for is in its metadata under `lmmsae_eval`: the
architecture, k, and a matryoshka's dictionaries. A training checkpoint of the two has its
`topk_threshold`.
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
from .family import Family, Stored, places_with, refuse_others
from .folds import Parts, input_bias, input_scale, input_whitening, unit_decoder
from .kinds import made, own_of, sizes_of
from .names import layer_of, published
from .tensors import checked_k, fitted, read_json, read_tensors, whole_number

_CFG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_SCALER, _WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
_FIELDS = ("W_enc", "b_enc", "W_dec", "b_dec")
_LAYOUT = {"W_enc": "dn", "b_enc": "n", "W_dec": "nd", "b_dec": "d"}
_LAYOUTS = {
    "topk": _LAYOUT,
    "jumprelu": _LAYOUT | {"threshold": "n"},
    "gated": {
        "W_enc": "dn",
        "b_gate": "n",
        "b_mag": "n",
        "r_mag": "n",
        "W_dec": "nd",
        "b_dec": "d",
    },
    "batchtopk": _LAYOUT | {"topk_threshold": ""},
    "matryoshka_batchtopk": _LAYOUT | {"topk_threshold": ""},
}
"""By their name of the architecture; the last two are training checkpoints."""
_RESCALED = ("topk", "batchtopk", "matryoshka_batchtopk")
_FIELD = {"b_gate": "b_enc", "topk_threshold": "threshold"}
"""Where ours has another name."""
_THEIRS = {
    "topk": "topk",
    "layer_norm_topk": "topk",
    "batch_topk": "jumprelu",
    "matryoshka": "jumprelu",
    "jump_relu": "jumprelu",
    "gated": "gated",
}
_OURS = "lmmsae_eval"
"""The key of their free metadata that has our words."""
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
    theirs = cfg["architecture"]
    n, d = whole_number(cfg, "d_sae", path), whole_number(cfg, "d_in", path)
    weights = place / _WEIGHTS
    raw = fitted(_with_threshold(read_tensors(weights)), _LAYOUTS[theirs], weights, n=n, d=d)
    parts = {_FIELD.get(key, key): tensor.double() for key, tensor in raw.items()}
    parts["W_enc"] = parts["W_enc"].T
    if cfg.get("rescale_acts_by_decoder_norm") and theirs in _RESCALED:
        parts = unit_decoder(parts)
    if not cfg.get("apply_b_dec_to_input", True):
        parts = input_bias(parts)
    metadata = {**cfg, **(cfg.get("metadata") or {})}
    hookpoint = metadata.get("hookpoint") or metadata.get("hook_name") or place.name
    model = str(metadata.get("model_name") or "")
    return [Stored(published(str(hookpoint)), _made(parts, cfg, metadata, place), model)]


def _with_threshold(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """A training checkpoint of before had the logarithm of a JumpReLU's threshold."""
    found = dict(tensors)
    if isinstance(log := found.get("log_threshold"), Tensor):
        del found["log_threshold"]
        found["threshold"] = log.exp()
    return found


def _made(parts: Parts, cfg: Mapping[str, Any], metadata: Mapping[str, Any], place: Path) -> SAE:
    path, theirs = place / _CFG, cfg["architecture"]
    if cfg.get("normalize_activations") == "layer_norm":
        return _layer_normed(parts, cfg, path)
    raw = _unnormalised(parts, cfg, place)
    flat = {name: tensor.float().contiguous() for name, tensor in raw.items()}
    if theirs == "topk":
        return made("topk", flat, cfg.get("k"), path)
    if theirs == "gated":
        return made("gated", flat, _ours(metadata).get("k"), path)
    if theirs == "jumprelu":
        return _of_jumprelu(flat, _ours(metadata), path)
    k = cfg.get("k")  # on average: theirs may be a fraction
    k = max(1, round(k)) if isinstance(k, float) else k
    if theirs == "batchtopk":
        return made("batch_topk", flat, k, path)
    return made("matryoshka", flat, k, path, _widths(cfg, len(flat["b_enc"])))


def _widths(cfg: Mapping[str, Any], n: int) -> Any:
    """Theirs need not end with all latents."""
    widths = cfg.get("matryoshka_widths")
    return [*widths, n] if isinstance(widths, list) and widths[-1:] != [n] else widths


def _ours(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    told = metadata.get(_OURS)
    return told if isinstance(told, dict) else {}


def _of_jumprelu(tensors: Parts, told: Mapping[str, Any], path: Path) -> SAE:
    """A BatchTopK where the metadata says so and the latents still have one threshold."""
    threshold = tensors["threshold"]
    known = told.get("architecture")
    if known in ("batch_topk", "matryoshka") and bool((threshold == threshold[0]).all()):
        one = {**tensors, "threshold": threshold[0]}
        return made(str(known), one, told.get("k"), path, told.get("sizes"))
    return made("jump_relu", tensors, told.get("k"), path)


def _layer_normed(parts: Parts, cfg: Mapping[str, Any], path: Path) -> SAE:
    if cfg["architecture"] != "topk":
        raise UsageError(
            f"{path}: a layer norm of each token is no matter of weights; of {cfg['architecture']} "
            "SAEs it can't be loaded, of topk it can"
        )
    k = checked_k(cfg.get("k"), len(parts["b_enc"]), path)
    b_pre = parts.pop("b_dec")
    return LayerNormTopK.of(**parts, b_pre=b_pre, k=k).to(torch.float32)


def _modern(cfg: dict[str, Any]) -> dict[str, Any]:
    """A cfg of SAELens 3 to 5 in the words of 6."""
    activation = cfg.get("activation_fn", cfg.get("activation_fn_str"))
    if activation == "topk":
        more = {"architecture": "topk", **(cfg.get("activation_fn_kwargs") or {})}
        return {**cfg, **more}
    return cfg


def _refuse_other_maths(cfg: Mapping[str, Any], path: Path) -> None:
    if str(architecture := cfg.get("architecture")) not in _LAYOUTS:
        raise UsageError(
            f"{path}: architecture {architecture!r} can't be loaded; {', '.join(_LAYOUTS)} can"
        )
    if cfg.get("reshape_activations", "none") != "none":
        raise UsageError(f"{path}: it reads attention heads; only residual streams can be read")
    if cfg.get("finetuning_scaling_factor"):
        raise UsageError(f"{path}: a finetuning scaling factor can't be loaded; fold it in first")


def _unnormalised(parts: Parts, cfg: Mapping[str, Any], place: Path) -> Parts:
    """The SAE of raw activations, whatever its own were."""
    kind = cfg.get("normalize_activations") or "none"
    if kind in ("expected_average_only_in", True):
        return input_scale(parts, _scale(place))
    if kind == "covariance_whitening":
        return input_whitening(parts, *_whitening(place, len(parts["b_dec"])))
    if kind != "none":
        raise UsageError(
            f"{place / _CFG}: normalize_activations {kind!r} can't be folded into weights, it "
            "differs from token to token; train without it"
        )
    return parts


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
    refuse_others(saes, "SAELens", list(_THEIRS))
    return [_save(stored, folder / stored.hookpoint) for stored in saes]


def _save(stored: Stored, place: Path) -> Path:
    tensors = {name: tensor.detach().cpu().float() for name, tensor in _tensors(stored.sae).items()}
    tensors["W_enc"] = tensors["W_enc"].T
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with told_in_one_line(place):
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / _WEIGHTS, save(contiguous))
        write_atomically(place / _CFG, json.dumps(_cfg(stored), indent=1) + "\n")
    return place


def _tensors(sae: SAE) -> dict[str, Tensor]:
    """By their names, W_enc as ours."""
    if isinstance(sae, LayerNormTopK):
        return sae.inner
    tensors = {name: getattr(sae, name) for name in _FIELDS} | own_of(sae)
    if _THEIRS[sae.architecture] == "gated":
        tensors["b_gate"] = tensors.pop("b_enc")
    if _THEIRS[sae.architecture] == "jumprelu":
        tensors["threshold"] = tensors["threshold"].expand(sae.n_latents)
    return tensors


def _cfg(stored: Stored) -> dict[str, Any]:
    sae = stored.sae
    normed = isinstance(sae, LayerNormTopK)
    theirs = _THEIRS[sae.architecture]
    of_topk = {"k": sae.k, "rescale_acts_by_decoder_norm": False} if theirs == "topk" else {}
    return {
        "architecture": theirs,
        "d_in": sae.d_model,
        "d_sae": len(_tensors(sae)["W_dec"]),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not normed,
        "normalize_activations": "layer_norm" if normed else "none",
        "reshape_activations": "none",
        **of_topk,
        "metadata": _metadata(stored, theirs),
    }


def _metadata(stored: Stored, theirs: str) -> dict[str, Any]:
    sae, layer = stored.sae, layer_of(stored.hookpoint)
    hook = stored.hookpoint if layer is None else f"blocks.{layer}.hook_resid_post"
    sizes = sizes_of(sae)
    ours = {"architecture": sae.architecture, "k": sae.k} | ({"sizes": sizes} if sizes else {})
    return {
        "sae_lens_version": _VERSION,
        "sae_lens_training_version": None,
        "model_name": stored.model or None,
        "hook_name": hook,
        "hookpoint": stored.hookpoint,
        **({} if theirs == "topk" else {_OURS: ours}),
    }


FAMILY = Family("saelens", (_CFG, _WEIGHTS), _find, _read, _write)
