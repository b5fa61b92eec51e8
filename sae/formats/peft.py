"""The PEFT adapters of the paper's successor: `adapter_config.json` beside
`adapter_model.safetensors`, one set of tensors for each linear layer that it reads.

Its encoder has no bias. Its top-k has no ReLU: where a token has fewer than k positive latents it
also picks negative ones, which are 0 here; `reconstruct` is the same everywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ...errors import UsageError
from ..files import told_in_one_line, write_atomically
from ..topk import TopK
from .family import Family, Stored, places_with, refuse_others
from .names import in_order, published
from .tensors import checked_k, fitted, read_json, read_tensors, whole_number

_CFG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LAYOUT = {"sae_encoder.weight": "nd", "sae_W_dec": "nd", "sae_b_dec": "d"}


def _find(root: Path) -> list[Path]:
    return places_with(root, _CFG)


def _read(place: Path) -> list[Stored]:
    path, weights = place / _CFG, place / _WEIGHTS
    cfg = read_json(path)
    if (kind := cfg.get("peft_type")) != "TOPK_SAE":
        raise UsageError(f"{path}: peft_type {kind!r} is no SAE; TOPK_SAE can be loaded")
    n = whole_number(cfg, "num_latents", path)
    model = str(cfg.get("base_model_name_or_path") or "")
    saes = []
    for module, tensors in sorted(_by_module(read_tensors(weights), weights).items()):
        raw = fitted(tensors, _LAYOUT, weights, n=n)
        k = checked_k(cfg.get("k"), len(raw["sae_W_dec"]), path)
        sae = TopK(
            W_enc=raw["sae_encoder.weight"],
            b_enc=raw["sae_W_dec"].new_zeros(len(raw["sae_W_dec"])),
            W_dec=raw["sae_W_dec"],
            b_dec=raw["sae_b_dec"],
            k=k,
        )
        saes.append(Stored(published(module), sae, model))
    return sorted(saes, key=lambda stored: in_order(stored.hookpoint))


def _by_module(tensors: Mapping[str, Any], weights: Path) -> dict[str, dict[str, Any]]:
    """`base_model.model.<module>.sae_W_dec` and its like, by module."""
    modules: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        module, found, rest = key.removeprefix(_PREFIX).partition(".sae_")
        if not found or not key.startswith(_PREFIX):
            raise UsageError(f"{weights} holds {key}, which is no tensor of an SAE")
        modules.setdefault(module, {})[f"sae_{rest}"] = tensor
    if not modules:
        raise UsageError(f"{weights} is empty; get the checkpoint again")
    return modules


def _write(saes: Sequence[Stored], folder: Path) -> list[Path]:
    refuse_others(saes, "PEFT", ["topk"])
    tensors: dict[str, Tensor] = {}
    for stored in saes:
        _refuse_what_has_no_place(stored, saes[0])
        sae = stored.sae
        parts = {"sae_encoder.weight": sae.W_enc, "sae_W_dec": sae.W_dec, "sae_b_dec": sae.b_dec}
        for key, tensor in parts.items():
            full = f"{_PREFIX}{stored.hookpoint}.{key}"
            tensors[full] = tensor.detach().cpu().float().contiguous().clone()
    with told_in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _WEIGHTS, save(tensors, metadata={"format": "pt"}))
        write_atomically(folder / _CFG, json.dumps(_config(saes), indent=2) + "\n")
    return [folder]


def _refuse_what_has_no_place(stored: Stored, first: Stored) -> None:
    if stored.sae.b_enc.any():
        raise UsageError(
            f"the SAE at {stored.hookpoint} has an encoder bias and the PEFT layout has none; "
            "convert it to sparsify or saelens"
        )
    if (stored.sae.n_latents, stored.sae.k) != (first.sae.n_latents, first.sae.k):
        raise UsageError(
            f"the SAEs at {first.hookpoint} and {stored.hookpoint} differ in latents or k, and the "
            "PEFT layout has one number of each; convert them one at a time"
        )


def _config(saes: Sequence[Stored]) -> dict[str, Any]:
    sae = saes[0].sae
    return {
        "auto_mapping": None,
        "base_model_name_or_path": saes[0].model or None,
        "dead_tokens_threshold": 10_000_000,
        "expansion_factor": max(1, sae.n_latents // sae.d_model),
        "inference_mode": True,
        "k": sae.k,
        "num_latents": sae.n_latents,
        "peft_type": "TOPK_SAE",
        "revision": None,
        "target_modules": [stored.hookpoint for stored in saes],
        "task_type": None,
    }


FAMILY = Family("peft", (_CFG, _WEIGHTS), _find, _read, _write)
