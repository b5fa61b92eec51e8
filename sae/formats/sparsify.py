"""The native layout, EleutherAI sparsify's: `cfg.json` beside `sae.safetensors`, one folder a
hookpoint. The paper's published SAE has it too, with fewer cfg keys; older ones add `signed`.

sparsify has only TopK. Other architectures are named by the cfg's `activation` and add their own
tensors, over which sparsify's own loader stumbles: it can't take one of them for a TopK.
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
from ..sae import SAE
from .family import Family, Stored, places_with, refuse_others
from .kinds import OWN, made, own_of, sizes_of
from .tensors import fitted, read_json, read_tensors, whole_number

_CFG, _WEIGHTS = "cfg.json", "sae.safetensors"
_FIELDS = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
_LAYOUT = {"encoder.weight": "nd", "encoder.bias": "n", "W_dec": "nd", "b_dec": "d"}
_OTHER_MATHS = ("transcode", "skip_connection", "signed")


def save_sae(sae: SAE, folder: Path, extra: Mapping[str, Any] | None = None) -> Path:
    """Write `cfg.json` and `sae.safetensors` into `folder`; `extra` adds keys to the cfg."""
    refuse_others([Stored(folder.name, sae)], "sparsify", list(OWN))
    cfg = {
        "activation": sae.architecture,
        "expansion_factor": max(1, sae.n_latents // sae.d_model),
        "normalize_decoder": _unit_rows(sae.W_dec),
        "num_latents": sae.n_latents,
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.d_model,
        **({} if (sizes := sizes_of(sae)) is None else {"sizes": sizes}),
        **(extra or {}),
    }
    named = {key: getattr(sae, field) for key, field in _FIELDS.items()} | own_of(sae)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in named.items()}
    with told_in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # The cfg comes last: without it a folder is no SAE.
        (folder / _CFG).unlink(missing_ok=True)
        write_atomically(folder / _WEIGHTS, save(tensors))
        write_atomically(folder / _CFG, json.dumps(cfg, indent=1) + "\n")
    return folder


def _unit_rows(rows: Tensor) -> bool:
    norms = torch.linalg.vector_norm(rows.detach().float(), dim=1)
    return bool((norms - 1).abs().max() < 1e-3)


def _write(saes: Sequence[Stored], folder: Path) -> list[Path]:
    return [
        save_sae(sae, folder / hookpoint, {"hookpoint": hookpoint}) for hookpoint, sae, _ in saes
    ]


def _find(root: Path) -> list[Path]:
    return [place for place in places_with(root, _CFG) if not _of_saelens(place)]


def _of_saelens(place: Path) -> bool:
    return (place / "sae_weights.safetensors").exists() and not (place / _WEIGHTS).exists()


def _read(place: Path) -> list[Stored]:
    path = place / _CFG
    cfg = read_json(path)
    for flag in _OTHER_MATHS:
        if cfg.get(flag):
            raise UsageError(f"{place} is a {flag} checkpoint; only plain SAEs can be loaded")
    if (activation := str(cfg.get("activation", "topk"))) not in OWN:
        raise UsageError(
            f"{path}: activation {activation!r} is unknown; {', '.join(OWN)} can be loaded"
        )
    n, d = whole_number(cfg, "num_latents", path), whole_number(cfg, "d_in", path)
    weights = place / _WEIGHTS
    layout = {**_LAYOUT, **OWN[activation]}
    tensors = fitted(read_tensors(weights), layout, weights, n=n, d=d)
    named = {_FIELDS.get(key, key): tensor for key, tensor in tensors.items()}
    sae = made(activation, named, cfg.get("k"), path, cfg.get("sizes"))
    return [Stored(str(cfg.get("hookpoint", place.name)), sae, _model(place))]


def _model(place: Path) -> str:
    """The trainer names its model in the `config.json` beside an SAE, before also only above."""
    for run in (place / "config.json", place.parent / "config.json"):
        if run.is_file():
            return str(read_json(run).get("model", ""))
    return ""


FAMILY = Family("sparsify", (_CFG, _WEIGHTS), _find, _read, _write)
