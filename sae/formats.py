"""SAE checkpoints on disk: the sparsify layout, `cfg.json` beside `sae.safetensors`, one folder a
hookpoint.

`encoder.weight` (n, d), `encoder.bias` (n), `W_dec` (n, d), `b_dec` (d), as EleutherAI's sparsify
and the paper's published SAE have it. Unknown cfg keys are tolerated, wrong tensors are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import UsageError
from .files import told_in_one_line, write_atomically
from .lmm import LMM
from .topk import TopK, TrainedSae

_CFG, _WEIGHTS = "cfg.json", "sae.safetensors"
_TENSORS = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}


def save_sae(sae: TopK, folder: Path, extra: Mapping[str, Any] | None = None) -> Path:
    """Write `cfg.json` and `sae.safetensors` into `folder`; `extra` adds keys to the cfg."""
    cfg = {
        "activation": "topk",
        "expansion_factor": max(1, sae.n_latents // sae.d_model),
        "normalize_decoder": True,
        "num_latents": sae.n_latents,
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.d_model,
        **(extra or {}),
    }
    tensors = {
        key: getattr(sae, field).detach().cpu().contiguous() for key, field in _TENSORS.items()
    }
    with told_in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # The cfg comes last: without it a folder is no SAE.
        (folder / _CFG).unlink(missing_ok=True)
        write_atomically(folder / _WEIGHTS, save(tensors))
        write_atomically(folder / _CFG, json.dumps(cfg, indent=1) + "\n")
    return folder


def load_sae(ref: str | Path, hookpoint: str | None = None) -> list[tuple[str, TopK]]:
    """`(hookpoint name, SAE)` of every SAE under a folder, or of the one at `hookpoint`, in
    float32.

    The folder is one SAE (flat: its own name, or the cfg's `hookpoint`, is the name) or holds one
    folder a hookpoint. Raises `UsageError` in one line for whatever is missing or doesn't fit.
    """
    root = Path(ref).expanduser()
    if not root.is_dir():
        raise UsageError(
            f"no SAE folder at {ref}; train one with `lmmsae-eval train` or check the path"
        )
    folders = (
        [root] if (root / _CFG).is_file() else sorted(cfg.parent for cfg in root.glob(f"*/{_CFG}"))
    )
    if not folders:
        raise UsageError(f"{ref} holds no SAE: neither {_CFG} nor <hookpoint>/{_CFG}")
    loaded = [_read(folder) for folder in folders]
    chosen = [(name, sae) for name, sae in loaded if hookpoint is None or _same(name, hookpoint)]
    if not chosen:
        known = ", ".join(name for name, _ in loaded)
        raise UsageError(f"{ref} holds no SAE for {hookpoint}; it has {known}")
    return sorted(chosen, key=lambda pair: _natural(pair[0]))


def bind_saes(lmm: LMM, saes: Iterable[tuple[str, TopK]], name: str) -> list[TrainedSae]:
    """Loaded SAEs at their hookpoints in `lmm`. Raises `UsageError` when a width or a depth doesn't
    fit.
    """
    bound = []
    for hookpoint, sae in saes:
        if sae.d_model != lmm.d_model:
            raise UsageError(
                f"the SAE for {hookpoint} reads d_model {sae.d_model} but {lmm.name} has "
                f"{lmm.d_model}; choose the SAE of this model"
            )
        bound.append(TrainedSae(name, lmm.hookpoint(hookpoint), sae))
    return bound


def _read(folder: Path) -> tuple[str, TopK]:
    cfg = _read_cfg(folder / _CFG)
    tensors = _read_tensors(folder / _WEIGHTS)
    for flag in ("transcode", "skip_connection"):
        if cfg.get(flag):
            raise UsageError(f"{folder} is a {flag} checkpoint; only plain TopK SAEs can be loaded")
    _check(tensors, cfg, folder)
    fields = {field: tensors[key].float() for key, field in _TENSORS.items()}
    return str(cfg.get("hookpoint", folder.name)), TopK(**fields, k=int(cfg["k"]))


def _read_cfg(path: Path) -> dict[str, Any]:
    try:
        cfg = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read {path}: {error}") from error
    if not isinstance(cfg, dict) or not isinstance(cfg.get("k"), int):
        raise UsageError(f"{path} names no k; it is not the cfg of a TopK SAE")
    return cfg


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"can't read SAE weights from {path}: {error}") from error


def _check(tensors: Mapping[str, Tensor], cfg: Mapping[str, Any], folder: Path) -> None:
    if missing := _TENSORS.keys() - tensors.keys():
        raise UsageError(f"{folder / _WEIGHTS} lacks {', '.join(sorted(missing))}")
    if unknown := tensors.keys() - _TENSORS.keys():
        raise UsageError(f"{folder / _WEIGHTS} holds unknown tensors: {', '.join(sorted(unknown))}")
    weight = tensors["encoder.weight"]
    n, d = (weight.shape[0], weight.shape[-1]) if weight.dim() == 2 else (0, 0)
    wanted = {"encoder.weight": (n, d), "encoder.bias": (n,), "W_dec": (n, d), "b_dec": (d,)}
    for key, shape in wanted.items():
        if tuple(tensors[key].shape) != shape or n == 0:
            raise UsageError(
                f"{folder / _WEIGHTS}: {key} is {tuple(tensors[key].shape)}, expected {shape}"
            )
        if not torch.isfinite(tensors[key]).all():
            raise UsageError(f"{folder / _WEIGHTS}: {key} holds NaN or infinity")
    if cfg.get("d_in", d) != d:
        raise UsageError(f"{folder}: cfg says d_in {cfg['d_in']} but the weights have {d}")
    if not 1 <= cfg["k"] <= n:
        raise UsageError(f"{folder}: cfg says k {cfg['k']} but there are {n} latents")


def _same(name: str, wanted: str) -> bool:
    return name.removeprefix("model.") == wanted.removeprefix("model.")


def _natural(name: str) -> tuple[int, str]:
    last = name.rpartition(".")[2]
    return (int(last) if last.isdigit() else -1, name)
