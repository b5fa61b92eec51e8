"""dictionary_learning: `trainer_<i>/{ae.pt,config.json}`, the decoder transposed; a checkpoint on
the way is `trainer_<i>/checkpoints/ae_<step>.pt`.

`AutoEncoderTopK` encodes by top-k; the `threshold` that it carries along is not used by it, nor
here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UsageError
from ..files import told_in_one_line, write_atomically
from ..topk import TopK
from .family import Family, Stored, places_with, refuse_others
from .names import layer_of, published
from .tensors import checked_k, fitted, read_json, read_tensors, whole_number

_CFG, _WEIGHTS = "config.json", "ae.pt"
_FIELDS = {
    "encoder.weight": "W_enc",
    "encoder.bias": "b_enc",
    "decoder.weight": "W_dec",
    "b_dec": "b_dec",
}
_LAYOUT = {"encoder.weight": "nd", "encoder.bias": "n", "decoder.weight": "dn", "b_dec": "d"}
_BUFFERS = ("k", "threshold")


def _find(root: Path) -> list[Path]:
    return places_with(root, _WEIGHTS)


def _read(place: Path) -> list[Stored]:
    """A folder, or a torch file by its own name, with the `config.json` beside it or above it."""
    weights = place if place.is_file() else place / _WEIGHTS
    path = _config_of(weights)
    trainer = read_json(path).get("trainer")
    if not isinstance(trainer, dict):
        raise UsageError(f"{path} has no 'trainer'; it is not the config of dictionary_learning")
    if (name := trainer.get("dict_class")) != "AutoEncoderTopK":
        raise UsageError(f"{path}: dict_class {name!r} can't be loaded; AutoEncoderTopK can")
    tensors = read_tensors(weights)
    n, d = whole_number(trainer, "dict_size", path), whole_number(trainer, "activation_dim", path)
    raw = fitted(tensors, _LAYOUT, weights, _BUFFERS, n=n, d=d)
    fields = {field: raw[key] for key, field in _FIELDS.items()}
    fields["W_dec"] = fields["W_dec"].T.contiguous()
    k = checked_k(_k(tensors, trainer, weights), len(fields["b_enc"]), path)
    model = str(trainer.get("lm_name") or "")
    return [Stored(_hookpoint(trainer, weights), TopK(**fields, k=k), model)]


def _config_of(weights: Path) -> Path:
    beside = weights.parent / _CFG
    return beside if beside.is_file() else weights.parent.parent / _CFG


def _k(tensors: Mapping[str, Any], trainer: Mapping[str, Any], weights: Path) -> Any:
    """The buffer's: it is the one that encodes. k is annealed in training, the config's is last."""
    buffer, written = tensors.get("k"), trainer.get("k")
    if buffer is None:
        return written
    if not isinstance(buffer, Tensor) or buffer.numel() != 1:
        raise UsageError(f"{weights}: k is no single number; get the checkpoint again")
    return int(buffer.item())


def _hookpoint(trainer: Mapping[str, Any], weights: Path) -> str:
    """The submodule's name; without one, `layer` is the residual stream after that block."""
    if name := trainer.get("submodule_name"):
        return published(str(name))
    layer = trainer.get("layer")
    return weights.parent.name if layer is None else published(f"layers.{layer}")


def _write(saes: Sequence[Stored], folder: Path) -> list[Path]:
    refuse_others(saes, "dictionary_learning", ["topk"])
    return [_save(stored, folder / f"trainer_{i}") for i, stored in enumerate(saes)]


def _save(stored: Stored, place: Path) -> Path:
    sae = stored.sae
    tensors = {
        key: getattr(sae, field).detach().cpu().float().contiguous()
        for key, field in _FIELDS.items()
    }
    tensors["decoder.weight"] = tensors["decoder.weight"].T.contiguous()
    buffers = {"k": torch.tensor(sae.k, dtype=torch.int), "threshold": torch.tensor(-1.0)}
    content = io.BytesIO()
    torch.save({**buffers, **tensors}, content)
    with told_in_one_line(place):
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / _WEIGHTS, content.getvalue())
        write_atomically(place / _CFG, json.dumps(_config(stored), indent=4) + "\n")
    return place


def _config(stored: Stored) -> dict[str, Any]:
    trainer = {
        "trainer_class": "TopKTrainer",
        "dict_class": "AutoEncoderTopK",
        "activation_dim": stored.sae.d_model,
        "dict_size": stored.sae.n_latents,
        "k": stored.sae.k,
        "device": "cpu",
        "layer": layer_of(stored.hookpoint),
        "lm_name": stored.model,
        "submodule_name": stored.hookpoint,
    }
    return {"trainer": trainer, "buffer": {}}


FAMILY = Family("dictionary_learning", (_CFG, _WEIGHTS), _find, _read, _write)
