"""Tensors and cfgs of checkpoints from anywhere: read without running code, refused in one line
when they don't fit.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...errors import UsageError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `UsageError` for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read {path}: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} is no JSON object; it is not the cfg of an SAE")
    return document


def read_tensors(path: Path) -> dict[str, Any]:
    """A safetensors file, or a torch pickle of which only plain data is accepted.

    In a pickle there may be strings and nested dicts beside tensors. Raises `UsageError`.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except (OSError, SafetensorError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"can't read SAE weights from {path}: {reason}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds a {type(content).__name__}, not the weights of an SAE")
    return content


def _unpickled(path: Path) -> Any:
    """Raises `OSError` or `UnpicklingError`."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # Damaged pickles raise whatever the byte where they go wrong leads to.
        raise pickle.UnpicklingError(str(error)) from error


def fitted(
    tensors: Mapping[str, Any],
    layout: Mapping[str, str],
    path: Path,
    ignored: Collection[str] = (),
    **sizes: int | None,
) -> dict[str, Tensor]:
    """The tensors of `layout`, in float32, after a check of each.

    `layout` gives each tensor's axes: n (latents) and d (d_model), as in `{"W_enc": "dn"}`; `sizes`
    is what the cfg says of n and d. Raises `UsageError` for a tensor that is missing, unknown, of
    another shape (transposed ones are named so), not of floats, or holds NaN or infinity.
    """
    if missing := layout.keys() - tensors.keys():
        raise UsageError(f"{path} lacks {', '.join(sorted(missing))}; get the checkpoint again")
    if unknown := tensors.keys() - layout.keys() - set(ignored):
        raise UsageError(f"{path} holds unknown tensors: {', '.join(sorted(unknown))}")
    known = {axis: size for axis, size in sizes.items() if size}
    # Vectors first: they tell n and d without doubt, so that a transposed matrix is the one blamed.
    for name, axes in sorted(layout.items(), key=lambda item: len(item[1])):
        _check(tensors[name], name, axes, known, path)
    return {name: tensors[name].float() for name in layout}


def _check(tensor: Any, name: str, axes: str, sizes: dict[str, int], path: Path) -> None:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise UsageError(f"{path}: {name} is no tensor of floats; it is not the weights of an SAE")
    shape = tuple(tensor.shape)
    if len(shape) == len(axes) and 0 not in shape:
        for axis, size in zip(axes, shape, strict=True):
            sizes.setdefault(axis, size)
    wanted = tuple(sizes.get(axis, 0) for axis in axes)
    if shape != wanted:
        hint = "transposed: " if shape == wanted[::-1] and len(shape) > 1 else ""
        raise UsageError(
            f"{path}: {name} is {hint}{shape}, expected {wanted}; get the checkpoint again"
        )
    if not torch.isfinite(tensor).all():
        raise UsageError(f"{path}: {name} holds NaN or infinity; get the checkpoint again")


def whole_number(cfg: Mapping[str, Any], key: str, path: Path) -> int | None:
    """A positive integer of the cfg, None where it is absent or 0. Raises `UsageError`."""
    value = cfg.get(key)
    if value is None or value == 0:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"{path}: {key} is {value!r}, not a whole number")
    return value


def checked_k(value: Any, n_latents: int, path: Path) -> int:
    """k of a TopK SAE. Raises `UsageError` when it is missing or beyond the latents."""
    k = whole_number({"k": value}, "k", path)
    if k is None:
        raise UsageError(f"{path} names no k; it is not the cfg of a TopK SAE")
    if k > n_latents:
        raise UsageError(f"{path}: k is {k} but there are {n_latents} latents")
    return k
