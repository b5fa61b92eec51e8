"""openai/sparse_autoencoder v5, read only: one torch file, no cfg; the activation's name and k
travel in the state dict.

Its TopK reads activations that are layer-normalised token by token, and maps its output back: that
is no matter of weights, so it is loaded as a `LayerNormTopK`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..layernorm import LayerNormTopK
from .family import Family, Stored
from .tensors import checked_k, fitted, read_tensors

_LAYOUT = {"pre_bias": "d", "encoder.weight": "nd", "latent_bias": "n", "decoder.weight": "dn"}
_OTHERS = (
    "activation",
    "activation_state_dict",
    "stats_last_nonzero",
    "latents_activation_frequency",
    "latents_mean_square",
)


def is_openai(path: Path) -> bool:
    """Whether a torch file holds one of theirs: nobody else names biases so."""
    return not {"pre_bias", "latent_bias"}.isdisjoint(read_tensors(path))


def _find(root: Path) -> list[Path]:
    return []  # a file is given by its own path


def _read(path: Path) -> list[Stored]:
    tensors = read_tensors(path)
    raw = fitted(tensors, _LAYOUT, path, _OTHERS)
    k = checked_k(_k(tensors, path), len(raw["latent_bias"]), path)
    sae = LayerNormTopK.of(
        W_enc=raw["encoder.weight"],
        b_enc=raw["latent_bias"],
        W_dec=raw["decoder.weight"].T,
        b_pre=raw["pre_bias"],
        k=k,
    )
    return [Stored(_hookpoint(path), sae)]


def _k(tensors: Mapping[str, Any], path: Path) -> Any:
    activation = tensors.get("activation", "ReLU")
    state = tensors.get("activation_state_dict", {})
    if activation != "TopK" or state.get("postact_fn", "ReLU") != "ReLU":
        raise UsageError(f"{path}: activation {activation!r} can't be loaded; TopK of ReLU can")
    return state.get("k")


def _hookpoint(path: Path) -> str:
    """The published files are called `<block>.pt`, counted from 0."""
    return f"model.layers.{path.stem}" if path.stem.isdigit() else path.stem


FAMILY = Family("openai", (), _find, _read)
